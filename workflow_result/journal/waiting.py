"""An order that waits for a build: what its entry holds, and the moves that it has alone."""

import json
from dataclasses import dataclass, field, replace

from workflow_result.journal.moves import entered, stands_against_run
from workflow_result.journal.record import Entry, Phase, Record, State, Work, Worker
from workflow_result.request import Request


@dataclass(frozen=True)
class Waiting:
    """What the content of an order that waits holds.

    `message` is the operation message as it came, WorkflowToken and all; `build` the one that was
    asked for to carry it out, by CodeBuild's id, or None. `refused_since`: since when a build is
    refused each time, though there is room, in seconds since 1970, and `refusals` how often.
    """

    message: str = field(repr=False)
    build: str | None = None
    refused_since: float | None = None
    refusals: int = 0

    def content(self) -> str:
        """Return it as JSON."""
        return json.dumps(vars(self))

    @classmethod
    def of(cls, work: Work | None) -> "Waiting | None":
        """Return what `work` holds, or None where it cannot be read any more."""
        try:
            return cls(**json.loads((work and work.content) or ""))
        except (ValueError, TypeError):
            return None


def wait(
    record: Record, now: float, request: Request, region: str | None, message: str
) -> tuple[Record, Entry]:
    """An order waits for a build; `request` is the FAILED that tells it from others.

    Tells the order, for which this process is to ask for a build; or the one that waits already;
    or what stands against a run.
    """
    entry = record.entry(now)
    for known in (record.reported_entry(), entry):
        if known and (known.state == State.WAITING or stands_against_run(known, request)):
            return record, known
    if entry and entry.state == State.OWED:  # of a run that died: `resend` reports it
        return record, entry
    return entered(
        record, now, request, region, State.RUNNING, Phase.WAITING, Waiting(message).content()
    )


def take(record: Record, now: float) -> tuple[Record, bool]:
    """This process sees to a build for an order that waits, where it is time to. Tells whether."""
    entry, work = record.entry(now), record.work
    if not (entry and work and entry.due):
        return record, False
    return replace(record, work=replace(work, worker=Worker.OWN, gone_since=None)), True


def asked(
    record: Record, now: float, order: Entry, build: str | None, cause: str | None, refused: bool
) -> tuple[Record, bool]:
    """A build was asked for, for this process's `order`, which waits: it is `build`.

    Where that is None there is none, and `cause` says why: it is asked for again. `refused`: though
    there is room. Tells whether the order is still this process's to see to; nothing changes where
    it is not.
    """
    work = record.work
    if not (
        work
        and work.digest == order.digest
        and work.phase == Phase.WAITING
        and work.worker == Worker.OWN
    ):
        return record, False
    content = work.content
    if waiting := Waiting.of(work):
        since, refusals = (
            (waiting.refused_since or now, waiting.refusals + 1) if refused else (None, 0)
        )
        waiting = replace(waiting, build=build, refused_since=since, refusals=refusals)
        content = waiting.content()
    work = replace(
        work,
        worker=None,
        gone_since=now if build else None,
        content=content,
        last_error=cause,
        tries=work.tries + (cause is not None),
    )
    return replace(record, work=work), True
