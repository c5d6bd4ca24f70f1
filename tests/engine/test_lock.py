"""The lock of a product's state: whoever dies whenever, one live run has it, and no dead one keeps
it."""

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from greenlet import greenlet
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workflow_result.engine import lock as locks
from workflow_result.engine.guard import Guard
from workflow_result.engine.lock import StateLock
from workflow_result.engine.program import Failed
from workflow_result.engine.state_bucket import Object
from workflow_result.problem import ExitCode, Problem

NOWHERE = Path("/nowhere/order")
"""A folder that no guard watches over."""


class Bucket:
    """A state bucket in memory, which takes and keeps its time."""

    name = "state"

    def __init__(self, pause: Any = lambda: None) -> None:
        self.objects: dict[str, Object] = {}
        self.numbers = 0
        self.pause = pause

    def get(self, key: str) -> Object | None:
        self.pause()
        return self.objects.get(key)

    def put(
        self, key: str, body: bytes, *, if_absent: bool = False, instead_of: str | None = None
    ) -> str | None:
        self.pause()
        there = self.objects.get(key)
        if (if_absent and there) or (instead_of and (not there or there.etag != instead_of)):
            return None
        self.numbers += 1
        self.objects[key] = Object(body, str(self.numbers))
        return str(self.numbers)

    def delete(self, key: str, etag: str) -> None:
        self.pause()
        if (there := self.objects.get(key)) and there.etag == etag:
            del self.objects[key]


def new_lock(bucket: Any, record: str, gone: set[str] | None = None, folder: Path = NOWHERE) -> Any:
    ended = gone if gone is not None else set()
    return StateLock(bucket, "1/pp-1", record, folder, lambda other: other in ended)


def held(bucket: Bucket) -> dict[str, str]:
    found: dict[str, str] = json.loads(bucket.objects["1/pp-1.tflock"].body)
    return found


def test_lock_is_as_terraform_writes_it() -> None:
    """Terraform reads these members, each of them a string, when it names who has a lock."""
    bucket = Bucket()
    new_lock(bucket, "rec-1").take(0, [])
    lock = held(bucket)
    assert set(lock) == {"ID", "Operation", "Info", "Who", "Version", "Created", "Path"}
    assert lock["Path"] == "state/1/pp-1"
    assert lock["Info"].startswith(f"Service Catalog record rec-1, in {NOWHERE} on ")


def test_lock_that_is_released_is_gone() -> None:
    bucket = Bucket()
    lock = new_lock(bucket, "rec-1")
    lock.take(0, [])
    lock.release()
    lock.release()
    assert not bucket.objects


def test_lock_of_a_live_run_stays_its_own() -> None:
    bucket = Bucket()
    new_lock(bucket, "rec-1").take(0, [])
    before = held(bucket)
    with pytest.raises(Failed, match=r"^The state of this product is locked: an order under way, "):
        new_lock(bucket, "rec-2").take(0, [])
    assert held(bucket) == before


@pytest.mark.parametrize("gone", [{"rec-1"}, set()])
def test_lock_whose_guard_lives_stays_whatever_the_journal_says(
    gone: set[str], tmp_path: Path
) -> None:
    """The Terraform of a killed run may be at its last resource."""
    bucket = Bucket()
    folder = tmp_path / "on the way on"
    folder.mkdir()
    guard = Guard(folder, 1)
    new_lock(bucket, "rec-1", folder=folder).take(0, [])
    with pytest.raises(Failed):
        new_lock(bucket, "rec-2", gone).take(0, [])
    guard.close()
    new_lock(bucket, "rec-2", {"rec-1"}).take(0, [])


def test_lock_whose_guard_is_gone_is_taken_over_though_its_folder_is_there(tmp_path: Path) -> None:
    """As after a restart of the machine, where the guard's process ID may be somebody else's."""
    bucket = Bucket()
    new_lock(bucket, "rec-1", folder=tmp_path).take(0, [])
    new_lock(bucket, "rec-2", {"rec-1"}).take(0, [])


