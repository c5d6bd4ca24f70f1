"""Nobody else gets at the journal."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from journal_cli import STORE, Desk, a_message, a_request

from workflow_result.journal import files
from workflow_result.journal.place import open_journal
from workflow_result.journal.store import JournalProblem


def take_no_mode_away() -> None:
    os.umask(0)


def take_every_mode_away() -> None:
    os.umask(0o777)


class TestOnlyItsOwnerCanReadIt:
    @pytest.mark.parametrize(
        "step", ["sqlite3:connect", f"{STORE}._enter", "workflow_result.delivery:Delivery.send"]
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
            open_journal(desk.journal)
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


class TestFolder:
    """SQLite takes a side file beside the journal for its own, whoever has made it."""

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
    @pytest.mark.parametrize("command", ["notify", "run", "resend", "pending", "forget rec-x"])
    def test_that_others_can_write_is_refused_and_nothing_is_made_there_or_sent(
        self, desk: Desk, record: str, mode: int, command: str
    ) -> None:
        desk.folder.mkdir()
        desk.folder.chmod(mode)
        stdin: dict[str, Any] = {"notify": a_request(record), "run": a_message(record)}
        options = desk.run_options if command == "run" else command.split()
        outcome = desk.main(*options, stdin=stdin.get(command))
        assert (outcome.code, outcome.stdout) == (78, "")
        assert outcome.lines == [
            f"the journal {desk.journal} lies in a folder where others can make files, and it "
            "holds WorkflowTokens: name one in a sub-folder, which is made with mode 0700: "
            f"--journal {desk.folder}/workflow-result/journal.sqlite3"
        ]
        assert list(desk.folder.iterdir()) == []
        assert desk.tokens(record) == set()

    def test_sub_folder_that_is_named_is_made_for_its_owner_alone(
        self, desk: Desk, record: str
    ) -> None:
        desk.folder.mkdir()
        desk.folder.chmod(0o1777)
        named = desk.notify(record).stderr.split()[-1]
        for before in (take_no_mode_away, take_every_mode_away):
            outcome = desk.main(
                "notify", "--journal", named, stdin=a_request(record), before=before
            )
            assert (outcome.code, outcome.lines[1:]) == (0, [])
        assert oct(Path(named).parent.stat().st_mode) == "0o40700"

    @pytest.mark.parametrize("mode", [0o755, 0o711, 0o500])
    def test_that_others_can_only_read_is_taken(self, desk: Desk, record: str, mode: int) -> None:
        desk.owe(record)
        desk.folder.chmod(mode)
        assert desk.main("pending").code == 0

    def test_of_root_is_taken_and_that_of_another_user_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In this process: to have another user's folder, one has to be root."""
        folder = os.stat(tmp_path)
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        for owner, is_safe in ((0, True), (54321, True), (54322, False)):
            status = os.stat_result([owner if n == 4 else folder[n] for n in range(10)])
            with monkeypatch.context() as context:
                context.setattr(os, "stat", lambda _, status=status: status)
                if is_safe:
                    files.check_folder(tmp_path / "journal")
                else:
                    with pytest.raises(JournalProblem, match="others can make files") as problem:
                        files.check_folder(tmp_path / "journal")
                    assert problem.value.exposed


class TestFiles:
    """The journal, and what lies beside it."""

    def test_modes_are_right_from_the_first_byte_whatever_the_umask(
        self, desk: Desk, record: str
    ) -> None:
        for umask in (take_no_mode_away, take_every_mode_away):
            assert desk.notify(record, before=umask).code == 0
            assert {oct(f.stat().st_mode & 0o777) for f in desk.folder.iterdir()} == {"0o600"}
            for file in desk.folder.iterdir():
                file.unlink()

    @pytest.mark.parametrize("end", ["", ".lock", "-journal"])
    @pytest.mark.parametrize("mode", [0o640, 0o602])
    def test_that_others_can_read_or_write_are_refused(
        self, desk: Desk, record: str, end: str, mode: int
    ) -> None:
        desk.owe("rec-x")
        file = Path(f"{desk.journal}{end}")
        file.touch()
        file.chmod(mode)
        outcome = desk.notify(record)
        assert (outcome.code, outcome.stdout) == (78, "")
        assert outcome.lines == [
            f"the journal {file} is open to others, and it holds WorkflowTokens: chmod 600 {file}"
        ]
        assert desk.tokens(record) == set()

    @pytest.mark.parametrize("end", [".lock", "-journal"])
    def test_that_are_links_are_not_followed(self, desk: Desk, record: str, end: str) -> None:
        desk.owe("rec-x")
        target = desk.home / "target"
        target.write_text("untouched")
        target.chmod(0o600)
        beside = Path(f"{desk.journal}{end}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert outcome.stderr.startswith("warning: the journal ")
        assert desk.main("resend").code == 78
        assert target.read_text() == "untouched"

    def test_that_turn_into_links_meanwhile_are_not_followed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After it was found where the journal lies."""
        target = tmp_path / "target"
        link = tmp_path / "link"
        link.symlink_to(target)
        monkeypatch.setattr(os.path, "realpath", lambda path: path)
        with pytest.raises(JournalProblem, match="symbolic links"):
            open_journal(link)
        assert not target.exists()

    @pytest.mark.parametrize("end", [".lock", "-journal"])
    def test_that_are_no_files_or_have_another_name_are_not_used(
        self, desk: Desk, record: str, end: str
    ) -> None:
        desk.owe("rec-x")
        beside = Path(f"{desk.journal}{end}")
        beside.touch(mode=0o600)
        (desk.home / "name").hardlink_to(beside)
        assert "another name" in desk.notify(record).stderr
        beside.unlink()
        os.mkfifo(beside, 0o600)
        assert "it is not a file" in desk.notify(record).stderr


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("s3://bucket/key", "name a file, or dynamodb://TABLE"),
        ("https://example.com/journal", "name a file, or dynamodb://TABLE"),
        ("file:///tmp/journal", "name a file, or dynamodb://TABLE"),
        (
            "dynamodb://t",
            "after dynamodb:// comes the table's name: 3 to 255 letters, digits, _, . and -",
        ),
    ],
)
@pytest.mark.parametrize("command", ["notify", "run", "resend", "pending", "forget rec-x"])
def test_journal_that_is_no_file_is_refused_and_nothing_is_sent(
    desk: Desk, record: str, name: str, line: str, command: str
) -> None:
    stdin: dict[str, Any] = {"notify": a_request(record), "run": a_message(record)}
    arguments = desk.run_options if command == "run" else command.split()
    for options, settings in (
        (["--journal", name], {}),
        ([], {"WORKFLOW_RESULT_JOURNAL": name}),
    ):
        outcome = desk.main(*arguments, *options, stdin=stdin.get(command), **settings)
        assert (outcome.code, outcome.stdout) == (78, "")
        assert outcome.lines == [f"the journal {name} cannot be used: {line}"]
    assert desk.tokens(record) == set()
    assert sorted(path.name for path in desk.home.iterdir()) == ["artifact", "terraform"]
