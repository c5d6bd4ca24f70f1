"""A Terraform run for one message: init, plan, apply of that very plan, and how it ended.

Terraform is driven through its machine-readable UI
(https://developer.hashicorp.com/terraform/internals/machine-readable-ui).
"""

import contextlib
import errno
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow_result.engine import configuration
from workflow_result.engine.diagnostics import TerraformError, failure_reason
from workflow_result.engine.message import TRACER_TAG, Message
from workflow_result.problem import ExitCode, Style, defect, say
from workflow_result.request import REQUEST_VARIABLE, TOKEN_VARIABLE
from workflow_result.secret import REAL_LENGTH, SENSITIVE_VALUE, keep_secret

HOST_DIED = (
    "The engine's process ended before it could tell how Terraform did, so how far Terraform "
    "came is not known: its host may have failed."
)
"""FailureReason of a run that ended without a word."""

GRACE = 60.0
"""Seconds that Terraform gets after each signal to stop, before the next, harder one."""

ECHO = 1.0
"""Seconds in which Terraform tells of a signal that it has got from somebody else."""

_RELAY = "trap '' HUP INT TERM PIPE; cat; exec cat >/dev/null"
"""A shell's script between Terraform and this process. Should this process be killed, it goes on to
take what Terraform says: that comes to its end, instead of waiting for somebody to listen, or dying
by SIGPIPE before its state is written."""