def test_lock_that_is_neither_free_nor_there_is_waited_for_no_longer_than_is_asked_for() -> None:
    """A store may be of two minds for a while."""
    bucket = Bucket()
    asked: deque[str] = deque()

    def refuse(*_: Any, **__: Any) -> None:
        asked.append("SIGTERM received")

    bucket.put = refuse  # type: ignore[method-assign]
    with pytest.raises(Failed, match="it was stopped while it waited for a lock"):
        new_lock(bucket, "rec-1").take(1000, asked)


def test_lock_that_is_neither_free_nor_there_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "_PAUSE", 0.1)
    bucket = Bucket()
    bucket.put = lambda *_, **__: None  # type: ignore[method-assign]
    with pytest.raises(Problem, match="cannot be taken, and is not there; nothing was applied"):
        new_lock(bucket, "rec-1").take(0, [])


def test_of_two_that_find_a_lock_left_behind_one_takes_it_over() -> None:
    bucket = Bucket()
    new_lock(bucket, "rec-1").take(0, [])
    get, other = bucket.get, new_lock(bucket, "rec-2", {"rec-1"})

    def interrupted(key: str) -> Object | None:
        found = get(key)
        bucket.get = get  # type: ignore[method-assign]
        other.take(0, [])
        return found

    bucket.get = interrupted  # type: ignore[method-assign]
    with pytest.raises(Failed, match="record rec-2"):
        new_lock(bucket, "rec-3", {"rec-1"}).take(0, [])


def test_lock_of_an_earlier_run_of_the_same_record_is_taken_over() -> None:
    bucket = Bucket()
    new_lock(bucket, "rec-1").take(0, [])
    new_lock(bucket, "rec-1").take(0, [])


