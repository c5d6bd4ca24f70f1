"""The steps of a Terraform run: init, plan, apply of that very plan, and how it ended."""

import errno
import os
import shlex
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from workflow_result.engine import configuration, parameters, tags
from workflow_result.engine.configuration import Configuration
from workflow_result.engine.diagnostics import failure_reason
from workflow_result.engine.message import TRACER_TAG, Message
from workflow_result.engine.notation import keep_value
from workflow_result.engine.outputs import Output, as_reported
from workflow_result.engine.plugin_cache import alone_in_cache
from workflow_result.engine.process import Stopper
from workflow_result.engine.program import Failed, Program
from workflow_result.problem import ExitCode, Problem, Style, defect, say
from workflow_result.request import REQUEST_VARIABLE, TOKEN_VARIABLE
from workflow_result.secret import keep_secret

HOST_DIED = (
    "The engine's process ended before it could tell how Terraform did, so how far Terraform "
    "came is not known: its host may have failed."
)
"""FailureReason of a run that ended without a word."""

PLANS = 3
"""How often at the most a run plans, where other runs change the state before it applies."""

_NOT_SAVED = ("Failed to save state", "Failed to persist state to backend")
"""Summaries of Terraform's errors where it leaves its state in a file, of the second one always."""

_ERRORED = "errored.tfstate"
"""That file, in the working directory."""

_PAUSES = (0, 5, 15, 30, 60, 120)
"""Seconds before each attempt to write that state."""

_PUSH_TIME = 120
"""Seconds that each attempt may take."""

_LEAVE_OUT = ("-target", "-target-file", "-exclude", "-exclude-file", "-invoke")
"""Options of a plan that leave out a part of the configuration; -invoke, all but one action of it
(https://developer.hashicorp.com/terraform/cli/commands/plan#planning-modes)."""


@dataclass
class Settings:
    """How Terraform is to run: `program` in `directory`, for `timeout` seconds at most where there
    is one, and `lock_timeout` seconds for the state's lock.

    `environment` is what it inherits, else this process's. `watch` is told the process ID of each
    child that begins, and 0 when it has ended. `unchanged` is called where apply has failed before
    it began to change anything.
    """

    directory: Path
    program: str
    timeout: int | None
    lock_timeout: int
    environment: Mapping[str, str] | None = None
    watch: Callable[[int], None] = lambda _: None
    unchanged: Callable[[], None] = lambda: None


@dataclass
class Ending:
    """How a run ended: its outputs in name order, or the reason why it failed."""

    outputs: list[Output] = field(default_factory=list)
    failure_reason: str | None = None
    exit_code: ExitCode = ExitCode.DONE


