"""What is owed: one SQLite file that says which results Service Catalog does not have yet.

A result goes through these states, and each move is one transaction:

    (nothing) --begin--> running --owe--> owed --settle--> reported
    (nothing) -----------owe------------> owed --refuse--> refused --owe--> owed

`running` is a Terraform run that goes on; its entry already holds the request that is owed
should the process die: FAILED. `owed` holds the whole request. `refused` holds it without the
WorkflowToken, for a person to look at. `reported` holds only that it was reported.

Whoever works on an entry is its owner, and proves to be alive by a lock on a file beside the
journal. The kernel takes the lock back however a process ends; no clock and no process id is
asked, both of which come round again. It works between hosts where the file system has locks.

The journal knows nothing of AWS: see `delivery` for that.
"""

import fcntl
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from workflow_result.problem import ExitCode, Problem
from workflow_result.request import Request, digest_of
from workflow_result.secret import hide

VERSION = 1
"""Of the tables, in `PRAGMA user_version`: an older program refuses a newer journal."""

_TABLES = """
CREATE TABLE result (
    digest     TEXT PRIMARY KEY,  -- of operation and request: the same result is the same entry
    state      TEXT NOT NULL CHECK (state IN ('running', 'owed', 'refused', 'reported')),
    operation  TEXT NOT NULL,
    record_id  TEXT NOT NULL,
    region     TEXT,              -- that it is to be sent to; NULL: whichever is set
    request    TEXT,              -- JSON; NULL once it is reported
    owner      TEXT,              -- whose lock tells whether somebody works on it
    since      REAL NOT NULL,     -- seconds since 1970
    tries      INTEGER NOT NULL DEFAULT 0,
    last_error TEXT
);
CREATE INDEX pending ON result (state, since) WHERE state != 'reported';
"""

BUSY_SECONDS = 30
"""How long to wait for other processes; a transaction takes milliseconds."""


class JournalProblem(Problem):
    """The journal cannot be used. Where others can read it, it must not be used: `exposed`."""

    def __init__(self, line: str, *, exposed: bool = False) -> None:
        super().__init__(ExitCode.SETUP, line)
        self.exposed = exposed


@dataclass(frozen=True)
class Entry:
    """A result that is not reported, without its content. `since` is in seconds since 1970."""

    digest: str
    state: str
    operation: str
    record_id: str
    region: str | None
    since: float
    tries: int
    last_error: str | None


