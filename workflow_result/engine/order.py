"""One order, from the operation message to the report."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, Protocol

from workflow_result.engine.diagnostics import failure_reason
from workflow_result.engine.message import Message, Unusable
from workflow_result.engine.program import Failed
from workflow_result.engine.terraform import HOST_DIED, Ending, Settings, TerraformRun
from workflow_result.failure_reason import with_log
from workflow_result.problem import Event, ExitCode, Problem, Style, defect, say, saying_aside
from workflow_result.reporting import Reporter
from workflow_result.request import Request
from workflow_result.undelivered import NotDelivered


class StopRequests(deque[str]):
    """Reasons why a run is to stop, each more urgent than the one before.

    `given_back`: the run has not failed by that; its message is to come again.
    """

    applies = False
    given_back = False


class GivenBack(Problem):
    """A run was stopped before anything was applied: its message is to come again."""


class Workplace(Protocol):
    """Where an order is carried out: what has to be there before Terraform runs, and to be kept."""

    def prepared(
        self, message: Message, stop_requests: StopRequests
    ) -> AbstractContextManager[tuple[Message, Settings] | None]:
        """Give the message to run Terraform for, and how; None where there is nothing to do.

        What was made for it goes with the context. Raises `Failed` where the order ends FAILED, and
        `Problem` where it is not the order's fault: then it may be run again.
        """

    def keep(self) -> None:
        """Keep what is about to be applied. Raises `Failed` or `Problem` as `prepared` does."""


class PreparedFolder:
    """The workplace that whoever calls has prepared, as `settings` say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextmanager
    def prepared(
        self, message: Message, _: StopRequests
    ) -> Iterator[tuple[Message, Settings] | None]:
        """Give the message and the settings as they are."""
        yield message, self._settings

    def keep(self) -> None:
        """Nothing: that is for the caller."""


def carry_out(
    message: Message,
    reporter: Reporter,
    workplace: Workplace,
    *,
    gives_back: bool = False,
    log_url: str | None = None,
) -> tuple[Mapping[str, Any], ExitCode]:
    """Run Terraform for `message`, and report how it ended.

    Where it failed, the last line of the reason names the log at `log_url`. With `gives_back`, a
    signal that comes before anything is applied lets the message come again
    instead of failing the order, and the first one that comes later changes nothing.

    Returns what was reported, now or earlier, and the exit code that says how the order ended.
    Raises `Problem` where another process works on the record, where no result could be sent (then
    nothing was applied, and it may be run again), or where the result was not delivered.
    """
    with _signals_kept(gives_back) as stop_requests, saying_aside():
        if_it_dies = message.result([], with_log(HOST_DIED, log_url))
        if reported := _begin(if_it_dies, reporter, stop_requests.append):
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
            workplace.keep()
            reporter.applying()
            stop_requests.applies = True

        try:
            ending = _ending(message, workplace, stop_requests, before_apply)
            if ending.failure_reason and stop_requests.given_back:
                line = f"{message.record_id}: stopped, nothing was applied: its message comes again"
                raise GivenBack(ExitCode.NOT_DELIVERED, line)
        except (Problem, ImportError):
            reporter.let_go()
            raise
        if ending.failure_reason:
            ending.failure_reason = with_log(ending.failure_reason, log_url)
        request = _result(message, ending)
        line = f"{message.record_id}: reporting {request.members['Status']}"
        say(line, Style.BOLD, event=Event.REPORT)
        # From here on a signal changes nothing: a result not reported helps nobody.
        reporter.report(request)
        return request.members, ending.exit_code


def _ending(
    message: Message,
    workplace: Workplace,
    stop_requests: StopRequests,
    before_apply: Callable[[], None],
) -> Ending:
    """Prepare the run, and run it."""
    try:
        with workplace.prepared(message, stop_requests) as prepared:
            if not prepared:
                return Ending()
            return TerraformRun(*prepared, stop_requests, before_apply).run()
    except Failed as failure:
        say(str(failure), Style.RED)
        reason = failure_reason(str(failure), [], [])
        return Ending(failure_reason=reason, exit_code=failure.exit_code)
    except (Problem, ImportError):
        raise
    except Exception as error:  # a record that nobody reports is stuck for ever
        defect(error)
        reason = "The engine could not prepare the run: a defect of it. Nothing was applied."
        return Ending(failure_reason=reason, exit_code=ExitCode.DEFECT)


def _result(message: Message, ending: Ending) -> Request:
    """The request that tells of this ending: without outputs or with a plain reason where, by some
    defect, it would be invalid. What happened has to be told all the same."""
    try:
        return message.result(ending.outputs, ending.failure_reason)
    except Problem as problem:
        for line in problem.lines:
            say(f"warning: left out of the result: {line}", Style.YELLOW)
        return message.result([], ending.failure_reason and "Terraform failed.")


def end_failed(
    message: Unusable, reporter: Reporter, *, of_waiting: bool = True
) -> tuple[Mapping[str, Any], ExitCode]:
    """Report FAILED, with what is wrong, an order whose message cannot be carried out.

    One that waits for a build is left to that unless `of_waiting`. Returns and raises what
    `carry_out` does.
    """
    for fault in message.faults:
        say(fault)
    if reported := _begin(message.request, reporter, lambda _: None, of_waiting=of_waiting):
        return reported
    members = message.request.members
    line = f"{members['RecordId']}: reporting {members['Status']}, nothing was run"
    say(line, Style.BOLD, event=Event.REPORT)
    reporter.report(message.request)
    return members, ExitCode.FAILED


def _begin(
    if_it_dies: Request,
    reporter: Reporter,
    lost: Callable[[str], None],
    *,
    of_waiting: bool = True,
) -> tuple[Mapping[str, Any], ExitCode] | None:
    """Enter an order into the journal; return what was reported for it where that is known."""
    earlier = reporter.begin(if_it_dies, lost, of_waiting=of_waiting)
    if not earlier:
        return None
    members = {
        "RecordId": earlier.record_id,
        "Status": earlier.status,
        "IdempotencyToken": earlier.idempotency_token,
    }
    return members, ExitCode.FAILED if earlier.status == "FAILED" else ExitCode.DONE


@contextmanager
def _signals_kept(gives_back: bool) -> Iterator[StopRequests]:
    """Collect what asks this process to end, signals to begin with, instead of ending."""
    received = StopRequests()
    is_first = True

    def keep(number: int, _: FrameType | None) -> None:
        nonlocal is_first
        reason = f"{signal.Signals(number).name} received"
        if gives_back and is_first:
            is_first = False
            if received.applies:
                say(f"{reason}: Terraform goes on to its end; the next one stops it", Style.YELLOW)
                return
            received.given_back = True
        received.append(reason)

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
