"""Orders and builds on virtual time: whatever happens in whatever order, each order ends, once.

The functions' own code runs, on one model of a table, with stand-ins for SQS, CodeBuild and Service
Catalog. A function may die at any call, a build at any moment; events may come late, twice, never.
"""

import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from quiet_table import QuietTable, Time

from workflow_result.engine import codebuild
from workflow_result.engine import message as messages
from workflow_result.engine.builds import REFUSED_SECONDS, Builds
from workflow_result.engine.codebuild import Build, NotStarted
from workflow_result.engine.message import Message
from workflow_result.journal import Journal, dynamodb
from workflow_result.journal.record import RETURN_SECONDS, Entry, State
from workflow_result.journal.store import JournalProblem
from workflow_result.journal.waiting import Waiting
from workflow_result.problem import Problem
from workflow_result.request import Request
from workflow_result.resending import resend
from workflow_result.undelivered import NotDelivered

EPOCH = 1_800_000_000.0
MINUTE = 60.0
RECEIVES = 5
"""How often SQS gives a message before it is a dead letter."""

FAULTS = st.sampled_from([None] * 3 + ["dies before", "dies after", "fails before", "fails after"])
CALLS = st.integers(0, 6)


class Died(BaseException):
    """A function's process is gone."""


@dataclass
class Order:
    """`excused`: something happened to it for which it may be FAILED."""

    record: str
    body: str
    excused: bool = False
    results: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@dataclass
class Letter:
    order: Order
    receives: int = 0


@dataclass
class Simulated:
    """A build: `queued`, `running` or one of CodeBuild's endings; what it works on, if it does."""

    id: str
    record: str
    state: str = "queued"
    ended_in: str = "BUILD"
    why: str = ""
    noted: bool = False
    """Whether the function that has started it came to its end."""
    token: str = ""
    since: float = 0.0
    journal: Journal | None = None
    run: Entry | None = None
    message: Message | None = None

    def seen(self) -> Build:
        status = "IN_PROGRESS" if self.state in ("queued", "running") else self.state
        ok = status in ("IN_PROGRESS", "SUCCEEDED")
        phase = codebuild.Phase(self.ended_in, "" if ok else status, self.why)
        return Build(self.id, self.record, status, (phase,))


