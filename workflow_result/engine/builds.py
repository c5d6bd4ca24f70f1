"""Orders that wait for a build: started, looked for, and ended where their build has ended.

The journal has each order from when its message was taken. Nothing here decides by itself that an
order has not ended: see `journal.waiting` and `journal.moves` for what stands against what.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from workflow_result.delivery import Delivery
from workflow_result.engine import message as messages
from workflow_result.engine.codebuild import Build, CodeBuild, NotStarted
from workflow_result.engine.message import Message, Unusable
from workflow_result.engine.order import end_failed
from workflow_result.failure_reason import fit, with_log
from workflow_result.journal import Journal
from workflow_result.journal.record import Entry, State
from workflow_result.journal.store import JournalProblem
from workflow_result.journal.waiting import Waiting
from workflow_result.problem import ExitCode, Problem, Style, about, say
from workflow_result.reporting import Reporter
from workflow_result.request import Draft, Request, check

REFUSED_SECONDS = 60 * 60
"""How long CodeBuild may refuse a build for an order, though there is room, before it is FAILED:
whoever runs the engine has that time to set it up again. For want of room it waits without end."""

REFUSALS = 10
"""How often it has to be refused in that time: one that is seldom tried is not given up early."""

ENOUGH = 20.0
"""Seconds that a function has to have left to begin another order."""

_AGAIN = "Order it again; where that happens twice, tell whoever runs the engine."

NEVER_BEGUN = f"The engine did not begin this order. Nothing was run. {_AGAIN}"
NEVER_TAKEN = (
    "The engine could not take this order from its queue, though it tried several times. Nothing "
    f"was run. {_AGAIN}"
)
NEVER_APPLIED = f"The engine's run of this order died. Nothing was applied. {_AGAIN}"
_NO_TIME = "the function had no time left"


@dataclass
class Builds:
    """Sees to orders in the `journal`, with builds of `codebuild`; reports through `delivery`.

    `time_left` says how many seconds are left for that, `now` what time it is, in seconds since
    1970. With `log_link` the last line of a reason names the build's log. Not for use from several
    threads.
    """

    journal: Journal
    delivery: Delivery
    codebuild: CodeBuild
    time_left: Callable[[], float]
    now: Callable[[], float] = time.time
    log_link: bool = False
    refused: int = 0
    """How often CodeBuild refused to start a build, though there is room, or to tell of one."""
    reported: int = 0
    """How many orders were reported FAILED."""
    _own: dict[str, tuple[Entry, Waiting]] = field(default_factory=dict)
    _no_room: str | None = None
    """Why no more builds are asked for."""

    # --- messages ---------------------------------------------------------------------------

    def take(self, body: str) -> None:
        """Enter the order of a message: `start` asks for its build. A duplicate changes nothing.

        An order whose message is wrong is ended. Raises `Problem` where the message has to come
        again, or (INVALID) cannot be answered.
        """
        message = _read(body)
        with about(_record_id(message)):
            self._take(message, body)

    def _take(self, message: Message | Unusable, body: str) -> None:
        if isinstance(message, Unusable):
            self._end(message)
            return
        request = message.result([], NEVER_BEGUN)
        try:
            entry = self.journal.wait(
                request, self.delivery.destination, self.delivery.region, body
            )
        except JournalProblem:
            self.journal.wait_no_longer()  # one wait is enough for all messages
            raise
        if entry.operation != message.operation:
            line = f"{entry.record_id}: the journal has it as {entry.operation}, not as "
            raise Problem(ExitCode.INVALID, f"{line}{message.operation}: nothing was started")
        if entry.own and entry.state == State.WAITING:
            self._own[entry.record_id] = entry, Waiting(body)
        else:
            say(f"{entry.record_id}: {entry.state} already, nothing was started")

    def dead_letter(self, body: str) -> None:
        """End an order FAILED whose message is in the dead-letter queue, and that nobody sees to.

        Raises `Problem` where the message has to stay there: it cannot be answered (INVALID), or
        the journal cannot be used.
        """
        message = _read(body)
        record_id = _record_id(message)
        with about(record_id):
            # The FAILED of a run that died while it applied is owed: it is delivered as it is.
            entry = self.journal.look(record_id, self.delivery.destination)
            if entry and entry.state != State.DIED:
                say(f"{record_id}: {entry.state}, its message in the dead-letter queue is nothing")
                return
            if isinstance(message, Message):
                message = Unusable(message.result([], NEVER_APPLIED if entry else NEVER_TAKEN), ())
            self._end(message, of_waiting=False)

    # --- builds -----------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for builds for what is due, oldest first, and for what this process has taken.

        An order whose build has ended without beginning it is ended; one that waits for its build
        waits on. Ends when there is no room for more builds, or no time.
        """
        try:
            for order in self.journal.pending():
                if order.due and order.destination == self.delivery.destination:
                    if self._is_over():
                        break
                    if taken := self.journal.take(order):
                        with about(order.record_id, order.operation):
                            self._see_to(*taken)
        except JournalProblem as problem:
            say(f"warning: {problem.lines[0]}", Style.YELLOW)
            self.journal.wait_no_longer()
        for entry, waiting in self._own.values():
            self._is_over()
            try:
                with about(entry.record_id, entry.operation):
                    self._start(entry, waiting)
            except JournalProblem as problem:  # due again, once nobody claims it any more
                say(f"warning: {problem.lines[0]}", Style.YELLOW)
        self._own.clear()

    def ended(self, build: Build) -> None:
        """See to the order of a build that has ended: it is FAILED where it has no result.

        Raises `JournalProblem`.
        """
        if build.record and build.has_ended:
            with about(build.record):
                self._ended(build, build.record)

    def _ended(self, build: Build, record_id: str) -> None:
        place = record_id, self.delivery.destination
        before = self.journal.look(*place)
        self.journal.bury(build.id)
        entry, content = self.journal.content(*place)
        if not (before and entry):
            return
        if entry.state == State.WAITING:
            its = isinstance(content, Waiting) and content.build in (None, build.id)
            if its and not build.found_no_room:  # else `start` finds it when it is due
                self._fail(entry, content, self._never_began(build))
            return
        # What died before it applied was most likely its run, and nobody brings the message again.
        its = before.held or entry.state == State.DIED
        if its and not entry.held and isinstance(content, Request):
            if entry.state == State.DIED or entry.presumed:
                content = _with_reason(content, self._ended_early(build, entry))
            try:
                Reporter(lambda: self.journal, self.delivery).report(content)
                self.reported += 1
            except Problem as problem:  # owed, or somebody else sees to it
                _tell(problem)

    def _is_over(self) -> bool:
        if not self._no_room and self.time_left() < ENOUGH:
            self._no_room = _NO_TIME
        return self._no_room is not None

    def _see_to(self, entry: Entry, waiting: Waiting | None) -> None:
        """See to an order that is this process's now, whatever was asked for before."""
        if waiting is None:
            cause = "its message in the journal is damaged"
            say(f"error: {entry.record_id}: {cause}: end it by hand", Style.RED)
            self.journal.asked(entry, cause=cause)
            return
        if waiting.build:
            try:
                build = self.codebuild.look(waiting.build)
            except NotStarted as error:
                self._tell_refusal(entry, "its build cannot be looked for", error)
                self.journal.asked(entry, waiting.build, error.cause)
                return
            if build and not build.has_ended:
                self.journal.asked(entry, waiting.build)
                return
            if build and not build.found_no_room:
                self._fail(entry, waiting, self._never_began(build))
                return
        self._start(entry, waiting)

    def _start(self, entry: Entry, waiting: Waiting) -> None:
        """Ask for a build for an order that is this process's."""
        if self._no_room:
            self.journal.asked(entry, cause=self._no_room)
            return
        try:
            build = self.codebuild.start(entry.record_id, entry.idempotency_token)
        except NotStarted as error:
            since = waiting.refused_since if waiting.refusals >= REFUSALS else None
            if error.refused and since is not None and self.now() - since >= REFUSED_SECONDS:
                reason = f"The engine could not start a build for this order: {error.cause}."
                self._fail(entry, waiting, fit(f"{reason} Nothing was run. {_AGAIN}")[0])
                return
            self._tell_refusal(entry, "no build was started", error)
            if not error.refused:
                self._no_room = error.cause
            self.journal.asked(entry, cause=error.cause, refused=error.refused)
            return
        say(f"{entry.record_id}: {build} carries it out")
        self.journal.asked(entry, build)

    def _tell_refusal(self, entry: Entry, what: str, error: NotStarted) -> None:
        self.refused += error.refused
        kind = "error" if error.refused else "warning"
        line = f"{kind}: {entry.record_id} waits, {what}: {error.cause}"
        say(line, Style.RED if error.refused else Style.YELLOW)

    # --- FAILED -----------------------------------------------------------------------------

    def _fail(self, entry: Entry, content: Waiting | Request | None, reason: str) -> None:
        """End an order that waits."""
        if not isinstance(content, Waiting):
            return
        try:
            message = _read(content.message)
            if isinstance(message, Message):
                message = Unusable(message.result([], reason), ())
            self._end(message)
        except Problem as problem:  # it waits still, and is due again
            _tell(problem)

    def _end(self, message: Unusable, *, of_waiting: bool = True) -> None:
        """Report an order FAILED, or have the journal owe that; `of_waiting` is `end_failed`'s.

        Raises `Problem` where neither comes about, nor anybody else sees to it.
        """
        try:
            reporter = Reporter(lambda: self.journal, self.delivery)
            end_failed(message, reporter, of_waiting=of_waiting)
            self.reported += 1
        except Problem as problem:
            _tell(problem)
            entry = self.journal.look(_record_id(message), self.delivery.destination)
            if entry is None or entry.state in (State.WAITING, State.DIED):
                raise

    def _never_began(self, build: Build) -> str:
        return self._reason(
            build, f"The build for this order {build.ending()}. Nothing was run. {_AGAIN}"
        )

    def _ended_early(self, build: Build, run: Entry) -> str:
        came = "how far Terraform came is not known" if run.presumed else "nothing was applied"
        text = f"The build that carried out this order {build.ending()}, so {came}."
        return self._reason(build, text)

    def _reason(self, build: Build, text: str) -> str:
        return with_log(fit(text)[0], build.log if self.log_link else None)


def _read(body: str) -> Message | Unusable:
    return messages.read(body.encode("utf-8", "surrogatepass"))


def _record_id(message: Message | Unusable) -> str:
    if isinstance(message, Message):
        return message.record_id
    record_id: str = message.request.members["RecordId"]
    return record_id


def _with_reason(request: Request, reason: str) -> Request:
    """The same result, for another reason."""
    members = dict(request.members) | {"FailureReason": reason}
    members.pop("IdempotencyToken")
    return check(Draft(members), request.operation)


def _tell(problem: Problem) -> None:
    for line in problem.lines:
        say(f"warning: {line}", Style.YELLOW)
