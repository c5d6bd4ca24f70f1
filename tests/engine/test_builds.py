"""What becomes of orders and their builds, one case each; `test_builds_model` has all of them."""

import json
from contextlib import suppress
from dataclasses import replace
from math import ceil
from types import SimpleNamespace
from typing import Any, cast

import pytest
from conftest import UUID_TOKEN
from quiet_table import QuietTable, a_result, quiet_table

from workflow_result import pace
from workflow_result.engine import builds as module
from workflow_result.engine import functions
from workflow_result.engine.builds import ENOUGH, REFUSALS, REFUSED_SECONDS, Builds
from workflow_result.engine.codebuild import Build, NotStarted, Phase
from workflow_result.engine.message import Message
from workflow_result.journal import Journal
from workflow_result.journal.record import LOOK_SECONDS, State
from workflow_result.journal.store import JournalProblem
from workflow_result.problem import ExitCode, Problem
from workflow_result.request import Request
from workflow_result.resending import resend
from workflow_result.undelivered import NotDelivered

EPOCH = 1_800_000_000.0
ORDER = {
    "token": UUID_TOKEN,
    "operation": "PROVISION_PRODUCT",
    "recordId": "rec-1",
    "provisionedProductId": "pp-1",
}
BODY = json.dumps(ORDER)


class World:
    """A table, a CodeBuild and a Service Catalog; `builds` is the next function's."""

    destination, region = "aws", "us-east-1"

    def __init__(self, table: QuietTable) -> None:
        self.table = table
        self.started: list[str] = []
        self.known: dict[str, Build] = {}
        self.error: NotStarted | None = None
        self.results: list[Request] = []
        self.undelivered: NotDelivered | None = None

    def journal(self) -> Journal:
        store = self.table.store()
        clock = SimpleNamespace(now=self.now)
        vars(store._table).update(clock=clock)
        store.stay_alive = lambda lost: None  # type: ignore[method-assign]
        return Journal(store)

    def builds(self, time_left: float = 60) -> Builds:
        self.table.world.run()
        fake = cast("Any", self)
        return Builds(self.journal(), fake, fake, lambda: time_left, self.now)

    def now(self) -> float:
        return EPOCH + self.table.time.now

    def begin(self, build: str, monkeypatch: pytest.MonkeyPatch, *, applies: bool = False) -> None:
        """Have a build begin the order, and do no more."""
        monkeypatch.setenv("CODEBUILD_BUILD_ID", build)
        content = self.journal().content("rec-1", "aws")[1]
        assert content
        journal = self.journal()
        request = module._read(BODY)
        assert isinstance(request, Message)
        run = journal.begin(request.result([], "It died"), "aws", None)
        assert run.own
        assert not applies or journal.applying(run)
        monkeypatch.delenv("CODEBUILD_BUILD_ID")

    def start(self, record: str, token: str) -> str:
        if self.error:
            raise self.error
        self.started.append(record)
        build = f"project:{len(self.started)}"
        self.known[build] = Build(build, record, "IN_PROGRESS", ())
        return build

    def look(self, build: str) -> Build | None:
        if self.error:
            raise self.error
        return self.known.get(build)

    def send(self, request: Request, region: str | None = None) -> None:
        if self.undelivered:
            raise self.undelivered
        self.results.append(request)

    def connect(self, region: str | None = None) -> None:
        """Nothing to do."""

    def state(self) -> State | None:
        entry = self.journal().look("rec-1", "aws")
        return entry.state if entry else None

    def take(self, body: str = BODY) -> None:
        builds = self.builds()
        builds.take(body)
        builds.start()

    def reason(self) -> str:
        (request,) = self.results
        assert request.members["Status"] == "FAILED"
        reason: str = request.members["FailureReason"]
        return reason


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(quiet_table(monkeypatch))


def ended(status: str = "STOPPED", phase: str = "BUILD", build: str = "project:1") -> Build:
    return Build(build, "rec-1", status, (Phase(phase, status, ""),))


