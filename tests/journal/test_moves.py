"""The moves of a record, each by itself: what holds whoever has come first."""

from dataclasses import replace
from typing import Any

from workflow_result.journal import moves, waiting
from workflow_result.journal.record import (
    LOOK_SECONDS,
    RETURN_SECONDS,
    Entry,
    Key,
    Phase,
    Record,
    State,
    Work,
    Worker,
    digest_for,
)
from workflow_result.journal.waiting import Waiting
from workflow_result.request import Draft, Request, check

NOW = 1_800_000_000.0
NOTHING = Record(Key("rec-1", "aws"))


def a_result(status: str = "FAILED", operation: str = "provision") -> Request:
    members = {"WorkflowToken": "a" * 20, "RecordId": "rec-1", "Status": status}
    return check(Draft(members), operation)


def begun(record: Record = NOTHING) -> tuple[Record, Entry]:
    """A run of this process, and its entry."""
    return moves.begin(record, NOW, a_result(), None)


def applied() -> tuple[Record, Entry]:
    """The same, once it applies."""
    record, run = begun()
    return moves.applying(record, NOW, run)[0], run


def owed(request: Request) -> tuple[Record, Entry]:
    return moves.owe(NOTHING, NOW, request, None, None)


def reported(request: Request) -> Record:
    record, entry = owed(request)
    return moves.settle(record, NOW, entry)[0]


def changed(record: Record, **values: Any) -> Record:
    """The record as others have left it."""
    assert record.work
    return replace(record, work=replace(record.work, **values))


def of_another(record: Record) -> Record:
    return changed(record, worker=Worker.OTHER)


def died(record: Record) -> Record:
    return changed(record, worker=None, gone_since=NOW)


def presumed(worker: Worker | None) -> Record:
    """The FAILED of a run that died while it applied, on which `worker` works."""
    return changed(moves.claim(died(applied()[0]), NOW)[0], worker=worker)


def waits(record: Record = NOTHING) -> tuple[Record, Entry]:
    """An order for which this process is to ask for a build."""
    return waiting.wait(record, NOW, a_result(), None, "the message")


def asked(build: str | None) -> Record:
    """The same, once a build was asked for."""
    record, order = waits()
    return waiting.asked(record, NOW, order, build, None if build else "No room", False)[0]


def work_of(record: Record) -> Work:
    assert record.work
    return record.work


class TestBegin:
    def test_failed_of_a_run_that_died_stays_presumed_where_a_run_reports_it(self) -> None:
        _, told = begun(died(applied()[0]))
        assert (told.state, told.own, told.presumed) == (State.OWED, True, True)

    def test_failed_of_a_run_that_died_is_left_to_whoever_reports_it(self) -> None:
        record = presumed(Worker.OTHER)
        new, told = begun(record)
        assert new is record
        assert (told.state, told.own, told.held) == (State.OWED, False, True)

    def test_failed_of_a_run_that_died_and_was_refused_is_not_run_again(self) -> None:
        record = presumed(Worker.OWN)
        entry = record.entry(NOW)
        assert entry
        refused, _ = moves.refuse(record, NOW, entry, "No")
        new, told = begun(refused)
        assert new is refused
        assert (told.state, told.presumed) == (State.REFUSED, True)


class TestRunOfAnother:
    """A run that this process began, and another one has taken over and begun again."""

    def test_does_not_apply(self) -> None:
        record, run = begun()
        record = of_another(record)
        assert moves.applying(record, NOW, run) == (record, False)

    def test_is_not_abandoned(self) -> None:
        record, run = begun()
        record = of_another(record)
        assert moves.abandon(record, NOW, run)[0] is record

    def test_is_not_given_back(self) -> None:
        record, run = begun()
        record = of_another(record)
        assert moves.give_back(record, NOW, run)[0] is record


def test_later_run_of_the_same_process_is_not_taken_for_an_earlier_one() -> None:
    _, earlier = begun()
    later, _ = moves.begin(NOTHING, NOW, a_result(operation="update"), None)
    assert moves.abandon(later, NOW, earlier)[0] is later


