"""What the rows of the journal's table mean: see the table in `database`."""

from collections.abc import Sequence
from typing import Any

from workflow_result.journal import RETURN_SECONDS, Entry, State

QUERY = (
    "SELECT digest, destination, operation, record_id, coalesce(status, ''), "
    "coalesce(idempotency_token, ''), region, last_error, since, tries, "
    "state, phase, found, owner FROM result"
)
"""The columns that `as_entry` takes."""

_YEAR_9999 = 253_370_764_800
"""The last one that Python's dates know, in seconds since 1970."""


def that_counts(rows: Sequence[Entry]) -> Entry | None:
    """Return the one of a record's rows that is its entry.

    What somebody works on; else a result, the first one; else the FAILED of a run that died; else
    what was refused. An older version could have all of them at once.
    """

    def rank(row: Entry) -> tuple[int, float]:
        order = [State.RUNNING, State.OWED, State.DIED, State.REFUSED]
        return 2 * order.index(row.state) + row.presumed, row.since

    worked_on = [row for row in rows if row.held or row.own]
    return min(worked_on or rows, key=rank, default=None)


def as_entry(row: Sequence[Any], alive: bool, own: bool, now: float) -> Entry:
    """Raises TypeError where a value is none that was entered."""
    *texts, since, tries, state, phase, found, _ = row
    digest, destination, operation, record_id, status, token, region, last_error = texts
    if not (
        all(isinstance(text, str | None) for text in [*texts, phase])
        and isinstance(tries, int)
        and isinstance(found, float | None)
        and 0 <= since < _YEAR_9999
    ):
        raise TypeError
    presumed = state == "owed" and phase is not None
    if state == "running" and not alive:
        may_return = phase == "preparing" and (found is None or now - found < RETURN_SECONDS)
        presumed = not may_return
        state = State.DIED if may_return else State.OWED
    return Entry(
        digest=digest,
        destination=destination,
        state=State(state),
        operation=operation,
        record_id=record_id,
        status=status,
        idempotency_token=token,
        region=region,
        since=since,
        tries=tries,
        last_error=last_error,
        presumed=presumed,
        own=own,
        held=alive and not own,
    )
