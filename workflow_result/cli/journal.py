"""The commands for what the journal has: resend, pending, forget."""

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from workflow_result.cli.options import (
    JOURNAL_VARIABLE,
    Command,
    aws_options,
    debug_option,
    ends_like_ctrl_c,
    journal_option,
    journal_place,
)
from workflow_result.cli.output import print_line
from workflow_result.problem import ExitCode, Problem, name_record, on_terminal, printable, say

if TYPE_CHECKING:
    from workflow_result.account import Account
    from workflow_result.journal import Journal


@click.command(cls=Command)
@journal_option
@aws_options
@debug_option
def resend(
    journal: str | None, region: str | None, profile: str | None, endpoint_url: str | None
) -> None:
    """Send every result that is still owed.

    A run whose process is gone is reported FAILED. A result that Service Catalog has refused
    is left alone. Each result goes to the region that it was meant for, unless --region is given,
    and none that was meant for a sandbox goes to AWS, nor the other way.

    \b
    Example:
      MAIN_PY resend
    """
    from workflow_result.delivery import Delivery
    from workflow_result.pace import AT_MOST
    from workflow_result.resending import resend

    ends_like_ctrl_c()
    delivery = Delivery(region, profile, endpoint_url, AT_MOST)
    opened = _existing_journal(journal, delivery.account)
    if not opened:
        return
    try:
        code = resend(opened, delivery, region, progress=on_terminal())
    finally:
        opened.close()
    raise click.exceptions.Exit(code)


@click.command(cls=Command)
@journal_option
@click.option("--json", "as_json", is_flag=True, help="One JSON list, for programs.")
@click.option(
    "--check", is_flag=True, help="Exit with 75 where something is owed, 69 where it was refused."
)
@debug_option
def pending(journal: str | None, as_json: bool, check: bool) -> None:
    """List the results that Service Catalog does not have.

    waiting: a build is to carry it out; running: Terraform is at work; died: that ended before it
    changed anything, and the message may be run again; owed: `resend` sends it; refused: kept for
    you to look at.

    \b
    Example:
      MAIN_PY pending --json
    """
    opened = _existing_journal(journal, change=False)
    if not opened:
        if as_json:
            print_line("[]")
        return
    try:
        entries = opened.pending()
    finally:
        opened.close()
    rows = [
        {
            "record_id": entry.record_id,
            "operation": entry.operation,
            "destination": entry.destination,
            "state": entry.state,
            "since": datetime.fromtimestamp(entry.since, UTC).isoformat(timespec="seconds"),
            "tries": entry.tries,
            "last_error": entry.last_error,
            "region": entry.region,
        }
        for entry in entries
    ]
    if as_json:
        print_line(json.dumps(rows, indent=2))
    else:
        _print_pending(rows)
    states = {entry.state for entry in entries}
    if check and states & {"owed", "died"}:
        raise click.exceptions.Exit(ExitCode.NOT_DELIVERED)
    if check and "refused" in states:
        raise click.exceptions.Exit(ExitCode.REFUSED)


def _print_pending(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        tries = f"tried {row['tries']} times" if row["tries"] != 1 else "tried once"
        where = f"{row['destination']} {row['region'] or ''}".rstrip()
        line = (
            f"{row['record_id']}  {row['operation']}  {where}  {row['state']}  "
            f"since {row['since']}  {tries}"
        )
        print_line(printable(line + (f": {row['last_error']}" if row["last_error"] else "")))
    if not rows:
        say("nothing is owed")


@click.command(cls=Command)
@click.argument("record_id", metavar="RECORD")
@journal_option
@debug_option
def forget(record_id: str, journal: str | None) -> None:
    """Strike off what is owed or refused of a record.

    Nothing is sent: the record stays as Service Catalog has it, until another result is reported.
    A run that goes on, an order that waits for a build, and what another process is sending, are
    left alone.

    \b
    Example:
      MAIN_PY forget rec-demo
    """
    name_record(record_id, "")
    opened = _existing_journal(journal)
    try:
        entries = opened.forget(record_id) if opened else []
    finally:
        if opened:
            opened.close()
    if not entries:
        raise Problem(ExitCode.INVALID, f"{record_id}: the journal knows nothing of it")
    for entry in entries:
        status = "" if entry.state == "running" else f" {entry.status}"
        what = f"{entry.operation}{status}, for {entry.destination}"
        if entry.state == "reported":
            say(f"{record_id}: reported, there is nothing to forget: {what}")
        elif entry.state == "waiting":
            say(f"{record_id}: not struck off, it waits for a build: {what}")
        elif entry.held:
            say(f"{record_id}: not struck off, another process works on it: {what}")
        else:
            was = "died" if entry.state == "died" else f"was {entry.state}"
            say(f"{record_id}: struck off: {what}, which {was}")
    if any(entry.held or entry.state == "waiting" for entry in entries):
        raise click.exceptions.Exit(ExitCode.NOT_DELIVERED)


def _existing_journal(
    option: str | None, account: "Account | None" = None, *, change: bool = True
) -> "Journal | None":
    """Open the journal, to `change` it or to look at it.

    It has to be there where it is named; the default one may be missing.
    """
    from workflow_result.journal.place import open_journal
    from workflow_result.journal.store import NoJournal

    place = journal_place(option)
    try:
        return open_journal(place, account, make=False, change=change)
    except NoJournal:
        if option or os.environ.get(JOURNAL_VARIABLE):
            raise
        say(f"nothing is owed: there is no journal {place}")
        return None
