"""A journal that cannot be used is no reason not to report."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MAIN, ROOT, Outcome
from engine_cli import limit_file_size
from journal_cli import NOBODY, TERRAFORM, Desk, a_message, a_request, hold_run


# Each makes the journal one that cannot be used, whoever asks: the tests may run as root.
def folder_is_a_file(desk: Desk) -> None:
    desk.folder.write_text("")


def folder_takes_no_side_files(desk: Desk) -> None:
    """As where the folder is read-only and the file is not: a longer name is not allowed."""
    desk.folder.mkdir()
    desk.journal = desk.folder / ("j" * 255)
    desk.journal.touch(mode=0o600)


def is_a_folder(desk: Desk) -> None:
    desk.journal.mkdir(parents=True)


def is_a_device(desk: Desk) -> None:
    desk.journal = Path("/dev/null")


def is_no_database(desk: Desk) -> None:
    desk.folder.mkdir()
    desk.journal.write_text("This is no database. " * 1000)
    desk.journal.chmod(0o600)


def is_damaged(desk: Desk) -> None:
    desk.owe("rec-x")
    with desk.journal.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 8 * 4096)


def is_another_programs(desk: Desk) -> None:
    desk.folder.mkdir()
    with sqlite3.connect(desk.journal) as database:
        database.execute("CREATE TABLE result (digest, state)")
    database.close()
    desk.journal.chmod(0o600)


def has_no_home(desk: Desk) -> None:
    desk.journal = Path("~/journal.sqlite3")


def has_another_name(desk: Desk) -> None:
    desk.owe("rec-x")
    (desk.home / "link").hardlink_to(desk.journal)


def has_text_that_is_none(desk: Desk) -> None:
    """SQLite quotes it in its message, which is no text then, either."""
    desk.owe("rec-x")
    content = desk.journal.read_bytes()
    desk.journal.write_bytes(content.replace(b"CREATE INDEX pending", b"CREATE I\xf8DEX pending"))


UNUSABLE: dict[Callable[[Desk], None], str] = {
    folder_is_a_file: "Not a directory",
    folder_takes_no_side_files: "",
    is_a_folder: "Is a directory",
    is_a_device: "it is not a file",
    is_no_database: "file is not a database; it is left as it is: move it away to begin a new one",
    is_damaged: "it is left as it is: move it away to begin a new one",
    is_another_programs: "it is another program's database",
    has_another_name: "it has another name, a hard link",
    has_text_that_is_none: "it is left as it is: move it away to begin a new one",
    has_no_home: "set HOME, or name a file with --journal",
}


@pytest.mark.parametrize("fault", UNUSABLE, ids=lambda fault: fault.__name__)
class TestUnusable:
    def test_notify_warns_in_one_line_and_sends(
        self, desk: Desk, record: str, fault: Callable[[Desk], None]
    ) -> None:
        fault(desk)
        outcome = desk.notify(record)
        assert outcome.code == 0
        assert len(outcome.lines) == 1
        assert outcome.stderr.startswith("warning: the journal ")
        assert outcome.stderr.endswith("; going on without it\n")
        assert UNUSABLE[fault] in outcome.stderr
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_resend_and_pending_say_why_and_leave_it_as_it_is(
        self, desk: Desk, fault: Callable[[Desk], None]
    ) -> None:
        fault(desk)
        before = desk.journal.read_bytes() if desk.journal.is_file() else b""
        for command in ("resend", "pending"):
            outcome = desk.main(command)
            assert (outcome.code, outcome.stdout) == (78, "")
            assert len(outcome.lines) == 1
            assert UNUSABLE[fault] in outcome.stderr
        assert before == (desk.journal.read_bytes() if desk.journal.is_file() else b"")


class TestNoHome:
    """No HOME and a user without an entry in /etc/passwd, as in many a container."""

    def start(self, desk: Desk, *arguments: str, **settings: Any) -> Outcome:
        # It may read everything, since Python lies wherever it does, but write only its own.
        capability = "+dac_read_search"
        user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
        user += [f"--inh-caps={capability}", f"--ambient-caps={capability}"]
        if not shutil.which("setpriv") or subprocess.run([*user, "true"]).returncode:
            pytest.skip("setpriv is missing, or this is not root: no process of another user")
        script = (
            "import os, sys; del os.environ['HOME'], os.environ['WORKFLOW_RESULT_JOURNAL']; "
            "os.execvp(sys.argv[1], sys.argv[1:])"
        )
        through = ["-c", script, *user, sys.executable, MAIN]
        return desk.main(*arguments, through=through, **settings)

    def test_notify_warns_in_one_line_and_sends(self, desk: Desk, record: str) -> None:
        outcome = self.start(desk, "notify", stdin=a_request(record))
        assert outcome.code == 0
        assert outcome.lines == [
            "warning: the journal ~/journal.sqlite3 cannot be used: set HOME, or name a file with "
            "--journal; going on without it"
        ]
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_run_warns_in_one_line_and_reports(self, desk: Desk, record: str) -> None:
        with tempfile.TemporaryDirectory() as folder:  # where that user may be
            Path(folder).chmod(0o755)
            for file in (desk.artifact / "main.tf", desk.home / "terraform"):
                shutil.copy(file, folder)
            run = ["run", "--chdir", folder, "--terraform", f"{folder}/terraform"]
            outcome = self.start(desk, *run, stdin=a_message(record))
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_resend_says_what_to_do(self, desk: Desk) -> None:
        outcome = self.start(desk, "resend")
        assert (outcome.code, len(outcome.lines)) == (78, 1)
        assert "set HOME, or name a file with --journal" in outcome.stderr


class TestUnusableInTheMiddle:
    def test_run_warns_and_reports_all_the_same(self, desk: Desk, record: str) -> None:
        is_no_database(desk)
        outcome = desk.run(record)
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_run_in_a_folder_that_takes_no_files_warns_and_reports(
        self, desk: Desk, record: str
    ) -> None:
        desk.journal = Path("/proc/workflow-result")
        outcome = desk.run(record)
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_disk_that_fills_up_during_a_run(self, desk: Desk, record: str) -> None:
        """There is no room for the result, nor to strike the run off in the usual way."""
        full = (
            "import os, resource, sys\n"
            f'size = os.path.getsize("{desk.journal}")\n'
            "resource.prlimit(int(sys.argv[1]), resource.RLIMIT_FSIZE, (size, size))\n"
        )
        terraform = desk.home / "terraform"
        terraform.write_text(TERRAFORM + f"[ $1 != apply ] || {sys.executable} -c '{full}' $PPID\n")
        outcome = desk.run(record)
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.pending() == {}
        assert desk.leftovers() == []

    def test_what_is_refused_and_not_saved_is_told(self, desk: Desk) -> None:
        is_no_database(desk)
        outcome = desk.notify("rec-x")
        assert outcome.code == 69
        assert outcome.stderr.endswith("reported before. It is not saved\n")

    def test_what_is_neither_sent_nor_saved_is_told(self, desk: Desk, record: str) -> None:
        is_no_database(desk)
        outcome = desk.notify(record, **NOBODY)
        assert outcome.code == 75
        assert "It is not saved: `notify` the same again" in outcome.stderr

    @pytest.mark.parametrize("size", [0, 4096, 8192, 20480])
    def test_full_disk(self, desk: Desk, record: str, size: int) -> None:
        """It takes so many bytes a file, and no more. Afterwards there is room again."""
        outcome = desk.notify(record, before=lambda: limit_file_size(size))
        assert outcome.code == 0
        assert len(outcome.lines) == 1
        assert outcome.stderr.endswith("; going on without it\n")
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.main("resend").code == 0
        assert len(desk.tokens(record)) == 1
        assert desk.leftovers() == []

    def test_resend_on_a_full_disk_says_so_and_loses_nothing(self, desk: Desk, record: str) -> None:
        desk.owe(record)
        outcome = desk.main("resend", before=lambda: limit_file_size(0))
        assert outcome.code == 78
        assert len(outcome.lines) == 1
        assert desk.main("resend").code == 0
        assert desk.sandbox.status(record) == "SUCCEEDED"

    def test_lock_that_another_process_does_not_give_back(self, desk: Desk, record: str) -> None:
        desk.owe("rec-x")
        script = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
            "from workflow_result import main; from workflow_result.journal import database; "
            "database.BUSY_SECONDS = 0.2; main()"
        )
        holder = sqlite3.connect(desk.journal, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        outcome = desk.notify(record, through=["-c", script])
        resent = desk.main("resend", through=["-c", script])
        holder.close()
        assert outcome.code == 0
        assert outcome.lines == [
            f"warning: the journal {desk.journal} cannot be used: database is locked; "
            "going on without it"
        ]
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert resent.code == 78

    def test_journal_that_has_failed_is_not_waited_for(self, desk: Desk, record: str) -> None:
        """Here it has lost its table, and is locked then: that may last half a minute."""
        desk.owe("rec-x")
        database = sqlite3.connect(desk.journal, isolation_level=None)
        database.execute("ALTER TABLE result RENAME TO lost")
        process = hold_run(desk, record)
        database.execute("BEGIN IMMEDIATE")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
        database.close()
        assert desk.sandbox.status(record) == "FAILED"

    def test_run_that_the_journal_fails_in_the_middle_is_not_owed_twice(
        self, desk: Desk, record: str
    ) -> None:
        """It cannot enter the result, but can strike the run off once that is sent."""
        script = (
            f"import sqlite3, sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from workflow_result import main\n"
            "from workflow_result.journal import Journal\n"
            "def owe(self, *_):\n"
            "    with self._store._database.transaction():\n"
            "        raise sqlite3.OperationalError('database or disk is full')\n"
            "Journal.owe = owe\n"
            "main()\n"
        )
        outcome = desk.run(record, through=["-c", script])
        assert outcome.code == 0
        assert outcome.stderr.count("warning: ") == 1
        assert desk.sandbox.status(record) == "SUCCEEDED"
        assert desk.pending() == {}
        assert desk.leftovers() == []
