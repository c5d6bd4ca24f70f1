"""The command for an operation message: run."""

import importlib.util
from functools import partial
from pathlib import Path

import click

from workflow_result import request as requests
from workflow_result import source
from workflow_result.cli.options import (
    Command,
    aws_options,
    debug_option,
    input_option,
    journal_option,
    journal_place,
    terraform_options,
)
from workflow_result.cli.output import print_result
from workflow_result.problem import name_record


@click.command(cls=Command)
@click.option(
    "--chdir",
    metavar="DIR",
    type=click.Path(readable=False, path_type=Path),
    default=".",
    help="Working directory with the configuration; else the current one.",
)
@terraform_options
@input_option("Read the message from FILE instead of stdin; - is stdin.")
@journal_option
@aws_options
@debug_option
def run(
    chdir: Path,
    terraform: str,
    timeout: int | None,
    lock_timeout: int,
    input_file: Path | None,
    journal: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Run Terraform for a message and report how it ended.

    The operation message comes from Service Catalog, on stdin; the envelope of a queue or of a
    Lambda event around it is taken off. In DIR lies the configuration, with its backend and the
    credentials for it: init, plan and apply are done here.

    \b
    Example, while `MAIN_PY sandbox` runs in another terminal:
      export WORKFLOW_RESULT_JOURNAL=$(mktemp -d)/journal
      export AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox
      export AWS_ENDPOINT_URL_SERVICE_CATALOG=http://127.0.0.1:4510
      hello=$(mktemp -d) && echo 'output "hello" { value = "world" }' >$hello/main.tf
      message='{"token": "965d4597-3088-41ae-87dc-3498daf1d69d", "recordId": "rec-run",
      "operation": "PROVISION_PRODUCT", "provisionedProductId": "pp-demo"}'
      echo "$message" | MAIN_PY run --chdir $hello
    """
    from workflow_result.delivery import Delivery
    from workflow_result.engine import message as messages
    from workflow_result.engine.order import PreparedFolder, carry_out, end_failed
    from workflow_result.engine.terraform import Settings
    from workflow_result.journal.place import open_journal
    from workflow_result.reporting import Reporter

    if not terraform:
        raise click.BadParameter("names no program", param_hint="--terraform")
    message = messages.read(source.read_message(input_file))
    name_record(message.record_id, message.operation)
    if importlib.util.find_spec("boto3") is None:  # better told now than after the apply
        raise ModuleNotFoundError(name="boto3")
    delivery = Delivery(region, profile, endpoint_url)
    reporter = Reporter(partial(open_journal, journal_place(journal), delivery.account), delivery)
    try:
        if isinstance(message, messages.Unusable):
            members, code = end_failed(message, reporter)
        else:
            settings = Settings(chdir, terraform, timeout, lock_timeout)
            members, code = carry_out(message, reporter, PreparedFolder(settings))
    finally:
        reporter.close()
    print_result(requests.result(message.operation, members, reported=True))
    raise click.exceptions.Exit(code)
