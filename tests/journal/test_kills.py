"""What a kill leaves: what was taken charge of is lost never, and sent under one token."""

import random
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from journal_cli import JOURNAL, NOBODY, SEND, STORE, Desk, a_request

from workflow_result.journal.place import open_journal

STEP = "workflow_result.engine.program:Program.step"


CALL = "workflow_result.journal.table:Table.call"
"""The n-th call of a command to a table, where the journal is one."""


def on(store: str, *cases: tuple[Any, ...]) -> list[Any]:
    """These cases, for a journal in a file or a table alone."""
    return [pytest.param(store, *case) for case in cases]


def on_both(*cases: tuple[Any, ...]) -> list[Any]:
    return [*on("file", *cases), *on("table", *cases)]


@pytest.fixture
def desk(request: pytest.FixtureRequest, store: str) -> Desk:
    """The journal is in a file or in a table, where time is to go by after a kill."""
    found: Desk = request.getfixturevalue("file_desk" if store == "file" else "shared_desk")
    return found


class TestKilled:
    """By SIGKILL, at each step; then `resend`, and the same command again."""

    @pytest.mark.parametrize(
        ("store", "when", "step", "is_owed"),
        [
            *on_both(
                ("before", SEND, True),
                ("after", SEND, True),
                ("before", f"{JOURNAL}.settle", True),
            ),
            *on(
                "file",
                ("before", f"{JOURNAL}.owe", False),
                ("after", f"{STORE}._enter", False),  # and not committed
                ("after", f"{JOURNAL}.owe", True),
            ),
            *on("table", ("before", CALL, False), ("after", CALL, True)),
        ],
    )
    def test_notify(self, desk: Desk, record: str, when: str, step: str, is_owed: bool) -> None:
        assert desk.notify(record, **desk.killed(when, step)).code == -signal.SIGKILL
        desk.lapse()
        assert (record in desk.pending()) == is_owed
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == ("SUCCEEDED" if is_owed else "IN_PROGRESS")
        again = desk.notify(record)
        assert again.code == 0
        assert desk.tokens(record) == {again.json["idempotency_token"]}
        assert desk.pending() == {}
        assert desk.leftovers() == []

    @pytest.mark.parametrize(
        ("store", "when", "step"),
        [
            *on("file", ("after", f"{JOURNAL}.settle"), ("before", f"{JOURNAL}.close")),
            *on("table", ("after", f"{CALL}:2")),
        ],
    )
    def test_notify_that_has_struck_its_result_off(
        self, desk: Desk, record: str, when: str, step: str
    ) -> None:
        assert desk.notify(record, **desk.killed(when, step)).code == -signal.SIGKILL
        assert desk.pending() == {}
        assert desk.leftovers() == []

    @pytest.mark.parametrize(("store", "when"), on_both(("before",), ("after",)))
    def test_notify_that_is_refused(self, desk: Desk, when: str) -> None:
        killed = desk.killed(when, f"{JOURNAL}.refuse")
        assert desk.notify("rec-x", **killed).code == -signal.SIGKILL
        desk.lapse()
        assert desk.main("resend").code == (69 if when == "before" else 0)
        assert desk.pending()["rec-x"].state == "refused"
        assert desk.leftovers() == []

    @pytest.mark.parametrize(("store", "when"), on_both(("before",), ("after",)))
    def test_notify_that_is_not_delivered(self, desk: Desk, record: str, when: str) -> None:
        killed = desk.killed(when, f"{JOURNAL}.keep")
        assert desk.notify(record, **killed, **NOBODY).code == -signal.SIGKILL
        desk.lapse()
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    @pytest.mark.parametrize(
        ("store", "when", "step", "status"),
        [
            *on_both(
                ("before", f"{JOURNAL}.begin", "IN_PROGRESS"),
                ("after", f"{STEP}:3", "FAILED"),
                ("after", SEND, "SUCCEEDED"),
            ),
            *on(
                "file",
                ("after", f"{STORE}._enter", "IN_PROGRESS"),  # and not committed
                ("after", f"{JOURNAL}.applying", "FAILED"),
                ("before", f"{JOURNAL}.owe", "FAILED"),
                ("after", f"{STORE}._enter:3", "FAILED"),  # and not committed
                ("after", f"{JOURNAL}.owe", "SUCCEEDED"),
                ("before", SEND, "SUCCEEDED"),
                ("after", f"{JOURNAL}.settle", "SUCCEEDED"),
            ),
            *on(
                "table",
                ("after", f"{CALL}:2", "FAILED"),
                ("before", f"{CALL}:3", "FAILED"),
                ("after", f"{CALL}:3", "SUCCEEDED"),
                ("after", f"{CALL}:4", "SUCCEEDED"),
            ),
        ],
    )
    def test_run(self, desk: Desk, record: str, when: str, step: str, status: str) -> None:
        assert desk.run(record, **desk.killed(when, step)).code == -signal.SIGKILL
        desk.lapse()
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == status
        assert len(desk.tokens(record)) == (status != "IN_PROGRESS")
        assert desk.pending() == {}
        assert desk.leftovers() == []

    @pytest.mark.parametrize(
        ("store", "when", "step"),
        [
            *on_both(("after", f"{JOURNAL}.begin"), ("after", f"{STEP}:2")),
            *on(
                "file",
                ("after", f"{STEP}:1"),
                ("before", f"{JOURNAL}.applying"),
                ("after", f"{STORE}._enter:2"),  # and not committed
            ),
            *on("table", ("before", f"{CALL}:2")),
        ],
    )
    def test_run_that_has_applied_nothing_is_run_again(
        self, desk: Desk, record: str, when: str, step: str
    ) -> None:
        assert desk.run(record, **desk.killed(when, step)).code == -signal.SIGKILL
        desk.lapse()
        resent = desk.main("resend")
        assert resent.code == 0
        assert resent.lines == ["0 reported, 0 refused, 0 still owed, 1 may be run again"]
        assert desk.pending()[record].state == "died"
        assert desk.run(record).code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert len(desk.tokens(record)) == 1
        assert desk.pending() == {}
        assert desk.leftovers() == []

    @pytest.mark.parametrize(
        ("store", "when", "step"),
        [
            *on_both(("before", SEND), ("after", f"{SEND}:3")),
            *on(
                "file",
                ("before", f"{JOURNAL}.claim"),
                ("after", f"{STORE}.change"),
                ("before", f"{JOURNAL}.settle"),
                ("after", f"{JOURNAL}.settle"),
                ("before", f"{JOURNAL}.pending"),
            ),
            *on("table", ("after", CALL), ("after", f"{CALL}:3"), ("after", f"{CALL}:9")),
        ],
    )
    def test_resend(
        self, desk: Desk, records: Callable[[int], list[str]], when: str, step: str
    ) -> None:
        owed = records(5)
        desk.owe(*owed)
        desk.lapse()
        assert desk.main("resend", **desk.killed(when, step)).code == -signal.SIGKILL
        desk.lapse()
        assert desk.main("resend").code == 0
        for record in owed:
            assert desk.sandbox.status(record) == "SUCCEEDED"
            assert len(desk.tokens(record)) == 1
        assert desk.leftovers() == []

    @pytest.mark.parametrize("store", ["file", "table"])
    def test_repetition_carries_the_very_same_request(self, desk: Desk, record: str) -> None:
        """The sandbox takes an IdempotencyToken again with the very same content only."""
        desk.notify(record, **desk.killed("after", SEND))
        desk.lapse()
        assert desk.main("resend").lines == ["1 reported, 0 refused, 0 still owed"]

    @pytest.mark.parametrize("store", ["file"])
    def test_at_any_moment(self, desk: Desk, records: Callable[[int], list[str]]) -> None:
        chance = random.Random(7)  # noqa: S311
        open_journal(desk.journal).close()
        for record in records(6):
            process = desk.start("notify", stdin=a_request(record))
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.05, 0.3))
            process.kill()
            process.communicate()
            # Owed, reported, or not begun: the same again ends it in any case, once.
            assert desk.main("resend").code == 0
            assert desk.notify(record).code == 0
            assert desk.sandbox.status(record) == "SUCCEEDED"
            assert len(desk.tokens(record)) == 1
        assert desk.leftovers() == []
