"""`pending` and what is refused: a person sees what is owed, and why."""

import json
import re
import sqlite3
from collections.abc import Callable

import pytest
from conftest import endpoint
from journal_cli import (
    MARK,
    NOBODY,
    Desk,
)

from workflow_result.journal.place import open_journal
from workflow_result.request import Draft, check


class TestRefused:
    def test_result_is_kept_without_its_token(self, desk: Desk) -> None:
        assert desk.notify("rec-x").code == 69
        assert desk.leftovers() == []
        with sqlite3.connect(desk.journal) as database:
            (content,) = database.execute("SELECT request FROM result").fetchone()
        database.close()
        assert json.loads(content)["Status"] == "SUCCEEDED"
        assert "WorkflowToken" not in json.loads(content)

    def test_resend_leaves_it_alone(self, desk: Desk) -> None:
        desk.notify("rec-x")
        outcome = desk.main("resend", **NOBODY)
        assert (outcome.code, outcome.lines) == (0, ["0 reported, 0 refused, 0 still owed"])
        entry = desk.pending()["rec-x"]
        assert (entry.state, entry.tries) == ("refused", 1)
        assert entry.last_error == "ResourceNotFoundException: Record rec-x not found"

    def test_same_notify_by_hand_tries_again(self, new_desk: Callable[..., Desk]) -> None:
        desk = new_desk("--misbehave", "invalid:1")
        assert desk.notify("rec-demo").code == 69
        assert desk.notify("rec-demo").code == 0
        assert desk.pending() == {}
        assert len(desk.tokens("rec-demo")) == 1

    def test_resend_that_is_refused_says_so_once_and_owes_nothing(self, desk: Desk) -> None:
        desk.owe("rec-x")
        outcome = desk.main("resend")
        assert outcome.code == 69
        assert desk.main("resend").code == 0
        assert outcome.stderr.startswith("0 reported, 1 refused, 0 still owed: ResourceNotFound")
        assert desk.leftovers() == []


