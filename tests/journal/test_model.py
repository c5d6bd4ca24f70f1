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
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from journal_worker import work

from workflow_result.journal import Entry
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

    def has(self, state: str, key: Key, worker: Process | None, *, presumed: bool = False) -> None:
        self.state, self.key, self.worker, self.presumed = state, key, worker, presumed
        self.applying = self.found = self.late = False


class JournalMachine(RuleBasedStateMachine):
    living = Bundle("living")
    taken: Any = Bundle("taken")
    """What a process has to see to: itself, the record, and the entry that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "journal"
        self.records = {"rec-a": Record(), "rec-b": Record()}
        self.dead: set[Process] = set()
        self.observer = Process(self.path)
        self.all = [self.observer]

    @initialize(target=living)
    def first(self) -> Process:
        return self._new()

    @rule(target=living)
    def start(self) -> Process:
        return self._new()

    def _new(self) -> Process:
        self.all.append(Process(self.path))
        return self.all[-1]

    @rule(process=consumes(living))
    def die(self, process: Process) -> None:
        process.die()
        self.dead.add(process)
        for record in self.records.values():
            if record.worker is process:
                record.worker = None

    @rule(target=taken, process=living, name=RECORDS, operation=OPERATIONS)
    def begin(self, process: Process, name: str, operation: str) -> Any:
        record, key = self.records[name], (operation, "FAILED")
        state, presumed = record.seen()
        is_other = bool(state) and state != "refused" and record.key[0] != operation
        entry = process.do("begin", request_of(name, key), "sandbox", None)
        if record.reported:
            assert entry.state == "reported"
        elif is_other or state == "running":
            assert (entry.state, entry.operation) == (state, record.key[0])
            assert entry.own == (record.worker is process)
            return multiple()
        elif state in ("", "refused", "died"):
            record.has("running", key, process)
            assert (entry.state, entry.own) == ("running", True)
            return process, name, entry
        elif presumed and not record.worker:
            record.has("owed", key, process, presumed=True)
            assert (entry.state, entry.own, entry.presumed) == ("owed", True, True)
            return process, name, entry
        else:
            assert entry.state == "owed"
            assert entry.held == (record.worker not in (None, process))
        assert not entry.own or record.worker is process
        return multiple()

    @rule(target=taken, process=living, name=RECORDS, operation=OPERATIONS, status=STATUSES)
    def owe(self, process: Process, name: str, operation: str, status: str) -> Any:
        record, key = self.records[name], (operation, status)
        state, presumed = record.seen()
        entry = process.do("owe", request_of(name, key), "sandbox", None)
        if record.reported == key:
            assert (entry.state, entry.own) == ("reported", False)
            return multiple()
        stands = record.reported is not None and record.reported[0] != operation
        if state not in ("", "refused") and record.worker is not process:
            stands |= state == "running" or record.key[0] != operation
            stands |= state == "owed" and presumed and record.worker is not None
            stands |= state == "owed" and not presumed and record.key != key
        assert entry.own != stands
        if stands:
            return multiple()
        record.has("owed", key, process)
        assert (entry.state, entry.presumed) == ("owed", False)
        return process, name, entry

    @rule(one=taken)
    def applying(self, one: tuple[Process, str, Entry]) -> None:
        process, name, entry = one
        record = self.records[name]
        if process not in self.dead:
            process.do("applying", entry)
            if record.state == "running" and record.worker is process:
                record.applying = True

    @rule(one=consumes(taken))
    def abandon(self, one: tuple[Process, str, Entry]) -> None:
        process, name, entry = one
        record = self.records[name]
        if process not in self.dead:
            process.do("abandon", entry)
            if record.state == "running" and record.worker is process:
                record.has("", ("", ""), None)

    @rule(one=consumes(taken))
    def settle(self, one: tuple[Process, str, Entry]) -> None:
        process, name, entry = one
        record, key = self.records[name], (entry.operation, entry.status)
        if process in self.dead or entry.state != "owed":
            return
        process.do("settle", [entry])
        if record.state and record.key == key:
            record.reported = key
            record.has("", ("", ""), None)

    @rule(one=consumes(taken))
    def refuse(self, one: tuple[Process, str, Entry]) -> None:
        process, name, entry = one
        record, key = self.records[name], (entry.operation, entry.status)
        if process in self.dead or entry.state != "owed":
            return
        now = process.do("refuse", entry, "No")
        if record.state != "owed" or record.key != key:
            assert now is None
        elif record.reported:
            assert (now.state, now.status) == ("reported", record.reported[1])
            record.has("", ("", ""), None)
        else:
            assert (now.state, now.last_error) == ("refused", "No")
            record.has("refused", key, None)

    @rule(one=consumes(taken))
    def keep(self, one: tuple[Process, str, Entry]) -> None:
        process, name, entry = one
        record, key = self.records[name], (entry.operation, entry.status)
        if process in self.dead or entry.state != "owed":
            return
        process.do("keep", entry, "Not now")
        if record.state == "owed" and record.key == key and record.worker is process:
            record.worker = None

    @rule(name=RECORDS, operation=OPERATIONS, applies=st.booleans())
    def a_run_dies(self, name: str, operation: str, applies: bool) -> None:
        process = self._new()
        begun: Any = self.begin(process, name, operation)
        if applies and isinstance(begun, tuple):
            self.applying(begun)
        self.die(process)

    @rule(target=taken, process=living)
    def claim(self, process: Process) -> Any:
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
        return multiple(*((process, name, entry) for name, entry in claimed.items()))

    @rule(process=living, name=RECORDS)
    def forget(self, process: Process, name: str) -> None:
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
        for name, record in self.records.items():
            key = record.reported or ("provision", "SUCCEEDED")
            is_reported = self.observer.do("is_reported", request_of(name, key), "sandbox")
            assert is_reported == (record.reported == key)

    def teardown(self) -> None:
        for process in self.all:
            if process not in self.dead:
                process.die()
        shutil.rmtree(self.folder)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(
    max_examples=20,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
