"""The journal's store in a DynamoDB table, which many machines share.

Each write is conditional on the `version` of what was read: DynamoDB decides who comes first. Who
works on something holds a lease, and says every tenth of it that it is alive. One that could not
for three tenths stops what it does; when the lease is over by a fifth, others may take it over,
which changes the version: the write of one that was only frozen comes to nothing then.
"""

import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

from workflow_result.account import Account
from workflow_result.journal import items
from workflow_result.journal.clock import ROUNDING, steady
from workflow_result.journal.items import Item
from workflow_result.journal.record import DESTINATIONS, Key, Record, State, Worker
from workflow_result.journal.store import JournalProblem, Move
from workflow_result.journal.table import Conflict, Table
from workflow_result.problem import ExitCode, Style, say

T = TypeVar("T")

AT_ONCE = 8
"""Records that are changed at the same time."""

LARGEST = 300 * 1024
"""Bytes of a request, compressed. An item holds 400 KB, and an index as much again
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)."""

ROUNDS = 3
"""How often what is due is looked for, where the answer sets the clock."""

ATTEMPTS = 100
"""How often a record is changed by others, at the most, before its turn is given up."""


class _TooLarge(JournalProblem):
    """A request that no item can hold."""


class DynamoDBStore:
    """The `Store` in the table `name`; `lease` is in seconds.

    It is in `region`, or else in that of the `account`. Raises `JournalProblem` in every method
    where the table cannot be used.
    """

    is_shared = True

    def __init__(self, name: str, lease: int, region: str | None, account: Account) -> None:
        self._table = Table(name, region, account)
        self._lease = lease
        self._margin = lease / 5
        # https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html
        build = os.environ.get("CODEBUILD_BUILD_ID")
        self._owner = "/".join(filter(None, [build, uuid.uuid4().hex]))
        self._buried: set[str] = set()
        self._numbers = count(1)
        self._written: dict[Key, Item] = {}
        self._due: dict[Key, Item] = {}
        self._turns: defaultdict[Key, threading.Lock] = defaultdict(threading.Lock)
        self._renewed_at = steady()
        self._closing = threading.Event()
        self._taken_over = False

    def now(self) -> float:
        """Return the time by the table's answers."""
        return self._table.clock.now()

    def change(self, keys: Sequence[Key], move: Move[T]) -> list[tuple[Record, T]]:
        """Have `move` make something else of each of these records."""
        if len(keys) == 1:
            return [self._change(keys[0], move)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda key: self._change(key, move), keys))

    def keys_of(self, record_id: str) -> list[Key]:
        """Return where there may be something of a record."""
        return [Key(record_id, destination) for destination in DESTINATIONS]

    def due(self, destination: str) -> list[Key]:
        """Return all that nobody works on and that is to be sent by now, oldest first."""
        found = self._query(destination, only_due=True)
        self._due = {item.record.key: item for item in found}
        return list(self._due)

    def unreported(self) -> list[Record]:
        """Return every record that has `work`."""
        found = {i.record.key: i for name in DESTINATIONS for i in self._query(name)}
        for key, item in self._written.items():  # an index comes later than what it is of
            if key not in found or found[key].version < item.version:
                found[key] = item
        return [item.record for item in found.values() if item.record.work]

    def stay_alive(self, lost: Callable[[str], None]) -> None:
        """Renew the lease every tenth of it, and watch that this comes about."""
        turn = threading.Lock()
        told: list[str] = []

        def lost_once(reason: str) -> None:
            with turn:  # a second one would be taken for more urgent
                if not told:
                    told.append(reason)
                    lost(reason)

        for work in (self._beat, self._watch):
            threading.Thread(target=work, args=[lost_once], daemon=True).start()

    def bury(self, build: str) -> None:
        """Take the processes of this build for dead, whatever lease they have."""
        self._buried.add(build)

    def is_sure_of(self, key: Key) -> bool:
        """Whether half of its lease is left."""
        item, now = self._written[key], self._table.clock.now()
        return item.is_own and item.lease - now > self._lease / 2

    def is_lost(self) -> bool:
        """Whether another process has taken something over, or may by now."""
        return self._taken_over or steady() > self._renewed_at + self._lease

    def wait_no_longer(self) -> None:
        """Try each call once, and not for long."""
        self._table.wait_no_longer()

    def close(self) -> None:
        """Give up the ownership of what is still owed."""
        self._closing.set()

        def move(record: Record, _: float) -> tuple[Record, None]:
            work = record.work
            if work and work.state == State.OWED and work.worker == Worker.OWN:
                return replace(record, work=replace(work, worker=None)), None
            return record, None

        own = [key for key, item in self._written.items() if item.is_own]
        with suppress(JournalProblem):
            if own:
                self.change(own, move)

    # --- one record -------------------------------------------------------------------------

    def _change(self, key: Key, move: Move[T]) -> tuple[Record, T]:
        with self._turns[key]:
            known = self._written.get(key)
            # What this process works on is most likely as it has written it, and what was found
            # to be due as it is in the index; all else is new.
            item = known if known and known.is_own else self._due.pop(key, None)
            is_read = False
            for _ in range(ATTEMPTS):
                old, now = item or Item(Record(key)), self._table.clock.now()
                new, told = move(old.record, now)
                if new is not old.record:
                    try:
                        written = self._write(old, new, now)
                    except Conflict as conflict:
                        item, is_read = self._read(key, conflict.item), True
                        continue
                    except _TooLarge:  # only where nothing stands against it
                        if is_read:
                            raise
                    else:
                        return written.record, told
                elif is_read:
                    if known:  # somebody else has changed it since
                        self._written[key] = old
                    return new, told
                is_read = True
                answer = self._table.call("get_item", Key=items.item_key(key), ConsistentRead=True)
                item = self._read(key, answer.get("Item"))
        line = f"the journal {self._table} cannot be used: {key.record_id} is changed all the time"
        raise JournalProblem(line, ExitCode.NOT_DELIVERED)

    def _write(self, old: Item, new: Record, now: float) -> Item:
        """Write what `new` makes of `old`. Raises `Conflict` where that is not there any more."""
        clock, began = self._table.clock, steady()
        item = self._item(old, new, now)
        found = self._put(old, item)
        moved = clock.now() - now - (steady() - began)
        if abs(moved) > ROUNDING and item.is_own:  # by a wrong clock until this answer
            work = new.work
            if work and work.since == now:
                new = replace(new, work=replace(work, since=now + moved))
            old, item = item, self._item(item, new, clock.now())
            found = self._put(old, item)
        if new.work and new.work.content is None and found:
            item = replace(item, record=found.record)
        if item.is_own:
            self._renewed_at = began
        self._written[new.key] = item
        return item

    def _item(self, old: Item, new: Record, now: float) -> Item:
        """The item that is to be in the place of `old`."""
        by = f"{self._owner}/{next(self._numbers)}"
        item = Item(new, old.version + 1, by)
        work = new.work
        if work is None:
            return item
        if work.worker == Worker.OWN:
            return replace(item, owner=self._owner, lease=now + self._lease)
        if work.worker == Worker.OTHER:
            return replace(item, owner=old.owner, lease=old.lease)
        return replace(item, lease=work.gone_since or 0)

    def _put(self, old: Item, item: Item) -> Item | None:
        """Put `item` in the place of `old`; return it as it is then, where that was asked for.

        What stays as it is of the request is not sent again, and asked for where it is not known.
        """
        was, work = old.record.work, item.record.work
        keeps, body = bool(work and was and work.content == was.content), None
        if not keeps and work and work.content is not None:
            body = items.compressed(work.content)
            if len(body) > LARGEST:
                raise _TooLarge(
                    f"the result of {item.record.key.record_id} has {len(body) // 1024} KB "
                    f"compressed, the journal {self._table} takes {LARGEST // 1024}"
                )
        written = items.written(item, self._table.clock.now(), self._margin, body)
        update = items.update(written, old.version, keeps)
        wants_body = keeps and work and work.content is None and work.worker == Worker.OWN
        key = item.record.key
        try:
            answer = self._table.call(
                "update_item",
                Key=items.item_key(key),
                **update,
                ReturnValues="ALL_NEW" if wants_body else "NONE",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            found = answer.get("Attributes")
        except Conflict as conflict:
            found = conflict.item
            # The SDK may have repeated a write that had succeeded.
            if not found or found.get("by", {}).get("S") != item.by:
                raise
        return self._read(key, found) if found else None

    def _read(self, key: Key, attributes: Any) -> Item:
        if not attributes:
            return Item(Record(key))
        now = self._table.clock.now()
        try:
            return items.read(attributes, self._owner, now, self._margin, self._buried)
        except (ValueError, TypeError, KeyError) as error:
            raise JournalProblem(
                f"the journal {self._table} cannot be used: its item for {key.record_id} is none "
                "of this program's, or of a newer version"
            ) from error

    def _query(self, destination: str, *, only_due: bool = False) -> list[Item]:
        """Return what the index has for a destination; an item that cannot be read is told."""
        for _ in range(ROUNDS):
            found: list[Item] = []
            began, now = steady(), self.now()
            until = now if only_due else items.NEVER
            for attributes in self._table.query(**items.query(destination, until)):
                record_id = attributes["record"]["S"].partition("#")[2]
                try:
                    found.append(self._read(Key(record_id, destination), attributes))
                except JournalProblem as problem:  # the others are not to wait for it
                    say(f"warning: {problem.lines[0]}; it is left alone", Style.YELLOW)
            if abs(self._table.clock.now() - now - (steady() - began)) <= ROUNDING:
                break
            # The answer has set the clock: what is due by it?
        return found

    # --- signs of life ----------------------------------------------------------------------

    def _run(self) -> Key | None:
        """What this process runs."""
        for key, item in list(self._written.items()):
            if item.is_own and item.record.work and item.record.work.state == State.RUNNING:
                return key
        return None

    def _beat(self, lost: Callable[[str], None]) -> None:
        while not self._closing.wait(self._lease / 10) and (key := self._run()):
            with self._turns[key], suppress(JournalProblem):
                item = self._written[key]
                if not item.is_own or key != self._run():
                    return
                try:
                    self._write(item, item.record, self._table.clock.now())
                except Conflict:
                    self._taken_over = True
                    lost("another process has taken over its run")
                    return

    def _watch(self, lost: Callable[[str], None]) -> None:
        while not self._closing.wait(self._lease / 50) and self._run():
            if steady() > self._renewed_at + self._lease * 3 / 10:
                lost(f"the journal was not reached for {self._lease * 3 // 10} seconds")
                return
