"""The journal against a plain model of it: whatever processes do, and whenever they die."""

import itertools
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from conftest import CREDENTIALS
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from journal_worker import work
from ministack_server import Ministack
from tables import SharedTable, new_table
from warm import processes

from workflow_result.journal.items import NEVER
from workflow_result.journal.place import Table
from workflow_result.journal.record import RETURN_SECONDS, Entry
from workflow_result.request import Draft, Request, check

Key = tuple[str, str]
"""An operation, and a status; a run that dies is FAILED, as may be what is told."""

# Mostly the same one, so that much happens to it.
RECORDS = st.sampled_from(["rec-a"] * 4 + ["rec-b"])
OPERATIONS = st.sampled_from(["provision"] * 4 + ["update"])
STATUSES = st.sampled_from(["SUCCEEDED", "FAILED"])


def request_of(record: str, key: Key) -> Request:
    operation, status = key
    members = {"WorkflowToken": "a" * 20, "RecordId": record, "Status": status}
    return check(Draft(members), operation)


class Ground(Protocol):
    """Where a journal is, and how time goes by there."""

    @property
    def place(self) -> Path | Table: ...

    environment: dict[str, str]
    knows_death: bool
    """Whether somebody who died is known to be dead from then on, without being looked for."""

    def lapse(self, owner: str | None) -> None:
        """Have what this process works on count as nobody's, though the process may live."""

    def quarter_of_an_hour(self) -> None:
        """Have the time go by in which a message may come again."""


class InFile:
    knows_death = False

    def __init__(self, path: Path) -> None:
        self.place = path
        self.environment: dict[str, str] = {}

    def lapse(self, owner: str | None) -> None:
        """The kernel does that, and only where the process is dead."""

    def quarter_of_an_hour(self) -> None:
        with closing(sqlite3.connect(self.place)) as database, database:
            database.execute("UPDATE result SET found = found - 901")


class InTable:
    knows_death = True

    def __init__(self, table: SharedTable) -> None:
        self._table = table
        self.place = Table(table.name)
        self.environment = CREDENTIALS | table.environment

    def lapse(self, owner: str | None) -> None:
        gone = time.time() - 1
        for item in self._table.items():
            if item.get("owner") == owner and float(item["lease"]) > gone - 60:  # else it is over
                returns = item["state"] == "running" and item["phase"] == "preparing"
                due_at = gone + RETURN_SECONDS if returns else gone
                if item.get("phase") == "waiting":
                    due_at = NEVER
                self._table.set(item["record"], lease=gone - 60, due_at=due_at)

    def quarter_of_an_hour(self) -> None:
        now = time.time()
        for item in self._table.items():
            if "lease" in item and float(item["lease"]) <= now:
                earlier = {"lease": float(item["lease"]) - 901}
                if item.get("phase") != "waiting":
                    earlier["due_at"] = float(item["due_at"]) - 901
                self._table.set(item["record"], **earlier)


class Process:
    """One that has the journal open."""

    def __init__(self, ground: Ground) -> None:
        self._orders, theirs = processes.Pipe()
        self._process = processes.Process(
            target=work, args=[ground.place, ground.environment, theirs], daemon=True
        )
        self._process.start()
        theirs.close()
        self.owner = self._orders.recv()

    def do(self, method: str, *arguments: Any) -> Any:
        self._orders.send((method, arguments))
        assert self._orders.poll(60), f"{method} does not come back within a minute"
        return self._orders.recv()

    def die(self) -> None:
        self._process.kill()
        self._process.join()
        self._orders.close()


Taken = tuple[Process, str, Entry]
"""A process, a record, and the entry that it was given: it has to see to that."""