class TestGiveBack:
    def test_message_of_a_run_that_applied_may_be_run_again(self) -> None:
        record, run = applied()
        entry = moves.give_back(record, NOW, run)[0].entry(NOW)
        assert entry
        assert entry.state == State.DIED

    def test_quarter_of_an_hour_begins_then(self) -> None:
        record, run = begun()
        given_back, _ = moves.give_back(record, NOW, run)
        states = [work_of(given_back).seen(NOW + RETURN_SECONDS + more)[0] for more in (-1, 0)]
        assert states == [State.DIED, State.OWED]


class TestOwe:
    def test_what_is_reported_is_not_owed_again(self) -> None:
        record = reported(a_result())
        new, told = moves.owe(record, NOW, a_result(), None, None)
        assert new is record
        assert (told.state, told.own) == (State.REPORTED, False)

    def test_result_of_a_run_that_is_presumed_dead_is_not_taken_though_nobody_reports_that(
        self,
    ) -> None:
        _, run = applied()
        record = presumed(None)
        new, told = moves.owe(record, NOW, a_result("SUCCEEDED"), None, run)
        assert new is record
        assert (told.state, told.own) == (State.OWED, False)

    def test_result_is_not_taken_while_another_process_reports_that_its_run_died(self) -> None:
        record = presumed(Worker.OTHER)
        assert moves.owe(record, NOW, a_result("SUCCEEDED"), None, None)[0] is record

    def test_own_result_is_exchanged_for_another_one(self) -> None:
        record, _ = owed(a_result())
        new, told = moves.owe(record, NOW, a_result("SUCCEEDED"), None, None)
        assert told.own
        assert work_of(new).status == "SUCCEEDED"

    def test_same_result_is_owed_since_it_was_first(self) -> None:
        record = changed(owed(a_result())[0], worker=None, tries=3)
        new, _ = moves.owe(record, NOW + 60, a_result(), None, None)
        assert (work_of(new).since, work_of(new).tries) == (NOW, 3)


class TestSettle:
    def test_another_result_stays_owed_beside_the_one_that_service_catalog_has(self) -> None:
        _, entry = owed(a_result())
        record, _ = owed(a_result("SUCCEEDED"))
        settled, _ = moves.settle(record, NOW, entry)
        assert settled.work is record.work
        assert settled.reported
        assert settled.reported.digest == entry.digest

    def test_first_one_that_service_catalog_has_stays(self) -> None:
        _, entry = owed(a_result())
        record, _ = owed(a_result("SUCCEEDED"))
        settled, _ = moves.settle(record, NOW, entry)
        assert moves.settle(settled, NOW + 1, entry)[0] is settled

    def test_run_that_has_begun_since_goes_on(self) -> None:
        """The FAILED that it would leave is the same one."""
        _, entry = owed(a_result())
        record, run = begun()
        assert run.digest == entry.digest
        assert moves.settle(record, NOW, entry)[0].work is record.work


class TestSent:
    def test_run_of_another_process_goes_on(self) -> None:
        record = of_another(begun()[0])
        sent, _ = moves.sent(record, NOW, a_result("SUCCEEDED"))
        assert sent.work is record.work
        assert sent.reported
        assert sent.reported.status == "SUCCEEDED"


class TestKeep:
    def test_result_is_left_to_another_process_that_works_on_it(self) -> None:
        record, entry = owed(a_result())
        new, _ = moves.keep(of_another(record), NOW, entry, "Not now")
        assert work_of(new).worker == Worker.OTHER


class TestClaim:
    def test_claimed_run_is_presumed_though_it_was_not_known_how_far_it_came(self) -> None:
        """An older version did not note that."""
        new, claimed = moves.claim(changed(died(begun()[0]), phase=None), NOW)
        assert claimed
        assert work_of(new).phase == Phase.APPLYING

    def test_clock_that_was_set_back_does_not_put_it_off(self) -> None:
        record = changed(begun()[0], worker=None, gone_since=NOW + 3600)
        new, _ = moves.claim(record, NOW)
        assert work_of(new).gone_since == NOW


