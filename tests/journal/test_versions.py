"""Journals of other versions: an older one is taken over, also while its processes live."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from engine_cli import read_until
from journal_cli import (
    NOBODY,
    OLDER_RECORDS,
    Desk,
    a_message,
    a_request,
    ended,
    older_journal,
)

from workflow_result.engine.terraform import HOST_DIED
from workflow_result.journal import database as tables
from workflow_result.journal.place import open_journal
from workflow_result.journal.record import digest_for
from workflow_result.request import Draft, Request, check

OLDER = Path(__file__).with_name("older.py")

VERSION_2 = "1b37f4c"
"""The last commit that knew version 2 of the tables."""


@pytest.mark.parametrize("version", [1, 2])
class TestOlder:
    """Journals as those versions left them: see the `.sql` files."""

    @pytest.fixture
    def desk(self, new_desk: Callable[..., Desk], version: int) -> Desk:
        desk = new_desk(*(f"--record=rec-{name}" for name in OLDER_RECORDS))
        older_journal(desk, version)
        return desk

    def test_entries_of_one_record_become_one(self, desk: Desk, version: int) -> None:
        """A result before the FAILED of a run that died, that before a refusal, the first of two;
        what was reported stays so."""
        states = {e.record_id: (e.state, e.status, e.presumed) for e in desk.pending().values()}
        assert states == {
            "rec-owed": ("owed", "SUCCEEDED", False),
            "rec-aws": ("owed", "SUCCEEDED", False),
            "rec-died": ("owed", "FAILED", True),
            "rec-refused": ("refused", "SUCCEEDED", False),
            "rec-presumed": ("owed", "SUCCEEDED", False),
            "rec-two": ("owed", "SUCCEEDED", False),
            "rec-again": ("owed", "FAILED", True),
        }

    def test_what_is_owed_is_sent(self, desk: Desk, version: int) -> None:
        resent = desk.main("resend")
        assert resent.lines == ["5 reported, 0 refused, 0 still owed, 1 for AWS left alone"]
        assert {name: desk.sandbox.status(f"rec-{name}") for name in OLDER_RECORDS} == {
            "owed": "SUCCEEDED",
            "died": "FAILED",
            "refused": "IN_PROGRESS",
            "reported": "IN_PROGRESS",
            "presumed": "SUCCEEDED",
            "two": "SUCCEEDED",
            "late": "IN_PROGRESS",
            "again": "FAILED",
        }
        assert list(desk.pending()) == ["rec-aws", "rec-refused"]
        assert desk.main("resend").code == 0
        assert len(desk.sandbox.calls()) == 5

    def test_what_was_reported_is_answered(self, desk: Desk, version: int) -> None:
        for record in ("rec-reported", "rec-late"):
            again = desk.notify(record, **NOBODY)
            assert again.code == 0
            assert again.lines == [f"{record}: reported before, says the journal; not sent again"]

    def test_first_result_stays(self, desk: Desk, version: int) -> None:
        other = a_request("rec-owed", FailureReason="It broke") | {"Status": "FAILED"}
        assert desk.main("notify", stdin=other).code == 75
        assert desk.notify("rec-died").code == 65  # it is an update
        own = desk.main("notify", "--operation", "update", stdin=a_request("rec-died"))
        assert own.code == 0
        assert desk.sandbox.status("rec-died") == "SUCCEEDED"
        assert desk.notify("rec-two").code == 0  # the same
        assert desk.notify("rec-refused").code == 0

    def test_forget_takes_all_of_them(self, desk: Desk, version: int) -> None:
        assert desk.main("forget", "rec-two").code == 0
        assert "rec-two" not in desk.pending()

    def test_nothing_is_left_of_a_token_in_the_end(self, desk: Desk, version: int) -> None:
        assert desk.main("forget", "rec-aws").code == 0
        assert desk.main("resend").code == 0
        assert desk.leftovers() == []


def requests_of(record: str) -> tuple[Request, Request]:
    """The FAILED of a run that dies, and the SUCCEEDED of one that does not."""
    died = a_request(record, FailureReason=HOST_DIED) | {"Status": "FAILED"}
    return check(Draft(died), "terminate"), check(Draft(a_request(record)), "terminate")


class TestOlderProcess:
    """It has opened the journal before this version did, and goes on with its own statements."""

    @pytest.fixture
    def older(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
        with monkeypatch.context() as context:
            context.setattr(tables, "STEPS", tables.STEPS[:2])
            tables.Database(desk.journal, make=True).close()
        process = subprocess.Popen(
            [sys.executable, OLDER, desk.journal],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process = process
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def do(what: str, request: Request) -> None:
            stdin.write(json.dumps([what, digest_for(request, "sandbox"), request.members]) + "\n")
            stdin.flush()
            assert stdout.readline() == "done\n"

        yield do
        process.kill()
        process.communicate()

    def test_run_is_not_taken_for_dead_and_ends(
        self, desk: Desk, record: str, older: Callable[..., None]
    ) -> None:
        died, succeeded = requests_of(record)
        older("begin", died)
        before = desk.journal.read_bytes()
        assert f"{record}  terminate  sandbox us-east-1  running" in desk.main("pending").stdout
        assert desk.journal.read_bytes() == before
        assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.pending()[record].state == "running"
        assert desk.run(record).code == 75
        assert desk.main("forget", record).code == 75
        assert desk.notify(record).code == 65
        older("owe", succeeded)
        assert desk.pending()[record].held
        assert desk.main("resend").lines == ["0 reported, 0 refused, 1 still owed"]
        older("settle", succeeded)
        assert desk.pending() == {}
        again = desk.run(record, **NOBODY)
        assert (again.code, again.json["status"]) == (0, "SUCCEEDED")
        assert desk.tokens(record) == set()

    def test_run_that_dies_is_failed(
        self, desk: Desk, record: str, older: Callable[..., None]
    ) -> None:
        """It did not say whether it applied anything, so it may have."""
        older("begin", requests_of(record)[0])
        open_journal(desk.journal).close()
        self.process.kill()
        self.process.wait()
        again = desk.run(record)
        assert (again.code, again.json["status"]) == (1, "FAILED")
        assert desk.sandbox.status(record) == "FAILED"
        assert desk.pending() == {}

    def test_result_of_one_that_died_is_sent(
        self, desk: Desk, record: str, older: Callable[..., None]
    ) -> None:
        died, succeeded = requests_of(record)
        older("begin", died)
        open_journal(desk.journal).close()
        older("owe", succeeded)
        self.process.kill()
        self.process.wait()
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.leftovers() == []


def test_live_run_of_the_older_program_ends_as_if_nothing_had_changed(
    desk: Desk, record: str
) -> None:
    """The real one, from the history of this repository."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", VERSION_2], cwd=ROOT, capture_output=True
    )
    if archive.returncode:
        pytest.skip(f"the commit {VERSION_2} is missing in this clone: fetch the whole history")
    older = desk.home / "older"
    older.mkdir()
    subprocess.run(["tar", "-x", "-C", older], input=archive.stdout, check=True)
    (desk.artifact / "hold").touch()
    settings: dict[str, Any] = {"stdin": a_message(record), "through": [older / "main.py"]}
    process = desk.start(*desk.run_options, **settings)
    read_until(process, "applying")
    assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
    assert desk.pending()[record].state == "running"
    assert desk.run(record).code == 75
    process.send_signal(signal.SIGTERM)
    outcome = ended(process)
    assert outcome.code == 1
    assert "warning" not in outcome.stderr
    assert desk.sandbox.status(record) == "FAILED"
    assert desk.pending() == {}
    assert len(desk.tokens(record)) == 1


