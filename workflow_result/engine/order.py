"""One order, from the operation message to the report."""

import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from workflow_result.engine.message import Message
from workflow_result.engine.terraform import HOST_DIED, Settings, TerraformRun
from workflow_result.problem import ExitCode, Style, say, saying_aside
from workflow_result.reporting import Reporter


def carry_out(
    message: Message, reporter: Reporter, settings: Settings
) -> tuple[Mapping[str, Any], ExitCode]:
    """Run Terraform for `message`, and report how it ended.

    Returns what was reported, now or earlier, and the exit code that says how the order ended.
    Raises `Problem` where somebody else works on the record, or the result was not delivered.
    """
    with _signals_kept() as stop_requests, saying_aside():
        earlier = reporter.begin(message.result([], HOST_DIED))
        if earlier:
            members = {
                "RecordId": earlier.record_id,
                "Status": earlier.status,
                "IdempotencyToken": earlier.idempotency_token,
            }
            return members, ExitCode.FAILED if earlier.status == "FAILED" else ExitCode.DONE
        # boto3 is loaded while Terraform runs, so that the report does not wait for it.
        connecting = threading.Thread(target=reporter.delivery.connect, daemon=True)
        connecting.start()
        ending = TerraformRun(message, settings, stop_requests, reporter.applying).run()
        request = message.result(ending.outputs, ending.failure_reason)
        say(f"{message.record_id}: reporting {request.members['Status']}", Style.BOLD)
        # From here on a signal changes nothing: a result not reported helps nobody. It is in the
        # journal before the client is waited for, whose credentials may take their time.
        reporter.report(request)
        return request.members, ending.exit_code


@contextmanager
def _signals_kept() -> Iterator[deque[str]]:
    """Collect the names of the signals that ask this process to end, instead of ending."""
    received: deque[str] = deque()

    def keep(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

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
