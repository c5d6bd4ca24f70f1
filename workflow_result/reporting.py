"""Reporting: what is owed goes to disk before it goes to AWS, and is struck off after.

Brings `journal` and `delivery` together, which know nothing of each other.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from workflow_result.delivery import Delivery, NotDelivered
from workflow_result.journal import Entry, Journal, JournalProblem
from workflow_result.problem import ExitCode, Problem, Style, say
from workflow_result.request import Request

AT_ONCE = 8
"""Results that `resend` sends at the same time."""


class Reporter:
    """Reports results with a journal where there is one, and all the same where there is none.

    Raises `JournalProblem` where the journal can be read by others. Every other fault of it is
    told as a warning: the result is worth more than the journal.
    """

    def __init__(self, journal_path: Path, delivery: Delivery) -> None:
        self._delivery = delivery
        self._journal: Journal | None = None
        with self._without_journal():
            self._journal = Journal(journal_path)

    def is_reported(self, request: Request) -> bool:
        """Whether the journal knows that this very request was reported."""
        with self._without_journal():
            return self._journal is not None and self._journal.is_reported(request)
        return False

    def begin(self, if_it_dies: Request) -> str | None:
        """Enter a run: `if_it_dies` is owed if this process ends before `report`."""
        with self._without_journal():
            if self._journal:
                return self._journal.begin(if_it_dies, self._delivery.region)
        return None

    def report(self, request: Request, instead_of: str | None = None) -> None:
        """Report a result, instead of the run that `begin` entered where there was one.

        Returns when Service Catalog has it. Raises `Problem` where it has not.
        """
        digest = None
        with self._without_journal():
            if self._journal:
                digest = self._journal.owe(request, self._delivery.region, instead_of)
        try:
            self._delivery.send(request)
        except NotDelivered as error:
            with self._without_journal():
                if self._journal and digest:
                    put_back(self._journal, digest, error)
            raise _problem(request, error, saved=bool(self._journal and digest)) from error
        with self._without_journal():
            if self._journal and digest:
                self._journal.settle([digest])

    def close(self) -> None:
        """Give up what this process owns in the journal."""
        if self._journal:
            self._journal.close()

    @contextmanager
    def _without_journal(self) -> Iterator[None]:
        """Go on without the journal where it cannot be used."""
        try:
            yield
        except JournalProblem as problem:
            if problem.exposed:
                raise
            self._journal = None
            say(f"warning: {problem.lines[0]}; going on without it", Style.YELLOW)


def resend(journal: Journal, delivery: Delivery, region: str | None, *, progress: bool) -> ExitCode:
    """Send everything that is owed, in `region` or else in the region that it is meant for.

    Says what became of it; `progress` also while it happens. Returns DONE when nothing is owed
    any more, else NOT_DELIVERED.
    """
    claimed = journal.claim()
    for needed in {region or entry.region for entry, _ in claimed}:
        delivery.connect(needed)
    waiting: dict[Future[None], tuple[Entry, Request]] = {}
    reported = refused = 0

    def take(done: Iterable[Future[None]]) -> None:
        nonlocal reported, refused
        delivered = []
        for future in done:
            entry, request = waiting.pop(future)
            try:
                future.result()
                delivered.append(entry.digest)
            except NotDelivered as error:
                put_back(journal, entry.digest, error)
                refused += error.refused
                say(_problem(request, error, saved=True).lines[0])
        if delivered:  # in one transaction: each costs a few syncs of the disk
            journal.settle(delivered)
            reported += len(delivered)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for entry, request in claimed:
            waiting[pool.submit(delivery.send, request, region or entry.region)] = (entry, request)
        try:
            while waiting:
                take(wait(waiting, return_when=FIRST_COMPLETED).done)
                if progress:
                    say(f"{len(claimed) - len(waiting)} of {len(claimed)} sent", end="\r")
        finally:  # interrupted: what is under way comes to its end
            pool.shutdown(cancel_futures=True)
            take([future for future in waiting if future.done() and not future.cancelled()])
    still_owed = [entry for entry in journal.pending() if entry.state == "owed"]
    say(f"{reported} reported, {refused} refused, {len(still_owed)} still owed")
    return ExitCode.NOT_DELIVERED if still_owed else ExitCode.DONE


def put_back(journal: Journal, digest: str, error: NotDelivered) -> None:
    """Note in the journal why a result was not delivered."""
    if error.refused:
        journal.refuse(digest, error.cause)
    else:
        journal.keep(digest, error.cause)


def _problem(request: Request, error: NotDelivered, *, saved: bool) -> Problem:
    record_id = request.members["RecordId"]
    if error.refused:
        return Problem(
            ExitCode.REFUSED,
            f"{record_id}: Service Catalog refused the result for good: {error.cause}; check the "
            "region, the account, RecordId and WorkflowToken, and whether another result was "
            "reported before. "
            + ("It is kept as refused and not sent again" if saved else "It is not saved"),
        )
    state = "not known to be reported" if error.sent else "not reported"
    return Problem(
        ExitCode.NOT_DELIVERED,
        f"{record_id}: {state}: {error.cause}. "
        + (
            "It is saved: `resend` sends it"
            if saved
            else "It is not saved: run the same command again, it reports nothing twice"
        ),
    )