def test_lock_of_the_same_record_on_another_machine_is_the_journal_s_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two machines with journals of their own may both have its message."""
    bucket = Bucket()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "elsewhere")
        new_lock(bucket, "rec-1").take(0, [])
    with pytest.raises(Failed):
        new_lock(bucket, "rec-1").take(0, [])
    new_lock(bucket, "rec-1", {"rec-1"}).take(0, [])


def test_waiting_ends_when_the_run_is_to_stop() -> None:
    bucket = Bucket()
    new_lock(bucket, "rec-1").take(0, [])
    with pytest.raises(Failed, match="it was stopped while it waited for a lock"):
        new_lock(bucket, "rec-2").take(1000, deque(["SIGTERM received"]))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "Terraform elsewhere, operation unknown, by somebody since an unknown time"),
        (b"\xff{", "Terraform elsewhere, operation unknown, by somebody since an unknown time"),
        (b"[]", "Terraform elsewhere, operation unknown, by somebody since an unknown time"),
        (b'{"Info": 7, "Who": "a\\u001b[31mnn"}', "Terraform elsewhere, operation unknown, by ann"),
        (
            b'{"Operation": "OperationTypeApply", "Who": "ann", "Created": "now", "ID": "4711"}',
            "Terraform elsewhere, OperationTypeApply, by ann since now, lock ID 4711",
        ),
    ],
)
def test_lock_of_anybody_else_is_named_and_left_alone(body: bytes, named: str) -> None:
    bucket = Bucket()
    bucket.objects["1/pp-1.tflock"] = Object(body, "x")
    with pytest.raises(Failed) as error:
        new_lock(bucket, "rec-1", {"rec-1"}).take(0, [])
    assert str(error.value).startswith(f"The state of this product is locked: {named}")
    assert bucket.objects["1/pp-1.tflock"] == Object(body, "x")


def test_answer_that_was_lost_is_no_other_lock() -> None:
    """The SDK repeats a write that had succeeded, and is told that there is something."""
    bucket = Bucket()
    put = bucket.put

    def repeated(key: str, body: bytes, **condition: Any) -> str | None:
        put(key, body, **condition)
        return put(key, body, **condition)

    bucket.put = repeated  # type: ignore[method-assign]
    lock = new_lock(bucket, "rec-1")
    lock.take(0, [])
    lock.release()
    assert not bucket.objects


def test_release_that_fails_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    bucket = Bucket()
    lock = new_lock(bucket, "rec-1")
    lock.take(0, [])

    def fail(*_: Any) -> None:
        raise Problem(ExitCode.NOT_DELIVERED, "the state bucket cannot be used: it is away")

    bucket.delete = fail  # type: ignore[method-assign,assignment]
    lock.release()
    assert capsys.readouterr().err == (
        "warning: the lock of the state stays: the state bucket cannot be used: it is away\n"
    )


@dataclass(eq=False)
class Run:
    record: str
    folder: Path
    lock: Any
    greenlet: Any = None
    has_it: bool = False
    is_done: bool = False


def _switch() -> None:
    above = greenlet.getcurrent().parent
    assert above
    above.switch()


class Locks(RuleBasedStateMachine):
    """Runs that take the lock and give it up, one call to S3 after the other, and die anywhere.

    The Terraform of one that dies goes on until its guard has stopped it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bucket = Bucket(_switch)
        self.runs: list[Run] = []
        self.gone: set[str] = set()
        self.records = 0
        self.begun = 0
        self.guarded: dict[str, Run] = {}
        """What each folder is watched over for."""
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(locks, "is_guarded", self.guarded.__contains__)

    @rule()
    def begins(self) -> None:
        self.records += 1
        self.begin(f"rec-{self.records}")

    @rule(data=st.data())
    @precondition(lambda self: self.gone)
    def begins_again(self, data: st.DataObject) -> None:
        """The message of a run that died comes again."""
        record = data.draw(st.sampled_from(sorted(self.gone)))
        self.gone.discard(record)
        self.begin(record)

    def begin(self, record: str) -> None:
        self.begun += 1
        folder = NOWHERE / str(self.begun)
        run = Run(record, folder, new_lock(self.bucket, record, self.gone, folder))
        self.guarded[str(folder)] = run

        def work() -> None:
            try:
                run.lock.take(0, [])
            except Failed:
                run.is_done = True
                return
            run.has_it = True
            _switch()
            run.has_it = False
            run.lock.release()
            run.is_done = True

        run.greenlet = greenlet(work)
        self.runs.append(run)

    @rule(data=st.data())
    @precondition(lambda self: self.runs)
    def goes_on(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        for _ in range(data.draw(st.integers(1, 5))):
            run.greenlet.switch()
            self.one_has_it()
            if run.is_done:
                self.ends(run)
                del self.guarded[str(run.folder)]
                break

    @rule(data=st.data())
    @precondition(lambda self: self.runs)
    def dies(self, data: st.DataObject) -> None:
        self.ends(data.draw(st.sampled_from(self.runs)))

    @rule(data=st.data())
    @precondition(lambda self: len(self.guarded) > len(self.runs))
    def guard_ends(self, data: st.DataObject) -> None:
        """It has stopped the Terraform of a run that died."""
        left = [folder for folder, run in self.guarded.items() if run not in self.runs]
        del self.guarded[data.draw(st.sampled_from(left))]

    def ends(self, run: Run) -> None:
        self.runs.remove(run)
        self.gone.add(run.record)

    @invariant()
    def one_has_it(self) -> None:
        assert sum(run.has_it for run in self.guarded.values()) <= 1

    def teardown(self) -> None:
        """When all that live have ended, their guards too, a new one gets it."""
        self.patch.undo()
        for run in self.runs:
            self.gone.add(run.record)
        self.bucket.pause = lambda: None
        new_lock(self.bucket, "rec-new", self.gone).take(0, [])


Locks.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_interleaved = Locks.TestCase
