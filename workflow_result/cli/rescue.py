"""The command for orders that hang: rescue."""

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from workflow_result.cli.options import (
    JOURNAL_VARIABLE,
    Command,
    aws_options,
    debug_option,
    journal_option,
    journal_place,
)
from workflow_result.cli.output import print_line
from workflow_result.problem import ExitCode, about, printable, say
from workflow_result.secret import hide

if TYPE_CHECKING:
    from workflow_result.account import Account
    from workflow_result.engine.findings import Finding
    from workflow_result.engine.rescue import Rescue
    from workflow_result.journal import Journal


def _queues(_: click.Context, __: click.Parameter, urls: Sequence[str]) -> Sequence[str]:
    for url in urls:
        if not re.fullmatch(r"https?://[^/\s]+/\S+", url):
            raise click.BadParameter(f"{url}: must be the URL of a queue, https://…")
    return urls


def _machines(_: click.Context, __: click.Parameter, arns: Sequence[str]) -> Sequence[str]:
    from workflow_result.engine.executions import ARN

    for arn in arns:
        if not ARN.fullmatch(arn):
            raise click.BadParameter(f"{arn}: must be the ARN of a state machine, arn:aws:states:…")
    return arns


@click.command(cls=Command)
@click.option("--apply", is_flag=True, help="End what can be ended; else nothing is changed.")
@click.option(
    "--state-machine",
    "machines",
    metavar="ARN",
    multiple=True,
    callback=_machines,
    help="The engine's, where it runs orders in Step Functions. Repeatable.",
)
@click.option(
    "--dead-letter-queue",
    "queues",
    metavar="URL",
    multiple=True,
    callback=_queues,
    help="The engine's. Repeatable.",
)
@click.option(
    "--catalog-profile",
    "profiles",
    metavar="NAME",
    multiple=True,
    help="AWS profile of an account where products are ordered; else the engine's. Repeatable.",
)
@click.option(
    "--older-than",
    metavar="MINUTES",
    type=click.IntRange(min=0),
    default=15,
    show_default=True,
    help="Leave alone what was placed, or ended, since then.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON list, for programs.")
@journal_option
@aws_options
@debug_option
def rescue(
    apply: bool,
    machines: Sequence[str],
    queues: Sequence[str],
    profiles: Sequence[str],
    older_than: int,
    as_json: bool,
    journal: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Find orders that hang UNDER_CHANGE, and end them FAILED where that can be done.

    Nothing is changed without --apply. An order on which somebody works, or whose result is owed,
    is left alone. On a terminal, each order is asked for before it is ended. Exits with 75 where
    something hangs.

    \b
    Example, while `MAIN_PY sandbox` runs in another terminal:
      export AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox
      export AWS_ENDPOINT_URL_SERVICE_CATALOG=http://127.0.0.1:4510
      MAIN_PY rescue
    """
    from workflow_result.account import Account
    from workflow_result.delivery import Delivery
    from workflow_result.engine.calls import Service
    from workflow_result.engine.catalog import Catalog
    from workflow_result.engine.dead_letters import DeadLetterQueue
    from workflow_result.engine.executions import StateMachine
    from workflow_result.engine.rescue import Rescue, Sources
    from workflow_result.journal.place import open_journal

    is_named = bool(journal or os.environ.get(JOURNAL_VARIABLE))
    delivery = Delivery(region, profile, endpoint_url)
    engine = delivery.account
    accounts = [Account(region, name) for name in profiles] or [engine]
    rescuing = Rescue(
        Sources(
            [Catalog(Service("servicecatalog", a, None, endpoint_url)) for a in accounts],
            [StateMachine(arn, engine) for arn in machines],
            [DeadLetterQueue(url, engine) for url in queues],
            # The usual journal of whoever calls this need not be the engine's.
            sees_runs=bool(machines or is_named),
        ),
        _existing_journal(journal, engine, is_named=is_named, change=apply),
        partial(open_journal, journal_place(journal), engine),
        delivery,
        older_than * 60.0,
    )
    try:
        findings = rescuing.look()
        if not as_json:
            for finding in findings:
                print_line(_shown(_line(finding)))
        if apply:
            findings = _end(rescuing, findings)
    finally:
        rescuing.close()
    if as_json:
        print_line(json.dumps([_row(finding) for finding in findings], indent=2))
    raise click.exceptions.Exit(_summary(findings))


def _end(rescuing: "Rescue", findings: "list[Finding]") -> "list[Finding]":
    """End what can be ended and, on a terminal, is to be."""
    from workflow_result.engine.findings import State

    asks = sys.stdin is not None and sys.stdin.isatty()
    chosen = []
    for finding in findings:
        if finding.state != State.ENDABLE:
            continue
        if asks:
            order = finding.order
            what = f"{order.record_id}: end this {order.operation} of {order.product_name} FAILED?"
            if click.confirm(_shown(what), err=True):
                chosen.append(finding)
        elif finding.seen:
            chosen.append(finding)
        else:
            with about(finding.order.record_id, finding.order.operation):
                say(f"{finding.order.record_id}: left alone: {finding.to_do}")
    now = {finding.order.record_id: finding for finding in rescuing.end(chosen)}
    return [now.get(finding.order.record_id, finding) for finding in findings]


def _summary(findings: "list[Finding]") -> ExitCode:
    """Say how it stands in one line; return the exit code that says it, too."""
    from workflow_result.engine.findings import HANGS, State

    hanging = sum(finding.state in HANGS for finding in findings)
    ended = sum(finding.state == State.ENDED for finding in findings)
    if not findings:
        say("nothing is under change")
        return ExitCode.DONE
    line = f"{len(findings)} under change, {hanging} of them hang"
    say(f"{line}, {ended} ended FAILED" if ended else line)
    if any(finding.refused for finding in findings):
        return ExitCode.REFUSED
    return ExitCode.NOT_DELIVERED if hanging else ExitCode.DONE


def _line(finding: "Finding") -> str:
    order = finding.order
    where = f"{order.product_id} ({order.product_name})"
    line = f"{order.record_id}  {order.operation}  {where}  {order.account}  {finding.state}  "
    line += f"since {_since(finding)}: {finding.known}"
    return f"{line}; {finding.to_do}" if finding.to_do else line


def _row(finding: "Finding") -> dict[str, str]:
    order = finding.order
    return {
        "record_id": order.record_id,
        "operation": order.operation,
        "provisioned_product_id": order.product_id,
        "provisioned_product_name": order.product_name,
        "product_type": order.product_type,
        "account": order.account,
        "since": _since(finding),
        "state": finding.state,
        "known": _shown(finding.known),
        "to_do": _shown(finding.to_do),
    }


def _shown(text: str) -> str:
    return hide(printable(text))


def _since(finding: "Finding") -> str:
    return datetime.fromtimestamp(finding.order.since, UTC).isoformat(timespec="seconds")


def _existing_journal(
    option: str | None, account: "Account", *, is_named: bool, change: bool
) -> "Journal | None":
    """Open the journal, to `change` it or to look at it.

    It has to be there where it is named; the default one may be missing.
    """
    from workflow_result.journal.place import open_journal
    from workflow_result.journal.store import NoJournal

    try:
        return open_journal(journal_place(option), account, make=False, change=change)
    except NoJournal:
        if is_named:
            raise
        return None
