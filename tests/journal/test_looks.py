"""`pending`, `doctor` and `rescue` without --apply only look: the journal stays as it is."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_cli import OLDER_RECORDS, Desk, ended, hold_run, older_journal

from workflow_result.journal import database as tables
from workflow_result.journal.place import open_journal
from workflow_result.journal.store import JournalProblem

LOOKS = ("pending", "doctor --terraform none", "rescue --older-than 0")


def files(desk: Desk) -> dict[str, tuple[bytes, int]]:
    """All that lies in the journal's folder."""
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in desk.folder.iterdir()
    }


def look(desk: Desk, command: str) -> tuple[int, str, str]:
    outcome = desk.main(*command.split())
    return outcome.code, re.sub(r"[\d.]+ hours", "… hours", outcome.stdout), outcome.stderr


class TestOlder:
    @pytest.mark.parametrize("version", [0, 1, 2])
    def test_journal_is_shown_as_it_is_once_taken_over_and_left_alone(
        self, new_desk: Callable[..., Desk], version: int
    ) -> None:
        """Version 0 is a file in which nothing was entered yet."""
        desk = new_desk(*(f"--record=rec-{name}" for name in OLDER_RECORDS))
        older_journal(desk, version)
        before = files(desk)
        assert list(before) == [desk.journal.name]
        looks = [look(desk, command) for command in LOOKS]
        assert files(desk) == before
        open_journal(desk.journal).close()
        assert files(desk) != before
        assert looks == [look(desk, command) for command in LOOKS]
        assert ("rec-owed" in looks[0][1]) == bool(version)

    def test_journal_that_may_be_changed_is_taken_over(self, new_desk: Callable[..., Desk]) -> None:
        desk = new_desk()
        older_journal(desk, 1)
        assert look(desk, "rescue --apply")[0] == 0
        with desk.table() as table:
            assert table.execute("PRAGMA user_version").fetchone() == (len(tables.STEPS),)


class TestOfThisVersion:
    @pytest.fixture
    def desk(self, new_desk: Callable[..., Desk], record: str) -> Desk:
        return new_desk(f"--record={record}")

    def test_nothing_is_made_where_nobody_has_held_a_lock_yet(
        self, desk: Desk, record: str
    ) -> None:
        desk.owe(record)
        Path(f"{desk.journal}.lock").unlink()
        before = files(desk)
        assert all(record in look(desk, command)[1] for command in LOOKS if command != LOOKS[1])
        assert "1 owed" in look(desk, LOOKS[1])[1]
        assert files(desk) == before

    def test_run_that_is_alive_is_known(self, desk: Desk, record: str) -> None:
        process = hold_run(desk, record)
        before = files(desk)
        shown = [look(desk, command)[1] for command in LOOKS]
        assert files(desk) == before
        process.kill()
        ended(process)
        assert f"{record}  terminate  sandbox us-east-1  running" in shown[0]
        assert "1 running" in shown[1]
        assert "  alive  " in shown[2]

    def test_what_a_kill_left_is_cut_off_by_who_changes_the_journal(
        self, desk: Desk, record: str
    ) -> None:
        desk.owe(record)
        with desk.journal.open("ab") as file:
            file.write(bytes(4096))
        before = files(desk)
        for command in LOOKS:
            look(desk, command)
        assert files(desk) == before
        desk.main("forget", record)
        assert len(files(desk)[desk.journal.name][0]) < len(before[desk.journal.name][0])


def test_journal_that_is_only_looked_at_takes_nothing(desk: Desk, record: str) -> None:
    desk.owe(record)
    before = files(desk)
    journal = open_journal(desk.journal, change=False)
    with pytest.raises(JournalProblem, match="attempt to write a readonly database"):
        journal.forget(record)
    journal.close()
    assert files(desk) == before


def test_older_journal_that_somebody_does_not_let_go_of_is_not_waited_for_without_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    older_journal(desk, 2)
    is_new = tables.Database._is_new
    with closing(sqlite3.connect(desk.journal, isolation_level=None)) as other:

        def is_new_before_it_is_locked(*given: Any) -> bool:
            new = is_new(*given)
            other.execute("BEGIN EXCLUSIVE")
            return new

        monkeypatch.setattr(tables, "BUSY_SECONDS", 0.1)
        monkeypatch.setattr(tables.Database, "_is_new", is_new_before_it_is_locked)
        with pytest.raises(JournalProblem, match="database is locked"):
            open_journal(desk.journal, change=False)
