"""How it stands with an order that is under change: what is known of it, and what to do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from workflow_result.engine import message as messages
from workflow_result.engine.catalog import Order
from workflow_result.engine.dead_letters import DeadLetterQueue, Letter
from workflow_result.engine.executions import Execution
from workflow_result.engine.message import Message, Unusable
from workflow_result.journal.record import Entry
from workflow_result.journal.record import State as Known
from workflow_result.problem import Problem

Content = Message | Unusable
Found = tuple[DeadLetterQueue, Letter]


class State(StrEnum):
    """How it stands with an order."""

    YOUNG = "young"
    """It was placed, or something of it ended, not long ago: left alone."""
    ALIVE = "alive"
    """Somebody works on it: left alone."""
    OWED = "owed"
    """The journal has its result, or will have: left alone."""
    REPORTED = "reported"
    """Service Catalog has its result: there is nothing to end it with."""
    ENDABLE = "endable"
    """Nobody works on it, and its token was found."""
    LOST = "lost"
    """Nobody works on it as far as is known, and no token was found."""
    ENDED = "ended"
    """It was ended FAILED just now."""
    OVER = "over"
    """It has ended by itself meanwhile."""


HANGS = (State.OWED, State.REPORTED, State.ENDABLE, State.LOST)
"""What does not come to an end by itself, as far as is known here."""

RESEND = "`resend` sends it"
_APPLY = "`rescue --apply` ends it FAILED"
_SAY_SO = (
    f"{_APPLY} when you say so on a terminal: nothing tells whether somebody works on it, so name "
    "the engine's --state-machine or --journal"
)
_ELSEWHERE = (
    "see whether the engine takes messages, name its --state-machine or --dead-letter-queue, look "
    "for the message in its log and report it with `notify`, or ask AWS Support"
)
_STOP = "where it hangs, stop it, then run `rescue` again"
_SUPPORT = "Service Catalog has its result, and has not gone on: ask AWS Support"
_DIED = "its message comes again, or `resend` reports it FAILED"

_LOOK = "Some of its resources may have been made or changed all the same."


@dataclass(frozen=True)
class Finding:
    """What is known of an order, and what is left to do, each for a person in one line.

    Where it can be ended, `content` has its token, `reason` is the FailureReason, and `letters`
    are its messages. `seen`: something could tell whether somebody works on it. `refused`: Service
    Catalog has refused to end it.
    """

    order: Order
    state: State
    known: str
    to_do: str = ""
    content: Content | None = field(default=None, repr=False)
    reason: str = ""
    letters: tuple[Found, ...] = field(default=(), repr=False)
    seen: bool = True
    refused: bool = False


def in_catalog(order: Order, is_young: Callable[[float], bool]) -> Finding | None:
    """Return what Service Catalog tells of an order that is not for an engine to end, or not yet.

    `is_young` tells whether a time, in seconds since 1970, was not long ago.
    """
    if order.ended:
        known = f"its record ended {order.ended} on {_time(order.updated)}"
        if is_young(order.updated):
            return Finding(order, State.YOUNG, known)
        return Finding(order, State.REPORTED, known, _SUPPORT)
    if is_young(order.since):
        return Finding(order, State.YOUNG, "it was placed not long ago")
    return None


def in_journal(order: Order, entry: Entry, is_young: Callable[[float], bool]) -> Finding | None:
    """Return what the journal tells of an order; None where it has nothing that ends it."""
    since = _time(entry.since)
    match entry.state:
        case Known.REFUSED if entry.presumed:
            known = f"the FAILED of a run that died was refused: {entry.last_error}"
            to_do = f"if Service Catalog has no result of it, `forget {entry.record_id}`, and again"
            return Finding(order, State.LOST, known, to_do)
        case Known.REFUSED:
            return None
        case Known.OWED:
            known = f"its result is owed since {since}, {entry.status}"
            if entry.last_error:
                known += f": {entry.last_error}"
            return Finding(order, State.OWED, known, RESEND)
        case Known.DIED:
            known = f"its run of {since} died before it changed anything"
            return Finding(order, State.OWED, known, _DIED)
        case Known.REPORTED:
            known = f"{entry.status or 'its result'} was reported on {since}"
            if is_young(entry.since):
                return Finding(order, State.YOUNG, known)
            return Finding(order, State.REPORTED, known, _SUPPORT)
        case _:
            return Finding(order, State.ALIVE, f"the journal has it as {entry.state}")


def at_work(
    order: Order, executions: Sequence[Execution], is_young: Callable[[float], bool]
) -> Finding | None:
    """Return what the executions tell of an order on which somebody works, or has until lately."""
    for execution in executions:
        if execution.is_alive:
            known = f"the execution {execution.name} of {execution.machine} is {execution.status}"
            return Finding(order, State.ALIVE, known, _STOP)
    for execution in executions:
        # What it has reported last may be at work in Service Catalog.
        if execution.stopped is not None and is_young(execution.stopped):
            return Finding(order, State.YOUNG, f"{_ended(execution)}, not long ago")
    return None


def hanging(
    order: Order, executions: Sequence[Execution], letters: Sequence[Found], *, seen: bool
) -> Finding:
    """Return what is known of an order on which nobody works."""
    found = Finding(order, State.ENDABLE, "", _APPLY, letters=tuple(letters))
    unread: list[str] = []
    for execution in executions:
        content, why = _content(order, execution)
        if content:
            known = f"{_ended(execution)}, without a report"
            return replace(found, known=known, content=content, reason=_reason(execution))
        unread.append(f"{_ended(execution)}, and its input is of no use: {why}")
    if letters:
        queue, letter = letters[0]
        reason = (
            "The engine has not carried out this order: its message lies in the dead-letter queue "
            f"{queue.name}. {_LOOK}"
        )
        return replace(
            found,
            known="; ".join([*unread, f"its message is in the dead-letter queue {queue.name}"]),
            to_do=_APPLY if seen else _SAY_SO,
            content=letter.content,
            reason=_reason(executions[0]) if executions else reason,
            seen=seen,
        )
    known = "; ".join(unread) or "neither an execution nor a message of it was found"
    return Finding(order, State.LOST, known, _ELSEWHERE)


def _content(order: Order, execution: Execution) -> tuple[Content | None, str]:
    """Return the message that an execution was started with, or why it is none."""
    if execution.source is None:
        return None, execution.unread
    try:
        content = messages.read(execution.source.encode("utf-8", "surrogatepass"))
    except Problem as problem:
        return None, problem.lines[0]
    if content.record_id != order.record_id:
        return None, f"it is that of {content.record_id}"
    return content, ""


def _reason(execution: Execution) -> str:
    """Return the FailureReason of an order whose execution has ended.

    The same each time, so that ending it twice is ending it once.
    """
    if execution.status == "SUCCEEDED":
        return (
            f"The engine's execution {execution.name} came to its end on "
            f"{_time(execution.stopped)}, and its result was lost. What was ordered may be there "
            "all the same: nobody knows, so it counts as FAILED."
        )
    return f"The engine's execution {_how(execution)}, and nothing was reported. {_LOOK}"


def _ended(execution: Execution) -> str:
    return f"the execution {_how(execution)}"


def _how(execution: Execution) -> str:
    error = f" ({execution.error})" if execution.error else ""
    return f"{execution.name} {_ENDINGS.get(execution.status, execution.status)}{error} on " + (
        _time(execution.stopped)
    )


_ENDINGS = {
    "FAILED": "failed",
    "TIMED_OUT": "timed out",
    "ABORTED": "was aborted",
    "SUCCEEDED": "succeeded",
}


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).isoformat(timespec="seconds")
