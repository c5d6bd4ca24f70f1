"""What doctor looks at. Each check looks at one thing, and changes nothing.

It takes the set-up and returns what it has found; what it raises is a fault.
"""

import importlib.util
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from workflow_result.account import Account
from workflow_result.delivery import Delivery
from workflow_result.journal import Journal
from workflow_result.journal.place import Table, open_journal
from workflow_result.journal.record import Entry, State
from workflow_result.journal.store import JournalProblem, NoJournal
from workflow_result.request import Draft, check
from workflow_result.schemas import API_OPERATIONS
from workflow_result.undelivered import NotDelivered, not_delivered

PACKAGES = ("boto3", "jsonschema", "platformdirs", "regress", "tree_sitter", "tree_sitter_hcl")
"""All but click, without which there is no command."""

SKEW = 60.0
MOST_SKEW = 300.0
"""Seconds by which a clock may be wrong: AWS refuses signatures that are five minutes off
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html)."""

RECORD = "rec-doctor"
"""A record that Service Catalog does not have."""


class Health(StrEnum):
    """How it is with what was looked at."""

    FINE = "fine"
    WARNING = "warning"
    FAULT = "fault"


Found = tuple[Health, str]


@dataclass(frozen=True)
class Setup:
    """What is looked at: as the commands have it, from options and the environment.

    `journal` returns its place, or raises `Problem`.
    """

    delivery: Delivery
    journal: Callable[[], Path | Table]
    terraform: str
    probe: bool

    @property
    def account(self) -> Account:
        return self.delivery.account


class Children:
    """The children of a check, one after the other, of which none outlives the looking."""

    def __init__(self) -> None:
        self._group = 0
        self._is_over = False
        self._turn = threading.Lock()

    def watch(self, group: int) -> None:
        """See to this one, a group of processes; 0 where it has ended."""
        with self._turn:
            self._group = group
            self._kill()

    def end(self) -> None:
        """End it with all that it has started, and what comes after it as soon as it begins."""
        with self._turn:
            self._is_over = True
            self._kill()

    def _kill(self) -> None:
        if self._is_over and self._group:
            with suppress(OSError):
                os.killpg(self._group, signal.SIGKILL)


# --- this machine ---------------------------------------------------------------------------


def python(_: Setup) -> Found:
    """The version, and whether a package is missing."""
    missing = [name for name in PACKAGES if not _is_there(name)]
    version = f"{platform.python_version()}, {sys.executable}"
    if missing:
        return Health.FAULT, f"{version} lacks {', '.join(missing)}: `make venv` installs them"
    return Health.FINE, f"{version}, no package is missing"


def _is_there(package: str) -> bool:
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec(package) is not None
    return False


def terraform(setup: Setup, children: Children) -> Found:
    """What would be run: its version, and whether tags arrive there."""
    from workflow_result.engine import tags
    from workflow_result.engine.process import Stopper
    from workflow_result.engine.program import Program

    name = setup.terraform
    if not shutil.which(name):
        return Health.WARNING, f"{name} was not found: `run` and `worker` need it, or --terraform"
    program = Program(name, Path(), Stopper(deque(), None), children.watch)
    program.environment = os.environ
    version = program.version()
    if not version:
        by_hand = f"run `{name} version -json` by hand, or name another one"
        return Health.FAULT, f"{name} tells no version: {by_hand}"
    if version.needed:
        return Health.FAULT, f"{version} is too old: install {version.needed} or later"
    if tags.drops_tags(program):
        return Health.FAULT, (
            f"{name} is a script whose shell drops variables with hyphens, and the order's tags "
            "with them: have bash run it"
        )
    return Health.FINE, str(version)


# --- AWS ------------------------------------------------------------------------------------


def region(setup: Setup) -> Found:
    """Whether there is one."""
    if region := setup.account.region:
        return Health.FINE, region
    return Health.FAULT, "none: set AWS_REGION, or give --region"


def credentials(setup: Setup) -> Found:
    """Whose they are. A sandbox alone is no reason to ask AWS."""
    from workflow_result.client import settings

    region = setup.account.region or "us-east-1"
    client, sources = setup.account.client("sts", region, None, settings("sts"))
    sources.fetch()
    elsewhere = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_STS")
    if setup.delivery.destination == "sandbox" and not elsewhere:
        return Health.FINE, f"from {sources.asked}; whose they are is not asked for a sandbox"
    who = client.get_caller_identity()
    return Health.FINE, f"{who['Arn']}, from {sources.asked}"


