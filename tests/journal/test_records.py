"""One entry a record: the first result stays, until it is reported, refused or forgotten."""

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from conftest import CREDENTIALS, endpoint
from journal_cli import (
    NOBODY,
    Desk,
    a_request,
    ended,
    held_calls,
    hold_run,
    wait_for_call,
)

from workflow_result.journal.place import open_journal
from workflow_result.request import Draft, check


def a_failure(record: str) -> dict[str, Any]:
    return a_request(record, FailureReason="It broke") | {"Status": "FAILED"}


def notify(desk: Desk, request: dict[str, Any], *options: str, **settings: Any) -> Any:
    return desk.main("notify", *options, stdin=request, **settings)


class TestLiveRun:
    @pytest.fixture
    def process(self, desk: Desk, record: str) -> subprocess.Popen[bytes]:
        return hold_run(desk, record)

    def test_notify_does_not_end_its_record_behind_its_back(
        self, desk: Desk, record: str, process: subprocess.Popen[bytes]
    ) -> None:
        outcome = notify(desk, a_request(record), "--operation", "terminate")
        assert (outcome.code, outcome.stdout) == (75, "")
        assert outcome.lines == [
            f"{record}: another process runs Terraform for it; nothing was sent. Where that hangs, "
            "end it, and notify this one again"
        ]
        process.send_signal(signal.SIGTERM)
        ended(process)
        assert desk.sandbox.status(record) == "FAILED"
        assert len(desk.tokens(record)) == 1

    def test_forget_leaves_it_alone(
        self, desk: Desk, record: str, process: subprocess.Popen[bytes]
    ) -> None:
        outcome = desk.main("forget", record)
        assert (outcome.code, outcome.stdout) == (75, "")
        assert outcome.lines == [
            f"{record}: not struck off, another process works on it: terminate, for sandbox"
        ]
        assert desk.pending()[record].state == "running"
        process.kill()
        ended(process)
        assert desk.main("forget", record).code == 0
        assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.sandbox.status(record) == "IN_PROGRESS"

    def test_check_of_pending_does_not_mind_it(
        self, desk: Desk, record: str, process: subprocess.Popen[bytes]
    ) -> None:
        assert desk.main("pending", "--check").code == 0
        process.kill()
        ended(process)
        assert desk.main("pending", "--check").code == 75


class TestOwed:
    def test_another_result_is_not_taken(self, desk: Desk, record: str) -> None:
        assert desk.notify(record, **NOBODY).code == 75
        other = notify(desk, a_failure(record))
        assert (other.code, other.stdout) == (75, "")
        assert other.lines == [
            f"{record}: another result of it is owed, SUCCEEDED: `resend` sends it; nothing was "
            f"sent. If that one is wrong, `forget {record}` and notify this one again"
        ]
        assert desk.tokens(record) == set()
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_the_same_is_sent(self, desk: Desk, record: str) -> None:
        assert desk.notify(record, **NOBODY).code == 75
        assert desk.notify(record).code == 0
        assert desk.pending() == {}

    def test_after_forget_another_one_is_taken(self, desk: Desk, record: str) -> None:
        assert desk.notify(record, **NOBODY).code == 75
        forgotten = desk.main("forget", record)
        assert (forgotten.code, forgotten.stdout) == (0, "")
        assert forgotten.lines == [
            f"{record}: struck off: provision SUCCEEDED, for sandbox, which was owed"
        ]
        assert desk.leftovers() == []
        assert notify(desk, a_failure(record)).code == 0
        assert desk.sandbox.status(record) == "FAILED"

    def test_what_another_process_is_sending_is_not_forgotten(
        self, new_desk: Callable[..., Desk]
    ) -> None:
        desk = new_desk("--misbehave", "silent:1")
        process = desk.start("notify", stdin=a_request("rec-demo"))
        wait_for_call(desk)
        assert desk.main("forget", "rec-demo").code == 75
        process.kill()
        ended(process)
        assert desk.main("resend").code == 0

    def test_another_destination_has_an_entry_of_its_own(self, desk: Desk, record: str) -> None:
        desk.owe(record, destination="aws")
        assert notify(desk, a_failure(record)).code == 0
        assert desk.pending()[record].destination == "aws"

    def test_check_of_pending_prints_as_always_and_tells_by_its_exit_code(
        self, desk: Desk, record: str
    ) -> None:
        assert desk.notify("rec-x").code == 69
        assert desk.main("pending", "--check").code == 69
        assert desk.notify(record, **NOBODY).code == 75
        for options in ([], ["--json"]):
            checked = desk.main("pending", "--check", *options)
            assert (checked.code, checked.stderr) == (75, "")
            assert checked.stdout == desk.main("pending", *options).stdout
        assert desk.main("forget", "rec-x").code == 0
        assert desk.main("resend").code == 0
        checked = desk.main("pending", "--check")
        assert (checked.code, checked.lines) == (0, ["nothing is owed"])


