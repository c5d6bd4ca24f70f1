"""What is told to CloudWatch of the journal."""

from collections.abc import Sequence

from workflow_result.journal.record import Entry, State

NAMESPACE = "WorkflowResult"

_COUNTED = {
    "Owed": State.OWED,
    "Refused": State.REFUSED,
    "Running": State.RUNNING,
    "Waiting": State.WAITING,
}
_AGED = ("Owed", "Running", "Waiting")


def of_journal(entries: Sequence[Entry], now: float) -> tuple[dict[str, int], dict[str, float]]:
    """Return how many there are of each state, and how long the oldest is there, in seconds.

    `now` is in seconds since 1970. A run that died and may be run again is none of them.
    """
    since = {
        name: [entry.since for entry in entries if entry.state == state]
        for name, state in _COUNTED.items()
    }
    counts = {name: len(times) for name, times in since.items()}
    ages = {f"Oldest{name}": max(0.0, now - min(since[name], default=now)) for name in _AGED}
    return counts, ages