ENDS = 10
"""Of what Terraform says beside its events, how many lines from each end are kept."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGINT, signal.SIGKILL)
"""Terraform stops cleanly at the first interrupt and at once at the second."""

Output = dict[str, str]


@dataclass
class Ending:
    """How a run ended: its outputs in name order, or the reason why it failed."""

    outputs: list[Output] = field(default_factory=list)
    failure_reason: str | None = None
    exit_code: ExitCode = ExitCode.DONE


class _Failed(Exception):
    """The run ends here: what failed, in the words of a headline."""

    def __init__(self, headline: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(headline)
        self.exit_code = exit_code


class TerraformRun:
    """Runs Terraform for `message` in `directory`, within `timeout` seconds where one is given.

    Somebody else adds to `stop_requests` while it runs: each name of a signal in it makes
    Terraform stop, the second one faster.
    """

    def __init__(
        self,
        message: Message,
        directory: Path,
        program: str,
        timeout: int | None,
        stop_requests: deque[str],
    ) -> None:
        self._message = message
        self._directory = directory
        # A path is meant from here, not from `directory`.
        self._program = os.path.abspath(program) if os.sep in program else program
        self._timeout = timeout
        self._grace = min(GRACE, timeout or GRACE)
        self._deadline = time.monotonic() + timeout if timeout else None
        self._stop_requests = stop_requests
        self._stopped_by: str | None = None
        self._signals_sent = 0
        self._next_signal_at: float | None = None
        self._errors: list[TerraformError] = []
        self._said: list[str] = []
        self._outputs: dict[str, Any] = {}

    def run(self) -> Ending:
        """Run Terraform. Whatever happens to it is in the `Ending`: this raises nothing."""
        try:
            with tempfile.TemporaryFile() as plan:
                return Ending(self._init_plan_apply(plan.fileno()))
        except _Failed as failure:
            say(str(failure), Style.RED)
            reason = failure_reason(str(failure), self._errors, self._said)
            return Ending(failure_reason=reason, exit_code=failure.exit_code)
        except OSError as error:
            headline = f"{Path(self._program).name} could not be run: {error.strerror}"
            if error.errno == errno.E2BIG:
                headline = "The parameters and tags are too long to be passed on to Terraform"
            say(headline, Style.RED)
            reason = failure_reason(headline, [], [])
            return Ending(failure_reason=reason, exit_code=ExitCode.FAILED)
        except Exception as error:  # a record that nobody reports is stuck for ever
            defect(error)
            reason = "The engine could not tell how Terraform ended: a defect of its reporting."
            return Ending(failure_reason=reason, exit_code=ExitCode.DEFECT)

    def _init_plan_apply(self, plan: int) -> list[Output]:
        if not self._directory.is_dir():
            raise _Failed(f"The working directory {self._directory} does not exist")
        if not os.access(self._directory, os.R_OK | os.X_OK):
            raise _Failed(f"The working directory {self._directory} cannot be read")
        # Without it a destroy plan has nothing to destroy, and succeeds.
        if not configuration.files(self._directory):
            raise _Failed(f"The working directory {self._directory} has no configuration")
        declared = configuration.read(self._directory)
        environment = self._environment()
        given = [
            (name, environment.get(f"TF_VAR_{name}", "")) for name in declared.sensitive_variables
        ]
        for name, value in [*given, *declared.values]:
            if name in declared.sensitive_variables and value not in ("true", "false", "null"):
                keep_secret(value, SENSITIVE_VALUE)
        # The plan holds secrets. It has no name and no mode for others: only this process and
        # Terraform, which inherits it, can read it, and it is gone when they are.
        plan_file = f"/dev/fd/{plan}"
        destroy = ["-destroy"] if self._message.operation == "terminate" else []
        self._step(environment, plan, "init")
        self._step(environment, plan, "plan", f"-out={plan_file}", *destroy)
        _check_plan(plan)
        self._outputs = {}  # those of the plan have no values
        self._step(environment, plan, "apply", plan_file)
        return [
            {"OutputKey": name, "OutputValue": self._value(output)}
            | ({"Description": text} if (text := declared.descriptions.get(name)) else {})
            for name, output in sorted(self._outputs.items())
        ]

    def _value(self, output: dict[str, Any]) -> str:
        value = output.get("value")
        text = value if type(value) is str else _compact(value)
        # A result that shows the token is invalid; the resources are there all the same.
        shows_token = len(self._message.token) >= REAL_LENGTH and self._message.token in text
        return SENSITIVE_VALUE if output.get("sensitive") or shows_token else text

    # --- what Terraform gets ----------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in (TOKEN_VARIABLE, REQUEST_VARIABLE)
        }
        for name, value in self._message.parameters.items():
            # https://developer.hashicorp.com/terraform/language/values/variables#declaring-an-input-variable
            if not re.fullmatch(r"[^\W\d][\w-]*", name):
                raise _Failed(f"The parameter {json.dumps(name)} has no name for a variable")
            environment[f"TF_VAR_{name}"] = _for_environment(f"parameter {name}", value)
        # The AWS provider, 5.62 and later, takes default tags from the environment
        # (https://registry.terraform.io/providers/hashicorp/aws/latest/docs#default_tags).
        tags = self._message.tags | {TRACER_TAG: self._message.provisioned_product_id}
        for key, value in tags.items():
            if "=" in key:
                raise _Failed(f"The tag {json.dumps(key)} cannot be passed on: its key has a =")
            name = f"TF_AWS_DEFAULT_TAGS_{_for_environment('tag', key)}"
            environment[name] = _for_environment(f"tag {key}", value)
        return environment | {"TF_IN_AUTOMATION": "1"}

    # --- a step of Terraform ----------------------------------------------------------------

    def _step(self, environment: dict[str, str], plan: int, name: str, *options: str) -> None:
        """Run `terraform NAME` to its end and tell what it says. Raises `_Failed`."""
        self._raise_if_stopped(name)
        self._said.clear()
        say(f"{Path(self._program).name} {name}", Style.BOLD)
        child, relays = self._start([name, "-json", "-input=false", *options], environment, plan)
        try:
            for line in self._lines(child, relays):
                self._take(name, line)
        finally:  # whatever went wrong here, Terraform must not go on unseen
            code = self._wait(child)
            if self._stopped_by or code < 0:  # what provisioners have started may go on
                with contextlib.suppress(OSError):
                    os.killpg(child.pid, signal.SIGTERM)
        if code == 0 and (name == "apply" or not self._stopped_by):
            return
        self._raise_if_stopped(name)
        program = Path(self._program).name
        if code < 0:
            raise _Failed(f"{program} {name} was killed by {_signal_name(-code)}")
        more = "" if self._errors or self._said else f" with exit status {code}"
        raise _Failed(f"{program} {name} failed{more}")

    def _start(
        self, arguments: list[str], environment: dict[str, str], plan: int
    ) -> tuple[subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]:
        """Start Terraform; return it, and what passes on its stdout and stderr."""
        relays = [_start_relay() for _ in range(2)]
        try:
            child = subprocess.Popen(
                [self._program, *arguments],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=relays[0].stdin,
                stderr=relays[1].stdin,
                pass_fds=[plan],
                # A group of its own: an interrupt at the terminal reaches Terraform through
                # this process alone, once, and not a second time that would kill it.
                start_new_session=True,
            )
        except FileNotFoundError:
            headline = f"{self._program} was not found on the engine's machine"
            raise _Failed(headline, ExitCode.SETUP) from None
        except PermissionError:
            headline = f"{self._program} cannot be run on the engine's machine"
            raise _Failed(headline, ExitCode.SETUP) from None
        finally:
            for relay in relays:
                assert relay.stdin is not None  # it is a pipe
                relay.stdin.close()
        return child, relays

    def _raise_if_stopped(self, name: str) -> None:
        if self._stop_requests and not self._stopped_by:  # between two steps
            self._stopped_by = f"{self._stop_requests.popleft()} received"
        if self._stopped_by:
            raise _Failed(f"Terraform was stopped during {name}: {self._stopped_by}")

    def _lines(
        self, child: subprocess.Popen[bytes], relays: list[subprocess.Popen[bytes]]
    ) -> Iterator[bytes]:
        """Yield what the child prints, until it has ended; stop it when its time is up."""
        lines: queue.Queue[bytes | None] = queue.Queue()

        def read(relay: subprocess.Popen[bytes]) -> None:
            assert relay.stdout is not None  # it is a pipe
            with relay:
                for line in relay.stdout:
                    lines.put(line)
            lines.put(None)

        for relay in relays:
            threading.Thread(target=read, args=[relay], daemon=True).start()
        open_streams, ended_at, left = 2, None, None
        while open_streams and left != 0:
            self._attend(child)
            if left is None and child.poll() is not None:
                # What Terraform leaves running may hold its streams open, and write, for ever.
                ended_at = ended_at or time.monotonic()
                if time.monotonic() - ended_at > 2:
                    left = lines.qsize()
                    continue
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if left:
                left -= 1
            if line is None:
                open_streams -= 1
            else:
                yield line
        while child.poll() is None:
            self._attend(child)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.2)

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        """Return the child's exit code. Where it still runs, nobody listens: stop it."""
        while child.poll() is None:
            self._stop(child, "nobody listens to it")
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(self._grace)
        return child.wait()

    def _take(self, step: str, line: bytes) -> None:
        """Take in one line of Terraform's, and tell it."""
        text = line.decode("utf-8", "replace").rstrip("\n")
        event = _event(text)
        if event is None:
            if not re.match(r'\S+ \[(TRACE|DEBUG|INFO|WARN)\]|\{"@level"', text):  # TF_LOG's
                self._said.append(text)
                if len(self._said) > 2 * ENDS:  # of a panic, the first lines matter most
                    del self._said[ENDS]
            say(f"  {text}")
            return
        kind = event["type"]
        if kind == "diagnostic":
            diagnostic = event.get("diagnostic")
            self._take_diagnostic(diagnostic if isinstance(diagnostic, dict) else event)
            return
        if event["@message"].lstrip().startswith("Interrupt received") and not self._signals_sent:
            self._signals_sent = 1  # somebody else's: a second one would stop it without mercy
            self._next_signal_at = time.monotonic() + self._grace
        if kind == "outputs":
            self._outputs = event.get("outputs") or {}
        chatter = event.get("message_code") == "output_init_success_cli_message"
        if kind == "version" or chatter or (kind == "planned_change" and step == "apply"):
            return
        for message in event["@message"].splitlines():
            say(f"  {message}")

    def _take_diagnostic(self, diagnostic: dict[str, Any]) -> None:
        error = TerraformError.from_diagnostic(diagnostic)
        if diagnostic.get("severity") == "error":
            self._errors.append(error)
            say(f"  Error: {error.head()}", Style.RED)
        else:
            say(f"  Warning: {error.head()}", Style.YELLOW)
        for line in error.rest.splitlines():
            say(f"    {line}")

    # --- stopping ---------------------------------------------------------------------------

    def _attend(self, child: subprocess.Popen[bytes]) -> None:
        """Send the child the next signal, if one is due."""
        now = time.monotonic()
        if self._deadline and now > self._deadline and not self._stopped_by:
            self._stop(child, f"it did not end within {self._timeout} seconds")
        elif self._stop_requests:
            reason = f"{self._stop_requests.popleft()} received"
            if self._stopped_by:
                if not self._signals_sent:
                    self._stop(child, self._stopped_by)
                self._stop(child, reason)
            else:  # the signal may have been for a whole control group: then Terraform has it, too
                self._stopped_by = reason
                if not self._signals_sent:
                    self._next_signal_at = now + ECHO
        elif self._next_signal_at and now > self._next_signal_at:
            self._stop(child, "it goes on" if self._signals_sent else self._stopped_by or "")

    def _stop(self, child: subprocess.Popen[bytes], reason: str) -> None:
        """Send the child a signal, each harder than the one before."""
        self._stopped_by = self._stopped_by or reason
        number = STOP_SIGNALS[min(self._signals_sent, len(STOP_SIGNALS) - 1)]
        self._signals_sent += 1
        self._next_signal_at = time.monotonic() + self._grace
        say(f"stopping Terraform with {number.name}: {reason}", Style.YELLOW)
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(child.pid, number)
            else:  # Terraform alone: it stops its provisioners and providers by itself
                os.kill(child.pid, number)


