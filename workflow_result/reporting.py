"""Reporting: what is owed goes to disk before it goes to AWS, and is struck off after.

Brings `journal` and `delivery` together, which know nothing of each other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from workflow_result.delivery import Delivery
from workflow_result.journal import Journal
from workflow_result.journal.record import Entry, State, digest_for
from workflow_result.journal.store import JournalProblem
from workflow_result.problem import ExitCode, Problem, Style, say
from workflow_result.request import Request
from workflow_result.undelivered import NotDelivered

DEFECT = "a defect of this program: `notify --debug` shows it"
"""Why a result is still owed that was never sent, though nothing was wrong with it."""


_ARTICLES = {"provision": "a", "update": "an", "terminate": "a"}


class Reporter:
    """Reports results with a journal where there is one, and all the same where there is none.

    `open_journal` returns it, or is None. Raises `JournalProblem` where others can get at it. Every
    other fault of it is told as a warning: the result is worth more than the journal. Only a run is
    not begun where a journal that machines share cannot be used: another one may be at it.
    """

    def __init__(self, open_journal: Callable[[], Journal] | None, delivery: Delivery) -> None:
        self.delivery = delivery
        self.is_owed = False
        """Whether the result is in the journal, to be delivered from there."""
        self.is_elsewhere = False
        """Whether another process runs it."""
        self._journal: Journal | None = None
        self._run: Entry | None = None
        self.applies = False
        """Whether the run has begun to change things."""
        self._stopped = False
        self._warned = False
        with self._without_journal():
            self._journal = open_journal and open_journal()

    def begin(
        self, if_it_dies: Request, lost: Callable[[str], None], *, of_waiting: bool = True
    ) -> Entry | None:
        """Enter a run: `if_it_dies` is owed if this process ends before `report`.

        Where it is not to be one `of_waiting`, an order that waits for a build is left to that.

        Returns None where it is to go on. `lost` is called then, from another thread, with the
        reason, should it not be certain any more that the run is this process's. Returns the entry
        of the record's result where one was reported before, or is now: FAILED, after a run that
        died while it applied. Raises `Problem` where there is a run that goes on, or a result that
        is owed, or where a shared journal cannot be used. None of these is run again.
        """
        entry = None
        with self._without_journal("nothing was run"):
            if self._journal:
                entry = self._journal.begin(
                    if_it_dies,
                    self.delivery.destination,
                    self.delivery.region,
                    of_waiting=of_waiting,
                )
        if entry is None:
            return None
        if entry.own and entry.state == State.RUNNING:
            self._run = entry

            def stopped(reason: str) -> None:
                self._stopped = True
                lost(reason)

            if self._journal:
                self._journal.stay_alive(stopped)
            return None
        if entry.own:
            say(f"{entry.record_id}: an earlier run of it died; that is FAILED, nothing was run")
            self._deliver(if_it_dies, entry)
        elif entry.state == State.REPORTED and entry.operation == if_it_dies.operation:
            say(f"{entry.record_id}: reported before, says the journal; nothing was run")
        else:
            same = entry.operation == if_it_dies.operation
            self.is_owed = entry.state == State.OWED and same
            self.is_elsewhere = entry.state == State.RUNNING and same
            raise _in_the_way(entry, if_it_dies, of_run=True)
        return entry

    def applying(self) -> None:
        """Note that the run begins to change things: from now on it is FAILED if it dies.

        Raises `Problem` where it is not to: it is another process's by now, or that is not known.
        """
        with self._without_journal("nothing was applied"):
            if self._journal and self._run:
                is_own = self._journal.applying(self._run)
                # It may have been frozen before it got the answer.
                if not is_own or self._journal.is_lost():
                    raise _lost(self._run.record_id, "nothing was applied")
        self.applies = True

    def has_ended(self, record_id: str) -> bool:
        """Whether the run of a record has; of the record that has begun here, an earlier one.

        Where the journal has none of it, or other machines do not share it: no.
        """
        if self._run and self._run.record_id == record_id:
            return self._journal is not None and self._journal.is_shared
        entry = None
        with self._without_journal():
            if self._journal:
                entry = self._journal.look(record_id, self.delivery.destination)
        return entry is not None and entry.state != State.RUNNING

    def let_go(self) -> None:
        """Let the run that `begin` entered be run again: it has changed nothing.

        Where the journal is shared, its message may be nowhere else: it is FAILED if nobody runs
        it.
        """
        if self._journal and self._journal.is_shared:
            self._give_back()
        else:
            self._abandon()

    def report(self, request: Request) -> bool:
        """Report a result, instead of the run that `begin` entered where there was one.

        It is in the journal before anything else is done for it. Returns when Service Catalog has
        it, and whether it was sent now. Raises `Problem` where Service Catalog has not, or where
        something stands against this result. A run that has changed nothing reports nothing where
        it was stopped since it may not be this process's any more, or where its result cannot be
        entered into a shared journal: its message comes again.
        """
        entry, run = None, self._run
        if run and self._stopped and not self.applies:
            self._give_back()  # FAILED after all where its message does not come again
            raise _lost(run.record_id, "nothing was applied")
        with self._without_journal():
            if self._journal:
                entry = self._journal.owe(
                    request, self.delivery.destination, self.delivery.region, run
                )
        if entry is None and run and self._journal:
            may_come_again = self._journal.is_shared and not self.applies
            if may_come_again or self._journal.is_lost():
                raise _lost(run.record_id, "nothing was reported")
        if entry is None or entry.own:
            self._deliver(request, entry)
            return True
        if entry.state == State.REPORTED and entry.digest == digest_for(request, entry.destination):
            return False  # another process was faster, or an earlier one
        if run:
            raise _lost(run.record_id, "nothing was reported")
        raise _in_the_way(entry, request, of_run=False)

    def _deliver(self, request: Request, entry: Entry | None) -> None:
        """Send what `entry` owes, or what could not be entered."""
        try:
            self.delivery.send(request)
        except NotDelivered as error:
            kept = "It is saved: `resend` sends it"
            if not entry:
                kept = self._not_saved(request, error)
            with self._without_journal():
                if self._journal and entry:
                    now = put_back(self._journal, entry, error)
                    self.is_owed = not error.refused
                    if now and now.state == State.REPORTED:
                        kept = f"It stays reported as {now.status or 'it was'}"
                    elif error.refused:
                        kept = "It is kept as refused and not sent again"
            raise _problem(request, error, kept) from error
        except Exception:
            with self._without_journal():
                if self._journal and entry:
                    self._journal.keep(entry, DEFECT)
                    self.is_owed = True
            raise
        with self._without_journal():
            if self._journal and entry:
                self._journal.settle([entry])
            elif self._journal:
                self._journal.sent(request, self.delivery.destination)

    def _not_saved(self, request: Request, error: NotDelivered) -> str:
        """See to the run whose result could be neither entered nor delivered; say what is left."""
        if error.refused:
            self._abandon()
            return "It is not saved"
        # What Service Catalog may have as FAILED is not built after that.
        if not (error.sent and request.members["Status"] == "FAILED"):
            self._give_back()
        return "It is not saved: `notify` the same again, it reports nothing twice"

    def _abandon(self) -> None:
        with self._without_journal():
            if self._journal and self._run:
                self._journal.abandon(self._run)

    def _give_back(self) -> None:
        with self._without_journal():
            if self._journal and self._run:
                self._journal.give_back(self._run)

    def close(self) -> None:
        """Give up what this process owns in the journal."""
        if self._journal:
            self._journal.close()

    @contextmanager
    def _without_journal(self, stopped: str = "") -> Iterator[None]:
        """Go on without the journal where it cannot be used.

        Where it is shared, and that is named which is `stopped` by it, raise `Problem` instead.
        """
        try:
            yield
        except JournalProblem as problem:
            if problem.exposed:
                raise
            line = problem.lines[0]
            if stopped and self._journal and self._journal.is_shared:
                raise Problem(problem.exit_code, f"{line}; {stopped}") from problem
            if self._journal:  # one wait is enough; later steps may work all the same
                self._journal.wait_no_longer()
            if not self._warned:
                say(f"warning: {line}; going on without it", Style.YELLOW)
            self._warned = True


def put_back(journal: Journal, entry: Entry, error: NotDelivered) -> Entry | None:
    """Note in the journal why a result was not delivered.

    Returns what the journal has then where Service Catalog has refused it; None where it is owed
    still, or another process has seen to it.
    """
    if error.refused:
        return journal.refuse(entry, error.cause)
    journal.keep(entry, error.cause)
    return None


def _lost(record_id: str, was: str) -> Problem:
    """The run of this process is not its own any more."""
    line = f"{record_id}: another process may have taken over its run by now; {was}"
    return Problem(ExitCode.NOT_DELIVERED, line)


def _in_the_way(entry: Entry, request: Request, *, of_run: bool) -> Problem:
    """Why `entry` does not let a run begin, or the result `request` be sent."""
    record_id, was = entry.record_id, "nothing was run" if of_run else "nothing was sent"
    if entry.operation != request.operation:
        kinds = [f"{_ARTICLES[o]} {o}" for o in (entry.operation, request.operation)]
        check = was if of_run else "check --operation"
        line = f"{record_id}: the journal has it as {kinds[0]}, not {kinds[1]}: {check}"
        return Problem(ExitCode.INVALID, line)
    if entry.state == State.RUNNING:
        line = f"{record_id}: another process runs Terraform for it; {was}"
        if not of_run:
            line += ". Where that hangs, end it, and notify this one again"
    elif entry.state == State.WAITING:
        line = f"{record_id}: it waits for a build; {was}"
    elif entry.state == State.REFUSED:
        line = (
            f"{record_id}: an earlier run of it died, and Service Catalog refused that result; "
            f"{was}. If it has none of this record, `forget {record_id}` lets it be run again"
        )
        return Problem(ExitCode.REFUSED, line)
    elif entry.held and entry.presumed:
        line = f"{record_id}: another process reports that its run died; {was}"
    elif of_run:
        line = f"{record_id}: its result is owed, `resend` sends it; {was}"
    else:
        line = (
            f"{record_id}: another result of it is owed, {entry.status}: `resend` sends it; {was}. "
            f"If that one is wrong, `forget {record_id}` and notify this one again"
        )
    return Problem(ExitCode.NOT_DELIVERED, line)


def _problem(request: Request, error: NotDelivered, kept: str) -> Problem:
    record_id = request.members["RecordId"]
    if error.refused:
        return Problem(
            ExitCode.REFUSED,
            f"{record_id}: Service Catalog refused the result for good: {error.cause}; check the "
            "region, the account, RecordId and WorkflowToken, and whether another result was "
            f"reported before. {kept}",
        )
    state = "not known to be reported" if error.sent else "not reported"
    return Problem(ExitCode.NOT_DELIVERED, f"{record_id}: {state}: {error.cause}. {kept}")