class TestWait:
    def test_message_that_comes_again_changes_nothing(self) -> None:
        record = of_another(waits()[0])
        new, told = waits(record)
        assert new is record
        assert (told.state, told.own, told.held) == (State.WAITING, False, True)

    def test_run_that_goes_on_stands_against_it(self) -> None:
        record = of_another(begun()[0])
        new, told = waits(record)
        assert new is record
        assert told.state == State.RUNNING

    def test_message_of_a_run_that_died_before_it_applied_waits_again(self) -> None:
        new, told = waits(died(begun()[0]))
        assert (told.state, told.own) == (State.WAITING, True)
        assert Waiting.of(new.work) == Waiting("the message")

    def test_run_that_died_while_it_applied_is_left_to_resend(self) -> None:
        record = died(applied()[0])
        new, told = waits(record)
        assert new is record
        assert (told.state, told.presumed) == (State.OWED, True)

    def test_run_may_begin_though_another_process_asks_for_a_build(self) -> None:
        new, told = begun(of_another(waits()[0]))
        assert (told.state, told.own) == (State.RUNNING, True)
        assert Waiting.of(new.work) is None

    def test_it_stands_against_a_run_that_is_not_to_be_one_of_an_order_that_waits(self) -> None:
        record, _ = waits()
        kept, told = moves.begin(record, 100.0, a_result(), None, of_waiting=False)
        assert kept is record
        assert told.state == State.WAITING

    def test_what_service_catalog_has_ends_it(self) -> None:
        _, entry = owed(a_result("SUCCEEDED"))
        assert moves.settle(waits()[0], NOW, entry)[0].work is None

    def test_it_is_never_sent_as_it_is(self) -> None:
        record = asked("build:1")
        assert moves.claim(record, NOW + 10 * RETURN_SECONDS) == (record, False)

    def test_it_is_not_forgotten(self) -> None:
        record = asked(None)
        assert moves.forget(record, NOW)[0] is record

    def test_result_told_by_hand_takes_its_place(self) -> None:
        record, told = moves.owe(asked("build:1"), NOW, a_result(), None, None)
        assert (told.state, told.own, told.presumed) == (State.OWED, True, False)
        assert Waiting.of(record.work) is None


class TestTakeAndAsked:
    def test_order_without_a_build_is_due_at_once(self) -> None:
        record = asked(None)
        assert (work_of(record).tries, work_of(record).last_error) == (1, "No room")
        assert waiting.take(record, NOW)[1]

    def test_build_is_given_time_and_then_looked_for(self) -> None:
        record = asked("build:1")
        taken = [waiting.take(record, NOW + LOOK_SECONDS + more) for more in (-1, 0)]
        assert [told for _, told in taken] == [False, True]
        assert Waiting.of(taken[1][0].work) == Waiting("the message", "build:1")

    def test_clock_that_was_set_back_does_not_put_it_off(self) -> None:
        assert waiting.take(asked("build:1"), NOW - 3600)[1]

    def test_order_that_another_process_sees_to_is_left_to_it(self) -> None:
        record, order = waits()
        record = of_another(record)
        assert waiting.take(record, NOW) == (record, False)
        assert waiting.asked(record, NOW, order, "build:1", None, False) == (record, False)

    def test_run_that_has_begun_meanwhile_goes_on(self) -> None:
        record, order = waits()
        running, _ = begun(record)
        assert waiting.asked(running, NOW, order, "build:1", None, False) == (running, False)

    def test_content_that_cannot_be_read_is_none(self) -> None:
        for content in (None, "", "{", "[]", "{}", '{"unknown": 1}'):
            assert Waiting.of(changed(waits()[0], content=content).work) is None


class TestForget:
    def test_what_another_process_works_on_stays(self) -> None:
        record = of_another(owed(a_result())[0])
        assert moves.forget(record, NOW)[0] is record


class TestRefuse:
    def test_what_was_reported_before_stays_reported(self) -> None:
        before = reported(a_result())
        record, entry = moves.owe(before, NOW, a_result("SUCCEEDED"), None, None)
        new, told = moves.refuse(record, NOW, entry, "No")
        assert new == before
        assert told
        assert told.digest == digest_for(a_result(), "aws")
