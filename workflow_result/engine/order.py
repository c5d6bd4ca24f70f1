"""One order, from the operation message to the report."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from workflow_result.engine.message import Message, Unusable
from workflow_result.engine.terraform import HOST_DIED, Ending, Settings, TerraformRun
from workflow_result.problem import ExitCode, Problem, Style, say, saying_aside
from workflow_result.reporting import Reporter
from workflow_result.request import Request
from workflow_result.undelivered import NotDelivered


def carry_out(
    message: Message, reporter: Reporter, settings: Settings
) -> tuple[Mapping[str, Any], ExitCode]:
    """Run Terraform for `message`, and report how it ended.

    Returns what was reported, now or earlier, and the exit code that says how the order ended.
    Raises `Problem` where another process works on the record, where no result could be sent (then
    nothing was applied, and it may be run again), or where the result was not delivered.
    """
    with _signals_kept() as stop_requests, saying_aside():
        if reported := _begin(message.result([], HOST_DIED), reporter, stop_requests.append):
            return reported
        # boto3 is loaded while Terraform runs, so that the report does not wait for it.
        look = reporter.delivery.look()

        def before_apply() -> None:
            try:
                look()
            except NotDelivered as error:
                code = ExitCode.SETUP if error.setup else ExitCode.NOT_DELIVERED
                line = f"{message.record_id}: nothing was applied: {error.cause}"
                raise Problem(code, line) from error
            reporter.applying()

        try:
            ending = TerraformRun(message, settings, stop_requests, before_apply).run()
        except (Problem, ImportError):
            reporter.abandon()
            raise
        request = _result(message, ending)
        say(f"{message.record_id}: reporting {request.members['Status']}", Style.BOLD)
        # From here on a signal changes nothing: a result not reported helps nobody.
        reporter.report(request)
        return request.members, ending.exit_code


def _result(message: Message, ending: Ending) -> Request:
    """The request that tells of this ending: without outputs or with a plain reason where, by some
    defect, it would be invalid. What happened has to be told all the same."""
    try:
        return message.result(ending.outputs, ending.failure_reason)
    except Problem as problem:
        for line in problem.lines:
            say(f"warning: left out of the result: {line}", Style.YELLOW)
        return message.result([], ending.failure_reason and "Terraform failed.")


def end_failed(message: Unusable, reporter: Reporter) -> tuple[Mapping[str, Any], ExitCode]:
    """Report FAILED, with what is wrong, an order whose message cannot be carried out.

    Returns and raises what `carry_out` does.
    """
    for fault in message.faults:
        say(fault)
    if reported := _begin(message.request, reporter, lambda _: None):
        return reported
    members = message.request.members
    say(f"{members['RecordId']}: reporting {members['Status']}, nothing was run", Style.BOLD)
    reporter.report(message.request)
    return members, ExitCode.FAILED


def _begin(
    if_it_dies: Request, reporter: Reporter, lost: Callable[[str], None]
) -> tuple[Mapping[str, Any], ExitCode] | None:
    """Enter an order into the journal; return what was reported for it where that is known."""
    earlier = reporter.begin(if_it_dies, lost)
    if not earlier:
        return None
    members = {
        "RecordId": earlier.record_id,
        "Status": earlier.status,
        "IdempotencyToken": earlier.idempotency_token,
    }
    return members, ExitCode.FAILED if earlier.status == "FAILED" else ExitCode.DONE


@contextmanager
def _signals_kept() -> Iterator[deque[str]]:
    """Collect what asks this process to end, signals to begin with, instead of ending."""
    received: deque[str] = deque()

    def keep(number: int, _: FrameType | None) -> None:
        received.append(f"{signal.Signals(number).name} received")

    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    kept = {kind: signal.getsignal(kind) for kind in kinds}
    for kind in kinds:
        if kept[kind] != signal.SIG_IGN:  # as under nohup
            signal.signal(kind, keep)
    try:
        yield received
    finally:
        for kind in kinds:
            signal.signal(kind, kept[kind])