class Orders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.time = Time()
        self.patch.setattr(dynamodb, "steady", self.time.steady)
        self.table = QuietTable(self.time)
        self.orders: list[Order] = []
        self.queue: list[Letter] = []
        self.dead: list[Letter] = []
        self.builds: list[Simulated] = []
        self.room = 2
        self.refuses = self.answers_late = False
        self.refused = 0.0
        self.catalog_works = True
        self.numbers = itertools.count(1)

    # --- what the functions run in ------------------------------------------------------------

    def journal(self, build: str = "") -> Journal:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CODEBUILD_BUILD_ID", build)
            store = self.table.store()
        clock = SimpleNamespace(now=lambda: EPOCH + self.time.now)
        vars(store._table).update(clock=clock, call=self.table.call, wait_no_longer=lambda: None)
        store.stay_alive = lambda lost: None  # type: ignore[method-assign]
        return Journal(store)

    def function(self, work: Callable[[Builds], None], fault: str | None, at: int) -> bool:
        """Run one to its end; whether it came there."""
        calls = itertools.count()

        def decide(_: str, __: Mapping[str, Any], do: Callable[[], Any]) -> Any:
            if not fault or next(calls) != at:
                return do()
            kind, _, when = fault.partition(" ")
            if when == "after":
                do()
            raise Died if kind == "dies" else JournalProblem("no answer")

        self.table.decide = decide
        journal, before = self.journal(), len(self.builds)
        try:
            work(
                Builds(
                    journal,
                    cast("Any", self),
                    cast("Any", self),
                    lambda: 60,
                    lambda: EPOCH + self.time.now,
                )
            )
            journal.close()
            if not fault and not self.answers_late:
                for build in self.builds[before:]:
                    build.noted = True
        except (Died, Problem):
            return False
        finally:
            self.table.works()
            self.table.world.run()
        return True

    # Delivery
    destination, region = "aws", "us-east-1"

    def connect(self, region: str | None = None) -> None:
        """Nothing to do."""

    def send(self, request: Request, region: str | None = None) -> None:
        if not self.catalog_works:
            raise NotDelivered("Throttled")
        members = request.members
        (order,) = [o for o in self.orders if o.record == members["RecordId"]]
        if order.results and members["IdempotencyToken"] not in order.tokens:
            raise NotDelivered("InvalidParametersException", refused=True)
        if not order.results:
            order.results.append(members["Status"])
            order.tokens.add(members["IdempotencyToken"])
            if members["Status"] == "FAILED":
                assert order.excused, members["FailureReason"]

    # CodeBuild
    def start(self, record: str, token: str) -> str:
        if self.refuses:
            raise NotStarted("AccessDeniedException", refused=True)
        alive = [build for build in self.builds if build.state in ("queued", "running")]
        assert not any(build.noted and build.record == record for build in alive)
        for build in self.builds:  # the same build for five minutes, whatever became of it
            if build.token == token and self.time.now - build.since < 5 * MINUTE:
                return build.id
        if len(alive) >= self.room:
            raise NotStarted("AccountLimitExceededException", refused=False)
        build = Simulated(f"project:{next(self.numbers)}", record)
        build.token, build.since = token, self.time.now
        self.builds.append(build)
        if self.answers_late:
            raise NotStarted("Read timeout", refused=False)
        return build.id

    def look(self, build_id: str) -> Build | None:
        if self.answers_late:
            raise NotStarted("Read timeout", refused=False)
        return next((build.seen() for build in self.builds if build.id == build_id), None)

    # --- what happens -------------------------------------------------------------------------

    @rule()
    def is_ordered(self) -> None:
        record = f"rec-{len(self.orders)}"
        message = {
            "token": "a" * 8,
            "operation": "PROVISION_PRODUCT",
            "recordId": record,
            "provisionedProductId": "pp-1",
        }
        self.orders.append(Order(record, json.dumps(message)))
        self.queue.append(Letter(self.orders[-1]))

    @rule(data=st.data())
    @precondition(lambda self: self.orders)
    def message_comes_twice(self, data: st.DataObject) -> None:
        self.queue.append(Letter(data.draw(st.sampled_from(self.orders))))

    @rule(data=st.data())
    @precondition(lambda self: self.queue)
    def message_is_given_up(self, data: st.DataObject) -> None:
        """SQS counts a function that was called and never ran, too."""
        letter = data.draw(st.sampled_from(self.queue))
        self.queue.remove(letter)
        self.dead.append(letter)

    @rule(fault=FAULTS, at=CALLS, count=st.integers(1, 3))
    @precondition(lambda self: self.queue)
    def start_function(self, fault: str | None, at: int, count: int) -> None:
        batch, done = self.queue[:count], []
        for letter in batch:
            letter.receives += 1

        def work(builds: Builds) -> None:
            for letter in batch:
                try:
                    builds.take(letter.order.body)
                    done.append(letter)
                except Problem:
                    continue
            builds.start()

        if not self.function(work, fault, at):
            done.clear()
        self.queue = [letter for letter in self.queue if letter not in done]
        self.dead += [letter for letter in self.queue if letter.receives >= RECEIVES]
        self.queue = [letter for letter in self.queue if letter.receives < RECEIVES]

    @rule(fault=FAULTS, at=CALLS)
    @precondition(lambda self: self.dead)
    def dead_letter_function(self, fault: str | None, at: int) -> None:
        letter = self.dead[0]
        found = self.journal().look(letter.order.record, "aws")
        if not found or found.state == State.DIED or found.presumed:
            letter.order.excused = True
        if self.function(lambda builds: builds.dead_letter(letter.order.body), fault, at):
            self.dead.pop(0)

    @rule(fault=FAULTS, at=CALLS)
    def scheduled_function(self, fault: str | None, at: int) -> None:
        def work(builds: Builds) -> None:
            resend(builds.journal, builds.delivery, None, progress=False)
            builds.start()

        self.function(work, fault, at)

    @rule(data=st.data(), fault=FAULTS, at=CALLS)
    @precondition(lambda self: self.ended())
    def event_function(self, data: st.DataObject, fault: str | None, at: int) -> None:
        """It may come twice, or never."""
        build = data.draw(st.sampled_from(self.ended()))

        def work(builds: Builds) -> None:
            builds.ended(build.seen())
            builds.start()

        self.function(work, fault, at)

    def ended(self) -> list[Simulated]:
        return [build for build in self.builds if build.state not in ("queued", "running")]

    def of(self, state: str) -> list[Simulated]:
        return [build for build in self.builds if build.state == state]

    @rule(data=st.data())
    @precondition(lambda self: self.of("queued"))
    def build_begins(self, data: st.DataObject) -> None:
        self.begins(data.draw(st.sampled_from(self.of("queued"))))

    def begins(self, build: Simulated) -> None:
        build.state = "running"
        build.journal = self.journal(build.id)
        _, content = build.journal.content(build.record, "aws")
        if not isinstance(content, Waiting):
            build.state = "SUCCEEDED"
            return
        message = messages.read(content.message.encode())
        assert isinstance(message, Message)
        run = build.journal.begin(message.result([], "died"), "aws", None)
        if not (run.own and run.state == State.RUNNING):
            build.state = "FAILED"
            return
        build.run, build.message = run, message

    @rule(
        data=st.data(), how=st.sampled_from(["applies", "ends", "dies", "is stopped", "gives up"])
    )
    @precondition(lambda self: self.of("running"))
    def build_goes_on(self, data: st.DataObject, how: str) -> None:
        build = data.draw(st.sampled_from(self.of("running")))
        assert build.journal
        assert build.run
        assert build.message
        if how == "applies":
            build.journal.applying(build.run)
        elif how == "ends":
            self.reports(build)
        else:
            self.order_of(build).excused = True
            if how == "gives up":  # before it applied anything
                build.journal.give_back(build.run)
            build.state = "STOPPED" if how == "is stopped" else "FAILED"
        self.table.world.run()

    def reports(self, build: Simulated) -> None:
        assert build.journal
        assert build.message
        entry = build.journal.owe(build.message.result([], None), "aws", None, build.run)
        build.state = "SUCCEEDED" if entry.own else "FAILED"
        if entry.own:
            try:
                self.send(build.message.result([], None))
            except NotDelivered as error:
                build.journal.keep(entry, error.cause)
            else:
                build.journal.settle([entry])
        build.journal.close()
        self.table.world.run()

    def order_of(self, build: Simulated) -> Order:
        (order,) = [order for order in self.orders if order.record == build.record]
        return order

    @rule(data=st.data(), busy=st.booleans())
    @precondition(lambda self: self.of("queued"))
    def build_ends_in_the_queue(self, data: st.DataObject, busy: bool) -> None:
        build = data.draw(st.sampled_from(self.of("queued")))
        build.ended_in = "QUEUED"
        if busy:
            build.state = data.draw(st.sampled_from(["TIMED_OUT", "FAILED"]))
            build.why = "VPC_CLIENT_ERROR: Unexpected EC2 error: RequestLimitExceeded"
        else:
            self.order_of(build).excused = True
            build.state = "STOPPED"

    @rule(minutes=st.sampled_from([1, 5, 7, 20]))
    def time_goes_by(self, minutes: int) -> None:
        """Builds that live renew their leases."""
        for _ in range(minutes):
            self.time.now += MINUTE
            for build in self.of("running"):
                assert build.journal
                store = cast("dynamodb.DynamoDBStore", build.journal._store)
                for item in [i for i in store._written.values() if i.is_own]:
                    store._write(item, item.record, store._table.clock.now())
            self.refused = self.refused + MINUTE if self.refuses else 0
            if self.refused > REFUSED_SECONDS / 2:
                self.refuses = False
        self.table.world.run()

    @rule(room=st.integers(0, 3), refuses=st.sampled_from([False, False, True]))
    def codebuild_changes(self, room: int, refuses: bool) -> None:
        self.room, self.refuses = room, refuses

    @rule(late=st.booleans())
    def codebuild_answers_late(self, late: bool) -> None:
        """What it was asked for it has done."""
        self.answers_late = late

    @rule(works=st.booleans())
    def service_catalog_changes(self, works: bool) -> None:
        self.catalog_works = works

    # --- the end ------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.all_ends()
        finally:
            self.patch.undo()

    def all_ends(self) -> None:
        """Everything works again: each order has ended by then, with one result."""
        self.room, self.refuses, self.catalog_works = 2, False, True
        self.answers_late = False
        for _ in range(3 * len(self.orders) + 2 * int(RETURN_SECONDS / MINUTE)):
            for build in self.of("running"):
                self.reports(build)
            if self.queue:
                self.start_function(None, 0, len(self.queue))
            while self.dead:
                self.dead_letter_function(None, 0)
            self.scheduled_function(None, 0)
            for build in self.of("queued"):
                self.begins(build)
            self.time_goes_by(5)
            if all(order.results for order in self.orders) and not self.left():
                break
        assert [o.record for o in self.orders if len(o.results) != 1] == []
        assert self.left() == []

    def left(self) -> list[Entry]:
        """What is not reported, but for what Service Catalog has refused: it has another result."""
        return [entry for entry in self.journal().pending() if entry.state != State.REFUSED]


SETTINGS = settings(
    # More of them: PYTEST_EXAMPLES=500
    max_examples=int(os.environ.get("PYTEST_EXAMPLES", "15")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.generate],
)


def test_each_order_ends_once_and_none_is_failed_for_want_of_room() -> None:
    run_state_machine_as_test(Orders, settings=SETTINGS)
