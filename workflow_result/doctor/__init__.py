"""What is wrong with a set-up, before it makes an order hang.

All `checks` run side by side: one that does not come to an end is a finding itself.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from workflow_result.aside import Aside
from workflow_result.doctor import checks
from workflow_result.doctor.checks import Found, Health, Setup
from workflow_result.problem import Problem
from workflow_result.undelivered import ADVICE, NotDelivered, not_delivered

PATIENCE = 2.5
"""Seconds within which every check has to end."""

MOMENT = 0.3
"""Seconds for what was ended to be gone, with its files."""

_ADVICE = ADVICE | {"EndpointConnection": "check the network and the endpoint"}


@dataclass(frozen=True)
class Finding:
    """What a check has found: `text`, in one line; what to do is in it where there is a fault."""

    check: str
    health: Health
    text: str


def examine(setup: Setup) -> list[Finding]:
    """Return what every check has found, in their order, within `PATIENCE` and a moment."""
    deadline = time.monotonic() + PATIENCE
    children = checks.Children()
    looks: dict[str, tuple[Callable[[Setup], Found], str]] = {
        "python": (checks.python, "see what slows this machine down"),
        "terraform": (
            partial(checks.terraform, children=children),
            "run `terraform version` by hand",
        ),
        "region": (checks.region, "check the AWS config file"),
        "credentials": (
            checks.credentials,
            "check what gives the AWS credentials, and the network",
        ),
        "endpoint": (checks.endpoint, "check the network, HTTPS_PROXY and NO_PROXY"),
        "journal": (checks.journal, "check the disk, or the network"),
        "state bucket": (checks.state_bucket, "check the network"),
    }
    if setup.probe:
        looks["permission"] = (checks.permission, "check the network")
    started = {name: Aside(partial(look, setup)) for name, (look, _) in looks.items()}
    try:
        return [
            Finding(name, *_result(started[name], deadline, advice))
            for name, (_, advice) in looks.items()
        ]
    finally:
        children.end()
        started["terraform"].ends_within(MOMENT)


def _result(work: Aside[Found], deadline: float, advice: str) -> Found:
    if not work.ends_within(max(deadline - time.monotonic(), 0)):
        return Health.FAULT, f"no answer within {PATIENCE:g} seconds: {advice}"
    try:
        return work.result()
    except Problem as problem:
        return Health.FAULT, "; ".join(problem.lines)
    except NotDelivered as error:
        return Health.FAULT, error.cause
    except Exception as error:
        return Health.FAULT, _cause(error)


def _cause(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error}: `make venv` installs what is missing"
    try:
        return not_delivered(error, called=False, advice=_ADVICE).cause
    except ModuleNotFoundError:  # botocore is missing, so it is no error of its
        return str(error)
