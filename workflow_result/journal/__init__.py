"""The journal: what is owed. Which results Service Catalog does not have yet.

`record` has the states, `moves` and `waiting` what leads from one to the next, `store` what a store
has to do. The stores are `sqlite`, a file, and `dynamodb`, a table that machines share. The journal
knows nothing of Service Catalog: see `delivery` for that.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from workflow_result.journal import moves, waiting
from workflow_result.journal.record import Entry, Key, Record, State, digest_for
from workflow_result.journal.store import Store
from workflow_result.journal.waiting import Waiting
from workflow_result.problem import printable
from workflow_result.request import Request
from workflow_result.secret import hide, keep_secret

T = TypeVar("T")

Content = tuple[Entry | None, Waiting | Request | None]

CHUNK = 100
"""Results that are claimed at once: no more than what is sent soon."""


class Journal:
    """What is owed, in a `store`. Every method raises `JournalProblem` where it cannot be used.

    Each move is as a whole, and kept for good when the method returns. `now` is that of the store.
    Not for use from several threads at once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_shared = store.is_shared
        self.now = store.now

    def begin(
        self, request: Request, destination: str, region: str | None, *, of_waiting: bool = True
    ) -> Entry:
        """Enter a run that begins, with the `request` that is owed should this process die.

        Where it is not to be one `of_waiting`, an order that waits stands against it. Returns what
        the journal has then: this process's own run; its `own` presumed FAILED (`request`), which
        it has to report now instead; or what stands against a run. Service Catalog's queues may
        deliver a message more than once
        (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html).
        """
        region = region and _encodable(region)
        return self._one(
            _key(request, destination),
            partial(moves.begin, request=request, region=region, of_waiting=of_waiting),
        )

    def wait(self, request: Request, destination: str, region: str | None, message: str) -> Entry:
        """Enter an order that waits for a build, with its operation message as JSON text.

        `request` is a FAILED for it. Returns what the journal has then: the order, `own` where this
        process is to ask for a build and to call `asked`; the one that waits already; or what
        stands against a run.
        """
        region = region and _encodable(region)
        return self._one(
            _key(request, destination),
            partial(waiting.wait, request=request, region=region, message=message),
        )

    def take(self, order: Entry) -> tuple[Entry, Waiting | None] | None:
        """See to a build for an `order` that waits and is `due`: it is this process's from now on.

        Returns None where there is nothing to see to any more; else the order, with its message and
        build, or None where these cannot be read any more. `asked` has to follow.
        """
        ((record, taken),) = self._store.change([_key_of(order)], waiting.take)
        entry = record.entry(0)
        return (entry, Waiting.of(record.work)) if taken and entry else None

    def asked(
        self,
        order: Entry,
        build: str | None = None,
        cause: str | None = None,
        *,
        refused: bool = False,
    ) -> bool:
        """Note which `build` was asked for, for this process's `order`, or why there is none.

        `refused`: none was started though there is room. Returns whether the order was this
        process's to see to: a run may have begun for it.
        """
        cause = cause and _shown(cause)
        move = partial(waiting.asked, order=order, build=build, cause=cause, refused=refused)
        return self._one(_key_of(order), move)

    def bury(self, build: str) -> None:
        """Take what works in this build of CodeBuild for dead from now on: it has ended."""
        self._store.bury(build)

    def stay_alive(self, lost: Callable[[str], None]) -> None:
        """Have this process's run count as alive while it goes on. See `Store.stay_alive`."""
        self._store.stay_alive(lost)

    def is_lost(self) -> bool:
        """Whether another process may have taken this one's run over."""
        return self._store.is_lost()

    def applying(self, run: Entry) -> bool:
        """Note that this process's run begins to change things; whether it is still its own."""
        return self._one(_key_of(run), partial(moves.applying, run=run))

    def abandon(self, run: Entry) -> None:
        """Strike this process's run off: nobody owes anything for it."""
        self._one(_key_of(run), partial(moves.abandon, run=run))

    def give_back(self, run: Entry) -> None:
        """Let this process's run be run again: its result can be neither kept nor reported."""
        self._one(_key_of(run), partial(moves.give_back, run=run))

    def owe(
        self, request: Request, destination: str, region: str | None, run: Entry | None = None
    ) -> Entry:
        """Enter a result, in the place of this process's `run` where it has one.

        Returns what the journal has then: this process's `own` result; or the same one as
        reported; or what stands against it.
        """
        region = region and _encodable(region)
        return self._one(
            _key(request, destination), partial(moves.owe, request=request, region=region, run=run)
        )

    def settle(self, entries: Sequence[Entry]) -> None:
        """Strike results off that Service Catalog has: keep only that they were reported."""
        digests = {_key_of(entry): entry for entry in entries}

        def move(record: Record, now: float) -> tuple[Record, None]:
            return moves.settle(record, now, digests[record.key])

        self._store.change(list(digests), move)

    def sent(self, request: Request, destination: str) -> None:
        """Keep that Service Catalog has a result that could not be entered before."""
        self._one(_key(request, destination), partial(moves.sent, request=request))

    def refuse(self, entry: Entry, cause: str) -> Entry | None:
        """Keep a result as refused for good, without its WorkflowToken.

        Returns what the journal has then: the refused result, or the one that was reported
        before; None where another process has seen to it meanwhile.
        """
        return self._one(_key_of(entry), partial(moves.refuse, entry=entry, cause=_shown(cause)))

    def keep(self, entry: Entry, cause: str) -> None:
        """Keep a result as owed, after a try that failed."""
        self._one(_key_of(entry), partial(moves.keep, entry=entry, cause=_shown(cause)))

    def claim(self, destination: str) -> Iterator[tuple[Entry, Request | None]]:
        """Become the owner of what is owed there and nobody works on, oldest first.

        What is owed is looked up at once, and claimed as it is taken, `CHUNK` results at a time.
        Notes when runs were found that died before they applied anything. A request that cannot be
        read any more is None.
        """
        keys = self._store.due(destination)
        for start in range(0, len(keys), CHUNK):
            for record, claimed in self._store.change(keys[start : start + CHUNK], moves.claim):
                entry = record.entry(0)
                if claimed and entry:
                    yield entry, _request(record, entry)

    def hold(self, claimed: Entry) -> bool:
        """Whether this process may send what it has claimed: by now others may see to that."""
        key = _key_of(claimed)
        return self._store.is_sure_of(key) or self._one(key, partial(moves.hold, entry=claimed))

    def pending(self) -> list[Entry]:
        """Return everything that is not reported, oldest first. Changes nothing."""
        records = self._store.unreported()
        now = self.now()
        entries = [entry for record in records if (entry := record.entry(now))]
        return sorted(entries, key=lambda entry: entry.since)

    def look(self, record_id: str, destination: str) -> Entry | None:
        """Return what is not reported of a record, else what was, else None. Changes nothing."""
        return self._one(Key(record_id, destination), moves.look)

    def content(self, record_id: str, destination: str) -> Content:
        """Return what the journal has of a record, as `look` does, and with that what it holds.

        That is the message of an order that waits; else the request that is owed, or would be if
        its run died; None where that cannot be read, or is reported.
        """
        ((record, entry),) = self._store.change([Key(record_id, destination)], moves.look)
        if entry is None:
            return None, None
        if entry.state == State.WAITING:
            return entry, Waiting.of(record.work)
        return entry, _request(record, entry)

    def forget(self, record_id: str) -> list[Entry]:
        """Strike off what is refused or owed of a record and nobody works on.

        Returns what the journal had of it, an entry for each destination.
        """
        found = self._store.change(self._store.keys_of(record_id), moves.forget)
        return [entry for _, entry in found if entry]

    def close(self) -> None:
        """Give up the ownership of what is still owed."""
        self._store.close()

    def wait_no_longer(self) -> None:
        """Do not wait for other processes any more."""
        self._store.wait_no_longer()

    def _one(self, key: Key, move: Callable[[Record, float], tuple[Record, T]]) -> T:
        ((_, told),) = self._store.change([key], move)
        return told


def _key(request: Request, destination: str) -> Key:
    return Key(request.members["RecordId"], destination)


def _key_of(entry: Entry) -> Key:
    return Key(entry.record_id, entry.destination)


def _request(record: Record, entry: Entry) -> Request | None:
    """The request of a record, or None where it is not the one that was entered."""
    try:
        request = Request(entry.operation, json.loads((record.work and record.work.content) or ""))
        keep_secret(request.members["WorkflowToken"])
    except (ValueError, TypeError, KeyError):
        return None
    return request if digest_for(request, entry.destination) == entry.digest else None


def _shown(cause: str) -> str:
    return _encodable(hide(printable(cause)))


def _encodable(text: str) -> str:
    """`text` for a store, even where it comes from settings that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