class TestRefused:
    """StartBuild is refused, though there is room."""

    @pytest.fixture(autouse=True)
    def refused(self, world: World) -> None:
        world.error = NotStarted("AccessDeniedException: no", refused=True)
        world.take()

    def again(self, world: World, times: int) -> None:
        for _ in range(times):
            world.builds().start()

    def test_order_waits_for_an_hour(self, world: World) -> None:
        world.table.time.now += REFUSED_SECONDS - 1
        self.again(world, 2 * REFUSALS)
        assert world.state() == State.WAITING

    def test_then_it_is_failed_with_the_cause(self, world: World) -> None:
        self.again(world, REFUSALS - 1)
        world.table.time.now += REFUSED_SECONDS
        self.again(world, 1)
        assert world.reason() == (
            "The engine could not start a build for this order: AccessDeniedException: no. Nothing "
            "was run. Order it again; where that happens twice, tell whoever runs the engine."
        )

    def test_not_where_it_was_seldom_tried(self, world: World) -> None:
        world.table.time.now += 2 * REFUSED_SECONDS
        self.again(world, 1)
        assert world.state() == State.WAITING

    def test_hour_begins_anew_after_want_of_room(self, world: World) -> None:
        self.again(world, REFUSALS)
        refused, world.error = world.error, NotStarted("Limit", refused=False)
        self.again(world, 1)
        world.error = refused
        world.table.time.now += REFUSED_SECONDS
        self.again(world, REFUSALS)
        assert world.state() == State.WAITING


