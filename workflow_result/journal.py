"""What is owed: one SQLite file that says which results Service Catalog does not have yet.

A result goes through these states, and each move is one transaction:

    (nothing) --begin--> running --owe--> owed --settle--> reported
    (nothing) -----------owe------------> owed --refuse--> refused --owe--> owed

`running` is a Terraform run that goes on; its entry already holds the request that is owed
should the process die: FAILED. `owed` holds the whole request. `refused` holds it without the
WorkflowToken, for a person to look at. `reported` holds only that it was reported, and as what.

Whoever works on an entry is its owner: a number, and a lock on the byte at this offset of an
empty file beside the journal, which is never removed. The kernel takes the lock back however a
process ends, and gives it to no child; no clock and no process id is asked, both of which come
round again. It works between hosts where the file system has locks, which SQLite needs, too.
Owners are entered and looked at in transactions only, so nobody sees one that has no lock yet.

Where a WorkflowToken has been, nothing must be left of it. SQLite overwrites what is deleted
with zeros (secure_delete), but for two cases:
* rows that it moves from one page to another leave their bytes behind. Only whole pages of long
  rows are never moved, so `_PADDING` keeps the request out of the first page of its row;
* a page that was free before is not restored after a crash in the middle of a transaction, and
  keeps what the transaction wrote. So there are none: auto_vacuum cuts them off the file. It
  does so after the commit, and what a crash in between leaves is cut off when it is next opened.

The journal knows nothing of AWS: see `delivery` for that.
"""

import fcntl
import json
import os
import secrets
import shlex
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workflow_result.problem import ExitCode, Problem, printable
from workflow_result.request import Request, digest_of
from workflow_result.secret import hide, keep_secret

APPLICATION = int.from_bytes(b"WfRe")
"""In `PRAGMA application_id`, so that another program's database is not taken for a journal."""

STEPS = (
    """
    CREATE TABLE result (
        digest      TEXT PRIMARY KEY, -- of the destination and the whole request
        destination TEXT NOT NULL,    -- what is meant for one is never sent to another
        state       TEXT NOT NULL CHECK (state IN ('running', 'owed', 'refused', 'reported')),
        operation   TEXT NOT NULL,
        record_id   TEXT NOT NULL,
        region      TEXT,             -- that it is to be sent to; NULL: whichever is set
        request     TEXT,             -- JSON; NULL once it is reported
        owner       INTEGER,          -- whose lock tells whether somebody works on it
        since       REAL NOT NULL,    -- seconds since 1970; for people, and for the order
        tries       INTEGER NOT NULL DEFAULT 0,
        last_error  TEXT
    );
    CREATE INDEX pending ON result (state, since) WHERE state != 'reported';
    """,
    """
    ALTER TABLE result ADD COLUMN status TEXT;
    ALTER TABLE result ADD COLUMN idempotency_token TEXT;
    UPDATE result SET status = json_extract(request, '$.Status'),
        idempotency_token = json_extract(request, '$.IdempotencyToken') WHERE json_valid(request);
    CREATE INDEX record ON result (record_id);
    """,
)
"""Each brings the tables from one version to the next; `PRAGMA user_version` counts them. An older
journal is brought up to date when it is opened, a newer one refused."""

_PAGE = 4096
_PADDING = " " * _PAGE
"""White space before the JSON, more than a row has in its first page."""

_DROP = "DELETE FROM result WHERE digest = ? AND state != 'reported'"

_LEFT = "; it is left as it is: move it away to begin a new one"

_YEAR_9999 = 253_370_764_800
"""The last one that Python's dates know, in seconds since 1970."""

_NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""What SQLite says where it cannot write a rollback journal."""

BUSY_SECONDS = 30
"""How long to wait for other processes; a transaction takes milliseconds."""


class JournalProblem(Problem):
    """The journal cannot be used. Where others can read it, it must not be used: `exposed`."""

    def __init__(self, line: str, *, exposed: bool = False) -> None:
        super().__init__(ExitCode.SETUP, line)
        self.exposed = exposed


class NoJournal(JournalProblem):
    """There is no journal, so nothing is owed there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"nothing is owed: there is no journal {path}")
        self.exit_code = ExitCode.DONE


@dataclass(frozen=True)
class Entry:
    """A result, without its content. `since` is in seconds since 1970; `status` is empty where it
    was reported by an older version."""

    digest: str
    destination: str
    state: str
    operation: str
    record_id: str
    status: str
    idempotency_token: str
    region: str | None
    since: float
    tries: int
    last_error: str | None


