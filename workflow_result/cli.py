"""The command line: what each command reads, prints and exits with.

This is the only file that prints; `source` reads.
"""

import errno
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow_result import __version__, source
from workflow_result import request as requests
from workflow_result.problem import (
    ExitCode,
    Problem,
    defect,
    printable,
    say,
    say_traceback,
    show_tracebacks,
)
from workflow_result.schemas import API_OPERATIONS, schema_file
from workflow_result.secret import REAL_LENGTH, keep_secret

if TYPE_CHECKING:
    from workflow_result.journal import Journal


def main() -> int:
    """Run the command line in `sys.argv`; return the exit code. Every error is told here."""
    keep_secret(os.environ.get(requests.TOKEN_VARIABLE, ""))
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if len(os.environ.get(name, "")) >= REAL_LENGTH:
            keep_secret(os.environ[name], f"({name})")
    try:
        return int(cli.main(standalone_mode=False) or ExitCode.DONE)
    except Problem as problem:
        for line in problem.lines:
            say(line)
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
        say(line)


def _may_be_token(argument: str) -> bool:
    """Whether this has a long run of what looks like base64 or hexadecimal digits."""
    for run in re.findall(rf"[0-9A-Za-z+=_-]{{{REAL_LENGTH},}}", argument):
        kinds = sum(bool(re.search(kind, run)) for kind in ("[0-9]", "[A-Z]", "[a-z]"))
        if kinds == 3 or (kinds == 2 and run.isalnum()):  # else words, with hyphens
            return True
    return False


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
    help=f"Where results are kept until they are delivered; else {JOURNAL_VARIABLE}, or a file in "
    "your state directory.",
)


