"""Journals of other versions."""

import json
import sqlite3

import pytest
from journal_cli import (
    Desk,
    a_request,
)

from workflow_result.journal import database as tables
from workflow_result.journal.sqlite import SQLiteJournal
from workflow_result.request import Draft, check


class TestVersions:
    STEP = ("ALTER TABLE result ADD COLUMN note TEXT",)

    def test_older_journal_is_brought_up_to_date(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk.owe(record)
        monkeypatch.setattr(tables, "STEPS", tables.STEPS + self.STEP)
        journal = SQLiteJournal(desk.journal)
        assert [entry.record_id for entry in journal.pending()] == [record]
        columns = journal._database.read("SELECT note FROM result")
        assert columns == [(None,)]
        journal.close()

    def test_results_of_the_first_version_are_known(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It did not keep what was reported, only that it was."""
        with monkeypatch.context() as context:
            context.setattr(tables, "STEPS", tables.STEPS[:1])
            SQLiteJournal(desk.journal).close()
        request = check(Draft(a_request("rec-x")), "terminate")
        insert = (
            "INSERT INTO result (digest, destination, state, operation, record_id, request, since)"
            " VALUES (?, 'sandbox', ?, 'terminate', ?, ?, 1)"
        )
        with sqlite3.connect(desk.journal) as database:
            database.execute(insert, ["sandbox-1", "reported", record, None])
            database.execute(insert, ["sandbox-2", "refused", "rec-x", json.dumps(request.members)])
        database.close()
        outcome = desk.run(record)
        assert outcome.code == 0
        assert json.loads(outcome.stdout)["status"] == ""
        entry = desk.pending()["rec-x"]
        assert entry.status == "SUCCEEDED"
        assert entry.idempotency_token == request.members["IdempotencyToken"]

    def test_newer_journal_is_refused_and_left_as_it_is(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tables, "STEPS", tables.STEPS + self.STEP)
        desk.owe(record)
        before = desk.journal.read_bytes()
        for command in ("resend", "pending"):
            outcome = desk.main(command)
            assert outcome.code == 78
            assert outcome.lines == [
                f"the journal {desk.journal} is of a newer version of this program: use that one, "
                "or another journal with --journal"
            ]
        assert desk.journal.read_bytes() == before

    def test_notify_with_a_newer_journal_warns_and_sends(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tables, "STEPS", tables.STEPS + self.STEP)
        desk.owe("rec-x")
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert len(outcome.lines) == 1
        assert "is of a newer version of this program" in outcome.stderr
        assert desk.sandbox.status(record) == "SUCCEEDED"
