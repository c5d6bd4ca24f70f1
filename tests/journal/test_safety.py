"""Nobody else gets at the journal."""

import os
import subprocess

import pytest
from journal_cli import JOURNAL, Desk, a_message

from workflow_result.journal import JournalProblem
from workflow_result.journal.sqlite import SQLiteJournal


def take_no_mode_away() -> None:
    os.umask(0)


class TestOnlyItsOwnerCanReadIt:
    @pytest.mark.parametrize(
        "step", ["sqlite3:connect", f"{JOURNAL}._enter", "workflow_result.delivery:Delivery.send"]
    )
    def test_at_every_moment_whatever_the_umask(self, desk: Desk, record: str, step: str) -> None:
        """Seen at a death: the file is empty, SQLite's side file is there, the result is kept."""
        desk.journal = desk.folder / "new" / "journal.sqlite3"
        when = "before" if step == "sqlite3:connect" else "after"
        settings = desk.killed(when, step)
        assert desk.notify(record, before=take_no_mode_away, **settings).code < 0
        found = [desk.folder, *desk.folder.rglob("*")]
        assert any(file.name.endswith("-journal") for file in found) == ("_enter" in step)
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in found}
        assert modes == {f.name: "0o700" if f.is_dir() else "0o600" for f in found}

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
    def test_journal_that_others_can_read_is_refused_and_nothing_is_sent(
        self, desk: Desk, record: str, mode: int
    ) -> None:
        desk.owe("rec-x")
        desk.journal.chmod(mode)
        outcome = desk.notify(record)
        assert (outcome.code, outcome.stdout) == (78, "")
        assert outcome.lines == [
            f"the journal {desk.journal} is open to others, and it holds WorkflowTokens: "
            f"chmod 600 {desk.journal}"
        ]
        assert desk.tokens(record) == set()

    def test_journal_of_another_user_is_refused_and_nothing_is_sent(
        self, desk: Desk, record: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In this process: to have another user's file, one has to be root."""
        desk.owe(record)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(JournalProblem, match="belongs to another user") as problem:
            SQLiteJournal(desk.journal)
        assert problem.value.exposed

    @pytest.mark.parametrize("command", ["resend", "pending", "run"])
    def test_by_every_command(self, desk: Desk, record: str, command: str) -> None:
        desk.owe(record)
        desk.journal.chmod(0o644)
        options = desk.run_options if command == "run" else [command]
        (desk.home / "terraform").write_text("#!/bin/sh\ntouch it-ran\n")
        outcome = desk.main(*options, stdin=a_message(record))
        assert outcome.code == 78
        assert "chmod 600" in outcome.stderr
        assert not (desk.artifact / "it-ran").exists()
        assert desk.tokens(record) == set()

    def test_the_command_that_is_named_mends_it(self, desk: Desk, record: str) -> None:
        desk.journal = desk.folder / "it's a journal"
        desk.owe(record)
        desk.journal.chmod(0o644)
        command = desk.main("resend").stderr.partition("WorkflowTokens: ")[2]
        subprocess.run(command, shell=True, check=True)  # noqa: S602
        assert desk.main("resend").code == 0
