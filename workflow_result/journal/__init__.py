"""The journal: what is owed. Which results Service Catalog does not have yet.

Here are the states, the rules of their moves and the interface, once for every store; `sqlite`
keeps them in a file. The journal knows nothing of AWS: see `delivery` for that.

A record has one entry, for each destination:

    (nothing) --begin--> running --owe--> owed --settle--> reported
    (nothing) -----------owe------------> owed --refuse--> refused

`running` is a Terraform run that goes on; its entry already holds the request that is owed should
its process die: FAILED. `applying` notes that it has begun to change things, `abandon` strikes it
off before that. `owed` holds the whole request. `refused` holds it without the WorkflowToken, for a
person to look at. `reported` holds only that it was reported, and as what.

A run whose process died while it applied is owed, and that FAILED is `presumed`. One that died
before has `died`: its message may be run again. Where that does not come within
`RETURN_SECONDS` after somebody has found it dead, it is owed and presumed, too.

The first result stays: `stands_against_run` and `stands_against_result` say against what. For a
record that was reported another result can be owed; meanwhile it counts as reported, too, and goes
on to when the other one is refused or forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from workflow_result.problem import ExitCode, Problem
from workflow_result.request import Request, digest_of

RETURN_SECONDS = 15 * 60
"""How long a message may take to come again whose run died before it applied anything."""


class State(StrEnum):
    """What the journal has of a record."""

    RUNNING = "running"
    DIED = "died"
    OWED = "owed"
    REFUSED = "refused"
    REPORTED = "reported"


class JournalProblem(Problem):
    """The journal cannot be used. Where others can get at it, it must not be used: `exposed`."""

    def __init__(self, line: str, *, exposed: bool = False) -> None:
        super().__init__(ExitCode.SETUP, line)
        self.exposed = exposed


class NoJournal(JournalProblem):
    """There is no journal, so nothing is owed there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no journal {path}: check --journal or WORKFLOW_RESULT_JOURNAL")


@dataclass(frozen=True)
class Entry:
    """What the journal has of a record, without its content, when it was looked at.

    `digest` tells the request and its destination; `since` is in seconds since 1970; `status` is
    empty where it was reported by an older version. `presumed`: what is owed is the FAILED of a run
    that died. `own`: this process works on it; `held`: another one does.
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


def digest_for(request: Request, destination: str) -> str:
    """Return what tells `request` for `destination` from every other one."""
    return f"{destination}-{digest_of(request.operation, request.members)}"


def stands_against_run(entry: Entry, request: Request) -> bool:
    """Whether no run may begin for the record of `entry`, whose FAILED would be `request`.

    A presumed FAILED that nobody reports is not run again, either: whoever finds it reports it.
    """
    if entry.state == State.REFUSED:
        return False
    if entry.operation != request.operation:
        return True
    if entry.state == State.OWED:
        return not entry.presumed or entry.held
    return entry.state != State.DIED


def stands_against_result(entry: Entry, request: Request) -> bool:
    """Whether the result `request` does not take the place of `entry`."""
    if entry.own or entry.state == State.REFUSED:
        return False
    if entry.operation != request.operation or entry.state == State.RUNNING:
        return True
    if entry.state == State.OWED:
        return (
            entry.held if entry.presumed else entry.digest != digest_for(request, entry.destination)
        )
    return False


class Journal(Protocol):
    """A store of entries. Every method raises `JournalProblem` where it cannot be used.

    Each move is one transaction, on disk when the method returns. Not for use from several threads
    at once.
    """

    def is_reported(self, request: Request, destination: str) -> bool:
        """Whether this very request was reported before, to this destination."""

    def begin(self, request: Request, destination: str, region: str | None) -> Entry:
        """Enter a run that begins, with the `request` that is owed should this process die.

        Returns what the journal has then: this process's own run; its `own` presumed FAILED
        (`request`), which it has to report now instead; or what stands against a run. Service
        Catalog's queues may deliver a message more than once
        (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html).
        """

    def applying(self, run: Entry) -> None:
        """Note that this process's run begins to change things."""

    def abandon(self, run: Entry) -> None:
        """Strike this process's run off: nobody owes anything for it."""

    def owe(self, request: Request, destination: str, region: str | None) -> Entry:
        """Enter a result, in the place of this process's run where it has one.

        Returns what the journal has then: this process's `own` result; or the same one as
        reported; or what stands against it.
        """

    def settle(self, entries: Sequence[Entry]) -> None:
        """Strike results off that Service Catalog has: keep only that they were reported."""

    def refuse(self, entry: Entry, cause: str) -> Entry | None:
        """Keep a result as refused for good, without its WorkflowToken.

        Returns what the journal has then: the refused result, or the one that was reported
        before; None where another process has seen to it meanwhile.
        """

    def keep(self, entry: Entry, cause: str) -> None:
        """Keep a result as owed, after a try that failed."""

    def claim(self, destination: str) -> list[tuple[Entry, Request | None]]:
        """Become the owner of everything owed there that nobody works on; oldest first.

        Notes when runs were found that died before they applied anything. A request that cannot be
        read any more is None.
        """

    def pending(self) -> list[Entry]:
        """Return everything that is not reported, oldest first. Changes nothing."""

    def forget(self, record_id: str) -> list[Entry]:
        """Strike off what is refused or owed of a record and nobody works on.

        Returns what the journal had of it, an entry for each destination.
        """

    def close(self) -> None:
        """Give up the ownership of what is still owed."""

    def wait_no_longer(self) -> None:
        """Do not wait for other processes any more."""