class TestNewer:
    STEP = ("ALTER TABLE result ADD COLUMN note TEXT",)

    @pytest.fixture(autouse=True)
    def newer(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as context:
            context.setattr(tables, "STEPS", tables.STEPS + self.STEP)
            desk.owe("rec-x")

    def test_journal_is_refused_and_left_as_it_is(self, desk: Desk) -> None:
        before = desk.journal.read_bytes()
        for command in ("resend", "pending"):
            outcome = desk.main(command)
            assert outcome.code == 78
            assert outcome.lines == [
                f"the journal {desk.journal} is of a newer version of this program: use that one, "
                "or another journal with --journal"
            ]
        assert desk.journal.read_bytes() == before

    def test_notify_warns_and_sends(self, desk: Desk, record: str) -> None:
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert len(outcome.lines) == 1
        assert "is of a newer version of this program" in outcome.stderr
        assert desk.sandbox.status(record) == "SUCCEEDED"


def test_journal_from_before_there_were_destinations_is_told_and_left_as_it_is(desk: Desk) -> None:
    """Nobody knows whether what it owes was meant for AWS."""
    desk.folder.mkdir()
    with closing(sqlite3.connect(desk.journal)) as database, database:
        database.execute("CREATE TABLE result (digest TEXT PRIMARY KEY, state TEXT)")
        database.execute(f"PRAGMA application_id = {tables.APPLICATION}")
        database.execute("PRAGMA user_version = 1")
    desk.journal.chmod(0o600)
    before = desk.journal.read_bytes()
    outcome = desk.main("resend")
    assert outcome.code == 78
    assert outcome.lines == [
        f"the journal {desk.journal} cannot be used: it is older than what this version knows; it "
        "is left as it is: move it away to begin a new one"
    ]
    assert desk.journal.read_bytes() == before