@dataclass
class Record:
    """What the model has of a record.

    `worker` works on it, and lives; it has `lapsed` where it counts as dead all the same.
    """

    reported: Key | None = None
    state: str = ""  # waiting, running, owed or refused
    key: Key = ("", "")
    worker: Process | None = None
    lapsed: bool = False
    applying: bool = False
    found: bool = False
    late: bool = False
    presumed: bool = False
    asked: bool = False
    """Whether a build was asked for, a short time ago."""

    def seen(self) -> tuple[str, bool]:
        """Its state, and whether that is presumed."""
        if self.state != "running" or (self.worker and not self.lapsed):
            return self.state, self.presumed
        return ("owed", True) if self.applying or self.late else ("died", False)

    def seen_by(self, process: "Process") -> tuple[str, bool]:
        """The same, as the process has it: its own work, until it finds it taken over."""
        if self.worker is process:
            return self.state, self.presumed
        return self.seen()

    def work_stands_against(self, process: "Process", key: Key) -> bool:
        """Whether what is not reported stands against this result of a process."""
        state, presumed = self.seen_by(process)
        if state in ("", "refused") or self.worker is process:
            return False
        if state == "running" or self.key[0] != key[0]:
            return True
        return state == "owed" and (not self.is_free() if presumed else self.key != key)

    def stands_against(self, process: "Process", key: Key) -> bool:
        """Whether anything does."""
        is_other = self.reported is not None and self.reported[0] != key[0]
        return is_other or self.work_stands_against(process, key)

    def is_free(self) -> bool:
        return self.worker is None or self.lapsed

    def is_run_of(self, process: "Process", entry: Entry) -> bool:
        """Whether `entry` is the run that goes on, and not an earlier one of the process."""
        is_running = self.state == "running" and self.worker is process
        return is_running and self.key[0] == entry.operation

    def is_written_by(self, process: "Process") -> None:
        """Its work stays as it is: that renews a lease, or gives up one that is over."""
        if self.worker is process:
            self.lapsed = self.found = self.late = False
        elif self.lapsed:
            self.worker, self.lapsed = None, False

    def has(self, state: str, key: Key, worker: Process | None, *, presumed: bool = False) -> None:
        self.state, self.key, self.worker, self.presumed = state, key, worker, presumed
        self.applying = self.found = self.late = self.lapsed = self.asked = False


