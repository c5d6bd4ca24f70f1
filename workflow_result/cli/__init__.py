"""The command line: what parses, calls and prints, and tells every error.

`options` has what the commands share, each other file some of the commands.
"""

import errno
import importlib
import os
import re
import sys

import click

from workflow_result import request as requests
from workflow_result.cli.options import debug_option
from workflow_result.problem import (
    LOG_VARIABLE,
    Event,
    ExitCode,
    Problem,
    defect,
    say,
    say_problem,
    say_traceback,
)
from workflow_result.secret import REAL_LENGTH, keep_secret
from workflow_result.version import __version__

COMMANDS = {
    "validate": "request",
    "notify": "request",
    "schema": "request",
    "run": "run",
    "worker": "worker",
    "resend": "journal",
    "pending": "journal",
    "forget": "journal",
    "rescue": "rescue",
    "doctor": "doctor",
    "sandbox": "sandbox",
}
"""Each command, and the module here that has a function of its name: it alone is loaded."""


class Group(click.Group):
    """The commands, loaded when they are called for."""

    def list_commands(self, _: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workflow-result", message="%(prog)s %(version)s")
@debug_option
def cli() -> None:
    """Tell AWS Service Catalog how a Terraform run ended."""


def main() -> int:
    """Run the command line in `sys.argv`; return the exit code. Every error is told here."""
    keep_secret(os.environ.get(requests.TOKEN_VARIABLE, ""))
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if len(os.environ.get(name, "")) >= REAL_LENGTH:
            keep_secret(os.environ[name], f"({name})")
    if (form := os.environ.get(LOG_VARIABLE)) not in (None, "", "text", "json"):
        say(f"warning: {LOG_VARIABLE} is {form}: text is meant, or json")
    try:
        return int(cli.main(standalone_mode=False) or ExitCode.DONE)
    except Problem as problem:
        say_problem(problem)
        say_traceback(problem)
        return problem.exit_code
    except click.UsageError as error:
        _say_usage(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return ExitCode.INTERRUPTED
    except SystemExit:  # how click ends when nobody reads its help any more
        return ExitCode.DONE
    except (ImportError, SyntaxError):  # of a package
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # under click's help
            say(f"stdout cannot be written: {error.strerror}")
            return ExitCode.SETUP
        defect(error)
        return ExitCode.DEFECT


def _say_usage(error: click.UsageError) -> None:
    """Say what click would, but for arguments that should not be there: one may be a secret."""
    for argument in sys.argv[1:]:
        requests.keep_tokens(argument)
        value = re.sub(r"^--?(\w[\w-]*=)?", "", argument)
        if "{" in argument:  # a request
            keep_secret(argument, "(JSON)")
        elif _may_be_token(value):
            keep_secret(value)
    message = error.format_message()
    takes_input = error.ctx and any(p.name == "input_file" for p in error.ctx.command.params)
    if "unexpected extra argument" in message:
        message = "There is an argument too many."
        if takes_input:
            message += " What is read comes on stdin or with --input FILE."
    elif isinstance(error, click.NoSuchOption) and takes_input and not error.possibilities:
        message += " A file comes with --input FILE."
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        lines = message.splitlines()
    elif error.ctx:
        lines = [*error.ctx.get_usage().splitlines(), f"Error: {message}"]
    else:
        lines = [f"Error: {message}"]
    for line in lines:
        say(line, event=Event.USAGE)


def _may_be_token(argument: str) -> bool:
    """Whether this has a long run of what looks like base64 or hexadecimal digits."""
    for part in re.findall(rf"[0-9A-Za-z+=_-]{{{REAL_LENGTH},}}", argument):
        kinds = sum(bool(re.search(kind, part)) for kind in ("[0-9]", "[A-Z]", "[a-z]"))
        if kinds == 3 or (kinds == 2 and part.isalnum()):  # else words, with hyphens
            return True
    return False