def aws_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the AWS settings that can be options, named as the AWS CLI names them."""
    for option in (
        click.option("--endpoint-url", metavar="URL", help="Send to URL, a sandbox for example."),
        click.option("--profile", metavar="NAME", help="AWS profile; else AWS_PROFILE."),
        click.option("--region", metavar="REGION", help="Else AWS_REGION or the profile's."),
    ):
        command = option(command)
    return command


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


class Group(click.Group):
    command_class = Command


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workflow-result", message="%(prog)s %(version)s")
@debug_option
def cli() -> None:
    """Tell AWS Service Catalog how a Terraform run ended."""


@cli.command()
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
        _print_json(requests.result(operation, draft.members, reported=False))
    else:
        checked = requests.check(draft, operation)
        _print_json(requests.result(operation, checked.members, reported=False))


@cli.command()
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
    from workflow_result.reporting import Reporter

    request = requests.check(_read_request(operation, input_file), operation)
    reporter = Reporter(_journal_path(journal), Delivery(region, profile, endpoint_url))
    try:
        if reporter.is_reported(request):
            say(f"{request.members['RecordId']}: reported before, says the journal; not sent again")
        else:
            reporter.report(request)
    finally:
        reporter.close()
    _print_json(requests.result(operation, request.members, reported=True))


@cli.command()
@click.option(
    "--chdir",
    metavar="DIR",
    type=click.Path(readable=False, path_type=Path),
    default=".",
    help="Working directory with the configuration; else the current one.",
)
@click.option(
    "--terraform",
    metavar="PROGRAM",
    default="terraform",
    show_default=True,
    help="What to run: a path, or tofu.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(min=1, max=365 * 24 * 60 * 60),
    help="Stop Terraform after this time, and report FAILED.",
)
@click.option(
    "--lock-timeout",
    metavar="SECONDS",
    type=click.IntRange(min=0, max=365 * 24 * 60 * 60),
    default=300,
    show_default=True,
    help="Wait this long for the lock of the state.",
)
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
    from workflow_result.engine.order import carry_out, end_failed
    from workflow_result.engine.terraform import Settings
    from workflow_result.reporting import Reporter

    if not terraform:
        raise click.BadParameter("names no program", param_hint="--terraform")
    message = messages.read(source.read_message(input_file))
    if importlib.util.find_spec("boto3") is None:  # better told now than after the apply
        raise ModuleNotFoundError(name="boto3")
    reporter = Reporter(_journal_path(journal), Delivery(region, profile, endpoint_url))
    try:
        if isinstance(message, messages.Unusable):
            members, code = end_failed(message, reporter)
        else:
            settings = Settings(chdir, terraform, timeout, lock_timeout)
            members, code = carry_out(message, reporter, settings)
    finally:
        reporter.close()
    _print_json(requests.result(message.operation, members, reported=True))
    raise click.exceptions.Exit(code)


@cli.command()
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
    opened = _existing_journal(journal)
    if not opened:
        return
    from workflow_result.delivery import Delivery
    from workflow_result.reporting import AT_ONCE, resend

    try:
        delivery = Delivery(region, profile, endpoint_url, AT_ONCE)
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        code = resend(opened, delivery, region, progress=on_terminal)
    finally:
        opened.close()
    raise click.exceptions.Exit(code)


@cli.command()
@journal_option
@click.option("--json", "as_json", is_flag=True, help="One JSON list, for programs.")
@click.option(
    "--check", is_flag=True, help="Exit with 75 where something is owed, 69 where it was refused."
)
@debug_option
def pending(journal: str | None, as_json: bool, check: bool) -> None:
    """List the results that Service Catalog does not have.

    running: Terraform is at work; died: that ended before it changed anything, and the message may
    be run again; owed: `resend` sends it; refused: kept for you to look at.

    \b
    Example:
      MAIN_PY pending --json
    """
    opened = _existing_journal(journal)
    if not opened:
        if as_json:
            _print("[]")
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
        _print(json.dumps(rows, indent=2))
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
        _print(printable(line + (f": {row['last_error']}" if row["last_error"] else "")))
    if not rows:
        say("nothing is owed")


@cli.command()
@click.argument("record_id", metavar="RECORD")
@journal_option
@debug_option
def forget(record_id: str, journal: str | None) -> None:
    """Strike off what is owed or refused of a record.

    Nothing is sent: the record stays as Service Catalog has it, until another result is reported.
    A run that goes on, and what another process is sending, are left alone.

    \b
    Example:
      MAIN_PY forget rec-demo
    """
    opened = _existing_journal(journal)
    try:
        entries = opened.forget(record_id) if opened else []
    finally:
        if opened:
            opened.close()
    if not entries:
        raise Problem(ExitCode.INVALID, f"{record_id}: the journal knows nothing of it")
    for entry in entries:
        what = f"{entry.operation} {entry.status}, for {entry.destination}"
        if entry.state == "reported":
            say(f"{record_id}: reported, there is nothing to forget: {what}")
        elif entry.held:
            say(f"{record_id}: not struck off, another process works on it: {what}")
        else:
            was = "died" if entry.state == "died" else f"was {entry.state}"
            say(f"{record_id}: struck off: {what}, which {was}")
    if any(entry.held for entry in entries):
        raise click.exceptions.Exit(ExitCode.NOT_DELIVERED)


def _existing_journal(option: str | None) -> "Journal | None":
    """Open the journal, which has to be there where it is named; the default one may be missing."""
    from workflow_result.journal import NoJournal
    from workflow_result.journal.sqlite import SQLiteJournal

    path = _journal_path(option)
    try:
        return SQLiteJournal(path, make=False)
    except NoJournal:
        if option or os.environ.get(JOURNAL_VARIABLE):
            raise
        say(f"nothing is owed: there is no journal {path}")
        return None


def _journal_path(option: str | None) -> Path:
    named = option or os.environ.get(JOURNAL_VARIABLE)
    if named:
        if scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", named):
            allowed = "name a file"
            if scheme[0].lower() == "dynamodb":
                allowed = f"dynamodb:// is not supported yet, {allowed}"
            raise Problem(ExitCode.SETUP, f"the journal {named} cannot be used: {allowed}")
        return Path(named)
    from platformdirs import user_state_path

    try:
        folder = user_state_path("workflow-result", appauthor=False)
    except RuntimeError:  # no HOME, and a user without an entry in /etc/passwd
        folder = Path("~")
    return folder / "journal.sqlite3"


@cli.command()
@operation_option
@debug_option
def schema(operation: str) -> None:
    """Print the JSON Schema of a complete request.

    \b
    Example:
      MAIN_PY schema --operation terminate
    """
    _print(schema_file(operation).read_text(encoding="utf-8").rstrip("\n"))


@cli.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4510,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--record",
    "records",
    metavar="RECORD_ID",
    multiple=True,
    default=["rec-demo", "rec-notify", "rec-run"],
    show_default=True,
    help="A record that waits for its result. Repeatable.",
)
@click.option(
    "--misbehave",
    metavar="KIND[:TIMES]",
    multiple=True,
    help="Answer the first TIMES results wrongly, or all of them; repeatable, in this order. "
    "KIND: throttle, unavailable, broken, access-denied, expired-token, invalid, bad-signature, "
    "quote, drop, drop-after, half, rubbish, silent.",
)
@click.option(
    "--delay",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0,
    help="Take this long over each result.",
)
@debug_option
def sandbox(port: int, records: tuple[str, ...], misbehave: tuple[str, ...], delay: float) -> None:
    """Run a local Service Catalog endpoint, to try everything without an AWS account.

    It takes results for its records, answers DescribeRecord, and prints its URL on stdout.
    It listens on 127.0.0.1 alone and forgets everything when it ends.

    \b
    Example, ended with Ctrl-C:
      MAIN_PY sandbox --misbehave throttle:1
    """
    from workflow_result.sandbox import serve

    serve(port, records, misbehave, delay, announce=_print)


def _read_request(operation: str, input_file: Path | None) -> requests.Draft:
    draft = requests.decode(source.read_request(input_file), operation)
    for line in draft.changes:
        say(line)
    if token := os.environ.get(requests.TOKEN_VARIABLE):
        requests.add_token(draft, token)
    return draft


def _print_json(value: dict[str, Any]) -> None:
    _print(json.dumps(value, separators=(",", ":")))


def _print(text: str) -> None:
    """Write `text` and a newline to stdout. That nobody reads it is no error: the work is done."""
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return
    except OSError as error:
        raise Problem(
            ExitCode.SETUP, f"stdout cannot be written: {error.strerror}; all else is done"
        ) from None