class Journal:
    """The journal in the file `path`, which is made where it does not exist.

    Raises `JournalProblem` where it cannot be used, here and in every method. Not for use from
    several threads at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner: str | None = None
        self._lock: int | None = None
        with self._problems_named():
            self._database = self._open()

    # --- one result -------------------------------------------------------------------------

    def is_reported(self, request: Request) -> bool:
        """Whether this very request was reported before."""
        with self._problems_named():
            found = self._database.execute(
                "SELECT 1 FROM result WHERE digest = ? AND state = 'reported'", [_digest(request)]
            )
            return found.fetchone() is not None

    def begin(self, request: Request, region: str | None) -> str:
        """Enter a run that begins. `request` is owed if this process dies. Returns its digest."""
        return self._enter("running", request, region, instead_of=None)

    def owe(self, request: Request, region: str | None, instead_of: str | None = None) -> str:
        """Enter a result, instead of the run with this digest. Returns its digest.

        It is on disk when this returns.
        """
        return self._enter("owed", request, region, instead_of)

    def settle(self, digests: Sequence[str]) -> None:
        """Strike results off: keep only that they were reported."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE result SET state = 'reported', request = NULL, region = NULL, "
                "owner = NULL, last_error = NULL, since = ?, tries = tries + 1 WHERE digest = ?",
                [(time.time(), digest) for digest in digests],
            )

    def refuse(self, digest: str, cause: str) -> None:
        """Keep a result as refused for good, without its WorkflowToken."""
        self._change(
            "UPDATE result SET state = 'refused', owner = NULL, last_error = :cause, "
            "request = json_remove(request, '$.WorkflowToken'), tries = tries + 1 "
            "WHERE digest = :digest",
            digest,
            cause,
        )

    def keep(self, digest: str, cause: str) -> None:
        """Keep a result as owed, after a try that failed."""
        self._change(
            "UPDATE result SET owner = NULL, last_error = :cause, tries = tries + 1 "
            "WHERE digest = :digest",
            digest,
            cause,
        )

    # --- all of them ------------------------------------------------------------------------

    def claim(self) -> list[tuple[Entry, Request]]:
        """Become the owner of everything that is owed and that nobody works on; oldest first.

        A run whose process is gone is owed.
        """
        with self._transaction() as database:
            rows = database.execute(
                "SELECT digest, state, operation, record_id, region, since, tries, last_error, "
                "owner, request FROM result WHERE state IN ('running', 'owed') ORDER BY since"
            ).fetchall()
            alive: dict[str | None, bool] = {None: False}
            claimed = []
            for *columns, owner, request in rows:
                if owner not in alive:
                    alive[owner] = self._is_alive(owner)
                if not alive[owner]:
                    entry = Entry(*columns)
                    claimed.append((entry, Request(entry.operation, json.loads(request))))
            database.executemany(
                "UPDATE result SET state = 'owed', owner = ? WHERE digest = ?",
                [(self._own(), entry.digest) for entry, _ in claimed],
            )
            return claimed

    def pending(self) -> list[Entry]:
        """Return everything that is not reported, oldest first."""
        with self._problems_named():
            rows = self._database.execute(
                "SELECT digest, state, operation, record_id, region, since, tries, last_error "
                "FROM result WHERE state != 'reported' ORDER BY since"
            )
            return [Entry(*row) for row in rows]

    def close(self) -> None:
        """Give up the ownership of what is still owed."""
        if self._lock is not None:
            with suppress(OSError):
                os.unlink(self._lock_file(str(self._owner)))
            os.close(self._lock)
            self._lock = None
        self._database.close()

    # --- the file ---------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite would make it with the mode that the umask leaves; its side files follow it.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if os.stat(self._path).st_mode & 0o077:
            raise JournalProblem(
                f"the journal {self._path} can be read by others, and it holds WorkflowTokens: "
                f"chmod 600 {self._path}",
                exposed=True,
            )
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        # Overwrite what is deleted with zeros, and write no temporary files with it either.
        database.execute("PRAGMA secure_delete = ON")
        database.execute("PRAGMA temp_store = MEMORY")
        # No write-ahead log, in which a token would stay until the next checkpoint. EXTRA syncs
        # the folder, too: otherwise a power loss can bring back the rollback journal, and with
        # it the time before the commit. https://www.sqlite.org/pragma.html#pragma_synchronous
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA synchronous = EXTRA")
        if _version(database) < VERSION:
            database.execute("BEGIN IMMEDIATE")
            if _version(database) < VERSION:  # no other process was faster
                for statement in _TABLES.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("COMMIT")
        if _version(database) > VERSION:
            raise JournalProblem(
                f"the journal {self._path} is of a newer version of this program: use that one, or "
                "another journal with --journal"
            )
        return database

    def _enter(
        self, state: str, request: Request, region: str | None, instead_of: str | None
    ) -> str:
        digest = _digest(request)
        with self._transaction() as database:
            if instead_of:
                database.execute("DELETE FROM result WHERE digest = ?", [instead_of])
            database.execute(
                "INSERT INTO result (digest, state, operation, record_id, region, request, owner, "
                "since) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                "state = excluded.state, region = excluded.region, request = excluded.request, "
                "owner = excluded.owner",
                [
                    digest,
                    state,
                    request.operation,
                    request.members["RecordId"],
                    region,
                    json.dumps(request.members),
                    self._own(),
                    time.time(),
                ],
            )
        return digest

    def _change(self, statement: str, digest: str, cause: str) -> None:
        with self._transaction() as database:
            database.execute(statement, {"digest": digest, "cause": hide(cause)})

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._problems_named():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _problems_named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            cause = error.strerror if isinstance(error, OSError) else str(error)
            raise JournalProblem(f"the journal {self._path} cannot be used: {cause}") from error

    # --- who works on what ------------------------------------------------------------------

    def _lock_file(self, owner: str) -> str:
        return f"{self._path}.{owner}.lock"

    def _own(self) -> str:
        """Return the name under which this process owns entries, and hold its lock."""
        if self._owner is None:
            owner = secrets.token_hex(8)
            self._lock = os.open(self._lock_file(owner), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._owner = owner
        return self._owner

    def _is_alive(self, owner: str) -> bool:
        if owner == self._owner:
            return True
        try:
            lock = os.open(self._lock_file(owner), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            with suppress(OSError):
                os.unlink(self._lock_file(owner))
            return False
        finally:
            os.close(lock)


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _digest(request: Request) -> str:
    return digest_of(request.operation, request.members)
