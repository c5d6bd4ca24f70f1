"""The journal's SQLite database: its tables, and how it is opened and written.

Where a WorkflowToken has been, nothing must be left of it. SQLite overwrites what is deleted
with zeros (secure_delete), but for two cases:
* rows that it moves from one page to another leave their bytes behind. Only whole pages of long
  rows are never moved, so `PADDING` keeps the request out of the first page of its row;
* a page that was free before is not restored after a crash in the middle of a transaction, and
  keeps what the transaction wrote. So there are none: auto_vacuum cuts them off the file. It
  does so after the commit, and what a crash in between leaves is cut off when it is next opened to
  be changed.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from workflow_result.journal.files import (
    Locks,
    check_folder,
    check_side_file,
    make_folder,
    open_private,
)
from workflow_result.journal.store import JournalProblem, NoJournal

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
    # phase: how far a run came, 'preparing' or 'applying'; NULL where the result was told. An older
    # version, whose processes may still write here, knows none: its runs count as applying. What it
    # has made of those that died is known by the reason that it gave.
    # found: when it was seen that the run's process had died, in seconds since 1970.
    """
    ALTER TABLE result ADD COLUMN phase TEXT;
    ALTER TABLE result ADD COLUMN found REAL;
    UPDATE result SET phase = 'applying' WHERE state = 'owed' AND json_valid(request) AND
        json_extract(request, '$.FailureReason') LIKE 'The engine''s process ended before %' ||
        'so how far Terraform came is not known: its host may have failed.';
    """,
)
"""Each brings the tables from one version to the next; `PRAGMA user_version` counts them. An older
journal is brought up to date when it is opened to be changed, a newer one refused."""

_PAGE = 4096
PADDING = " " * _PAGE
"""White space before the JSON, more than a row has in its first page."""

_LEFT = "; it is left as it is: move it away to begin a new one"

_NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""What SQLite says where it cannot write a rollback journal."""

BUSY_SECONDS = 30
"""How long to wait where nobody writes, but somebody does not let go."""


