"""Serving an order: from the text of its message to the report, all that an engine has to do."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from workflow_result import request as requests
from workflow_result.delivery import Delivery
from workflow_result.engine import message as messages
from workflow_result.engine.order import GivenBack, carry_out, end_failed
from workflow_result.engine.workplace import EngineWorkplace, Facilities
from workflow_result.failure_reason import fit, with_log
from workflow_result.journal import Journal
from workflow_result.problem import ExitCode, Problem, name_record, say_problem
from workflow_result.reporting import Reporter


class Fate(StrEnum):
    """What has become of an order, so what is to become of its message."""

    REPORTED = "reported"
    """Service Catalog has its result, or has refused it for good."""
    OWED = "owed"
    """Its result is in the journal, and is delivered from there."""
    ELSEWHERE = "elsewhere"
    """Another process works on its record: its message has to come again, should that one die."""
    UNSERVED = "unserved"
    """Nothing is known to be reported: its message has to come again."""
    UNREADABLE = "unreadable"
    """Nobody can be told: the message does not say of what."""


@dataclass(frozen=True)
class Served:
    """How serving an order ended: its fate, and `exit_code` as that of `run`.

    `result` is what `run` prints of what was reported; None where nothing was, and `line` says why.
    """

    fate: Fate
    exit_code: ExitCode
    result: dict[str, str] | None = None
    line: str = ""


def serve(
    source: bytes,
    comes_again: bool,
    *,
    facilities: Facilities,
    open_journal: Callable[[], Journal],
    delivery: Delivery,
    log_url: str | None,
) -> Served:
    """Carry out the order of the operation message in `source`.

    `log_url` is that of `carry_out`. What goes wrong is said, and is in what is returned. Where the
    message does not come again, an order that cannot be carried out is FAILED for that.
    """
    try:
        message = messages.read(source)
    except Problem as problem:
        return _ended(problem, Fate.UNREADABLE)
    name_record(message.record_id, message.operation, in_every_line=True)
    try:
        reporter = Reporter(open_journal, delivery)
    except Problem as problem:
        return _ended(problem, Fate.UNSERVED)
    try:
        if isinstance(message, messages.Unusable):
            members, code = end_failed(message, reporter)
        else:
            workplace = EngineWorkplace(facilities, reporter.has_ended)
            members, code = carry_out(
                message, reporter, workplace, gives_back=True, log_url=log_url
            )
    except Problem as problem:
        if problem.exit_code == ExitCode.REFUSED:
            return _ended(problem, Fate.REPORTED)
        if reporter.is_owed or reporter.is_elsewhere:
            return _ended(problem, Fate.OWED if reporter.is_owed else Fate.ELSEWHERE)
        is_kept = comes_again or reporter.applies or isinstance(problem, GivenBack)
        if isinstance(message, messages.Message) and not is_kept:
            return _failed(message, problem, reporter, log_url)
        return _ended(problem, Fate.UNSERVED)
    finally:
        reporter.close()
    result = requests.result(message.operation, members, reported=True)
    return Served(Fate.REPORTED, code, result)


def _failed(
    message: messages.Message, problem: Problem, reporter: Reporter, log_url: str | None
) -> Served:
    """End an order for which nothing was applied, nor can be."""
    line = "; ".join(problem.lines)
    reason = f"The engine could not carry out this order: {line}. Nothing was applied; order again."
    request = message.result([], with_log(fit(reason)[0], log_url))
    unusable = messages.Unusable(request, problem.lines)
    try:
        members, _ = end_failed(unusable, reporter)
    except Problem as again:
        return _ended(again, Fate.OWED if reporter.is_owed else Fate.UNSERVED)
    result = requests.result(message.operation, members, reported=True)
    return Served(Fate.REPORTED, problem.exit_code, result, line)


def _ended(problem: Problem, fate: Fate) -> Served:
    say_problem(problem)
    return Served(fate, problem.exit_code, line="; ".join(problem.lines))
