"""The moves of a record: what each makes of it, once for every store.

Each function takes a `Record` as it is and the time, in seconds since 1970, and returns the record
as it shall be, the very same where nothing changes, and what the caller is told. A store may have
to call one more than once, on what it has read meanwhile; nothing else happens in them.

The first result stays: `stands_against_run` and `stands_against_result` say against what.
"""

import json
from dataclasses import replace
from typing import TypeGuard

from workflow_result.journal.record import (
    Entry,
    Phase,
    Record,
    Reported,
    State,
    Work,
    Worker,
    digest_for,
)
from workflow_result.request import Request


def stands_against_run(entry: Entry, request: Request) -> bool:
    """Whether no run may begin for the record of `entry`, whose FAILED would be `request`.

    A presumed FAILED that nobody reports is not run again, either: whoever finds it reports it. Nor
    where that was refused: the run may have reported what it could not enter.
    """
    if entry.state == State.REFUSED:
        return entry.presumed
    if entry.operation != request.operation:
        return True
    if entry.state == State.OWED:
        return not entry.presumed or entry.held
    return entry.state not in (State.DIED, State.WAITING)


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


def begin(
    record: Record, now: float, request: Request, region: str | None, *, of_waiting: bool = True
) -> tuple[Record, Entry]:
    """A run begins, with the `request` that is owed should its process die.

    Where it is not to be one `of_waiting`, an order that waits stands against it. Tells the run; or
    the presumed FAILED of an earlier one that this process is to report now; or what stands against
    a run.
    """
    entry = record.entry(now)
    for known in (record.reported_entry(), entry):
        if known and stands_against_run(known, request):
            return record, known
    if entry and entry.state == State.WAITING and not of_waiting:
        return record, entry
    if entry and entry.state == State.OWED:
        return entered(record, now, request, region, State.OWED, Phase.APPLYING)
    return entered(record, now, request, region, State.RUNNING, Phase.PREPARING)


def applying(record: Record, now: float, run: Entry) -> tuple[Record, bool]:
    """This process's `run` begins to change things. Tells whether it is still this process's."""
    work = record.work
    if not _is_own_run(work, run):
        return record, False
    return replace(record, work=replace(work, phase=Phase.APPLYING)), True


def abandon(record: Record, now: float, run: Entry) -> tuple[Record, None]:
    """This process's `run` is struck off: nobody owes anything for it."""
    return (replace(record, work=None) if _is_own_run(record.work, run) else record), None


def give_back(record: Record, now: float, run: Entry) -> tuple[Record, None]:
    """What this process's `run` came to can be neither kept nor reported.

    As one that died before it applied anything: its message may be run again.
    """
    work = record.work
    if not _is_own_run(work, run):
        return record, None
    return replace(
        record, work=replace(work, phase=Phase.PREPARING, worker=None, gone_since=now)
    ), None


def owe(
    record: Record, now: float, request: Request, region: str | None, run: Entry | None
) -> tuple[Record, Entry]:
    """A result is owed, in the place of this process's `run` where it had one.

    Tells the result, which this process is to send; or the same one as reported; or what stands
    against it: for a run that is not this process's any more, whatever has become of it.
    """
    entry, reported = record.entry(now), record.reported_entry()
    if reported and reported.digest == digest_for(request, record.key.destination):
        return record, reported
    if run and not (entry and entry.own):
        return record, entry or reported or replace(run, own=False, state=State.DIED)
    for known in (entry, reported):
        if known and stands_against_result(known, request):
            return record, known
    return entered(record, now, request, region, State.OWED, None)


def settle(record: Record, now: float, entry: Entry) -> tuple[Record, None]:
    """Service Catalog has the result `entry`: only that is kept."""
    work = record.work
    told = _reported(entry.digest, entry.operation, entry.status, entry.idempotency_token, now)
    if work and work.digest == entry.digest and work.state != State.RUNNING:
        return replace(record, work=None, reported=replace(told, tries=work.tries + 1)), None
    # It was struck off meanwhile, or another result has its place: that is not sent first.
    if record.reported:
        return record, None
    is_over = work and (work.state == State.REFUSED or work.phase == Phase.WAITING)
    still = None if is_over else work
    return replace(record, work=still, reported=told), None


def sent(record: Record, now: float, request: Request) -> tuple[Record, None]:
    """Service Catalog has `request`, which could not be entered before it was sent."""
    entry = record.entry(now)
    members, digest = request.members, digest_for(request, record.key.destination)
    told = _reported(digest, request.operation, members["Status"], members["IdempotencyToken"], now)
    if entry and stands_against_result(entry, request):
        return (record if record.reported else replace(record, reported=told)), None
    return replace(record, work=None, reported=told), None


