"""What the rows of the journal's table mean: see the table in `database`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from workflow_result.journal.record import Key, Phase, Record, Reported, State, Work, Worker

COLUMNS = (
    "digest, operation, status, idempotency_token, region, last_error, since, tries, "
    "state, phase, found, owner"
)
"""The columns that `as_row` takes, after the key's two; the request may come last."""

BESIDE = "reported-"
"""Before the digest of what was reported while a run goes on whose own FAILED is just that."""

_YEAR_9999 = 253_370_764_800
"""The last one that Python's dates know, in seconds since 1970."""


_STATES = (State.RUNNING, State.OWED, State.REFUSED, State.REPORTED)


class Row(NamedTuple):
    """A row of the table."""

    record_id: str
    destination: str
    digest: str
    operation: str
    status: str | None
    idempotency_token: str | None
    region: str | None
    last_error: str | None
    since: float
    tries: int
    state: str
    phase: str | None
    found: float | None
    owner: int | None
    request: object = None


def as_row(values: Sequence[Any]) -> Row:
    """Raises TypeError where a value is none that was entered."""
    row = Row(*values)
    texts = [*row[:8], row.phase]
    if not (
        all(isinstance(text, str | None) for text in texts)
        and isinstance(row.tries, int)
        and isinstance(row.found, float | None)
        and 0 <= row.since < _YEAR_9999
        and row.state in _STATES
        and row.phase in (None, *Phase)
    ):
        raise TypeError
    return row


def as_record(
    key: Key, rows: Sequence[Row], worker: Callable[[int | None], Worker | None], now: float
) -> Record:
    """Return what the rows of a record, oldest first, make together.

    An older version entered one for each result. Of what is not reported, that counts on which
    somebody works; else a result, the first one; else the FAILED of a run that died; else what was
    refused, but not beside what was reported. Of what was reported, the last one counts.
    """
    works = [_work(row, worker(row.owner)) for row in rows if row.state != State.REPORTED]
    reported = [_reported(row) for row in rows if row.state == State.REPORTED]

    def rank(work: Work) -> tuple[int, float]:
        order = [State.RUNNING, State.WAITING, State.OWED, State.DIED, State.REFUSED]
        state, presumed = work.seen(now)
        return 2 * order.index(state) + presumed, work.since

    work = min([w for w in works if w.worker] or works, key=rank, default=None)
    if reported and work and work.state == State.REFUSED:
        work = None
    return Record(key, work, reported[-1] if reported else None)


def _work(row: Row, worker: Worker | None) -> Work:
    return Work(
        digest=row.digest,
        state=State(row.state),
        operation=row.operation,
        status=row.status or "",
        idempotency_token=row.idempotency_token or "",
        region=row.region,
        since=row.since,
        tries=row.tries,
        last_error=row.last_error,
        phase=Phase(row.phase) if row.phase else None,
        content=row.request if isinstance(row.request, str) else None,
        worker=worker,
        gone_since=row.found,
    )


def _reported(row: Row) -> Reported:
    status, token = row.status or "", row.idempotency_token or ""
    digest = row.digest.removeprefix(BESIDE)
    return Reported(digest, row.operation, status, token, row.since, row.tries)