def endpoint(setup: Setup) -> Found:
    """Whether Service Catalog answers, and whether this machine's clock agrees with it."""
    from email.utils import parsedate_to_datetime

    from botocore.exceptions import ClientError

    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and not Path(bundle).exists():
        return Health.FAULT, f"AWS_CA_BUNDLE names {bundle}, which is not there"
    client = setup.delivery.api()
    url = client.meta.endpoint_url
    try:
        answer: dict[str, Any] = client.describe_record(Id=RECORD)
    except ClientError as error:  # an answer, too
        answer = dict(error.response)
        cause = not_delivered(error, called=True)
        if not cause.refused and answer["Error"]["Code"] not in _NOT_ALLOWED:
            return Health.FAULT, f"{url}: {cause.cause}"
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    text = f"{url} answers"
    if setup.delivery.destination == "aws" and (proxy := _proxy(url)):
        text += f" over the proxy {proxy}"
    if not date:
        return Health.FINE, text
    health, told = _clock(time.time() - parsedate_to_datetime(date).timestamp())
    return health, text + told


def _clock(off: float) -> Found:
    """What it means that this machine's clock is so many seconds ahead of another one."""
    if abs(off) > MOST_SKEW:
        return Health.FAULT, f"; this machine's clock is {off:+.0f} s off: set it"
    if abs(off) > SKEW:
        return Health.WARNING, f"; this machine's clock is {off:+.0f} s off"
    return Health.FINE, "; its clock agrees with this machine's"


def _proxy(url: str) -> str | None:
    """Return the proxy over which botocore asks `url`, without the credentials in it, or None."""
    from botocore.httpsession import ProxyConfiguration
    from botocore.utils import get_environ_proxies

    proxy = ProxyConfiguration(get_environ_proxies(url)).proxy_url_for(url)
    if not proxy:
        return None
    scheme, _, place = proxy.partition("//")
    return f"{scheme}//{place.rpartition('@')[2]}"


_NOT_ALLOWED = ("AccessDenied", "AccessDeniedException")
"""Who may not look may report all the same: `permission` tells."""


def permission(setup: Setup) -> Found:
    """What AWS says to results for a record that cannot be: they are in CloudTrail."""
    members = {"WorkflowToken": "doctor-probe", "RecordId": RECORD, "Status": "FAILED"}
    members["FailureReason"] = "A probe of `doctor`."
    causes: dict[str, str] = {}
    for operation in API_OPERATIONS:
        try:
            setup.delivery.send(check(Draft(members), operation))
        except NotDelivered as error:
            if not error.refused:
                causes[operation] = error.cause
    if causes:
        return Health.FAULT, f"{', '.join(causes)}: {next(iter(causes.values()))}"
    return Health.FINE, "results may be reported"


# --- what is kept ---------------------------------------------------------------------------


def journal(setup: Setup) -> Found:
    """Who can get at it, what is owed; key, index and clock of a table."""
    place = setup.journal()
    name = f"dynamodb://{place.name}" if isinstance(place, Table) else str(place)
    try:
        journal = open_journal(place, setup.account, change=False)
    except NoJournal:
        return Health.FINE, f"{name}: none yet, the first result makes it"
    health, text = _owed(journal.pending(), journal.now())
    text = f"{name}: {text}"
    if not isinstance(place, Table):
        return health, text
    seen = "key and index are" if _has_key(journal) else "index is"
    of_clock, told = _clock(time.time() - journal.now())
    return max(health, of_clock, key=list(Health).index), f"{text}; its {seen} right{told}"


def _has_key(journal: Journal) -> bool:
    """Whether the table's key is right; False where it may not be looked at.

    Raises `JournalProblem` where it is wrong.
    """
    try:
        journal.look(RECORD, "aws")
    except JournalProblem as problem:
        answer = getattr(problem.__cause__, "response", {})
        if answer.get("Error", {}).get("Code") in _NOT_ALLOWED:
            return False
        raise
    return True


def _owed(entries: Sequence[Entry], now: float) -> Found:
    told = list(_told(entries))
    if not told:
        return Health.FINE, "nothing is owed"
    minutes = (now - min(entry.since for entry in entries)) / 60
    age = f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
    text = f"{', '.join(told)}, the oldest for {age}"
    states = {entry.state for entry in entries}
    if State.REFUSED in states:
        return Health.FAULT, f"{text}: `pending` shows why they were refused"
    if State.OWED in states:
        return Health.WARNING, f"{text}: `resend` sends what is owed"
    return Health.FINE, text


def _told(entries: Sequence[Entry]) -> Iterator[str]:
    for state in State:
        if count := sum(entry.state == state for entry in entries):
            yield f"{count} {state}"


def state_bucket(setup: Setup) -> Found:
    """Whether it can be read, where one is named."""
    from workflow_result.engine.state_bucket import StateBucket

    name = os.environ.get("WORKFLOW_RESULT_STATE_BUCKET")
    if not name:
        return Health.FINE, "none named; `worker` needs one"
    StateBucket(name, setup.account).check()
    return Health.FINE, f"{name} can be read"