class JournalMachine(RuleBasedStateMachine):
    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.records = {"rec-a": Record(), "rec-b": Record()}
        self.observer = Process(ground)
        self.living: list[Process] = []
        self.runs: list[Taken] = []
        self.owed: list[Taken] = []
        self.waiting: list[Taken] = []

    @initialize()
    def first(self) -> None:
        self.start()

    @rule()
    def another(self) -> None:
        self.start()

    def start(self) -> None:
        self.living.append(Process(self.ground))

    @rule(data=st.data())
    @precondition(lambda self: len(self.living) > 1)
    def die(self, data: st.DataObject) -> None:
        self.end(self.one_of(data, self.living))

    def end(self, process: Process) -> None:
        process.die()
        self.living.remove(process)
        self.runs = [taken for taken in self.runs if taken[0] is not process]
        self.owed = [taken for taken in self.owed if taken[0] is not process]
        self.waiting = [taken for taken in self.waiting if taken[0] is not process]
        self.ground.lapse(process.owner)
        for record in self.records.values():
            if record.worker is process:
                record.worker = None
                record.found |= self.ground.knows_death

    @rule(data=st.data())
    @precondition(lambda self: self.ground.knows_death)
    def is_frozen_past_its_lease(self, data: st.DataObject) -> None:
        process = self.one_of(data, self.living)
        self.ground.lapse(process.owner)
        for record in self.records.values():
            if record.worker is process:
                record.lapsed = record.found = True

    def one_of(self, data: st.DataObject, things: list[Any]) -> Any:
        return things[data.draw(st.integers(0, len(things) - 1))]

    @rule(data=st.data(), name=RECORDS, operation=OPERATIONS)
    def begin(self, data: st.DataObject, name: str, operation: str) -> None:
        self.begun(self.one_of(data, self.living), name, operation)

    def begun(self, process: Process, name: str, operation: str) -> None:
        record, key = self.records[name], (operation, "FAILED")
        state, presumed = record.seen_by(process)
        is_other = bool(state) and state != "refused" and record.key[0] != operation
        free = record.is_free() and record.worker is not process
        entry = process.do("begin", request_of(name, key), "sandbox", None)
        if record.reported:
            assert entry.state == "reported"
        elif is_other or state == "running":
            assert (entry.state, entry.operation) == (state, record.key[0])
            assert entry.own == (record.worker is process)
        elif state == "refused" and presumed:
            assert (entry.state, entry.presumed) == ("refused", True)
        elif state in ("", "refused", "died", "waiting"):
            record.has("running", key, process)
            assert (entry.state, entry.own) == ("running", True)
            self.runs.append((process, name, entry))
        elif presumed and free:
            record.has("owed", key, process, presumed=True)
            assert (entry.state, entry.own, entry.presumed) == ("owed", True, True)
            self.owed.append((process, name, entry))
        else:
            assert entry.state == "owed"
            assert entry.held == (not record.is_free() and record.worker is not process)
        assert not entry.own or record.worker is process

    @rule(data=st.data(), name=RECORDS, operation=OPERATIONS)
    def wait(self, data: st.DataObject, name: str, operation: str) -> None:
        process = self.one_of(data, self.living)
        record, key = self.records[name], (operation, "FAILED")
        state, presumed = record.seen_by(process)
        is_other = record.key[0] != operation
        entry = process.do("wait", request_of(name, key), "sandbox", None, '"message"')
        if record.reported:
            assert entry.state == "reported"
        elif (state in ("", "died") and not (state and is_other)) or (
            state == "refused" and not presumed
        ):
            record.has("waiting", key, process)
            assert (entry.state, entry.own) == ("waiting", True)
            self.waiting.append((process, name, entry))
        else:
            assert (entry.state, entry.operation) == (state, record.key[0])
            assert entry.own == (record.worker is process)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        """What waits, as `pending` has it, is taken where it is due."""
        process = self.one_of(data, self.living)
        entries = [e for e in self.observer.do("pending") if e.state == "waiting"]
        due = {
            name
            for name, record in self.records.items()
            if record.state == "waiting" and record.is_free() and not record.asked
        }
        assert {entry.record_id for entry in entries if entry.due} == due
        found = [process.do("take", entry) for entry in entries]
        taken = {entry.record_id: (entry, held) for entry, held in filter(None, found)}
        assert set(taken) == {n for n in due if self.records[n].worker is not process}
        for name, (entry, held) in taken.items():
            assert held.message == '"message"'
            record = self.records[name]
            record.has("waiting", record.key, process)
            self.waiting.append((process, name, entry))

    @rule(data=st.data(), build=st.sampled_from([None, "build:1"]))
    @precondition(lambda self: self.waiting)
    def asked(self, data: st.DataObject, build: str | None) -> None:
        process, name, entry = self.one_of(data, self.waiting)
        record = self.records[name]
        told = process.do("asked", entry, build, None if build else "No room")
        self.waiting.remove((process, name, entry))
        is_own = record.state == "waiting" and record.worker is process
        assert told == (is_own and record.key[0] == entry.operation)
        if told:
            record.has("waiting", record.key, None)
            record.asked = build is not None

    @rule(data=st.data(), name=RECORDS, operation=OPERATIONS, status=STATUSES)
    def owe(self, data: st.DataObject, name: str, operation: str, status: str) -> None:
        process = self.one_of(data, self.living)
        record, key = self.records[name], (operation, status)
        entry = process.do("owe", request_of(name, key), "sandbox", None)
        if record.reported == key:
            assert (entry.state, entry.own) == ("reported", False)
        else:
            self.owes(process, name, key, entry, stands=record.stands_against(process, key))

    def owes(self, process: Process, name: str, key: Key, entry: Entry, *, stands: bool) -> None:
        record = self.records[name]
        assert entry.own != stands
        if not stands:
            record.has("owed", key, process)
            assert (entry.state, entry.presumed) == ("owed", False)
            self.owed.append((process, name, entry))

    @rule(data=st.data(), status=STATUSES)
    @precondition(lambda self: self.runs)
    def run_ends(self, data: st.DataObject, status: str) -> None:
        """Its result is taken only where the run is still its process's."""
        process, name, run = self.one_of(data, self.runs)
        record, key = self.records[name], (run.operation, status)
        entry = process.do("owe", request_of(name, key), "sandbox", None, run)
        if record.reported == key:
            assert (entry.state, entry.own) == ("reported", False)
        else:
            is_own = record.worker is process
            stands = not is_own or record.stands_against(process, key)
            self.owes(process, name, key, entry, stands=stands)

    @rule(data=st.data(), name=RECORDS, operation=OPERATIONS, status=STATUSES)
    def sent(self, data: st.DataObject, name: str, operation: str, status: str) -> None:
        """A result that could not be entered before it was sent."""
        process = self.one_of(data, self.living)
        record, key = self.records[name], (operation, status)
        stands = record.work_stands_against(process, key)
        process.do("sent", request_of(name, key), "sandbox")
        if not stands:
            record.reported = key
            record.has("", ("", ""), None)
        elif not record.reported:
            record.reported = key
            record.is_written_by(process)

    @rule(data=st.data())
    @precondition(lambda self: self.runs)
    def apply(self, data: st.DataObject) -> None:
        self.applying(self.one_of(data, self.runs))

    def applying(self, taken: Taken) -> None:
        process, name, entry = taken
        record = self.records[name]
        is_own = record.is_run_of(process, entry)
        assert process.do("applying", entry) == is_own
        if is_own:
            record.applying = True
            record.lapsed = record.found = record.late = False

    @rule(data=st.data())
    @precondition(lambda self: self.runs)
    def abandon(self, data: st.DataObject) -> None:
        process, name, entry = self.one_of(data, self.runs)
        record = self.records[name]
        process.do("abandon", entry)
        if record.is_run_of(process, entry):
            record.has("", ("", ""), None)

    @rule(data=st.data())
    @precondition(lambda self: self.runs)
    def give_back(self, data: st.DataObject) -> None:
        process, name, entry = self.one_of(data, self.runs)
        record = self.records[name]
        process.do("give_back", entry)
        if record.is_run_of(process, entry):
            record.has("running", record.key, None)
            record.found = True

    @rule(name=RECORDS, operation=OPERATIONS, applies=st.booleans())
    def a_run_dies(self, name: str, operation: str, applies: bool) -> None:
        self.start()
        process, before = self.living[-1], len(self.runs)
        self.begun(process, name, operation)
        if applies and len(self.runs) > before:
            self.applying(self.runs[-1])
        self.end(process)

    @rule(data=st.data())
    @precondition(lambda self: self.owed)
    def settle(self, data: st.DataObject) -> None:
        process, name, entry = self.one_of(data, self.owed)
        record, key = self.records[name], (entry.operation, entry.status)
        process.do("settle", [entry])
        self.owed.remove((process, name, entry))
        if record.state in ("owed", "refused") and record.key == key:
            record.reported = key
            record.has("", ("", ""), None)
        elif not record.reported:  # Service Catalog has it all the same
            record.reported = key
            record.is_written_by(process)
            if record.state in ("refused", "waiting"):
                record.has("", ("", ""), None)

    @rule(data=st.data())
    @precondition(lambda self: self.owed)
    def refuse(self, data: st.DataObject) -> None:
        process, name, entry = self.one_of(data, self.owed)
        record, key = self.records[name], (entry.operation, entry.status)
        now = process.do("refuse", entry, "No")
        self.owed.remove((process, name, entry))
        if record.state != "owed" or record.key != key:
            assert now is None
        elif record.reported:
            assert (now.state, now.status) == ("reported", record.reported[1])
            record.has("", ("", ""), None)
        else:
            assert (now.state, now.last_error) == ("refused", "No")
            record.has("refused", key, None, presumed=record.presumed)

    @rule(data=st.data())
    @precondition(lambda self: self.owed)
    def keep(self, data: st.DataObject) -> None:
        process, name, entry = self.one_of(data, self.owed)
        record, key = self.records[name], (entry.operation, entry.status)
        process.do("keep", entry, "Not now")
        self.owed.remove((process, name, entry))
        if record.state == "owed" and record.key == key and record.worker is process:
            record.worker = None

    @rule(data=st.data())
    @precondition(lambda self: self.owed)
    def hold(self, data: st.DataObject) -> None:
        process, name, entry = self.one_of(data, self.owed)
        record, key = self.records[name], (entry.operation, entry.status)
        is_own = (record.state, record.key, record.worker) == ("owed", key, process)
        assert process.do("hold", entry) == is_own
        if is_own:
            record.lapsed = False

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        process = self.one_of(data, self.living)
        claimed = {entry.record_id: entry for entry, _ in process.do("claim", "sandbox")}
        expected = set()
        for name, record in self.records.items():
            state, presumed = record.seen()
            if state == "died":
                record.found = True
            elif state == "owed" and record.is_free() and record.worker is not process:
                expected.add(name)
                record.has("owed", record.key, process, presumed=presumed)
        assert set(claimed) == expected
        self.owed += [(process, name, entry) for name, entry in claimed.items()]

    @rule(data=st.data(), name=RECORDS)
    def forget(self, data: st.DataObject, name: str) -> None:
        process = self.one_of(data, self.living)
        record = self.records[name]
        state, _ = record.seen_by(process)
        found = [entry.state for entry in process.do("forget", name)]
        assert found == ([state] if state else ["reported"] if record.reported else [])
        is_free = record.is_free() and record.worker is not process
        if state and state != "waiting" and is_free:
            record.has("", ("", ""), None)

    @rule()
    def a_quarter_of_an_hour_goes_by(self) -> None:
        self.ground.quarter_of_an_hour()
        for record in self.records.values():
            record.late |= record.found
            record.asked = False

    @invariant()
    def everybody_sees_what_the_model_has(self) -> None:
        seen = {
            entry.record_id: (entry.state, entry.presumed, (entry.operation, entry.status))
            for entry in self.observer.do("pending")
        }
        assert seen == {
            name: (*record.seen(), record.key)
            for name, record in self.records.items()
            if record.state
        }

    def teardown(self) -> None:
        for process in [self.observer, *self.living]:
            process.die()


SETTINGS = settings(
    # More of them: PYTEST_EXAMPLES=200
    max_examples=int(os.environ.get("PYTEST_EXAMPLES", "6")),
    stateful_step_count=35,
    deadline=None,
    # To shrink an example takes longer than a test may: what was found would be lost.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def hold(new_ground: Callable[[int], Ground]) -> None:
    """Hold journals against the model, each on a ground of its own."""
    numbers = itertools.count()

    class Machine(JournalMachine):
        def __init__(self) -> None:
            super().__init__(new_ground(next(numbers)))

    run_state_machine_as_test(Machine, settings=SETTINGS)


def test_journal_in_a_file(tmp_path: Path) -> None:
    hold(lambda number: InFile(tmp_path / f"journal-{number}"))


def test_journal_in_a_table(ministack: Ministack) -> None:
    hold(lambda _: InTable(new_table(ministack)))
