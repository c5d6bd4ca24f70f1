"""Resending: everything that is owed is sent, at the pace of the other side."""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from workflow_result import metrics
from workflow_result.delivery import Delivery
from workflow_result.journal import Journal
from workflow_result.journal.record import Entry, State
from workflow_result.pace import AT_MOST, Pace
from workflow_result.problem import Event, ExitCode, about, say, say_traceback
from workflow_result.reporting import DEFECT, put_back
from workflow_result.request import Request
from workflow_result.undelivered import NotDelivered

DAMAGED = "its content in the journal is damaged: report it again by hand"
"""Why a result is still owed that cannot be sent."""

TRIES = 30
"""How often a result may be throttled, while others are taken, before it is left owed."""


def resend(
    journal: Journal,
    delivery: Delivery,
    region: str | None,
    *,
    progress: bool,
    is_over: Callable[[], bool] = lambda: False,
    tell: Callable[[Mapping[str, float], Mapping[str, float]], None] = metrics.tell,
) -> ExitCode:
    """Send everything that is owed to the destination of `delivery`, in `region` or else in the
    region that it is meant for.

    What is throttled is sent again, more slowly, and left owed where that does not end. So is what
    is left once `is_over` says so. `delivery` has to have been made for `AT_MOST` at once.

    Says in one line what became of it; with `progress` also what happens meanwhile. Has metrics
    told, counts and seconds. Returns
    REFUSED where Service Catalog refused one, since that is told only once; else NOT_DELIVERED
    where one is still owed, else DONE.
    """
    gc.enable()  # unlike the other commands, this one may have thousands of calls to make
    resending = _Resending(journal, delivery, region, progress, is_over)
    resending.send_all()
    entries = journal.pending()
    destinations = [entry.destination for entry in entries if entry.state == State.OWED]
    still_owed = destinations.count(delivery.destination)
    summary = f"{resending.reported} reported, {resending.refused} refused, {still_owed} still owed"
    states = [entry.state for entry in entries if entry.destination == delivery.destination]
    if died := states.count(State.DIED):
        summary += f", {died} may be run again"
    if waiting := states.count(State.WAITING):
        summary += f", {waiting} {'waits' if waiting == 1 else 'wait'} for a build"
    if left_alone := len(destinations) - still_owed:
        other = "AWS" if delivery.destination == "sandbox" else "a sandbox"
        summary += f", {left_alone} for {other} left alone"
    if resending.causes and not progress:
        summary += f": {resending.causes[0]}; `pending` lists all"
    say(summary, event=Event.RESEND)
    counts, ages = metrics.of_journal(entries, time.time())
    tell(counts | {"Reported": resending.reported}, ages)
    if resending.refused:
        return ExitCode.REFUSED
    return ExitCode.NOT_DELIVERED if still_owed else ExitCode.DONE


@dataclass(eq=False)
class _Result:
    """A result that this process has claimed, and what has become of it."""

    entry: Entry
    request: Request
    number: int = 0
    """What `Pace` calls it."""
    throttled: int = 0
    """How often it was."""
    error: BaseException | None = None
    has_ended: bool = False


