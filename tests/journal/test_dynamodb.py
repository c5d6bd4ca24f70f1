"""The store in a table: what it writes, what it reads, and how it tells that it is alive."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import simulated_aws
from quiet_table import KEY, LEASE, QuietTable, a_result, quiet_table

from workflow_result.journal import Journal, clock
from workflow_result.journal.dynamodb import DynamoDBStore
from workflow_result.journal.record import Entry, State
from workflow_result.journal.store import JournalProblem


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> QuietTable:
    return quiet_table(monkeypatch)


@pytest.fixture
def store(table: QuietTable) -> DynamoDBStore:
    return table.store()


@pytest.fixture
def run(store: DynamoDBStore) -> Entry:
    """One that the store's process has begun."""
    return Journal(store).begin(a_result(), "aws", None)


def twice(_: str, __: Mapping[str, Any], do: Callable[[], Any]) -> Any:
    """As the SDK calls again where the first answer is lost."""
    do()
    return do()


class TestHold:
    """What was claimed is not sent by one whose time for that may be over."""

    @pytest.fixture(autouse=True)
    def one_time(self, table: QuietTable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clock, "steady", table.time.steady)

    @pytest.fixture
    def claimed(self, table: QuietTable, store: DynamoDBStore) -> Entry:
        return Journal(store).owe(a_result(), "aws", None)

    def test_nothing_is_asked_as_long_as_half_of_the_lease_is_left(
        self, table: QuietTable, store: DynamoDBStore, claimed: Entry
    ) -> None:
        table.time.now += LEASE / 2 - 1
        table.fails()
        assert Journal(store).hold(claimed)

    def test_then_it_is_renewed(
        self, table: QuietTable, store: DynamoDBStore, claimed: Entry
    ) -> None:
        before = float(table.item["lease"]["N"])
        table.time.now += LEASE / 2 + 1
        assert Journal(store).hold(claimed)
        assert float(table.item["lease"]["N"]) >= before + LEASE / 2

    def test_what_another_process_has_taken_over_is_left_to_it(
        self, table: QuietTable, store: DynamoDBStore, claimed: Entry
    ) -> None:
        another = Journal(table.store())
        table.time.now += 2 * LEASE
        table.world.run()
        assert len(list(another.claim("aws"))) == 1
        assert not Journal(store).hold(claimed)