class TestRefused:
    def test_another_result_takes_its_place(self, new_desk: Callable[..., Desk]) -> None:
        desk = new_desk("--misbehave", "invalid:1")
        assert desk.notify("rec-demo").code == 69
        assert notify(desk, a_failure("rec-demo")).code == 0
        assert desk.pending() == {}

    def test_another_operation_takes_its_place(self, new_desk: Callable[..., Desk]) -> None:
        desk = new_desk("--misbehave", "invalid:1")
        assert desk.notify("rec-demo").code == 69
        assert notify(desk, a_request("rec-demo"), "--operation", "update").code == 0
        assert desk.pending() == {}

    def test_forget_strikes_it_off(self, desk: Desk) -> None:
        assert desk.notify("rec-x").code == 69
        assert desk.main("forget", "rec-x").lines == [
            "rec-x: struck off: provision SUCCEEDED, for sandbox, which was refused"
        ]
        assert desk.pending() == {}


class TestReported:
    def test_another_result_is_sent_and_where_it_is_refused_the_first_one_stays(
        self, desk: Desk, record: str
    ) -> None:
        first = desk.notify(record)
        other = notify(desk, a_failure(record))
        assert (other.code, other.stdout) == (69, "")
        assert other.stderr.endswith(
            "whether another result was reported before. It stays reported as SUCCEEDED\n"
        )
        assert len(desk.tokens(record)) == 2
        assert desk.pending() == {}
        again = desk.notify(record, **NOBODY)
        assert (again.code, again.stdout) == (0, first.stdout)
        assert desk.leftovers() == []

    def test_another_result_that_cannot_be_delivered_is_owed_and_the_first_stays_reported(
        self, desk: Desk, record: str
    ) -> None:
        assert desk.notify(record).code == 0
        assert notify(desk, a_failure(record), **NOBODY).code == 75
        assert desk.pending()[record].status == "FAILED"
        assert desk.notify(record, **NOBODY).code == 0
        resent = desk.main("resend")
        assert resent.code == 69
        assert resent.stderr.startswith("0 reported, 1 refused, 0 still owed: InvalidParameters")
        assert desk.pending() == {}
        assert desk.notify(record, **NOBODY).code == 0

    def test_another_result_that_is_taken_is_what_is_reported_then(
        self, desk: Desk, record: str
    ) -> None:
        """Service Catalog takes none, as far as one knows; it decides, not the journal."""
        with endpoint(lambda *_: (200, b"{}")) as url:
            taken = CREDENTIALS | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url}
            assert desk.notify(record, **taken).code == 0
            assert notify(desk, a_failure(record), **taken).code == 0
        with desk.table() as table:
            assert table.execute("SELECT state, status FROM result").fetchall() == [
                ("reported", "FAILED")
            ]

    def test_forget_has_nothing_to_do(self, desk: Desk, record: str) -> None:
        assert desk.notify(record).code == 0
        outcome = desk.main("forget", record)
        assert (outcome.code, outcome.stdout) == (0, "")
        assert outcome.lines == [
            f"{record}: reported, there is nothing to forget: provision SUCCEEDED, for sandbox"
        ]
        assert desk.notify(record, **NOBODY).code == 0


