"""The command that takes orders from Service Catalog's queues: worker."""

import importlib.util
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

import click

from workflow_result.cli.options import (
    Command,
    aws_options,
    debug_option,
    journal_option,
    journal_place,
    terraform_options,
)
from workflow_result.cli.output import print_result
from workflow_result.problem import ExitCode, Problem

if TYPE_CHECKING:
    from workflow_result.journal import Journal


@click.command(cls=Command)
@click.option(
    "--queue",
    "queues",
    metavar="URL",
    multiple=True,
    help="A queue of operation messages, any number of times; else the three of Service Catalog's "
    "names.",
)
@click.option(
    "--at-once",
    metavar="N",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Carry out so many orders at the same time.",
)
@click.option("--once", is_flag=True, help="End when the queues are empty.")
@click.option(
    "--record",
    "record_id",
    metavar="RECORD_ID",
    help="Carry out this order alone, which waits in the journal, and end.",
)
@click.option(
    "--state-bucket",
    metavar="BUCKET",
    envvar="WORKFLOW_RESULT_STATE_BUCKET",
    required=True,
    show_envvar=True,
    help="The S3 bucket for the products' states.",
)
@terraform_options
@journal_option
@aws_options
@debug_option
def worker(
    queues: tuple[str, ...],
    at_once: int,
    once: bool,
    record_id: str | None,
    state_bucket: str,
    terraform: str,
    timeout: int | None,
    lock_timeout: int,
    journal: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Carry out the orders in Service Catalog's queues.

    For each message: fetches the artifact with the launch role, locks the product's state, runs
    Terraform, reports how it ended, and deletes the message. SIGTERM lets what applies come to its
    end, and gives the rest back.

    \b
    Example:
      MAIN_PY worker --state-bucket terraform-states
    """
    from workflow_result import metrics
    from workflow_result.delivery import Delivery
    from workflow_result.engine.queues import Queues
    from workflow_result.engine.serving import serve
    from workflow_result.engine.state_bucket import StateBucket
    from workflow_result.engine.worker import Worker
    from workflow_result.engine.workplace import Facilities, check_environment
    from workflow_result.journal.place import Table, open_journal
    from workflow_result.pace import AT_MOST
    from workflow_result.resending import resend

    if record_id and (queues or once):
        raise click.UsageError("--record takes no order from a queue: leave --queue and --once out")
    if importlib.util.find_spec("boto3") is None:
        raise ModuleNotFoundError(name="boto3")
    if not shutil.which(terraform):
        line = f"{terraform or '--terraform'} was not found: install it, or name it"
        raise Problem(ExitCode.SETUP, line)
    check_environment(os.environ)
    place = journal_place(journal)
    grace = place.lease // 5 if isinstance(place, Table) else 60
    delivery = Delivery(region, profile, endpoint_url)
    account = delivery.account
    bucket = StateBucket(state_bucket, account)
    serve_order = partial(
        serve,
        facilities=Facilities(state_bucket, account, terraform, timeout, lock_timeout, grace),
        open_journal=partial(open_journal, place, account),
        delivery=delivery,
        log_url=os.environ.get("WORKFLOW_RESULT_LOG_URL"),
    )
    if record_id:
        opened = open_journal(place, account)
        message, since = _waiting(record_id, opened, delivery.destination)
        served = serve_order(message, comes_again=False)
        if served.result:
            print_result(served.result)
            metrics.tell_reported(since)
        raise click.exceptions.Exit(served.exit_code)

    import boto3  # noqa: F401 - once, before there is a process for each order

    def deliver() -> None:
        opened = open_journal(place, account)
        try:
            if any(entry.state in ("owed", "died") for entry in opened.pending()):
                for_many = Delivery(region, profile, endpoint_url, AT_MOST)
                resend(opened, for_many, region, progress=False)
        finally:
            opened.close()

    # Better told now than with the first order.
    bucket.check()
    opened = open_journal(place, account)
    try:
        opened.pending()
    finally:
        opened.close()
    code = Worker(
        Queues(queues, account, once=once),
        serve_order,
        deliver,
        print_result,
        at_once=at_once,
        once=once,
    ).run()
    raise click.exceptions.Exit(code)


def _waiting(record_id: str, journal: "Journal", destination: str) -> tuple[bytes, float]:
    """Return the message of an order that waits in the journal, and since when it does.

    Raises `Problem` where it does not (any more): NOT_DELIVERED, unless it was reported.
    """
    from workflow_result.journal.waiting import Waiting

    try:
        entry, content = journal.content(record_id, destination)
    finally:
        journal.close()
    if entry and isinstance(content, Waiting):
        return content.message.encode(), entry.since
    state = entry.state if entry else "not in the journal"
    code = ExitCode.DONE if state == "reported" else ExitCode.NOT_DELIVERED
    raise Problem(code, f"{record_id}: does not wait for anybody, it is {state}; nothing was run")
