"""Where a journal is: a file, or a table that machines share; and how it is opened."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from workflow_result.account import Account
from workflow_result.journal import Journal
from workflow_result.journal.store import Store
from workflow_result.problem import ExitCode, Problem

LEASE = 300
"""Seconds for which a run counts as alive after its last sign of life, unless it is said."""

SHORTEST_LEASE = 10
LONGEST_LEASE = 12 * 60 * 60

_NAME = r"[A-Za-z0-9_.-]{3,255}"
"""https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html"""


@dataclass(frozen=True)
class Table:
    """A DynamoDB table, in `region` or else in that of the AWS settings; `lease` in seconds."""

    name: str
    lease: int = LEASE
    region: str | None = None


def parse(named: str) -> Path | Table:
    """Return the journal that is named: the path of a file, or `dynamodb://TABLE`.

    Raises `Problem` (SETUP) where it is neither.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", named)
    if not scheme:
        if re.match("(?i)dynamodb(:|/{2})", named):  # it would be a file, and nobody would notice
            line = f"the journal {named} cannot be used: for a table, name dynamodb://TABLE"
            raise Problem(ExitCode.SETUP, line)
        return Path(named)

    def problem(rule: str) -> Problem:
        return Problem(ExitCode.SETUP, f"the journal {named} cannot be used: {rule}")

    if scheme[1].lower() != "dynamodb":
        raise problem("name a file, or dynamodb://TABLE")
    name, _, query = named[scheme.end() :].partition("?")
    name = name.removesuffix("/")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    if not re.fullmatch(_NAME, name):
        raise problem(
            "after dynamodb:// comes the table's name: 3 to 255 letters, digits, _, . and -"
        )
    if unknown := settings.keys() - {"lease", "region"}:
        raise problem(f"after ? come lease and region, not {min(unknown)}")
    lease = settings.get("lease", str(LEASE))
    if not re.fullmatch("[0-9]{1,6}", lease) or not SHORTEST_LEASE <= int(lease) <= LONGEST_LEASE:
        raise problem(f"lease is a number of seconds, from {SHORTEST_LEASE} to {LONGEST_LEASE}")
    region = settings.get("region")
    if region is not None and not re.fullmatch("[a-z0-9-]+", region):
        raise problem("region is the name of an AWS region")
    return Table(name, int(lease), region)


def open_journal(
    place: Path | Table,
    account: Account | None = None,
    *,
    make: bool = True,
    change: bool = True,
) -> Journal:
    """Open the journal at `place`, which is made where it is a file that does not exist (`make`).

    A file that is not to `change` is neither made nor brought up to date, and can only be looked
    at. `account` has the region of a table that names none, and the credentials for it. Raises
    `JournalProblem` where it cannot be used, `NoJournal` where it does not exist and is not to be
    made. A table is not asked yet.
    """
    store: Store
    if isinstance(place, Table):
        from workflow_result.journal.dynamodb import DynamoDBStore

        account = account or Account(None, None)
        store = DynamoDBStore(place.name, place.lease, place.region, account)
    else:
        from workflow_result.journal.sqlite import SQLiteStore

        store = SQLiteStore(place, make=make, change=change)
    return Journal(store)