class TestOperation:
    """Another operation than the record's is a mistake."""

    @pytest.mark.parametrize("state", ["running", "owed", "reported"])
    def test_is_refused_by_name_and_nothing_is_saved_or_sent(
        self, desk: Desk, record: str, state: str
    ) -> None:
        if state == "running":
            process = hold_run(desk, record)
        else:
            settings = {} if state == "reported" else NOBODY
            request = a_request(record)
            notify(desk, request, "--operation", "terminate", **settings)
        before = desk.sandbox.calls()
        entries = desk.pending()
        outcome = notify(desk, a_request(record), "--operation", "update")
        assert (outcome.code, outcome.stdout) == (65, "")
        assert outcome.lines == [
            f"{record}: the journal has it as a terminate, not an update: check --operation"
        ]
        assert desk.sandbox.calls() == before
        assert desk.pending() == entries
        if state == "running":
            process.kill()
            ended(process)

    def test_of_a_message_is_refused_and_nothing_is_run(self, desk: Desk, record: str) -> None:
        desk.notify(record)
        (desk.home / "terraform").write_text("#!/bin/sh\ntouch it-ran\n")
        outcome = desk.run(record)
        assert (outcome.code, outcome.stdout) == (65, "")
        assert outcome.lines == [
            f"{record}: the journal has it as a provision, not a terminate: nothing was run"
        ]
        assert not (desk.artifact / "it-ran").exists()


class TestForget:
    def test_record_that_nobody_knows_is_invalid(self, desk: Desk) -> None:
        open_journal(desk.journal).close()
        outcome = desk.main("forget", "rec-x")
        assert (outcome.code, outcome.stdout) == (65, "")
        assert outcome.lines == ["rec-x: the journal knows nothing of it"]

    def test_each_destination_is_told(self, desk: Desk, record: str) -> None:
        desk.owe(record)
        desk.owe(record, destination="aws")
        assert desk.main("forget", record).lines == [
            f"{record}: struck off: provision SUCCEEDED, for {destination}, which was owed"
            for destination in ("aws", "sandbox")
        ]
        assert desk.pending() == {}

    def test_journal_that_is_named_and_not_there_is_a_mistake(self, desk: Desk) -> None:
        assert desk.main("forget", "rec-x").code == 78
        assert not desk.folder.exists()

    def test_run_that_applied_nothing_is_forgotten_too(self, desk: Desk, record: str) -> None:
        desk.run(
            record,
            **desk.killed("after", "workflow_result.engine.program:Program.step"),
        )
        assert desk.main("forget", record).lines == [
            f"{record}: struck off: terminate FAILED, for sandbox, which died"
        ]


def test_what_a_dead_run_owes_and_another_process_sends_is_waited_for(
    desk: Desk, record: str
) -> None:
    desk.run(record, **desk.killed("after", "workflow_result.journal:Journal.applying"))
    with held_calls(desk) as calls:
        resent = desk.start("resend")
        call = calls.get()
        run = desk.run(record)
        told = notify(desk, a_request(record), "--operation", "terminate")
        call.put((200, b"{}"))
        assert ended(resent).code == 0
    line = f"{record}: another process reports that its run died; nothing was"
    assert (run.code, run.lines) == (75, [f"{line} run"])
    assert (told.code, told.lines) == (75, [f"{line} sent"])
    assert desk.pending() == {}


def test_what_was_refused_meanwhile_is_left_as_it_is(desk: Desk, record: str) -> None:
    """By a `resend` that could not deliver it then."""
    desk.owe(record)
    with held_calls(desk) as calls:
        resent = desk.start("resend")
        of_resend = calls.get()
        notified = desk.start("notify", stdin=a_request(record))
        calls.get().put((400, b'{"__type": "InvalidParametersException"}'))
        assert ended(notified).code == 69
        of_resend.put((503, b"{}"))
        assert ended(resent).code == 0
    entry = desk.pending()[record]
    assert (entry.state, entry.tries) == ("refused", 1)
    assert str(entry.last_error).startswith("InvalidParametersException")


def test_run_for_another_destination_is_begun_whatever_the_first_one_has(
    desk: Desk, record: str
) -> None:
    """A record of a sandbox is not the record of AWS, though they be called the same."""
    request = check(Draft(a_request(record)), "terminate")
    desk.owe(record, destination="aws")
    assert desk.run(record).code == 0
    assert desk.sandbox.status(record) == "SUCCEEDED"
    journal = open_journal(desk.journal)
    journal.settle([entry for entry in journal.pending() if entry.record_id == record])
    begun = journal.begin(request, "elsewhere", None)
    journal.close()
    assert (begun.own, begun.state) == (True, "running")
