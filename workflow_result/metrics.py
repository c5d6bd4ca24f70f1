"""What is told to CloudWatch: of the journal, and of orders.

The functions tell it by AWS Powertools, the commands by a line of their log, where that is JSON or
CodeBuild's, in the embedded metric format
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
"""

import time
from collections.abc import Mapping, Sequence

from workflow_result.journal.record import Entry, State
from workflow_result.problem import say_object

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


def tell(counts: Mapping[str, float], seconds: Mapping[str, float]) -> None:
    """Tell these metrics in the log."""
    units = dict.fromkeys(counts, "Count") | dict.fromkeys(seconds, "Seconds")
    told = [{"Name": name, "Unit": unit} for name, unit in units.items()]
    directive = {"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": told}
    say_object(
        {
            "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]},
            **counts,
            **seconds,
        }
    )


def tell_reported(since: float) -> None:
    """Tell in the log that an order was reported; it came at `since`, in seconds since 1970."""
    tell({"Reported": 1}, {"SecondsToReport": max(time.time() - since, 0.0)})