class TestBuildThatIsLookedFor:
    def later(self, world: World) -> None:
        world.table.time.now += LOOK_SECONDS
        world.builds().start()

    def test_one_that_waits_for_room_is_waited_for(self, world: World) -> None:
        world.take()
        self.later(world)
        assert (world.started, world.state()) == (["rec-1"], State.WAITING)

    def test_one_that_found_no_room_gets_a_successor(self, world: World) -> None:
        world.take()
        world.known["project:1"] = ended("TIMED_OUT", "QUEUED")
        self.later(world)
        assert (world.started, world.results) == (["rec-1"] * 2, [])

    def test_one_that_is_gone_gets_a_successor(self, world: World) -> None:
        world.take()
        world.known.clear()
        self.later(world)
        assert world.started == ["rec-1"] * 2

    def test_one_that_ended_is_told(self, world: World) -> None:
        """Its event was lost."""
        world.take()
        world.known["project:1"] = ended("FAILED", "INSTALL")
        self.later(world)
        assert world.reason().startswith("The build for this order failed, in its phase INSTALL.")

    def test_one_that_cannot_be_looked_for_is_looked_for_again(self, world: World) -> None:
        world.take()
        world.error = NotStarted("Throttled", refused=False)
        self.later(world)
        world.error = None
        world.known["project:1"] = ended()
        self.later(world)
        assert "was stopped" in world.reason()

    def test_one_that_may_not_be_looked_for_is_told(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.take()
        world.error = NotStarted("AccessDeniedException: no", refused=True)
        world.table.time.now += LOOK_SECONDS
        builds = world.builds()
        builds.start()
        assert builds.refused == 1
        line = "error: rec-1 waits, its build cannot be looked for: AccessDeniedException: no"
        assert line in capsys.readouterr().err


class TestEvent:
    def test_one_that_found_no_room_fails_nothing(self, world: World) -> None:
        world.take()
        world.builds().ended(ended("TIMED_OUT", "QUEUED"))
        assert world.state() == State.WAITING

    def test_one_of_another_build_fails_nothing(self, world: World) -> None:
        world.take()
        world.builds().ended(ended(build="project:0"))
        assert world.state() == State.WAITING

    def test_run_that_was_given_back_is_failed(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody brings its message again."""
        world.take()
        world.begin("project:1", monkeypatch)
        world.table.time.now += 400
        world.builds().ended(ended())
        assert world.reason() == (
            "The build that carried out this order was stopped, so nothing was applied."
        )

    @pytest.mark.parametrize("begins", [True, False])
    def test_reason_ends_with_its_log_where_that_is_wanted(
        self, world: World, monkeypatch: pytest.MonkeyPatch, begins: bool
    ) -> None:
        world.take()
        if begins:
            world.begin("project:1", monkeypatch)
        builds = world.builds()
        builds.log_link = True
        builds.ended(replace(ended(), log="https://example.com/log"))
        assert world.reason().endswith("\nLog: https://example.com/log")
        assert builds.reported == 1

    def test_run_that_applied_is_failed_at_once(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.take()
        world.begin("project:1", monkeypatch, applies=True)
        world.builds().ended(ended())
        assert world.reason() == (
            "The build that carried out this order was stopped, so how far Terraform came is not "
            "known."
        )

    def test_result_that_is_not_taken_is_owed(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.take()
        world.begin("project:1", monkeypatch)
        world.undelivered = NotDelivered("Not now")
        world.builds().ended(ended())
        assert world.state() == State.OWED

    def test_result_that_is_owed_is_left_to_the_schedule(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The event of a build that could not report its own, or of another one."""
        journal = world.journal()
        journal.owe(a_result("SUCCEEDED"), "aws", None)
        journal.close()
        builds = world.builds()
        builds.ended(ended())
        assert (world.results, builds.reported, world.state()) == ([], 0, State.OWED)

    def test_record_that_was_struck_off_is_nothing(self, world: World) -> None:
        world.builds().ended(ended())
        assert world.state() is None


class TestNoEvent:
    """What the function finds that is called every five minutes: docs/engine.md promises when."""

    EVERY = 5 * 60

    def minutes(self, world: World, first: int) -> int:
        """Minutes until it is FAILED, begun ones counted, where it is looked first so late."""
        began, world.table.time.now = world.table.time.now, world.table.time.now + first
        while not world.results:
            builds = world.builds()
            resend(builds.journal, builds.delivery, None, progress=False)
            builds.start()
            builds.journal.close()
            world.table.time.now += self.EVERY
        return ceil((world.table.time.now - self.EVERY - began) / 60)

    @pytest.mark.parametrize(("applies", "promised"), [(True, 11), (False, 26)])
    def test_order_whose_machine_vanished_is_failed_in_time(
        self, monkeypatch: pytest.MonkeyPatch, applies: bool, promised: int
    ) -> None:
        waited = []
        for first in range(1, self.EVERY + 1, 13):
            world = World(quiet_table(monkeypatch))
            world.take()
            world.begin("project:1", monkeypatch, applies=applies)
            waited.append(self.minutes(world, first))
        assert max(waited) == promised

    def test_order_whose_build_ended_before_is_failed_in_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited = []
        for first in range(1, self.EVERY + 1, 13):
            world = World(quiet_table(monkeypatch))
            world.take()
            world.known["project:1"] = ended("FAILED", "INSTALL")
            waited.append(self.minutes(world, first))
        assert max(waited) == 20


class TestMessage:
    @pytest.mark.parametrize("does", ["take", "start"])
    def test_journal_that_does_not_answer_is_waited_for_once(self, world: World, does: str) -> None:
        """A function has little time, and ten messages."""
        builds = world.builds()
        world.table.fails()
        for _ in range(2):
            with suppress(JournalProblem):
                builds.take(BODY) if does == "take" else builds.start()
        assert builds.journal._store in world.table.impatient

    def test_record_of_another_operation_is_told(self, world: World) -> None:
        world.take()
        update = json.dumps(ORDER | {"operation": "UPDATE_PROVISIONED_PRODUCT"})
        with pytest.raises(Problem) as caught:
            world.take(update)
        assert caught.value.exit_code == ExitCode.INVALID
        assert caught.value.lines == (
            "rec-1: the journal has it as provision, not as update: nothing was started",
        )

    def test_message_that_comes_twice_at_once_gets_one_build(self, world: World) -> None:
        builds = world.builds()
        builds.take(BODY)
        builds.take(BODY)
        builds.start()
        assert world.started == ["rec-1"]

    def test_older_orders_get_their_builds_first(self, world: World) -> None:
        world.error = NotStarted("Limit", refused=False)
        world.take()
        world.error = None
        world.table.time.now += 60
        world.take(json.dumps(ORDER | {"recordId": "rec-2"}))
        assert world.started == ["rec-1", "rec-2"]

    def test_without_time_nothing_is_started(self, world: World) -> None:
        builds = world.builds(time_left=5)
        builds.take(BODY)
        builds.start()
        assert (world.started, world.state()) == ([], State.WAITING)

    def test_message_that_is_damaged_in_the_journal_is_told(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.error = NotStarted("Limit", refused=False)
        world.take()
        world.table.world.run()
        for items in (world.table.model.items, world.table.model.index):
            items["aws#rec-1"]["body"] = {"B": b"x"}
        world.builds().start()
        assert "error: rec-1: its message in the journal is damaged" in capsys.readouterr().err

    def test_one_that_cannot_be_read_any_more_keeps_no_other_from_its_build(
        self, world: World
    ) -> None:
        message = module._read(BODY)
        assert isinstance(message, Message)
        journal = world.journal()
        order = journal.wait(message.result([], "It died"), "aws", None, "poison")
        journal.asked(order, "project:0")
        world.known["project:0"] = ended(build="project:0")
        world.table.time.now += LOOK_SECONDS
        world.take(json.dumps(ORDER | {"recordId": "rec-2"}))
        assert world.started == ["rec-2"]
        assert world.state() == State.WAITING


class TestOwed:
    def test_there_is_time_for_builds_however_long_service_catalog_takes(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call lasts a minute at most."""
        journal = world.journal()
        for n in range(9):
            journal.owe(a_result(record=f"rec-{n}"), "aws", None)
        journal.close()
        builds, left = world.builds(), [300.0]

        def send(*_: object) -> None:
            left[0] -= 60
            raise NotDelivered("no answer", sent=True)

        monkeypatch.setattr(pace, "START", 1)
        monkeypatch.setattr(world, "send", send)
        monkeypatch.setattr(builds, "time_left", lambda: left[0])
        functions._deliver(builds)
        assert left[0] < 300
        assert left[0] > ENOUGH


class TestDeadLetter:
    def test_order_whose_run_died_is_failed(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.take()
        world.begin("project:1", monkeypatch)
        world.table.time.now += 400
        assert world.state() == State.DIED
        world.builds().dead_letter(BODY)
        assert world.reason() == (
            "The engine's run of this order died. Nothing was applied. Order it again; where that "
            "happens twice, tell whoever runs the engine."
        )

    def test_run_that_died_while_it_applied_keeps_its_reason(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of that it cannot be said that nothing was run."""
        world.take()
        world.begin("project:1", monkeypatch, applies=True)
        world.table.time.now += 400
        assert world.state() == State.OWED
        world.builds().dead_letter(BODY)
        world.table.world.run()
        builds = world.builds()
        resend(builds.journal, builds.delivery, None, progress=False)
        assert world.reason() == "It died"

    def test_order_that_begins_to_wait_meanwhile_is_left_to_its_build(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second copy of its message, in the queue."""
        builds = world.builds()
        look = builds.journal.look

        def meanwhile(record: str, destination: str) -> Any:
            found = look(record, destination)
            monkeypatch.setattr(builds.journal, "look", look)
            world.take()
            return found

        monkeypatch.setattr(builds.journal, "look", meanwhile)
        with pytest.raises(Problem):
            builds.dead_letter(BODY)
        assert world.state() == State.WAITING
        assert world.results == []

    def test_it_stays_where_the_journal_cannot_be_used(self, world: World) -> None:
        world.table.fails()
        with pytest.raises(JournalProblem):
            world.builds().dead_letter(BODY)

    def test_it_stays_where_nothing_could_be_entered(self, world: World) -> None:
        calls: list[str] = []

        def decide(operation: str, _: Any, do: Any) -> Any:
            calls.append(operation)
            if operation == "update_item":
                raise JournalProblem("no answer")
            return do()

        world.table.decide = decide
        with pytest.raises(Problem):
            world.builds().dead_letter(BODY)
        assert "update_item" in calls
