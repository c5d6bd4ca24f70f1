"""The journal against a plain model of it: whatever processes do, and whenever they die."""

import multiprocessing
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from journal_worker import work

from workflow_result.journal.record import Entry
from workflow_result.request import Draft, Request, check

Key = tuple[str, str]
"""An operation, and a status; a run that dies is FAILED, as may be what is told."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["journal_worker"])

# Mostly the same one, so that much happens to it.
RECORDS = st.sampled_from(["rec-a"] * 4 + ["rec-b"])
OPERATIONS = st.sampled_from(["provision"] * 4 + ["update"])
STATUSES = st.sampled_from(["SUCCEEDED", "FAILED"])


def request_of(record: str, key: Key) -> Request:
    operation, status = key
    members = {"WorkflowToken": "a" * 20, "RecordId": record, "Status": status}
    return check(Draft(members), operation)


class Process:
    """One that has the journal open."""

    def __init__(self, path: Path) -> None:
        self._orders, theirs = processes.Pipe()
        self._process = processes.Process(target=work, args=[path, theirs], daemon=True)
        self._process.start()
        theirs.close()

    def do(self, method: str, *arguments: Any) -> Any:
        self._orders.send((method, arguments))
        return self._orders.recv()

    def die(self) -> None:
        self._process.kill()
        self._process.join()
        self._orders.close()


Taken = tuple[Process, str, Entry]
"""A process, a record, and the entry that it was given: it has to see to that."""


@dataclass
class Record:
    """What the model has of a record."""

    reported: Key | None = None
    state: str = ""  # running, owed or refused
    key: Key = ("", "")
    worker: Process | None = None
    applying: bool = False
    found: bool = False
    late: bool = False
    presumed: bool = False

    def seen(self) -> tuple[str, bool]:
        """Its state, and whether that is presumed."""
        if self.state != "running" or self.worker:
            return self.state, self.presumed
        return ("owed", True) if self.applying or self.late else ("died", False)

    def is_run_of(self, process: "Process", entry: Entry) -> bool:
        """Whether `entry` is the run that goes on, and not an earlier one of the process."""
        is_running = self.state == "running" and self.worker is process
        return is_running and self.key[0] == entry.operation

    def has(self, state: str, key: Key, worker: Process | None, *, presumed: bool = False) -> None:
        self.state, self.key, self.worker, self.presumed = state, key, worker, presumed
        self.applying = self.found = self.late = False


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "journal"
        self.records = {"rec-a": Record(), "rec-b": Record()}
        self.observer = Process(self.path)
        self.living: list[Process] = []
        self.runs: list[Taken] = []
        self.owed: list[Taken] = []

    @initialize()
    def first(self) -> None:
        self.start()

    @rule()
    def another(self) -> None:
        self.start()

    def start(self) -> None:
        self.living.append(Process(self.path))

    @rule(data=st.data())
    @precondition(lambda self: len(self.living) > 1)
    def die(self, data: st.DataObject) -> None:
        self.end(self.one_of(data, self.living))

    def end(self, process: Process) -> None:
        process.die()
        self.living.remove(process)
        self.runs = [taken for taken in self.runs if taken[0] is not process]
        self.owed = [taken for taken in self.owed if taken[0] is not process]
        for record in self.records.values():
            if record.worker is process:
                record.worker = None

    def one_of(self, data: st.DataObject, things: list[Any]) -> Any:
        return things[data.draw(st.integers(0, len(things) - 1))]

    @rule(data=st.data(), name=RECORDS, operation=OPERATIONS)
    def begin(self, data: st.DataObject, name: str, operation: str) -> None:
        self.begun(self.one_of(data, self.living), name, operation)

    def begun(self, process: Process, name: str, operation: str) -> None:
        record, key = self.records[name], (operation, "FAILED")
        state, presumed = record.seen()
        is_other = bool(state) and state != "refused" and record.key[0] != operation
        entry = process.do("begin", request_of(name, key), "sandbox", None)
        if record.reported:
            assert entry.state == "reported"
        elif is_other or state == "running":
            assert (entry.state, entry.operation) == (state, record.key[0])
            assert entry.own == (record.worker is process)
        elif state in ("", "refused", "died"):
            record.has("running", key, process)
            assert (entry.state, entry.own) == ("running", True)
            self.runs.append((process, name, entry))
        elif presumed and not record.worker:
            record.has("owed", key, process, presumed=True)
            assert (entry.state, entry.own, entry.presumed) == ("owed", True, True)
            self.owed.append((process, name, entry))
        else:
            assert entry.state == "owed"
            assert entry.held == (record.worker not in (None, process))
        assert not entry.own or record.worker is process

    @rule(data=st.data(), name=RECORDS, operation=OPERATIONS, status=STATUSES)
    def owe(self, data: st.DataObject, name: str, operation: str, status: str) -> None:
        process = self.one_of(data, self.living)
        record, key = self.records[name], (operation, status)
        state, presumed = record.seen()
        entry = process.do("owe", request_of(name, key), "sandbox", None)
        if record.reported == key:
            assert (entry.state, entry.own) == ("reported", False)
            return
        stands = record.reported is not None and record.reported[0] != operation
        if state not in ("", "refused") and record.worker is not process:
            stands |= state == "running" or record.key[0] != operation
            stands |= state == "owed" and presumed and record.worker is not None
            stands |= state == "owed" and not presumed and record.key != key
        assert entry.own != stands
        if not stands:
            record.has("owed", key, process)
            assert (entry.state, entry.presumed) == ("owed", False)
            self.owed.append((process, name, entry))

    @rule(data=st.data())
    @precondition(lambda self: self.runs)
    def apply(self, data: st.DataObject) -> None:
        self.applying(self.one_of(data, self.runs))

    def applying(self, taken: Taken) -> None:
        process, name, entry = taken
        record = self.records[name]
        process.do("applying", entry)
        if record.is_run_of(process, entry):
            record.applying = True

    @rule(data=st.data())
    @precondition(lambda self: self.runs)
    def abandon(self, data: st.DataObject) -> None:
        process, name, entry = self.one_of(data, self.runs)
        record = self.records[name]
        process.do("abandon", entry)
        if record.is_run_of(process, entry):
            record.has("", ("", ""), None)

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
            record.has("refused", key, None)

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
    def claim(self, data: st.DataObject) -> None:
        process = self.one_of(data, self.living)
        claimed = {entry.record_id: entry for entry, _ in process.do("claim", "sandbox")}
        expected = set()
        for name, record in self.records.items():
            state, presumed = record.seen()
            if state == "died":
                record.found = True
            elif state == "owed" and record.worker is None:
                expected.add(name)
                record.has("owed", record.key, process, presumed=presumed)
        assert set(claimed) == expected
        self.owed += [(process, name, entry) for name, entry in claimed.items()]

    @rule(data=st.data(), name=RECORDS)
    def forget(self, data: st.DataObject, name: str) -> None:
        process = self.one_of(data, self.living)
        record = self.records[name]
        state, _ = record.seen()
        found = [entry.state for entry in process.do("forget", name)]
        assert found == ([state] if state else ["reported"] if record.reported else [])
        if state and not record.worker:
            record.has("", ("", ""), None)

    @rule()
    def a_quarter_of_an_hour_goes_by(self) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE result SET found = found - 901")
        for record in self.records.values():
            record.late |= record.found

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
        shutil.rmtree(self.folder)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(
    max_examples=12,
    stateful_step_count=35,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
