"""The commands for a request: validate, notify, schema."""

import os
from functools import partial
from pathlib import Path

import click

from workflow_result import request as requests
from workflow_result import source
from workflow_result.cli.options import (
    Command,
    aws_options,
    debug_option,
    ends_like_ctrl_c,
    journal_option,
    journal_place,
    operation_option,
    request_option,
)
from workflow_result.cli.output import print_json, print_line
from workflow_result.problem import name_record, say
from workflow_result.schemas import schema_file


@click.command(cls=Command)
@operation_option
@click.option("--partial", is_flag=True, help="Do not miss members that are absent.")
@request_option
@debug_option
def validate(operation: str, partial: bool, input_file: Path | None) -> None:
    """Check a request. Nothing is sent and nothing is written.

    The request is one JSON object, its keys those of the API operation.

    \b
    Example:
      echo '{"RecordId": "rec-demo", "Status": "SUCCEEDED"}' | MAIN_PY validate --partial
    """
    draft = _read_request(operation, input_file)
    if partial:
        requests.check_partial(draft, operation)
        print_json(requests.result(operation, draft.members, reported=False))
    else:
        checked = requests.check(draft, operation)
        print_json(requests.result(operation, checked.members, reported=False))


@click.command(cls=Command)
@operation_option
@request_option
@journal_option
@aws_options
@debug_option
def notify(
    operation: str,
    input_file: Path | None,
    journal: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Check a request and send it to Service Catalog.

    The WorkflowToken may come from the environment variable WORKFLOW_RESULT_TOKEN instead.
    The same request again reports nothing twice.

    \b
    Example, while `MAIN_PY sandbox` runs in another terminal:
      export WORKFLOW_RESULT_JOURNAL=$(mktemp -d)/journal
      export WORKFLOW_RESULT_TOKEN=965d4597-3088-41ae-87dc-3498daf1d69d
      export AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox
      export AWS_ENDPOINT_URL_SERVICE_CATALOG=http://127.0.0.1:4510
      echo '{"RecordId": "rec-notify", "Status": "SUCCEEDED"}' | MAIN_PY notify
    """
    from workflow_result.delivery import Delivery
    from workflow_result.journal.place import open_journal
    from workflow_result.reporting import Reporter

    ends_like_ctrl_c()
    request = requests.check(_read_request(operation, input_file), operation)
    name_record(request.members["RecordId"], operation)
    delivery = Delivery(region, profile, endpoint_url)
    reporter = Reporter(partial(open_journal, journal_place(journal), delivery.account), delivery)
    try:
        if not reporter.report(request):
            say(f"{request.members['RecordId']}: reported before, says the journal; not sent again")
    finally:
        reporter.close()
    print_json(requests.result(operation, request.members, reported=True))


@click.command(cls=Command)
@operation_option
@debug_option
def schema(operation: str) -> None:
    """Print the JSON Schema of a complete request.

    \b
    Example:
      MAIN_PY schema --operation terminate
    """
    print_line(schema_file(operation).read_text(encoding="utf-8").rstrip("\n"))


def _read_request(operation: str, input_file: Path | None) -> requests.Draft:
    draft = requests.decode(source.read_request(input_file), operation)
    for line in draft.changes:
        say(line)
    if token := os.environ.get(requests.TOKEN_VARIABLE):
        requests.add_token(draft, token)
    return draft