class TestPending:
    @pytest.mark.parametrize("command", ["pending", "resend", "pending --json"])
    def test_journal_that_is_named_and_not_there_is_a_mistake(
        self, desk: Desk, command: str
    ) -> None:
        outcome = desk.main(*command.split())
        assert (outcome.code, outcome.stdout) == (78, "")
        assert outcome.lines == [
            f"there is no journal {desk.journal}: check --journal or WORKFLOW_RESULT_JOURNAL"
        ]
        named = desk.main(*command.split(), "--journal", "gone", WORKFLOW_RESULT_JOURNAL="")
        assert named.code == 78
        assert not desk.folder.exists()

    def test_default_journal_that_is_not_there_yet_owes_nothing(self, desk: Desk) -> None:
        state = {"WORKFLOW_RESULT_JOURNAL": "", "XDG_STATE_HOME": str(desk.home / "xdg")}
        for command in ("pending", "resend", "pending --check"):
            outcome = desk.main(*command.split(), **state)
            assert (outcome.code, outcome.stdout) == (0, "")
            (line,) = outcome.lines
            assert line.startswith(f"nothing is owed: there is no journal {desk.home / 'xdg'}/")
        assert desk.main("pending", "--json", **state).stdout == "[]\n"
        assert not (desk.home / "xdg").exists()

    def test_nothing(self, desk: Desk) -> None:
        open_journal(desk.journal).close()
        outcome = desk.main("pending")
        assert (outcome.code, outcome.stdout, outcome.lines) == (0, "", ["nothing is owed"])
        assert json.loads(desk.main("pending", "--json").stdout) == []

    def test_people_see_what_is_owed_since_when_how_often_and_why(
        self, desk: Desk, record: str
    ) -> None:
        for _ in range(2):
            desk.notify(record, **NOBODY)
        outcome = desk.main("pending")
        assert outcome.code == 0
        assert re.fullmatch(
            rf"{record}  provision  sandbox us-east-1  owed  "
            r"since 2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00  "
            r"tried 2 times: Could not connect to the endpoint URL: \"http://127.0.0.1:1/\"; .*\n",
            outcome.stdout,
        )

    def test_programs_see_the_same(self, desk: Desk, record: str) -> None:
        desk.notify(record, **NOBODY)
        (row,) = json.loads(desk.main("pending", "--json").stdout)
        assert row["last_error"].startswith("Could not connect to the endpoint URL: ")
        assert row | {"since": "", "last_error": ""} == {
            "record_id": record,
            "operation": "provision",
            "destination": "sandbox",
            "state": "owed",
            "since": "",
            "tries": 1,
            "last_error": "",
            "region": "us-east-1",
        }

    def test_oldest_comes_first(self, desk: Desk) -> None:
        """Whatever its state, and whenever the journal got it."""
        desk.owe("rec-b", "rec-a", "rec-c", "rec-d")
        with sqlite3.connect(desk.journal) as database:
            database.execute("UPDATE result SET since = 1 WHERE record_id = 'rec-c'")
            database.execute(
                "UPDATE result SET since = 0, state = 'refused' WHERE record_id = 'rec-d'"
            )
        database.close()
        assert list(desk.pending()) == ["rec-d", "rec-c", "rec-b", "rec-a"]

    def test_no_text_from_elsewhere_drives_the_terminal(self, desk: Desk, record: str) -> None:
        error = (
            b'{"__type": "ThrottlingException", "message": "\\u001b[2J\\u001b]0;x\\u0007 \xc3\xa9"}'
        )
        with endpoint(lambda *_: (400, error)) as url:
            desk.notify(record, **NOBODY | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url})
        shown = desk.main("pending", PYTHONIOENCODING="ascii")
        assert shown.code == 0
        assert shown.stdout.endswith("ThrottlingException:  \\xe9\n")

    @pytest.mark.parametrize("value", ["since = 1e300", "since = 'x'", "last_error = x'00'"])
    def test_values_that_nobody_entered_are_told(self, desk: Desk, value: str) -> None:
        desk.owe("rec-x")
        with sqlite3.connect(desk.journal) as database:
            database.execute(f"UPDATE result SET {value}")  # noqa: S608
        database.close()
        for command in (["pending"], ["pending", "--json"], ["resend"]):
            outcome = desk.main(*command)
            assert (outcome.code, outcome.stdout) == (78, "")
            assert "it is damaged; it is left as it is" in outcome.stderr

    def test_no_token_is_shown(self, desk: Desk, record: str) -> None:
        desk.owe(record)
        assert MARK in desk.leftovers()[0].read_text(errors="ignore")
        for options in ([], ["--json"], ["--debug"]):
            outcome = desk.main("pending", *options)
            assert MARK not in outcome.stdout + outcome.stderr


class TestOrderThatWaits:
    """For a build: nothing was run yet, and its message is nowhere else."""

    @pytest.fixture(autouse=True)
    def waits(self, desk: Desk, record: str) -> None:
        members = {"WorkflowToken": MARK, "RecordId": record, "Status": "FAILED"}
        journal = open_journal(desk.journal)
        order = journal.wait(check(Draft(members), "provision"), "sandbox", None, f'"{MARK}"')
        journal.asked(order, cause="No room")
        journal.close()

    def test_is_listed_and_owes_nothing(self, desk: Desk, record: str) -> None:
        shown = desk.main("pending", "--check")
        assert (shown.code, shown.lines) == (0, [])
        line = f"{record}  provision  sandbox  waiting  since "
        assert shown.stdout.startswith(line)
        assert shown.stdout.endswith("  tried once: No room\n")

    def test_is_not_struck_off(self, desk: Desk, record: str) -> None:
        outcome = desk.main("forget", record)
        what = "provision FAILED, for sandbox"
        line = f"{record}: not struck off, it waits for a build: {what}"
        assert (outcome.code, outcome.lines) == (75, [line])
        assert desk.pending()[record].state == "waiting"

    def test_is_left_alone_by_resend(self, desk: Desk, record: str) -> None:
        outcome = desk.main("resend", **NOBODY)
        line = "0 reported, 0 refused, 0 still owed, 1 waits for a build"
        assert (outcome.code, outcome.lines) == (0, [line])
        assert desk.pending()[record].state == "waiting"
