"""What the commands share: their options, and their help."""

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflow_result import request as requests
from workflow_result.problem import show_tracebacks
from workflow_result.schemas import API_OPERATIONS

if TYPE_CHECKING:
    from workflow_result.journal.place import Table


def _remember_debug(_: click.Context, __: click.Parameter, debug: bool) -> None:
    if debug:
        show_tracebacks()


JOURNAL_VARIABLE = "WORKFLOW_RESULT_JOURNAL"

debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_remember_debug,
    help="Show a traceback where something fails.",
)
operation_option = click.option(
    "--operation",
    type=click.Choice(list(API_OPERATIONS)),
    default="provision",
    show_default=True,
    help="What the engine did.",
)


def input_option(help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The file that a command reads instead of what it reads else."""
    kind = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path)
    return click.option("--input", "input_file", metavar="FILE", type=kind, help=help_text)


request_option = input_option(
    f"Read the request from FILE instead of {requests.REQUEST_VARIABLE} or stdin; - is stdin."
)
journal_option = click.option(
    "--journal",
    metavar="FILE",
    help="Where results are kept until they are delivered, dynamodb://TABLE for one that machines "
    f"share; else {JOURNAL_VARIABLE}, or a file in your state directory.",
)


terraform_option = click.option(
    "--terraform",
    metavar="PROGRAM",
    default="terraform",
    show_default=True,
    help="What to run: a path, or tofu.",
)


def terraform_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what says which Terraform runs an order, and for how long."""
    seconds = 365 * 24 * 60 * 60
    for option in (
        click.option(
            "--lock-timeout",
            metavar="SECONDS",
            type=click.IntRange(min=0, max=seconds),
            default=300,
            show_default=True,
            help="Wait this long for the lock of the state.",
        ),
        click.option(
            "--timeout",
            metavar="SECONDS",
            type=click.IntRange(min=1, max=seconds),
            help="Stop Terraform after this time, and report FAILED.",
        ),
        terraform_option,
    ):
        command = option(command)
    return command


def aws_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the AWS settings that can be options, named as the AWS CLI names them."""
    for option in (
        click.option("--endpoint-url", metavar="URL", help="Send to URL, a sandbox for example."),
        click.option("--profile", metavar="NAME", help="AWS profile; else AWS_PROFILE."),
        click.option("--region", metavar="REGION", help="Else AWS_REGION or the profile's."),
    ):
        command = option(command)
    return command


def ends_like_ctrl_c() -> None:
    """Have SIGTERM and SIGHUP do what SIGINT does, from now on: what became of a result is told."""
    for kind in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(kind) == signal.SIG_DFL:  # else somebody has it ignored, as nohup does
            signal.signal(kind, signal.default_int_handler)


class Command(click.Command):
    """A command whose help has the program in its examples as it was called."""

    def get_help(self, ctx: click.Context) -> str:
        name = sys.argv[0]
        if Path(name).name == "__main__.py":
            return super().get_help(ctx).replace("MAIN_PY", "python -m workflow_result")
        if shutil.which(Path(name).name):
            name = Path(name).name
        elif os.sep not in name:
            name = f"./{name}"
        return super().get_help(ctx).replace("MAIN_PY", shlex.quote(name))


def journal_place(option: str | None) -> "Path | Table":
    """Return where the journal is: as the option says, the environment, or the platform.

    Raises `Problem` (SETUP) where that is no place for one.
    """
    from workflow_result.journal.place import parse

    named = option or os.environ.get(JOURNAL_VARIABLE)
    if named:
        return parse(named)
    from platformdirs import user_state_path

    try:
        folder = user_state_path("workflow-result", appauthor=False)
    except RuntimeError:  # no HOME, and a user without an entry in /etc/passwd
        folder = Path("~")
    return folder / "journal.sqlite3"
