"""Nothing is left of a token once it is used, and everything is on disk before it is sent."""

import json
import random
import re
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import endpoint
from journal_cli import (
    MARK,
    TOKEN,
    Desk,
    a_request,
    through_strace,
)

from workflow_result.journal import Journal
from workflow_result.journal.record import Entry
from workflow_result.journal.sqlite import SQLiteStore
from workflow_result.request import Request


class TestForgets:
    @pytest.mark.parametrize("token", [TOKEN, MARK * 4900], ids=["short", "long"])
    @pytest.mark.parametrize("size", [10, 1_000_000], ids=["small", "large"])
    def test_nothing_is_left_of_a_token_once_it_is_used(
        self, desk: Desk, record: str, token: str, size: int
    ) -> None:
        outputs = [{"OutputKey": "k", "OutputValue": "x" * size}]
        desk.owe(record, token=token, Outputs=outputs)
        desk.owe("rec-x", token=token, Outputs=outputs)
        assert desk.leftovers() == [desk.journal]
        assert desk.main("resend").code == 69
        assert desk.pending()["rec-x"].state == "refused"
        assert desk.leftovers() == []

    @pytest.mark.parametrize("seed", [118, 123])
    def test_nothing_is_left_where_sqlite_has_moved_rows(self, tmp_path: Path, seed: int) -> None:
        """With requests inside of the pages that SQLite balances, these two left something."""
        chance = random.Random(seed)  # noqa: S311
        store = SQLiteStore(tmp_path / "journal")
        journal = Journal(store)
        store._database.read("PRAGMA synchronous = OFF")
        owed: list[Entry] = []

        def settle_one() -> None:
            journal.settle([owed.pop(chance.randrange(len(owed)))])

        for n in range(600):
            if chance.random() < 0.52 or not owed:
                size = chance.choice([10, 100, 300, 500, 700, 900, 1200, 1500])
                token = MARK * chance.choice([9, 9, 9, 100])
                members = {
                    "WorkflowToken": token,
                    "RecordId": f"rec-{n}",
                    "Status": "FAILED",
                    "IdempotencyToken": f"t{n}",
                    "FailureReason": "x" * size,
                }
                owed.append(journal.owe(Request("provision", members), "sandbox", None))
            else:
                entry = owed.pop(chance.randrange(len(owed)))
                if chance.random() < 0.3:
                    journal.refuse(entry, "no" * chance.randrange(100))
                else:
                    journal.settle([entry])
        while owed:
            settle_one()
        journal.close()
        assert MARK.encode() not in (tmp_path / "journal").read_bytes()

    def test_no_page_is_kept_free(self, desk: Desk, record: str) -> None:
        """A free page that is used again is not restored when its transaction is rolled back."""
        desk.owe(record, Outputs=[{"OutputKey": "k", "OutputValue": "x" * 100_000}])
        assert desk.journal.stat().st_size > 100_000
        assert desk.main("resend").code == 0
        assert desk.journal.stat().st_size < 50_000
        with sqlite3.connect(desk.journal) as database:
            assert database.execute("PRAGMA freelist_count").fetchone() == (0,)
        database.close()

    def test_nothing_is_left_of_a_request_whose_transaction_was_killed_at_its_end(
        self, desk: Desk, records: Callable[[int], list[str]]
    ) -> None:
        """SQLite has written it to the file then, and takes it back. Needs strace."""
        first, second = records(2)
        large: dict[str, Any] = {
            "FailureReason": "x" * 2000,
            "Outputs": [{"OutputValue": "y" * 50_000}],
        }
        assert desk.main("notify", stdin=a_request(first, **large)).code == 0
        killed = desk.main(
            "notify",
            stdin=a_request(second, **large),
            through=through_strace("-e", "trace=unlink", "-e", "inject=unlink:signal=KILL:when=1"),
        )
        assert killed.code == -signal.SIGKILL
        assert desk.leftovers() != []
        assert desk.main("resend").code == 0
        assert desk.leftovers() == []
        assert desk.sandbox.status(second) == "IN_PROGRESS"

    def test_nothing_is_left_where_the_file_was_not_cut_off_any_more(
        self, desk: Desk, record: str
    ) -> None:
        """By a process that was killed after its commit; the next one does it. Needs strace."""
        cut = through_strace("-e", "trace=ftruncate", "-e", "inject=ftruncate:signal=KILL:when=1")
        assert desk.notify(record, through=cut).code == -signal.SIGKILL
        assert desk.leftovers() == [desk.journal]
        assert desk.main("resend").lines == ["0 reported, 0 refused, 0 still owed"]
        assert desk.leftovers() == []


class TestBeforeTheCall:
    """What a power loss would leave can only be shown by halves.

    That the result is committed when the call arrives is seen from outside. That the bytes were
    synced before is seen in the system calls; what the disk does with them is not.
    """

    def test_result_is_committed_when_the_call_arrives(self, desk: Desk, record: str) -> None:
        seen: list[Any] = []

        def look(*_: Any) -> tuple[int, bytes]:
            database = sqlite3.connect(desk.journal)
            seen.append(database.execute("SELECT state, request FROM result").fetchone())
            database.close()
            seen.append(sorted(file.name for file in desk.folder.iterdir()))
            return 200, b"{}"

        with endpoint(look) as url:
            assert desk.notify(record, AWS_ENDPOINT_URL_SERVICE_CATALOG=url).code == 0
        (state, content), files = seen
        assert state == "owed"
        assert json.loads(content)["WorkflowToken"] == TOKEN
        assert files == ["journal.sqlite3", "journal.sqlite3.lock"]  # no rollback journal

    def test_every_byte_is_synced_when_the_call_is_made(self, desk: Desk, record: str) -> None:
        """Files and folders: nothing changed after its last sync. Needs strace."""
        trace = desk.home / "trace"
        calls = "openat,mkdir,write,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,connect"
        through = through_strace("-y", "-s", "0", "-o", str(trace), "-e", f"trace={calls}")
        assert desk.notify(record, through=through).code == 0
        lines = trace.read_text().splitlines()
        connected = next(n for n, line in enumerate(lines) if "AF_INET" in line)
        assert unsynced(lines[:connected], desk.folder) == set()
        written = [line for line in lines[:connected] if "pwrite64(" in line]
        assert written
        everything = [line for line in lines[:connected] if "sync(" not in line]
        assert unsynced(everything, desk.folder) != set()  # it would be noticed


def unsynced(lines: list[str], folder: Path) -> set[str]:
    """Files and folders that the lines of a trace change, and do not sync afterwards."""
    dirty: set[str] = set()
    for line in lines:
        if " = -1 " in line:
            continue
        names = re.findall(r'[<"]([^">]+)[">]', line)
        named = [name for name in names if name.startswith(str(folder))]
        if "sync(" in line:
            dirty -= set(names)
        elif not named or named[0].endswith(".lock"):
            continue
        elif re.search(r"mkdir\(|unlink|O_CREAT", line):
            dirty.add(str(Path(named[0]).parent))
        elif re.search(r"write|truncate", line):
            dirty.add(named[0])
        if re.search(r"unlink", line):
            dirty.discard(named[0])
    return dirty