class Journal:
    """The journal in the file `path`, which is made where it does not exist.

    Raises `JournalProblem` where it cannot be used, here and in every method; `NoJournal` where it
    does not exist and is not to be made. Not for use from several threads at once.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self._path = path
        self._make = make
        self._owner: int | None = None
        self._lock: int | None = None
        if path.parts[:1] == ("~",):  # nobody has made a home directory of it
            raise JournalProblem(
                f"the journal {path} cannot be used: set HOME, or name a file with --journal"
            )
        with self._problems_named():
            # SQLite and the locks have to agree on the file, whatever links lead there.
            self._path = Path(os.path.realpath(path))
            self._database = self._open()

    # --- one result -------------------------------------------------------------------------

    def is_reported(self, request: Request, destination: str) -> bool:
        """Whether this very request was reported before, to this destination."""
        with self._problems_named():
            return self._is_reported(self._database, _digest(request, destination))

    def begin(self, request: Request, destination: str, region: str | None) -> str | Entry:
        """Enter a run that begins. `request` is owed if this process dies. Returns its digest.

        Where the record has a run that goes on, or a result that is owed or reported, returns
        that instead: Service Catalog's queues may deliver a message more than once
        (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html).
        """
        with self._transaction() as database:
            of_record = "record_id = ? AND operation = ? AND destination = ? AND state != 'refused'"
            values = (request.members["RecordId"], request.operation, destination)
            for entry, _, alive in list(self._entries(database, of_record, *values)):
                if entry.state != "running" or alive:
                    return entry
                self._drop(database, entry.digest)  # its process has died: this one goes on
            return self._enter(database, "running", request, destination, region)

    def owe(
        self,
        request: Request,
        destination: str,
        region: str | None,
        instead_of: str | None = None,
    ) -> str | None:
        """Enter a result, instead of the run with this digest.

        Returns its digest, or None where it was reported before. It is on disk when this returns.
        """
        with self._transaction() as database:
            if instead_of:
                self._drop(database, instead_of)
            if self._is_reported(database, _digest(request, destination)):
                return None
            return self._enter(database, "owed", request, destination, region)

    def drop(self, digest: str) -> None:
        """Forget a run."""
        self._strike_off(_DROP, [(digest,)])

    def settle(self, digests: Sequence[str]) -> None:
        """Strike results off: keep only that they were reported."""
        self._strike_off(
            "UPDATE result SET state = 'reported', request = NULL, region = NULL, owner = NULL, "
            "last_error = NULL, since = ?, tries = tries + 1 WHERE digest = ?",
            [(time.time(), digest) for digest in digests],
        )

    def refuse(self, digest: str, cause: str) -> bool:
        """Keep a result as refused for good, without its WorkflowToken.

        Returns False where another process has seen to it meanwhile.
        """
        return self._change(
            "UPDATE result SET state = 'refused', owner = NULL, last_error = :cause, "
            "request = json_remove(request, '$.WorkflowToken'), tries = tries + 1 "
            "WHERE digest = :digest AND state = 'owed'",
            digest,
            cause,
        )

    def keep(self, digest: str, cause: str) -> None:
        """Keep a result as owed, after a try that failed."""
        self._change(
            # Another process may have become its owner since: a `notify` by hand.
            "UPDATE result SET owner = nullif(owner, :own), last_error = :cause, "
            "tries = tries + 1 WHERE digest = :digest AND state = 'owed'",
            digest,
            cause,
        )

    # --- all of them ------------------------------------------------------------------------

    def claim(self, destination: str) -> list[tuple[Entry, Request | None]]:
        """Become the owner of everything owed there that nobody works on; oldest first.

        A run whose process is gone is owed. A request that cannot be read any more is None.
        """
        with self._transaction() as database:
            claimed = [
                (entry, _request(entry, content))
                for entry, content, alive in self._not_reported(database)
                if (entry.destination, entry.state, alive) == (destination, "owed", False)
            ]
            own = self._own() if claimed else None
            database.executemany(
                "UPDATE result SET state = 'owed', owner = ? WHERE digest = ?",
                [(own, entry.digest) for entry, _ in claimed],
            )
            return claimed

    def pending(self) -> list[Entry]:
        """Return everything that is not reported, oldest first.

        A run whose process is gone is owed.
        """
        with self._problems_named():
            return [entry for entry, _, _ in self._not_reported(self._database)]

    def close(self) -> None:
        """Give up the ownership of what is still owed."""
        self._database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def wait_no_longer(self) -> None:
        """Do not wait for other processes any more."""
        with suppress(sqlite3.Error):
            self._database.execute("PRAGMA busy_timeout = 0")

    # --- the file ---------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._make:
            _make_folder(self._path.parent)
        # SQLite would make it with the mode that the umask leaves; its side files follow it.
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if self._make else 0)
        descriptor = os.open(self._path, flags, 0o600)
        status = os.fstat(descriptor)
        os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise JournalProblem(f"the journal {self._path} cannot be used: it is not a file")
        if status.st_nlink > 1:
            raise JournalProblem(
                f"the journal {self._path} cannot be used: it has another name, a hard link, under "
                "which nobody would see who works on it"
            )
        if status.st_uid != os.geteuid():
            raise JournalProblem(
                f"the journal {self._path} belongs to another user, and it holds WorkflowTokens: "
                "name another one with --journal",
                exposed=True,
            )
        if status.st_mode & 0o077:
            raise JournalProblem(
                f"the journal {self._path} is open to others, and it holds WorkflowTokens: "
                f"chmod 600 {shlex.quote(str(self._path))}",
                exposed=True,
            )
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._set_up(database)
        except BaseException:
            database.close()
            raise
        return database

    def _set_up(self, database: sqlite3.Connection) -> None:
        new = _number(database, "SELECT count(*) FROM sqlite_master") == 0
        if not new and _number(database, "PRAGMA application_id") != APPLICATION:
            raise JournalProblem(
                f"the journal {self._path} cannot be used: it is another program's database"
            )
        # Write no temporary files with what is deleted, either.
        database.execute("PRAGMA secure_delete = ON")
        database.execute("PRAGMA temp_store = MEMORY")
        if new:
            database.execute(f"PRAGMA page_size = {_PAGE}")
            database.execute("PRAGMA auto_vacuum = FULL")
        # No write-ahead log, in which a token would stay until the next checkpoint. EXTRA syncs
        # the folder, too: otherwise a power loss can bring back the rollback journal, and with
        # it the time before the commit. https://www.sqlite.org/pragma.html#pragma_synchronous
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA synchronous = EXTRA")
        database.execute("PRAGMA fullfsync = ON")  # without it, macOS syncs to the drive's cache
        if _number(database, "PRAGMA user_version") < len(STEPS):
            with _transaction(database):
                # Again: another process may have been faster.
                for step in STEPS[_number(database, "PRAGMA user_version") :]:
                    for statement in step.split(";\n"):
                        database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {len(STEPS)}")
        if _number(database, "PRAGMA user_version") > len(STEPS):
            raise JournalProblem(
                f"the journal {self._path} is of a newer version of this program: use that one, or "
                "another journal with --journal"
            )
        database.execute("BEGIN")
        used = _number(database, "PRAGMA page_count") * _number(database, "PRAGMA page_size")
        size = self._path.stat().st_size
        database.execute("COMMIT")
        if size > used:  # SQLite was killed before it could cut off what it does not use
            database.execute("VACUUM")

    def _not_reported(
        self, database: sqlite3.Connection
    ) -> Iterator[tuple[Entry, str | None, bool]]:
        """Yield what is not reported. A run whose process is gone is owed."""
        for entry, content, alive in self._entries(database, "state != 'reported'"):
            is_owed = entry.state == "running" and not alive
            yield replace(entry, state="owed") if is_owed else entry, content, alive

    def _entries(
        self, database: sqlite3.Connection, condition: str, *values: str
    ) -> Iterator[tuple[Entry, str | None, bool]]:
        """Yield these entries with their content, and whether somebody works on them."""
        rows = database.execute(
            "SELECT digest, destination, state, operation, record_id, coalesce(status, ''), "  # noqa: S608, the conditions are those of this file
            "coalesce(idempotency_token, ''), region, since, tries, last_error, owner, request "
            f"FROM result WHERE {condition} ORDER BY since",
            values,
        )
        known: dict[int | None, bool] = {None: False}
        for *columns, owner, content in rows:
            if owner not in known:
                known[owner] = self._is_alive(owner)
            yield _entry(columns), content, known[owner]

    def _is_reported(self, database: sqlite3.Connection, digest: str) -> bool:
        found = database.execute(
            "SELECT 1 FROM result WHERE digest = ? AND state = 'reported'", [digest]
        )
        return found.fetchone() is not None

    def _enter(
        self,
        database: sqlite3.Connection,
        state: str,
        request: Request,
        destination: str,
        region: str | None,
    ) -> str:
        digest = _digest(request, destination)
        database.execute(
            "INSERT INTO result (digest, destination, state, operation, record_id, status, "
            "idempotency_token, region, request, owner, since) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET "
            "state = excluded.state, region = excluded.region, request = excluded.request, "
            "owner = excluded.owner",
            [
                digest,
                destination,
                state,
                request.operation,
                request.members["RecordId"],
                request.members["Status"],
                request.members["IdempotencyToken"],
                region and _encodable(region),
                _PADDING + json.dumps(request.members),
                self._own(),
                time.time(),
            ],
        )
        return digest

    def _drop(self, database: sqlite3.Connection, digest: str) -> None:
        database.execute(_DROP, [digest])

    def _strike_off(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            with self._transaction() as database:
                database.executemany(statement, rows)
        except JournalProblem as problem:
            if _code(problem.__cause__) not in _NO_SPACE:
                raise
            # It takes no more space than there is, but the rollback journal does. Without one a
            # kill in these milliseconds may damage the file; without this, `resend` would report
            # FAILED for a run that went well.
            with self._problems_named():
                self._database.execute("PRAGMA journal_mode = MEMORY")
            with self._transaction() as database:
                database.executemany(statement, rows)
            with self._problems_named():
                self._database.execute("PRAGMA journal_mode = DELETE")

    def _change(self, statement: str, digest: str, cause: str) -> bool:
        with self._transaction() as database:
            cause = _encodable(hide(printable(cause)))
            values = {"digest": digest, "cause": cause, "own": self._owner}
            return database.execute(statement, values).rowcount > 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._problems_named(), _transaction(self._database):
            yield self._database

    @contextmanager
    def _problems_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._make:
                raise NoJournal(self._path) from error
            raise JournalProblem(
                f"the journal {self._path} cannot be used: {error.strerror}"
            ) from error
        except sqlite3.Error as error:
            damaged = _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            raise JournalProblem(
                f"the journal {self._path} cannot be used: {error}" + (_LEFT if damaged else "")
            ) from error
        # What a damaged file can hold: text that is none, numbers of another type or size.
        except (UnicodeError, TypeError, OverflowError) as error:
            raise JournalProblem(
                f"the journal {self._path} cannot be used: it is damaged{_LEFT}"
            ) from error

    # --- who works on what ------------------------------------------------------------------

    def _lock_file(self) -> int:
        if self._lock is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(f"{self._path}.lock", flags, 0o600)
        return self._lock

    def _own(self) -> int:
        """Return the number under which this process owns entries, and hold its lock."""
        if self._owner is None:
            owner = secrets.randbits(62)
            fcntl.lockf(self._lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, owner)
            self._owner = owner
        return self._owner

    def _is_alive(self, owner: int) -> bool:
        if owner == self._owner:
            return True
        try:
            # Shared, so that two that ask at once do not take each other for the owner.
            fcntl.lockf(self._lock_file(), fcntl.LOCK_SH | fcntl.LOCK_NB, 1, owner)
        except (BlockingIOError, PermissionError):
            return True
        fcntl.lockf(self._lock_file(), fcntl.LOCK_UN, 1, owner)
        return False


def _make_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it: for the owner alone, and to outlast a crash."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):  # another process was faster, or it is no folder
        folder.mkdir(mode=0o700)
    above = os.open(folder.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _code(error: BaseException | None) -> int:
    """SQLite's result code, without its extension: https://www.sqlite.org/rescode.html"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _entry(columns: Sequence[Any]) -> Entry:
    """Raises TypeError where a value is none that was entered."""
    entry = Entry(*columns)
    *texts, since, tries, last_error = columns
    are_texts = all(isinstance(text, str | None) for text in [*texts, last_error])
    if not (are_texts and isinstance(tries, int) and 0 <= since < _YEAR_9999):
        raise TypeError
    return entry


def _number(database: sqlite3.Connection, query: str) -> int:
    return int(database.execute(query).fetchone()[0])


def _encodable(text: str) -> str:
    """`text` for SQLite, even where it comes from settings that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _digest(request: Request, destination: str) -> str:
    return f"{destination}-{digest_of(request.operation, request.members)}"


def _request(entry: Entry, content: str | None) -> Request | None:
    """The request in `content`, or None where it is not the one that was entered."""
    try:
        request = Request(entry.operation, json.loads(content or ""))
        keep_secret(request.members["WorkflowToken"])
    except (ValueError, TypeError, KeyError):
        return None
    return request if _digest(request, entry.destination) == entry.digest else None
