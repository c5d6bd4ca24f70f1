"""Orders that hang UNDER_CHANGE: what is known of each, and the end of those that nobody works on.

What is looked at may change while it is looked at. So everything is looked at again right before an
order is ended, its messages are held meanwhile, and where there is a journal the order is entered
there as a run is: nobody begins another one then, and one that has begun stands against it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from workflow_result.delivery import Delivery
from workflow_result.engine.catalog import Catalog, Order
from workflow_result.engine.dead_letters import DeadLetterQueue, Letter
from workflow_result.engine.executions import StateMachine
from workflow_result.engine.findings import (
    RESEND,
    Finding,
    Found,
    State,
    at_work,
    hanging,
    in_catalog,
    in_journal,
)
from workflow_result.journal import Journal
from workflow_result.journal.record import Entry
from workflow_result.problem import ExitCode, Problem, Style, about, say
from workflow_result.reporting import Reporter
from workflow_result.request import Request
from workflow_result.undelivered import NotDelivered

_AGAIN = "run `rescue --apply` again"
_CHECK = "check the region and the account: the engine's, which the order was sent to"
_HELD_AT_ONCE = 20
"""Orders that are ended while their messages are held."""


@dataclass(frozen=True)
class Sources:
    """Where something is known of orders.

    `sees_runs`: some of it, or the journal, is there to tell whether somebody works on one.
    """

    catalogs: Sequence[Catalog]
    machines: Sequence[StateMachine]
    queues: Sequence[DeadLetterQueue]
    sees_runs: bool


class Rescue:
    """Looks for orders that hang, and ends them.

    `journal` is None where there is none yet: `make_journal` opens one before something is
    reported. `delivery` is how that is done. An order of which something happened within
    `young_for` seconds is left alone; `now` gives the seconds since 1970.
    """

    def __init__(
        self,
        sources: Sources,
        journal: Journal | None,
        make_journal: Callable[[], Journal],
        delivery: Delivery,
        young_for: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._journal = journal
        self._make_journal = make_journal
        self._delivery = delivery
        self._young_for = young_for
        self._now = now
        self._catalogs: dict[str, Catalog] = {}
        self._letters: dict[str, list[Found]] = {}

    def look(self) -> list[Finding]:
        """Return what is known of every order that is under change, the oldest first.

        Raises `Problem` where something could not be asked.
        """
        for machine in self._sources.machines:
            machine.check()
        for queue in self._sources.queues:
            queue.check()
        orders: dict[str, Order] = {}
        for catalog in self._sources.catalogs:
            for order in catalog.under_change():
                orders[order.record_id] = order
                self._catalogs[order.record_id] = catalog
        self._letters = _by_record((queue, queue.look()) for queue in self._sources.queues)
        for queue in self._sources.queues:
            for why in queue.unreadable:
                line = f"warning: a message in {queue.name} tells no order: {why}"
                say(line, Style.YELLOW)
        return [self._finding(order) for order in sorted(orders.values(), key=_since)]

    def end(self, findings: Sequence[Finding]) -> list[Finding]:
        """End these orders FAILED, where they can be still. Return how each stands then.

        What stops one of them is told, and the others are gone on with.
        """
        ended: list[Finding] = []
        for start in range(0, len(findings), _HELD_AT_ONCE):
            some = findings[start : start + _HELD_AT_ONCE]
            with self._held([finding.order.record_id for finding in some]):
                for finding in some:
                    with about(finding.order.record_id, finding.order.operation):
                        ended.append(self._end(finding))
        return ended

    def close(self) -> None:
        """Give up what this process owns in the journal."""
        if self._journal:
            self._journal.close()

    # --- what is known ----------------------------------------------------------------------

    def _finding(self, order: Order) -> Finding:
        entry = self._entry(order)
        if entry and (finding := in_journal(order, entry, self._is_young)):
            return finding
        if finding := in_catalog(order, self._is_young):
            return finding
        executions = [
            execution
            for machine in self._sources.machines
            if (execution := machine.execution_of(order.product_id, order.record_id))
        ]
        if finding := at_work(order, executions, self._is_young):
            return finding
        letters = self._letters.get(order.record_id, ())
        finding = hanging(order, executions, letters, seen=self._sources.sees_runs)
        if entry:
            known = f"a result of it was refused ({entry.last_error}); {finding.known}"
            return replace(finding, known=known)
        return finding

    def _is_young(self, since: float) -> bool:
        return self._now() - since < self._young_for

    def _entry(self, order: Order) -> Entry | None:
        if self._journal is None:
            return None
        return self._journal.look(order.record_id, self._delivery.destination)

    # --- ending -----------------------------------------------------------------------------

    @contextmanager
    def _held(self, record_ids: Sequence[str]) -> Iterator[None]:
        """Have nobody else get the messages of these records meanwhile."""
        queues = self._sources.queues
        try:
            self._letters = _by_record((queue, queue.hold(record_ids)) for queue in queues)
            yield
        finally:
            for queue in queues:
                with _told():  # what was ended is ended
                    queue.give_back()

    def _end(self, old: Finding) -> Finding:
        order = old.order
        try:
            if self._catalogs[order.record_id].has_ended(order.record_id):
                return replace(old, state=State.OVER, known="it has ended meanwhile", to_do="")
            finding = self._finding(order)
            if finding.content is None:
                say(f"{order.record_id}: left alone: {finding.known}")
                return finding
            if not all(queue.holds for queue, _ in finding.letters):
                return replace(finding, known="ending the others took too long", to_do=_AGAIN)
            request = finding.content.failed(finding.reason)
        except Problem as problem:
            return _stopped(old, problem)
        try:
            finding = self._report(finding, request)
        except Problem as problem:
            return _stopped(finding, problem)
        if finding.state in (State.ENDED, State.OWED):
            self._delete(finding.letters)
        return finding

    def _report(self, finding: Finding, request: Request) -> Finding:
        reporter = Reporter(self._open_journal, self._delivery)
        # Entered as a run, of which there is one at a time: nobody else begins one then.
        earlier = reporter.begin(request, lambda _: None, of_waiting=False)
        if earlier and not earlier.own:
            known = f"{earlier.status or 'its result'} was reported meanwhile"
            return replace(finding, state=State.OVER, known=known, to_do="")
        if not earlier:
            try:
                reporter.report(request)
            except Problem as problem:
                stopped = _stopped(finding, problem)
                if reporter.is_owed:
                    return replace(stopped, state=State.OWED, to_do=RESEND)
                return stopped
        say(f"{finding.order.record_id}: ended FAILED")
        return replace(finding, state=State.ENDED, to_do="")

    def _open_journal(self) -> Journal:
        if self._journal is None:
            self._journal = self._make_journal()
        return self._journal

    def _delete(self, letters: Iterable[Found]) -> None:
        for queue, letter in letters:
            with _told():  # it stays, of an order that has ended
                queue.delete(letter)


@contextmanager
def _told() -> Iterator[None]:
    """Tell a problem as a warning, and go on."""
    try:
        yield
    except Problem as problem:
        say(f"warning: {problem.lines[0]}", Style.YELLOW)


def _stopped(finding: Finding, problem: Problem) -> Finding:
    """Tell what kept an order from being ended; return how it stands."""
    cause = problem.__cause__
    if isinstance(cause, NotDelivered) and isinstance(cause.__cause__, KeyboardInterrupt):
        raise KeyboardInterrupt from problem
    for line in problem.lines:
        say(line)
    refused = problem.exit_code == ExitCode.REFUSED
    return replace(
        finding, known=problem.lines[0], to_do=_CHECK if refused else _AGAIN, refused=refused
    )


def _since(order: Order) -> float:
    return order.since


def _by_record(
    found: Iterable[tuple[DeadLetterQueue, Sequence[Letter]]],
) -> dict[str, list[Found]]:
    letters: dict[str, list[Found]] = {}
    for queue, those in found:
        for letter in those:
            letters.setdefault(letter.content.record_id, []).append((queue, letter))
    return letters