def _start_relay() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _RELAY],
        env={"PATH": os.environ.get("PATH", os.defpath)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # away from what is done to Terraform's group and to ours
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _check_plan(plan: int) -> None:
    """Raise `_Failed` where the plan is cut off, which Terraform 1.11 does not tell."""
    with open(plan, "rb", closefd=False) as file:
        # A zip archive, or JSON where HCP Terraform keeps the plan.
        if not zipfile.is_zipfile(file) and file.seek(0) == 0 and file.read(1) != b"{":
            folder = tempfile.gettempdir()
            raise _Failed(f"The plan could not be written: the disk may be full under {folder}")


def _event(text: str) -> dict[str, Any] | None:
    """The event in a line of Terraform's, or None where the line is none."""
    try:
        event = json.loads(text, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    return event if all(isinstance(event.get(key), str) for key in ("@message", "type")) else None


class _Number(str):
    """A JSON number as it was written: some have more digits than a float."""


def _compact(value: Any) -> str:
    """Return a JSON value as its shortest text."""
    match value:
        case _Number():
            return str(value)
        case dict():
            return f"{{{','.join(f'{_compact(k)}:{_compact(v)}' for k, v in value.items())}}}"
        case list():
            return f"[{','.join(map(_compact, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _for_environment(name: str, value: str) -> str:
    if "\0" in value:
        raise _Failed(f"The {name} holds a NUL character, which no environment variable can")
    return value
