"""The journal in a SQLite file, which many processes of one machine share."""

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from workflow_result.journal import (
    Entry,
    State,
    digest_for,
    stands_against_result,
    stands_against_run,
)
from workflow_result.journal.database import PADDING, Database
from workflow_result.journal.rows import QUERY, as_entry, that_counts
from workflow_result.problem import printable
from workflow_result.request import Request
from workflow_result.secret import hide, keep_secret

_OF_RECORD = "record_id = ? AND destination = ?"
_REPORTED = f"{_OF_RECORD} AND state = 'reported'"

_CLEAR = f"DELETE FROM result WHERE {_OF_RECORD} AND digest != ? AND state != 'reported'"  # noqa: S608


class SQLiteJournal:
    """The `Journal` in the file `path`, which is made where it does not exist.

    Raises `JournalProblem` where it cannot be used, here and in every method; `NoJournal` where it
    does not exist and is not to be made (`make`).

    An entry can have several rows: older versions entered one for each result, and do so while
    their processes live. `that_counts` says which one it is; whoever enters or claims something
    takes the others away. What was reported has a row of its own, beside what is owed instead.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self._database = Database(path, make=make)
        self._locks = self._database.locks

    # --- one result: see `Journal` ----------------------------------------------------------

    def is_reported(self, request: Request, destination: str) -> bool:
        """Whether this very request was reported before, to this destination."""
        return self._same_reported(request, destination) is not None

    def begin(self, request: Request, destination: str, region: str | None) -> Entry:
        """Enter a run that begins, where nothing stands against it."""
        with self._database.transaction() as connection:
            record = request.members["RecordId"], destination
            entry = self._entry(*record)
            for known in (self._reported(*record), entry):
                if known and stands_against_run(known, request):
                    return known
            if entry and entry.state == State.OWED:
                return self._enter(connection, request, destination, region, "owed", "applying")
            connection.execute(_CLEAR, [*record, ""])
            return self._enter(connection, request, destination, region, "running", "preparing")

    def applying(self, run: Entry) -> None:
        """Note that this process's run begins to change things."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE result SET phase = 'applying' "
                "WHERE digest = ? AND state = 'running' AND owner = ?",
                [run.digest, self._locks.owner],
            )

    def abandon(self, run: Entry) -> None:
        """Strike this process's run off."""
        statement = "DELETE FROM result WHERE digest = ? AND state = 'running' AND owner = ?"
        self._database.strike_off((statement, [(run.digest, self._locks.owner)]))

    def owe(self, request: Request, destination: str, region: str | None) -> Entry:
        """Enter a result, where nothing stands against it."""
        with self._database.transaction() as connection:
            if same := self._same_reported(request, destination):
                return same
            record = request.members["RecordId"], destination
            for known in (self._entry(*record), self._reported(*record)):
                if known and stands_against_result(known, request):
                    return known
            return self._enter(connection, request, destination, region, "owed", None)

    def settle(self, entries: Sequence[Entry]) -> None:
        """Strike results off: keep only that they were reported."""
        self._database.strike_off(
            (
                "UPDATE result SET state = 'reported', request = NULL, region = NULL, "
                "owner = NULL, last_error = NULL, phase = NULL, found = NULL, since = ?, "
                "tries = tries + 1 WHERE digest = ?",
                [(time.time(), entry.digest) for entry in entries],
            ),
            (
                f"DELETE FROM result WHERE {_REPORTED} AND digest != ? AND "  # noqa: S608
                "EXISTS (SELECT 1 FROM result WHERE digest = ? AND state = 'reported')",
                [
                    (entry.record_id, entry.destination, entry.digest, entry.digest)
                    for entry in entries
                ],
            ),
        )

    def refuse(self, entry: Entry, cause: str) -> Entry | None:
        """Keep a result as refused for good, or what was reported before."""
        with self._database.transaction() as connection:
            if not self._rows("digest = ? AND state = 'owed'", entry.digest):
                return None
            if reported := self._reported(entry.record_id, entry.destination):
                connection.execute("DELETE FROM result WHERE digest = ?", [entry.digest])
                return reported
            connection.execute(
                "UPDATE result SET state = 'refused', owner = NULL, phase = NULL, "
                "last_error = ?, request = json_remove(request, '$.WorkflowToken'), "
                "tries = tries + 1 WHERE digest = ?",
                [_shown(cause), entry.digest],
            )
            return self._rows("digest = ?", entry.digest)[0]

    def keep(self, entry: Entry, cause: str) -> None:
        """Keep a result as owed, after a try that failed."""
        with self._database.transaction() as connection:
            connection.execute(
                # Another process may have become its owner since: a `notify` by hand.
                "UPDATE result SET owner = nullif(owner, ?), last_error = ?, "
                "tries = tries + 1 WHERE digest = ? AND state = 'owed'",
                [self._locks.owner, _shown(cause), entry.digest],
            )

    # --- all of them ------------------------------------------------------------------------

    def claim(self, destination: str) -> list[tuple[Entry, Request | None]]:
        """Become the owner of everything owed there that nobody works on; oldest first."""
        with self._database.transaction() as connection:
            free = [
                entry
                for entry in self._entries()
                if entry.destination == destination and not (entry.held or entry.own)
            ]
            now = time.time()
            connection.executemany(
                "UPDATE result SET found = :now WHERE digest = :digest "
                "AND (found IS NULL OR found > :now)",  # the clock may have been set back
                [{"now": now, "digest": e.digest} for e in free if e.state == State.DIED],
            )
            owed = [entry for entry in free if entry.state == State.OWED]
            claimed = [(entry, self._request(entry)) for entry in owed]
            own = self._locks.own() if owed else None
            connection.executemany(
                "UPDATE result SET owner = ?, state = 'owed', phase = "
                "CASE state WHEN 'running' THEN coalesce(phase, 'applying') ELSE phase END "
                "WHERE digest = ?",
                [(own, entry.digest) for entry in owed],
            )
            connection.executemany(_CLEAR, [(e.record_id, destination, e.digest) for e in owed])
            return claimed

    def pending(self) -> list[Entry]:
        """Return everything that is not reported, oldest first."""
        with self._database.problems_named():
            return self._entries()

    def forget(self, record_id: str) -> list[Entry]:
        """Strike off what is refused or owed of a record and nobody works on."""
        with self._database.transaction() as connection:
            destinations = {row.destination for row in self._rows("record_id = ?", record_id)}
            found = []
            for destination in sorted(destinations):
                entry = self._entry(record_id, destination)
                if entry and not (entry.held or entry.own):
                    connection.execute(_CLEAR, [record_id, destination, ""])
                found.append(entry or self._reported(record_id, destination))
            return [entry for entry in found if entry]

    def close(self) -> None:
        """Give up the ownership of what is still owed."""
        self._database.close()

    def wait_no_longer(self) -> None:
        """Do not wait for other processes any more."""
        self._database.wait_no_longer()

    # --- rows -------------------------------------------------------------------------------

    def _entry(self, record_id: str, destination: str) -> Entry | None:
        """What is not reported of a record."""
        return that_counts(
            self._rows(f"{_OF_RECORD} AND state != 'reported'", record_id, destination)
        )

    def _reported(self, record_id: str, destination: str) -> Entry | None:
        """What was reported of a record, the last where an older version reported several."""
        rows = self._rows(_REPORTED, record_id, destination)
        return rows[-1] if rows else None

    def _same_reported(self, request: Request, destination: str) -> Entry | None:
        same = self._rows("digest = ? AND state = 'reported'", digest_for(request, destination))
        return same[0] if same else None

    def _entries(self) -> list[Entry]:
        """What is not reported of every record."""
        of_records: dict[tuple[str, str], list[Entry]] = {}
        for row in self._rows("state != 'reported'"):
            of_records.setdefault((row.record_id, row.destination), []).append(row)
        entries = [entry for rows in of_records.values() if (entry := that_counts(rows))]
        return sorted(
            (
                entry
                for entry in entries
                # An older version kept what was refused beside what was reported.
                if entry.state != State.REFUSED
                or not self._reported(entry.record_id, entry.destination)
            ),
            key=lambda entry: entry.since,
        )

    def _rows(self, condition: str, *values: str) -> list[Entry]:
        """Return the rows that the condition holds for, each as an entry, oldest first."""
        found = self._database.read(f"{QUERY} WHERE {condition} ORDER BY since", *values)
        alive = {None: False} | {
            owner: self._locks.is_alive(owner) for *_, owner in found if owner is not None
        }
        own, now = self._locks.owner, time.time()
        return [as_entry(row, alive[row[-1]], row[-1] == own is not None, now) for row in found]

    def _enter(
        self,
        connection: sqlite3.Connection,
        request: Request,
        destination: str,
        region: str | None,
        state: str,
        phase: str | None,
    ) -> Entry:
        """Enter what this process works on, in the place of what nobody else does."""
        digest = digest_for(request, destination)
        record_id = request.members["RecordId"]
        entry = self._entry(record_id, destination)
        if not (entry and entry.held):
            connection.execute(_CLEAR, [record_id, destination, digest])
        connection.execute(
            "INSERT INTO result (digest, destination, state, operation, record_id, status, "
            "idempotency_token, region, request, owner, since, phase) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET "
            "state = excluded.state, region = excluded.region, request = excluded.request, "
            "owner = excluded.owner, phase = excluded.phase, found = NULL",
            [
                digest,
                destination,
                state,
                request.operation,
                record_id,
                request.members["Status"],
                request.members["IdempotencyToken"],
                region and _encodable(region),
                PADDING + json.dumps(request.members),
                self._locks.own(),
                time.time(),
                phase,
            ],
        )
        return self._rows("digest = ?", digest)[0]

    def _request(self, entry: Entry) -> Request | None:
        """The request of `entry`, or None where it is not the one that was entered."""
        ((content,),) = self._database.read(
            "SELECT request FROM result WHERE digest = ?", entry.digest
        )
        try:
            request = Request(entry.operation, json.loads(content or ""))
            keep_secret(request.members["WorkflowToken"])
        except (ValueError, TypeError, KeyError):
            return None
        return request if digest_for(request, entry.destination) == entry.digest else None


def _shown(cause: str) -> str:
    return _encodable(hide(printable(cause)))


def _encodable(text: str) -> str:
    """`text` for SQLite, even where it comes from settings that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
