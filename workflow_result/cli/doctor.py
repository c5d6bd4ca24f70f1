"""The command that looks at a set-up: doctor."""

import os
from contextlib import suppress
from functools import partial

import click

from workflow_result.cli.options import (
    Command,
    aws_options,
    debug_option,
    journal_option,
    journal_place,
    terraform_option,
)
from workflow_result.cli.output import print_json, print_line
from workflow_result.problem import ExitCode, printable
from workflow_result.secret import hide

MARKS = {"fine": "✔", "warning": "!", "fault": "✘"}


@click.command(cls=Command)
@click.option(
    "--probe",
    is_flag=True,
    help="Report results for a record that cannot be, to see whether AWS allows it: CloudTrail has "
    "them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a check.")
@terraform_option
@journal_option
@aws_options
@debug_option
def doctor(
    probe: bool,
    as_json: bool,
    terraform: str,
    journal: str | None,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
) -> None:
    """Check the set-up, one line a check.

    Nothing is changed. Ends with 78 where a check has found a fault, within three seconds.

    \b
    Example:
      MAIN_PY doctor
    """
    with suppress(ModuleNotFoundError):  # which is a finding
        import boto3  # noqa: F401 - not in a thread: it costs more there

    from workflow_result.delivery import Delivery
    from workflow_result.doctor import examine
    from workflow_result.doctor.checks import Health, Setup

    os.environ["AWS_MAX_ATTEMPTS"] = "1"  # what is slow is to be found, not waited for
    delivery = Delivery(region, profile, endpoint_url)
    setup = Setup(delivery, partial(journal_place, journal), terraform, probe)
    findings = examine(setup)
    for finding in findings:
        text = hide(printable(finding.text))
        if as_json:
            print_json({"check": finding.check, "health": finding.health, "text": text})
        else:
            print_line(f"{MARKS[finding.health]} {finding.check:<13} {text}")
    if any(finding.health == Health.FAULT for finding in findings):
        raise click.exceptions.Exit(ExitCode.SETUP)
