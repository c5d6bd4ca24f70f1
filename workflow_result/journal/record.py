"""What the journal keeps of a record, and what a person or a command gets to see of it.

Here are the states, once for every store:

    (nothing) --begin--> running --owe--> owed --settle--> reported
    (nothing) -----------owe------------> owed --refuse--> refused
    (nothing) --wait--> waiting --begin--> running

`running` is a Terraform run that goes on; its entry already holds the request that is owed should
its process die: FAILED. `applying` notes that it has begun to change things, `abandon` strikes it
off before that. `owed` holds the whole request. `refused` holds it without the WorkflowToken, for a
person to look at. `reported` holds only that it was reported, and as what.

A run whose process died while it applied is owed, and that FAILED is `presumed`. One that died
before has `died`: its message may be run again. Where that does not come within
`RETURN_SECONDS` after it is known to be dead, it is owed and presumed, too.

`waiting` is an order that no run has begun for: its entry holds the message, for a build that is to
carry it out. Stores keep it as `running` in a phase of its own. Whoever asks for a build works on
it meanwhile (`take`, `asked`); a run may begin all the same. Once it is here nobody brings the
message again: a run that began with it is never abandoned, but given back.

For a record that was reported another result can be owed; meanwhile it counts as reported, too, and
goes on to when the other one is refused or forgotten.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from workflow_result.request import Request, digest_of

DESTINATIONS = ("aws", "sandbox")
"""Where results go: what is meant for one is never sent to another."""

RETURN_SECONDS = 15 * 60
"""How long a message may take to come again whose run died before it applied anything."""

LOOK_SECONDS = 15 * 60
"""How long a build that was asked for is waited for before somebody looks what became of it."""


class State(StrEnum):
    """What the journal has of a record.

    No store keeps `DIED`, which follows from who is alive, or `WAITING`, which is a phase.
    """

    WAITING = "waiting"
    RUNNING = "running"
    DIED = "died"
    OWED = "owed"
    REFUSED = "refused"
    REPORTED = "reported"


class Phase(StrEnum):
    """How far an order came."""

    WAITING = "waiting"
    PREPARING = "preparing"
    APPLYING = "applying"


class Worker(StrEnum):
    """Who works on an entry: this process, or another one that is alive."""

    OWN = "own"
    OTHER = "other"


class Key(NamedTuple):
    """What a store finds a record by: Service Catalog's RecordId, and where results for it go."""

    record_id: str
    destination: str


@dataclass(frozen=True)
class Reported:
    """A result that Service Catalog has. `since` is in seconds since 1970."""

    digest: str
    operation: str
    status: str
    idempotency_token: str
    since: float
    tries: int


@dataclass(frozen=True)
class Work:
    """What is not reported of a record.

    `digest` tells the request and its destination, `content` is its JSON: None where it was not
    read, or cannot be. Of an order that waits it is a `Waiting`. `phase` is None where the
    result was told. `since` is in seconds since 1970, and so is `gone_since`: from when on the run
    is known to be dead; of an order that waits, when a build was asked for.
    """

    digest: str
    state: State
    operation: str
    status: str
    idempotency_token: str
    region: str | None
    since: float
    tries: int = 0
    last_error: str | None = None
    phase: Phase | None = None
    content: str | None = None
    worker: Worker | None = None
    gone_since: float | None = None

    def seen(self, now: float) -> tuple[State, bool]:
        """Return the state it counts as, and whether its result is presumed."""
        if self.state != State.RUNNING:
            return self.state, self.phase is not None
        if self.phase == Phase.WAITING:
            return State.WAITING, False
        if self.worker:
            return State.RUNNING, False
        gone = 0.0 if self.gone_since is None else now - self.gone_since
        may_return = self.phase == Phase.PREPARING and gone < RETURN_SECONDS
        return (State.DIED, False) if may_return else (State.OWED, True)

    def is_to_be_seen_to(self, now: float) -> bool:
        """Whether nobody has asked for a build for this order that waits, or long ago."""
        if self.worker:
            return False
        # The clock may have been set back.
        return self.gone_since is None or not 0 <= now - self.gone_since < LOOK_SECONDS


@dataclass(frozen=True)
class Entry:
    """What the journal has of a record, without its content, when it was looked at.

    `digest` tells the request and its destination; `since` is in seconds since 1970; `status` is
    empty where it was reported by an older version. `presumed`: what is owed, or was refused, is
    the FAILED of a run that died. `own`: this process works on it; `held`: another one does. `due`:
    it waits, and it is time to see to a build for it.
    """

    digest: str
    destination: str
    state: State
    operation: str
    record_id: str
    status: str
    idempotency_token: str
    region: str | None
    since: float
    tries: int
    last_error: str | None
    presumed: bool = False
    own: bool = False
    held: bool = False
    due: bool = False


@dataclass(frozen=True)
class Record:
    """All that the journal has of a record, as a store reads and writes it."""

    key: Key
    work: Work | None = None
    reported: Reported | None = None

    def entry(self, now: float) -> Entry | None:
        """Return what is not reported of it, as it counts now."""
        work = self.work
        if work is None:
            return None
        state, presumed = work.seen(now)
        return Entry(
            digest=work.digest,
            destination=self.key.destination,
            state=state,
            operation=work.operation,
            record_id=self.key.record_id,
            status=work.status,
            idempotency_token=work.idempotency_token,
            region=work.region,
            since=work.since,
            tries=work.tries,
            last_error=work.last_error,
            presumed=presumed,
            own=work.worker == Worker.OWN,
            held=work.worker == Worker.OTHER,
            due=state == State.WAITING and work.is_to_be_seen_to(now),
        )

    def reported_entry(self) -> Entry | None:
        """Return what was reported of it."""
        known = self.reported
        if known is None:
            return None
        return Entry(
            digest=known.digest,
            destination=self.key.destination,
            state=State.REPORTED,
            operation=known.operation,
            record_id=self.key.record_id,
            status=known.status,
            idempotency_token=known.idempotency_token,
            region=None,
            since=known.since,
            tries=known.tries,
            last_error=None,
        )


def digest_for(request: Request, destination: str) -> str:
    """Return what tells `request` for `destination` from every other one."""
    return f"{destination}-{digest_of(request.operation, request.members)}"
