"""What is reported of a run where its journal, a table, or Service Catalog does not answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from quiet_table import LEASE, QuietTable, a_result, quiet_table

from workflow_result.journal import Journal
from workflow_result.problem import ExitCode, Problem
from workflow_result.reporting import Reporter
from workflow_result.request import Request
from workflow_result.undelivered import NotDelivered

LOST = "rec-1: another process may have taken over its run by now; "
DONE = a_result("SUCCEEDED")


@dataclass
class Delivery:
    """Takes what it is given, or raises its `error`; then the table answers again."""

    table: QuietTable
    error: NotDelivered | None = None
    sent: list[Request] = field(default_factory=list)
    destination: str = "aws"
    region: str | None = None

    def send(self, request: Request) -> None:
        self.table.works()
        if self.error:
            raise self.error
        self.sent.append(request)


class Desk:
    """A reporter on a table; `told` has why its run is not certain to be its own any more."""

    def __init__(self, table: QuietTable) -> None:
        self.table, self.store, self.delivery = table, table.store(), Delivery(table)
        self.told: list[str] = []
        self.lose: Callable[[str], None] = self.told.append
        self.store.stay_alive = self.stay_alive  # type: ignore[method-assign]
        self.reporter = Reporter(lambda: Journal(self.store), cast("Any", self.delivery))

    def stay_alive(self, lost: Callable[[str], None]) -> None:
        self.lose = lost

    def begin(self, *, applying: bool = False) -> None:
        assert self.reporter.begin(a_result(), self.told.append) is None
        if applying:
            self.reporter.applying()

    def not_delivered(self, error: NotDelivered, request: Request = DONE) -> None:
        """Report what can be neither entered nor delivered."""
        self.table.fails()
        self.delivery.error = error
        with pytest.raises(Problem, match="It is not saved"):
            self.reporter.report(request)

    def raises(self, line: str, work: Callable[[], object]) -> None:
        with pytest.raises(Problem) as raised:
            work()
        assert raised.value.lines == (line,)
        assert raised.value.exit_code == ExitCode.NOT_DELIVERED
        assert self.delivery.sent == []


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> QuietTable:
    return quiet_table(monkeypatch)


@pytest.fixture
def desk(table: QuietTable) -> Desk:
    return Desk(table)


class TestRunThatMayBeAnothers:
    def test_does_not_apply_where_it_was_taken_over_though_no_time_has_gone_by(
        self, desk: Desk
    ) -> None:
        """By this machine's clock, which may have stood still."""
        desk.begin()
        desk.table.item.update({"owner": {"S": "other"}, "version": {"N": "2"}})
        desk.raises(LOST + "nothing was applied", desk.reporter.applying)

    def test_tells_why(self, desk: Desk) -> None:
        desk.begin()
        desk.lose("gone")
        assert desk.told == ["gone"]

    def test_reports_nothing_where_it_was_stopped_before_it_applied(self, desk: Desk) -> None:
        desk.begin()
        desk.lose("gone")
        desk.raises(LOST + "nothing was applied", lambda: desk.reporter.report(DONE))

    def test_is_given_back_where_it_was_stopped_before_it_applied(self, desk: Desk) -> None:
        """Its message may come again; FAILED follows where it does not."""
        desk.begin()
        desk.lose("gone")
        with pytest.raises(Problem):
            desk.reporter.report(DONE)
        assert "owner" not in desk.table.item
        assert desk.table.item["phase"]["S"] == "preparing"

    def test_reports_where_it_was_stopped_after_that_and_is_its_own_still(self, desk: Desk) -> None:
        desk.begin(applying=True)
        desk.lose("gone")
        assert desk.reporter.report(DONE)

    def test_reports_nothing_that_cannot_be_entered_where_it_has_applied_nothing(
        self, desk: Desk
    ) -> None:
        desk.begin()
        desk.table.fails()
        desk.raises(LOST + "nothing was reported", lambda: desk.reporter.report(DONE))

    def test_reports_nothing_that_cannot_be_entered_once_its_lease_is_over(
        self, desk: Desk
    ) -> None:
        desk.begin(applying=True)
        desk.table.fails()
        desk.table.time.now += LEASE + 1
        desk.raises(LOST + "nothing was reported", lambda: desk.reporter.report(DONE))


class TestResultThatCannotBeEntered:
    def test_is_noted_as_reported_once_service_catalog_has_it(self, desk: Desk) -> None:
        desk.begin(applying=True)
        desk.table.fails()
        assert desk.reporter.report(DONE)
        assert desk.table.item["state"] == {"S": "reported"}

    def test_is_waited_for_once(self, desk: Desk) -> None:
        desk.begin(applying=True)
        desk.table.fails()
        assert desk.reporter.report(DONE)
        assert desk.store in desk.table.impatient

    @pytest.mark.parametrize("sent", [False, True])
    def test_nor_delivered_lets_its_message_come_again(self, desk: Desk, sent: bool) -> None:
        desk.begin(applying=True)
        desk.not_delivered(NotDelivered("Oh", sent=sent))
        assert "owner" not in desk.table.item
        assert desk.table.item["phase"] == {"S": "preparing"}

    def test_nor_is_known_to_be_delivered_as_failed_stays_its_runs(self, desk: Desk) -> None:
        """What Service Catalog may have as FAILED is not built after that."""
        desk.begin(applying=True)
        desk.not_delivered(NotDelivered("Oh", sent=True), a_result())
        assert "owner" in desk.table.item
        assert desk.table.item["phase"] == {"S": "applying"}

    def test_and_is_refused_is_struck_off(self, desk: Desk) -> None:
        desk.begin(applying=True)
        desk.not_delivered(NotDelivered("No", refused=True))
        assert desk.table.item["state"] == {"S": "reported"}
        assert "due_at" not in desk.table.item


def test_run_does_not_begin_without_the_table_and_says_so_with_the_tables_exit_code(
    desk: Desk,
) -> None:
    desk.table.fails()
    desk.raises("no answer; nothing was run", desk.begin)


def test_result_that_another_process_has_reported_is_not_sent_again(
    table: QuietTable, desk: Desk
) -> None:
    assert Desk(table).reporter.report(DONE)
    assert not desk.reporter.report(DONE)
    assert desk.delivery.sent == []
