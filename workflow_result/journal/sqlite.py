"""The journal's store in a SQLite file, which many processes of one machine share."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from workflow_result.journal.database import PADDING, Database, is_out_of_space
from workflow_result.journal.record import Key, Phase, Record, Reported, State, Work, Worker
from workflow_result.journal.rows import BESIDE, COLUMNS, Row, as_record, as_row
from workflow_result.journal.store import JournalProblem, Move

T = TypeVar("T")

_OF_RECORD = "record_id = ? AND destination = ?"

_CLEAR = f"DELETE FROM result WHERE {_OF_RECORD} AND state != 'reported' AND digest != ?"  # noqa: S608

_ENTER = (
    "INSERT INTO result (digest, destination, record_id, operation, status, idempotency_token, "
    "region, since, state, tries, last_error, phase, found, owner, request) "
    "VALUES (:digest, :destination, :record_id, :operation, :status, :idempotency_token, "
    ":region, :since, :state, :tries, :last_error, :phase, :found, :owner, :request) "
    "ON CONFLICT (digest) DO UPDATE SET region = :region, since = :since, state = :state, "
    "tries = :tries, last_error = :last_error, phase = :phase, found = :found, owner = :owner"
)
_AND_REQUEST = ", request = :request"


class SQLiteStore:
    """The `Store` in the file `path`, which is made where it does not exist.

    Raises `JournalProblem` where it cannot be used, here and in every method; `NoJournal` where it
    does not exist and is not to be made (`make`). Where it is not to `change`, no file is made or
    written, and what would change it is such a problem.

    A record can have several rows: older versions entered one for each result, and do so while
    their processes live. `as_record` says which one counts; whoever enters or claims something
    takes the others away. What was reported has a row of its own, beside what is owed instead.
    """

    is_shared = False

    def __init__(self, path: Path, *, make: bool = True, change: bool = True) -> None:
        self._database = Database(path, make=make, change=change)
        self._locks = self._database.locks

    def now(self) -> float:
        """Return the time of this machine."""
        return time.time()

    def change(self, keys: Sequence[Key], move: Move[T]) -> list[tuple[Record, T]]:
        """Have `move` make something else of these records, in one transaction."""
        frees = False

        def execute() -> list[tuple[Record, T]]:
            nonlocal frees
            with self._database.transaction() as connection:
                now = time.time()
                olds = [self._record(key, now) for key in keys]
                moved = [move(old, now) for old in olds]
                frees = all(new.work is None for new, _ in moved)
                for old, (new, _) in zip(olds, moved, strict=True):
                    if new is not old:
                        self._write(connection, old, new)
                return moved

        try:
            return execute()
        except JournalProblem as problem:
            if not (frees and is_out_of_space(problem)):
                raise
            with self._database.in_no_space():
                return execute()

    def keys_of(self, record_id: str) -> list[Key]:
        """Return where there is something of a record."""
        query = "SELECT DISTINCT destination FROM result WHERE record_id = ? ORDER BY destination"
        return [Key(record_id, str(name)) for (name,) in self._database.read(query, record_id)]

    def due(self, destination: str) -> list[Key]:
        """Return all that is not reported and nobody works on, oldest first."""
        free = [
            (record.work.since, record.key)
            for record in self.unreported()
            if record.work and not record.work.worker and record.work.state != State.REFUSED
            if record.work.phase != Phase.WAITING
        ]
        return [key for _, key in sorted(free) if key.destination == destination]

    def unreported(self) -> list[Record]:
        """Return every record that has `work`."""
        with self._database.problems_named():
            now = time.time()
            of_records: dict[Key, list[Row]] = {}
            for row in self._rows(COLUMNS, "state != 'reported'"):
                of_records.setdefault(Key(row.record_id, row.destination), []).append(row)
            worker = self._workers()
            records = [
                # An older version kept what was refused beside what was reported.
                self._record(key, now)
                if any(row.state == State.REFUSED for row in rows)
                else as_record(key, rows, worker, now)
                for key, rows in of_records.items()
            ]
        return [record for record in records if record.work]

    def stay_alive(self, _: Callable[[str], None]) -> None:
        """The kernel keeps the lock as long as this process lives."""

    def bury(self, build: str) -> None:
        """The kernel knows who is alive."""

    def is_sure_of(self, _: Key) -> bool:
        """Nobody takes a lock away."""
        return True

    def is_lost(self) -> bool:
        """Nobody takes a lock away."""
        return False

    def wait_no_longer(self) -> None:
        """Do not wait for other processes any more."""
        self._database.wait_no_longer()

    def close(self) -> None:
        """Give up the ownership of what is still owed."""
        self._database.close()

    # --- rows -------------------------------------------------------------------------------

    def _record(self, key: Key, now: float) -> Record:
        rows = self._rows(f"{COLUMNS}, request", _OF_RECORD, *key)
        return as_record(key, rows, self._workers(), now)

    def _rows(self, columns: str, condition: str, *values: str) -> list[Row]:
        """Return the rows that the condition holds for, oldest first."""
        query = f"SELECT record_id, destination, {columns} FROM result WHERE {condition}"  # noqa: S608
        return [as_row(found) for found in self._database.read(f"{query} ORDER BY since", *values)]

    def _workers(self) -> Callable[[int | None], Worker | None]:
        """Return what tells who an owner is; each is looked for once."""
        known: dict[int | None, Worker | None] = {None: None}

        def worker(owner: int | None) -> Worker | None:
            if owner not in known and owner is not None:
                alive = Worker.OTHER if self._locks.is_alive(owner) else None
                known[owner] = Worker.OWN if owner == self._locks.owner else alive
            return known[owner]

        return worker

    def _write(self, connection: sqlite3.Connection, old: Record, new: Record) -> None:
        """Write what differs between the two."""
        if new.work != old.work:
            is_held = old.work is not None and old.work.worker == Worker.OTHER
            if not is_held:  # older versions may have something else of it that is held
                connection.execute(_CLEAR, [*new.key, new.work.digest if new.work else ""])
            elif old.work and not new.work:
                connection.execute("DELETE FROM result WHERE digest = ?", [old.work.digest])
            if new.work:
                self._enter(connection, new.key, new.work, old.work)
        if new.reported and new.reported != old.reported:
            connection.execute(
                f"DELETE FROM result WHERE {_OF_RECORD} AND state = 'reported'",  # noqa: S608
                [*new.key],
            )
            reported = new.reported
            if new.work and new.work.digest == reported.digest:
                reported = replace(reported, digest=f"{BESIDE}{reported.digest}")
            self._enter(connection, new.key, reported, None)

    def _enter(
        self,
        connection: sqlite3.Connection,
        key: Key,
        what: Work | Reported,
        old: Work | None,
    ) -> None:
        """Enter what is owed, or was reported, as a row."""
        values = key._asdict() | vars(what) | {"owner": None, "request": None}
        statement = _ENTER
        if isinstance(what, Work):
            values["found"] = what.gone_since
            if what.worker == Worker.OWN:
                values["owner"] = self._locks.own()
            elif what.worker:
                ((values["owner"],),) = connection.execute(
                    "SELECT owner FROM result WHERE digest = ?", [what.digest]
                )
            if not (old and old.content == what.content):
                statement += _AND_REQUEST
                values["request"] = what.content and PADDING + what.content.lstrip()
        else:
            nothing = ("region", "last_error", "phase", "found")
            values |= {"state": State.REPORTED} | dict.fromkeys(nothing)
            statement += _AND_REQUEST
        connection.execute(statement, values)