class Database:
    """The database in the file `path`, which is made where it does not exist and may be (`make`).

    Where it is not to `change`, no file is made or written, whatever version it is of. (But what a
    crash has left half written SQLite takes back, as whoever reads it has to.)

    Raises `JournalProblem` where it cannot be used, here and in every method; `NoJournal` where it
    does not exist and is not to be made.
    """

    def __init__(self, path: Path, *, make: bool, change: bool = True) -> None:
        self._path = path
        self._make = make and change
        self._change = change
        self._patience: float = BUSY_SECONDS
        if path.parts[:1] == ("~",):  # nobody has made a home directory of it
            raise JournalProblem(
                f"the journal {path} cannot be used: set HOME, or name a file with --journal"
            )
        with self.problems_named():
            # SQLite and the locks have to agree on the file, whatever links lead there.
            self._path = Path(os.path.realpath(path))
            self.locks = Locks(self._path, make=change)
            self.connection = self._open()

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows that `query` finds."""
        with self.problems_named():
            return self.connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Have what happens meanwhile happen as a whole, on disk in the end, or not at all."""
        turn = self.locks.turn(self._patience) if self._change else nullcontext()
        with self.problems_named(), turn, _transaction(self.connection, writes=self._change):
            yield self.connection

    @contextmanager
    def in_no_space(self) -> Iterator[None]:
        """Have transactions need no more space meanwhile than there is.

        The rollback journal needs some. Without it, a kill in these milliseconds may damage the
        file; otherwise `resend` would report FAILED for a run that went well.
        """
        self.read("PRAGMA journal_mode = MEMORY")
        yield
        self.read("PRAGMA journal_mode = DELETE")

    def close(self) -> None:
        """Close the file, and give up the locks."""
        self.connection.close()
        self.locks.close()

    def wait_no_longer(self) -> None:
        """Do not wait for other processes any more."""
        self._patience = 0
        with suppress(sqlite3.Error):
            self.connection.execute("PRAGMA busy_timeout = 0")

    @contextmanager
    def problems_named(self) -> Iterator[None]:
        """Raise `JournalProblem` instead of what goes wrong with a file."""
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

    def _open(self) -> sqlite3.Connection:
        if self._make:
            make_folder(self._path.parent)
        check_folder(self._path)
        # SQLite would make it with the mode that the umask leaves; its side files follow it.
        os.close(open_private(self._path, make=self._make))
        check_side_file(Path(f"{self._path}-journal"))
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            new = self._is_new(connection)
            if not self._change:
                return self._to_look_at(connection, new)
            self._set_up(connection, new)
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        new = _number(connection, "SELECT count(*) FROM sqlite_master") == 0
        if not new and _number(connection, "PRAGMA application_id") != APPLICATION:
            raise JournalProblem(
                f"the journal {self._path} cannot be used: it is another program's database"
            )
        if _number(connection, "PRAGMA user_version") > len(STEPS):
            raise JournalProblem(
                f"the journal {self._path} is of a newer version of this program: use that one, or "
                "another journal with --journal"
            )
        return new

    def _to_look_at(self, connection: sqlite3.Connection, new: bool) -> sqlite3.Connection:
        """Return `connection`, over which nothing can be written from now on; or in its place, of
        an older version, a copy in memory that is brought up to date."""
        connection.execute("PRAGMA query_only = ON")
        # In a transaction, since `backup` alone would wait for a writer without end.
        with _transaction(connection, writes=False):
            if _number(connection, "PRAGMA user_version") == len(STEPS):
                return connection
            copy = sqlite3.connect(":memory:", isolation_level=None)
            connection.backup(copy)
        connection.close()
        with _transaction(copy):
            self._bring_up_to_date(copy, new)
        return copy

    def _set_up(self, connection: sqlite3.Connection, new: bool) -> None:
        # Write no temporary files with what is deleted, either.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        if new:
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            connection.execute("PRAGMA auto_vacuum = FULL")
        # No write-ahead log, in which a token would stay until the next checkpoint. EXTRA syncs
        # the folder, too: otherwise a power loss can bring back the rollback journal, and with
        # it the time before the commit. https://www.sqlite.org/pragma.html#pragma_synchronous
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA fullfsync = ON")  # without it, macOS syncs to the drive's cache
        if _number(connection, "PRAGMA user_version") < len(STEPS):
            with self.locks.turn(self._patience), _transaction(connection):
                self._bring_up_to_date(connection, new)
        connection.execute("BEGIN")
        used = _number(connection, "PRAGMA page_count") * _number(connection, "PRAGMA page_size")
        size = self._path.stat().st_size
        connection.execute("COMMIT")
        if size > used:  # SQLite was killed before it could cut off what it does not use
            connection.execute("VACUUM")

    def _bring_up_to_date(self, connection: sqlite3.Connection, new: bool) -> None:
        columns = connection.execute("SELECT name FROM pragma_table_info('result')")
        if not new and ("destination",) not in columns.fetchall():
            raise JournalProblem(
                f"the journal {self._path} cannot be used: it is older than what this version "
                f"knows{_LEFT}"
            )
        # Looked up here: another process may have been faster.
        for step in STEPS[_number(connection, "PRAGMA user_version") :]:
            for statement in step.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")


@contextmanager
def _transaction(connection: sqlite3.Connection, *, writes: bool = True) -> Iterator[None]:
    try:  # which begins in here, since an interrupt may come right after it
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def is_out_of_space(problem: JournalProblem) -> bool:
    """Whether SQLite could not write its rollback journal."""
    return _code(problem.__cause__) in _NO_SPACE


def _code(error: BaseException | None) -> int:
    """SQLite's result code, without its extension: https://www.sqlite.org/rescode.html"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