class TerraformRun:
    """Runs Terraform for `message`.

    The caller adds to `stop_requests` while it runs: each reason in it makes Terraform stop, the
    second one faster. `before_apply` is called before anything is changed; the
    `Problem` that it may raise ends the run.
    """

    def __init__(
        self,
        message: Message,
        settings: Settings,
        stop_requests: deque[str],
        before_apply: Callable[[], None],
    ) -> None:
        self._message = message
        self._is_terminate = message.operation == "terminate"
        self._lock_timeout = f"-lock-timeout={settings.lock_timeout}s"
        self._before_apply = before_apply
        self._stopper = Stopper(stop_requests, settings.timeout)
        self._watch = settings.watch
        self._unchanged = settings.unchanged
        self._program = Program(settings.program, settings.directory, self._stopper, settings.watch)
        self._inherited = os.environ if settings.environment is None else settings.environment

    def run(self) -> Ending:
        """Run Terraform. Whatever happens to it is in the `Ending`.

        Raises `Problem` where `before_apply` does: then nothing was changed.
        """
        try:
            # Both hold secrets. They have no name and no mode for others: only this process and
            # Terraform, which inherits them, can read them, and they are gone when those are.
            with tempfile.TemporaryFile() as plan, tempfile.TemporaryFile() as definitions:
                return Ending(self._init_plan_apply(plan.fileno(), definitions))
        except (Problem, ImportError):
            raise
        except Failed as failure:
            say(str(failure), Style.RED)
            events = self._program.events
            reason = failure_reason(str(failure), events.errors, events.said, events.more_errors)
            return Ending(failure_reason=reason, exit_code=failure.exit_code)
        except OSError as error:
            headline = f"{self._program.name} could not be run: {error.strerror}"
            if error.errno == errno.E2BIG:
                headline = "The tags are too long to be passed on to Terraform"
            say(headline, Style.RED)
            reason = failure_reason(headline, [], [])
            return Ending(failure_reason=reason, exit_code=ExitCode.FAILED)
        except Exception as error:  # a record that nobody reports is stuck for ever
            defect(error)
            reason = "The engine could not tell how Terraform ended: a defect of its reporting."
            return Ending(failure_reason=reason, exit_code=ExitCode.DEFECT)

    def _init_plan_apply(self, plan: int, definitions: BinaryIO) -> list[Output]:
        program = self._program
        program.environment = self._environment()
        declared = self._configuration()
        if not self._is_terminate:
            tags.check_declared(declared.tag_keys, self._message.tags)
            tags.check_ignored(declared.ignored, program.environment)
        given = self._definitions(declared)
        definitions.write(given.text.encode())
        definitions.flush()
        # It wins over what the artifact brings along in files of its own
        # (https://developer.hashicorp.com/terraform/language/values/variables#variable-definition-precedence).
        var_file = [f"-var-file=/dev/fd/{definitions.fileno()}"] if given.text else []
        # The plan has all but ephemeral ones. Terraform before 1.10, which has none, takes no file.
        again = var_file if given.ephemeral else []
        program.files = (plan, definitions.fileno())
        with alone_in_cache(program.environment, self._stopper.is_due):
            program.step("init", *var_file)  # OpenTofu can use variables there
        if not self._is_terminate:
            tags.check_arrival(program)
        for attempt in range(1, PLANS + 1):
            self._plan(plan, var_file, given.text)
            self._before_apply()
            program.events.outputs = {}  # those of the plan have no values
            try:
                program.step("apply", self._lock_timeout, *again, f"/dev/fd/{plan}")
                break
            except Failed:
                if not program.events.has_begun:
                    self._unchanged()
                is_saved = self._has_saved_late()
                if is_saved and not (program.events.errors or self._stopper.by):
                    why = "the state is written by now"
                elif program.is_stale():
                    why = "another run has changed the state since the plan"
                else:
                    raise
                if attempt == PLANS:
                    raise
                say(f"{why}: once more", Style.YELLOW)
                program.events.errors.clear()
        try:
            return as_reported(program.events.outputs, declared.descriptions, self._message.token)
        except Exception as error:  # the resources are there all the same
            defect(error)
            return []

    def _configuration(self) -> Configuration:
        program, directory = self._program, self._program.directory
        if not directory.is_dir():
            raise Failed(f"The working directory {directory} does not exist")
        if not os.access(directory, os.R_OK | os.X_OK):
            raise Failed(f"The working directory {directory} cannot be read")
        has_tofu = any(directory.glob("*.tofu")) or any(directory.glob("*.tofu.json"))
        declared = configuration.read(directory, opentofu=has_tofu and program.is_opentofu())
        # Without it a destroy plan has nothing to destroy, and succeeds.
        if not declared.files:
            raise Failed(f"The working directory {directory} has no configuration")
        if not self._is_terminate and not declared.has_content:  # it would destroy what is there
            raise Failed(f"The working directory {directory} has nothing to run of its own")
        return declared

    def _plan(self, plan: int, var_file: list[str], definitions: str) -> None:
        os.ftruncate(plan, 0)
        # Said outright, since TF_CLI_ARGS_plan may say otherwise, and would come first.
        kind = [f"-destroy={str(self._is_terminate).lower()}", "-refresh-only=false"]
        kind += ["-detailed-exitcode=false", self._lock_timeout]
        file = f"/dev/fd/{plan}"
        self._program.step("plan", f"-out={file}", *kind, *var_file)
        _check_plan(plan)
        if not self._is_terminate:
            product_id = self._message.provisioned_product_id
            tags.check_plan(self._program, file, product_id, definitions)
        elif self._program.events.removes == "0":
            say("warning: nothing was found that could be destroyed", Style.YELLOW)
        self._program.raise_if_stopped("plan")

    def _has_saved_late(self) -> bool:
        """Whether apply could not write its state, and that has been made good: else nobody knew
        what there is, and a terminate would find nothing to destroy.

        https://developer.hashicorp.com/terraform/cli/commands/state/push
        """
        program = self._program
        errors = program.events.errors
        if all(error.summary != _NOT_SAVED[1] for error in errors):
            return False
        file = program.directory / _ERRORED
        for pause in _PAUSES:
            if not self._has_waited(pause):
                break
            say("writing the state again", Style.YELLOW)
            # What asks the run to stop is kept for later: the state comes first.
            pusher = Stopper(deque(), _PUSH_TIME)
            push = Program(program.path, program.directory, pusher, self._watch)
            options = [self._lock_timeout, file.name]
            code, _ = push.ask("state", "push", *options, environment=program.environment)
            if code == 0:
                file.unlink(missing_ok=True)
                errors[:] = [error for error in errors if error.summary not in _NOT_SAVED]
                return True
        return False

    def _has_waited(self, seconds: float) -> bool:
        """Whether nothing has asked meanwhile that the run stops."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._stopper.is_due():
                return False
            time.sleep(0.2)
        return True

    def _definitions(self, declared: Configuration) -> parameters.Definitions:
        """Return what Terraform gets as variables; keep secret what nobody may read of them."""
        secret = [variable for variable in declared.variables.values() if variable.secret]
        environment = self._program.environment
        inherited = [environment.get(f"TF_VAR_{variable.name}", "") for variable in secret]
        try:
            given = parameters.definitions(self._message.parameters, declared)
        except parameters.Unsuitable as error:
            raise Failed(str(error)) from None
        for value in (*declared.values, *inherited, *given.secrets):
            keep_value(value)
        if given.undeclared:
            parameter = "parameter" if len(given.undeclared) == 1 else "parameters"
            line = f"no variable is declared for the {parameter} {', '.join(given.undeclared)}"
            say(f"warning: {line}", Style.YELLOW)
        return given

    def _environment(self) -> dict[str, str]:
        for option in options_given(self._inherited, "plan"):
            if option in _LEAVE_OUT:
                raise Failed(f"{option} in TF_CLI_ARGS would leave out a part of the product")
        for_tags = tags.environment(
            self._message.tags | {TRACER_TAG: self._message.provisioned_product_id}
        )
        # https://developer.hashicorp.com/terraform/cli/config/config-file#environment-variable-credentials
        for name, value in self._inherited.items():
            if name.startswith("TF_TOKEN_"):
                keep_secret(value, f"({name})")
        own = (TOKEN_VARIABLE, REQUEST_VARIABLE)
        inherited = {name: value for name, value in self._inherited.items() if name not in own}
        return inherited | for_tags | {"TF_IN_AUTOMATION": "1"}


def options_given(environment: Mapping[str, str], command: str) -> Iterator[str]:
    """Yield the options, each as `-name`, that the environment has Terraform add to `command`.

    https://developer.hashicorp.com/terraform/cli/config/environment-variables#tf_cli_args-and-tf_cli_args_name
    """
    for variable in ("TF_CLI_ARGS", f"TF_CLI_ARGS_{command}"):
        try:
            words = shlex.split(environment.get(variable, ""))
        except ValueError:  # a quote without an end: Terraform refuses it, too
            continue
        for word in words:
            if word.startswith("-"):
                yield f"-{word.partition('=')[0].lstrip('-')}"


def _check_plan(plan: int) -> None:
    """Raise `Failed` where the plan is cut off, which Terraform 1.11 does not tell."""
    with open(plan, "rb", closefd=False) as file:
        # A zip archive, or JSON where HCP Terraform keeps the plan.
        if not zipfile.is_zipfile(file) and file.seek(0) == 0 and file.read(1) != b"{":
            folder = tempfile.gettempdir()
            raise Failed(f"The plan could not be written: the disk may be full under {folder}")