class TestRepeatedWrite:
    """The condition of a write does not hold where it was done before."""

    def test_claim_is_known_to_be_its_own(self, table: QuietTable, store: DynamoDBStore) -> None:
        journal = Journal(store)
        journal.keep(journal.owe(a_result(), "aws", None), "Not now")
        table.world.run()
        table.decide = lambda name, parameters, do: (
            twice(name, parameters, do) if name == "update_item" else do()
        )
        assert [entry.record_id for entry, _ in Journal(table.store()).claim("aws")] == ["rec-1"]

    def test_renewal_is_not_taken_for_a_takeover(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        lost: list[str] = []
        table.decide = twice
        store._beat(lost.append)
        assert lost == []
        assert not store.is_lost()

    def test_earlier_write_of_the_same_process_is_not_taken_for_it(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        journal = Journal(store)
        table.fails_though_done()
        with pytest.raises(JournalProblem):
            journal.applying(run)
        assert journal.owe(a_result("SUCCEEDED"), "aws", None, run).own
        assert table.item["state"] == {"S": "owed"}


class TestSignsOfLife:
    def test_lease_is_renewed_every_tenth_of_it(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        before, written = int(table.item["version"]["N"]), store._written[KEY].lease
        store._table.clock._offset += LEASE
        store._beat(lambda _: None)
        assert int(table.item["version"]["N"]) == before + (2000 - 1000) // (LEASE / 10)
        assert float(table.item["lease"]["N"]) > written + LEASE - 1

    def test_run_that_was_taken_over_is_told_and_stays_lost(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        lost: list[str] = []
        table.item["version"] = {"N": "99"}
        store._beat(lost.append)
        assert lost == ["another process has taken over its run"]
        assert store.is_lost()

    def test_renewal_that_fails_is_tried_again(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        calls = []

        def decide(name: str, *_: object) -> None:
            calls.append(name)
            raise JournalProblem("no answer")

        table.decide = decide
        store._beat(lambda _: None)
        assert len(calls) > 1

    def test_run_is_stopped_after_three_tenths_of_a_lease_without_an_answer(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        lost: list[str] = []
        store._watch(lost.append)
        assert lost == ["the journal was not reached for 90 seconds"]
        assert 0.3 * LEASE < table.time.now - 1000 <= 0.33 * LEASE

    def test_run_is_lost_once_its_lease_is_over(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        table.time.now += LEASE - 1
        assert not store.is_lost()
        table.time.now += 2
        assert store.is_lost()

    def test_lease_counts_from_when_it_was_asked_for(
        self, table: QuietTable, store: DynamoDBStore
    ) -> None:
        """The answer may be late."""

        def late(_: str, __: Mapping[str, Any], do: Callable[[], Any]) -> Any:
            table.time.now += 20
            store._table.clock._offset += 20
            return do()

        table.decide = late
        Journal(store).begin(a_result(), "aws", None)
        table.time.now += LEASE - 19
        assert store.is_lost()

    def test_only_one_reason_is_told(self, store: DynamoDBStore) -> None:
        ended = threading.Barrier(3)

        def work(lost: Callable[[str], None]) -> None:
            lost("gone")
            ended.wait(60)

        store._beat = store._watch = work  # type: ignore[method-assign]
        told: list[str] = []
        store.stay_alive(told.append)
        ended.wait(60)
        assert told == ["gone"]

    def test_renewal_that_had_to_wait_for_the_result_writes_nothing(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        class Turn:
            """Comes after what another thread has done meanwhile."""

            def __enter__(self) -> None:
                store._turns[KEY] = threading.Lock()
                Journal(store).owe(a_result(), "aws", None, run)

            def __exit__(self, *_: object) -> None:
                """Nothing."""

        store._turns[KEY] = cast("Any", Turn())
        store._beat(lambda _: None)
        assert table.item["version"] == {"N": "2"}

    def test_record_is_changed_by_one_thread_at_a_time(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        taken: list[bool] = []

        def decide(_: str, __: Mapping[str, Any], do: Callable[[], Any]) -> Any:
            taken.append(store._turns[KEY].locked())
            return do()

        table.decide = decide
        table.time.end = 1000 + LEASE / 10
        store._beat(lambda _: None)
        Journal(store).applying(run)
        assert taken == [True, True]


class TestLease:
    def test_of_another_process_stays_as_it_is(
        self, table: QuietTable, store: DynamoDBStore
    ) -> None:
        """Where this one notes why its own try has failed."""
        journal, other = Journal(store), table.store()
        entry = journal.owe(a_result(), "aws", None)
        store.close()
        assert Journal(other).owe(a_result(), "aws", None).own
        lease = table.item["lease"]
        store._table.clock._offset += 50
        journal.keep(entry, "Not now")
        assert table.item["last_error"] == {"S": "Not now"}
        assert (table.item["owner"], table.item["lease"]) == ({"S": other._owner}, lease)

    def test_run_keeps_it_when_its_process_closes_the_journal(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        lease = table.item["lease"]
        store.close()
        assert (table.item["owner"], table.item["lease"]) == ({"S": store._owner}, lease)


class TestRead:
    def test_what_another_process_has_written_is_found_by_a_consistent_read(
        self, table: QuietTable, store: DynamoDBStore
    ) -> None:
        Journal(store).owe(a_result(), "aws", None)
        store.close()
        consistent: list[bool] = []

        def decide(name: str, parameters: Mapping[str, Any], do: Callable[[], Any]) -> Any:
            if name == "get_item":
                consistent.append(parameters["ConsistentRead"])
            return do()

        table.decide = decide
        assert [entry.state for entry in Journal(table.store()).forget("rec-1")] == [State.OWED]
        assert consistent
        assert all(consistent)

    def test_what_this_process_has_written_is_pending_before_the_index_has_it(
        self, store: DynamoDBStore
    ) -> None:
        journal = Journal(store)
        journal.owe(a_result(), "aws", None)
        assert [entry.record_id for entry in journal.pending()] == ["rec-1"]

    def test_all_pages_of_what_is_due_are_read(
        self, table: QuietTable, store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(simulated_aws, "PAGE", 2)
        records = [f"rec-{number}" for number in range(5)]
        for record in records:
            Journal(store).owe(a_result(record=record), "aws", None)
        store.close()
        table.world.run()
        assert sorted(key.record_id for key in table.store().due("aws")) == records

    def test_what_is_due_by_the_clock_that_the_answer_has_set_is_found(
        self, table: QuietTable, store: DynamoDBStore
    ) -> None:
        """No call before it has set it."""
        Journal(store).owe(a_result(), "aws", None)
        table.world.run()
        late = table.store()

        def decide(_: str, __: Mapping[str, Any], do: Callable[[], Any]) -> Any:
            answer = do()
            late._table.clock._offset = store._table.clock._offset + 2 * LEASE
            return answer

        table.decide = decide
        assert late.due("aws") == [KEY]


class TestBuild:
    """A build of CodeBuild that has ended."""

    @pytest.fixture
    def of_build(self, table: QuietTable, monkeypatch: pytest.MonkeyPatch) -> DynamoDBStore:
        monkeypatch.setenv("CODEBUILD_BUILD_ID", "project:1")
        return table.store()

    @pytest.fixture
    def late(self, of_build: DynamoDBStore, table: QuietTable) -> Journal:
        """That of a process which finds what the build has left."""
        Journal(of_build).begin(a_result(), "aws", None)
        return Journal(table.store())

    def states(self, journal: Journal) -> list[State]:
        found = journal.look("rec-1", "aws")
        return [found.state] if found else []

    def test_its_run_is_dead_at_once(self, late: Journal) -> None:
        late.bury("project:1")
        assert self.states(late) == [State.DIED]
        assert late.owe(a_result("SUCCEEDED"), "aws", None).own

    def test_that_of_another_build_lives(self, late: Journal) -> None:
        late.bury("project:2")
        assert self.states(late) == [State.RUNNING]

    def test_commands_of_one_build_do_not_share_what_they_own(
        self, late: Journal, table: QuietTable
    ) -> None:
        again = Journal(table.store()).begin(a_result(), "aws", None)
        assert (again.state, again.own, again.held) == (State.RUNNING, False, True)


class TestGivenUp:
    def test_run_that_is_given_back_may_be_run_again_and_is_not_owed_yet(
        self, table: QuietTable, store: DynamoDBStore, run: Entry
    ) -> None:
        Journal(store).give_back(run)
        table.world.run()
        (entry,) = Journal(table.store()).pending()
        assert entry.state == State.DIED

    def test_close_gives_up_what_is_owed(self, table: QuietTable, store: DynamoDBStore) -> None:
        Journal(store).owe(a_result(), "aws", None)
        store.close()
        assert "owner" not in table.item