class _Resending:
    """What is sent, is sent in threads; all else happens in the one that calls.

    Nothing is claimed before there is room for it: a journal gives it away for some time only.
    """

    def __init__(
        self,
        journal: Journal,
        delivery: Delivery,
        region: str | None,
        progress: bool,
        is_over: Callable[[], bool],
    ) -> None:
        self._journal = journal
        self._delivery = delivery
        self._region = region
        self._is_over = is_over
        self._total = _free(journal.pending(), delivery.destination) if progress else None
        self._claimed = iter(journal.claim(delivery.destination))
        self._again: deque[_Result] = deque()
        self._turn_of_again = False
        self._connected: set[str | None] = set()
        self._pace = Pace()
        self._go_on_at = 0.0
        self._under_way: set[_Result] = set()
        """From before it is sent until the journal has what became of it."""
        self._to_send: SimpleQueue[_Result | None] = SimpleQueue()
        self._back: SimpleQueue[_Result] = SimpleQueue()
        self._tried = 0
        self.reported = 0
        self.refused = 0
        self.causes: list[str] = []
        """Why results were not reported."""

    def send_all(self) -> None:
        """Send until there is nothing left, or the other side throttles everything."""
        if not (first := self._next()):
            return
        self._again.append(first)
        # All at the beginning: an interrupt could make a thread that nobody knows of.
        threads = [Thread(target=self._send_what_comes, daemon=True) for _ in range(AT_MOST)]
        for thread in threads:
            thread.start()
        try:
            self._go_on()
        except KeyboardInterrupt:
            say("interrupted: what is on its way is waited for, half a minute at most")
            raise
        finally:
            with suppress(Empty):
                while True:
                    self._to_send.get_nowait()
            for _ in threads:
                self._to_send.put(None)
            for thread in threads:
                thread.join()
            self._enter([result for result in self._under_way if result.has_ended])
        self._enter(list(self._again))

    def _go_on(self) -> None:
        ended: list[_Result] = []
        while True:
            pause = 0.0 if self._pace.is_hopeless else self._go_on_at - time.monotonic()
            if pause <= 0:  # first, since the disk takes its time
                self._fill(self._pace.limit - len(self._under_way) + len(ended))
            self._enter(ended)
            if pause <= 0 and not self._under_way:
                return
            ended = [result for result in self._back_after(pause) if not self._comes_again(result)]

    def _fill(self, room: int) -> None:
        """Send as many as there is room for."""
        while room > 0 and not self._pace.is_hopeless and (result := self._next()):
            room -= 1
            region = self._region_of(result)
            if region not in self._connected:
                self._delivery.connect(region)
                self._connected.add(region)
            result.number, result.error, result.has_ended = self._pace.begin(), None, False
            self._under_way.add(result)
            self._to_send.put(result)

    def _region_of(self, result: _Result) -> str | None:
        return self._region or result.entry.region

    def _next(self) -> _Result | None:
        if self._is_over():
            return None
        while result := self._again.popleft() if self._is_turn_of_again() else self._new():
            if self._journal.hold(result.entry):
                return result
            self._tried += 1  # by another process
        return None

    def _is_turn_of_again(self) -> bool:
        # In turns: what is always throttled shall not keep the rest back.
        self._turn_of_again = not self._turn_of_again
        return bool(self._again and self._turn_of_again)

    def _new(self) -> _Result | None:
        """A result that has just been claimed; else one that was throttled."""
        for entry, request in self._claimed:
            if request is not None:
                return _Result(entry, request)
            self._keep(entry, DAMAGED)
            self._tried += 1
        return self._again.popleft() if self._again else None

    def _send_what_comes(self) -> None:
        while result := self._to_send.get():
            try:
                self._delivery.send(result.request, self._region_of(result))
            except BaseException as error:
                result.error = error
            result.has_ended = True
            self._back.put(result)

    def _back_after(self, pause: float) -> list[_Result]:
        """Wait until one has come back, or the pause is over; return all that have."""
        back = []
        with suppress(Empty):
            back.append(self._back.get(timeout=pause if pause > 0 else None))
            while True:
                back.append(self._back.get_nowait())
        return back

    def _comes_again(self, result: _Result) -> bool:
        """Adapt the pace, and return whether the result is sent once more."""
        if result.error is None:
            self._pace.went_well(result.number)
        elif isinstance(result.error, NotDelivered) and result.error.throttled:
            pause = self._pace.was_throttled(result.number)
            self._go_on_at = max(self._go_on_at, time.monotonic() + pause)
            result.throttled += 1
            if result.throttled < TRIES:
                self._under_way.remove(result)
                self._again.append(result)
                return True
        return False

    def _enter(self, ended: Sequence[_Result]) -> None:
        """Enter into the journal what became of these results."""
        delivered = []
        for result in ended:
            if result.error is None:
                delivered.append(result.entry)
            elif isinstance(result.error, NotDelivered):
                self._not_reported(result.entry, result.error)
            else:
                say_traceback(result.error)
                self._keep(result.entry, DEFECT)
        if delivered:  # in one transaction: each costs a few syncs of the disk
            self._journal.settle(delivered)
            self.reported += len(delivered)
        self._tried += len(ended)
        self._under_way.difference_update(ended)  # not before: an interrupt would leave them owed
        if self._total is not None:
            say(f"{self._tried} of {self._total} tried", end="\r")

    def _not_reported(self, entry: Entry, error: NotDelivered) -> None:
        self.refused += put_back(self._journal, entry, error) is not None
        state = "refused" if error.refused else "not reported"
        line = f"{entry.record_id}: {state}: {error.cause}"
        self._note(entry.record_id, line, error.cause)

    def _keep(self, entry: Entry, cause: str) -> None:
        self._journal.keep(entry, cause)
        self._note(entry.record_id, f"{entry.record_id}: {cause}", cause)

    def _note(self, record_id: str, line: str, cause: str) -> None:
        self.causes.append(cause)
        if self._total is not None:
            with about(record_id):
                say(line)


def _free(entries: Iterable[Entry], destination: str) -> int:
    """How many results are owed there that no other process works on."""
    return sum(
        entry.state == State.OWED and entry.destination == destination and not entry.held
        for entry in entries
    )