def refuse(record: Record, now: float, entry: Entry, cause: str) -> tuple[Record, Entry | None]:
    """Service Catalog has refused the result `entry` for good: its WorkflowToken goes.

    Tells the refused result; or the one that was reported before, which stays; or None where
    another process has seen to it meanwhile.
    """
    work = record.work
    if work is None or work.digest != entry.digest or work.state != State.OWED:
        return record, None
    if record.reported:
        return replace(record, work=None), record.reported_entry()
    content = None
    if work.content is not None:
        members = json.loads(work.content)
        members.pop("WorkflowToken", None)
        content = json.dumps(members)
    work = replace(
        work,
        state=State.REFUSED,
        worker=None,
        content=content,
        last_error=cause,
        tries=work.tries + 1,
    )
    refused = replace(record, work=work)
    return refused, refused.entry(now)


def keep(record: Record, now: float, entry: Entry, cause: str) -> tuple[Record, None]:
    """The result `entry` stays owed, after a try that failed.

    Another process may work on it since: a `notify` by hand.
    """
    work = record.work
    if work is None or work.digest != entry.digest or work.state != State.OWED:
        return record, None
    worker = None if work.worker == Worker.OWN else work.worker
    work = replace(work, worker=worker, last_error=cause, tries=work.tries + 1)
    return replace(record, work=work), None


def claim(record: Record, now: float) -> tuple[Record, bool]:
    """This process sends what is owed and nobody works on. Tells whether there is anything.

    Notes when a run was found that died before it applied anything.
    """
    work = record.work
    if work is None or work.worker:
        return record, False
    state, _ = work.seen(now)
    if state == State.DIED:
        # The clock may have been set back.
        if work.gone_since is None or work.gone_since > now:
            return replace(record, work=replace(work, gone_since=now)), False
        return record, False
    if state != State.OWED:
        return record, False
    phase = work.phase
    if work.state == State.RUNNING:
        phase = phase or Phase.APPLYING
    work = replace(work, state=State.OWED, phase=phase, worker=Worker.OWN, gone_since=None)
    return replace(record, work=work), True


def hold(record: Record, now: float, entry: Entry) -> tuple[Record, bool]:
    """This process goes on to see to `entry`, which it has claimed. Tells whether it still may."""
    work = record.work
    is_own = (
        work is not None
        and work.digest == entry.digest
        and work.state == State.OWED
        and work.worker == Worker.OWN
    )
    return (replace(record) if is_own else record), is_own


def look(record: Record, now: float) -> tuple[Record, Entry | None]:
    """Nothing changes. Tells what is not reported, else what was."""
    return record, record.entry(now) or record.reported_entry()


def forget(record: Record, now: float) -> tuple[Record, Entry | None]:
    """What is refused or owed and nobody works on is struck off. Tells what was there.

    An order that waits stays: its message is nowhere else.
    """
    entry = record.entry(now)
    if entry and entry.state != State.WAITING and not (entry.held or entry.own):
        return replace(record, work=None), entry
    return record, entry or record.reported_entry()


def _is_own_run(work: Work | None, run: Entry) -> TypeGuard[Work]:
    return (
        work is not None
        and work.digest == run.digest
        and work.state == State.RUNNING
        and work.phase != Phase.WAITING
        and work.worker == Worker.OWN
    )


def entered(
    record: Record,
    now: float,
    request: Request,
    region: str | None,
    state: State,
    phase: Phase | None,
    content: str | None = None,
) -> tuple[Record, Entry]:
    """Enter what this process works on from now on; its `content` is that of the request, else."""
    members, old = request.members, record.work
    digest = digest_for(request, record.key.destination)
    same = old if old and old.digest == digest else None
    work = Work(
        digest=digest,
        state=state,
        operation=request.operation,
        status=members["Status"],
        idempotency_token=members["IdempotencyToken"],
        region=region,
        since=same.since if same else now,
        tries=same.tries if same else 0,
        last_error=same.last_error if same else None,
        phase=phase,
        content=content or json.dumps(dict(members)),
        worker=Worker.OWN,
    )
    entered = replace(record, work=work)
    entry = entered.entry(now)
    assert entry
    return entered, entry


def _reported(digest: str, operation: str, status: str, token: str, now: float) -> Reported:
    return Reported(digest, operation, status, token, since=now, tries=1)
