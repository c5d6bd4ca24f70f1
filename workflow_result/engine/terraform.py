"""The steps of a Terraform run: init, plan, apply of that very plan, and how it ended."""

import errno
import json
import os
import re
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from workflow_result.engine import configuration, parameters, tags
from workflow_result.engine.configuration import Configuration
from workflow_result.engine.diagnostics import failure_reason
from workflow_result.engine.events import Events
from workflow_result.engine.message import TRACER_TAG, Message
from workflow_result.engine.outputs import Output, as_reported
from workflow_result.engine.process import MAX_LINE, Child, Stopper, signal_name
from workflow_result.problem import ExitCode, Problem, Style, defect, say
from workflow_result.request import REQUEST_VARIABLE, TOKEN_VARIABLE
from workflow_result.secret import keep_value

HOST_DIED = (
    "The engine's process ended before it could tell how Terraform did, so how far Terraform "
    "came is not known: its host may have failed."
)
"""FailureReason of a run that ended without a word."""

OLDEST = (1, 9)
"""The first Terraform whose `init` has -json."""

NOT_FOUND = ", by which Service Catalog would not find the product"

PLANS = 3
"""How often at the most a run plans, where other runs change the state before it applies."""


@dataclass
class Settings:
    """How Terraform is to run: `program` in `directory`, for `timeout` seconds at most where there
    is one, and `lock_timeout` seconds for the state's lock."""

    directory: Path
    program: str
    timeout: int | None
    lock_timeout: int


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
    """Runs Terraform for `message`.

    Somebody else adds to `stop_requests` while it runs: each name of a signal in it makes
    Terraform stop, the second one faster. `before_apply` is called before anything is changed; the
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
        self._directory = settings.directory
        # A path is meant from here, not from `directory`.
        program = settings.program
        self._program = os.path.abspath(program) if os.sep in program else program
        self._name = Path(program).name
        self._lock_timeout = f"-lock-timeout={settings.lock_timeout}s"
        self._stopper = Stopper(stop_requests, settings.timeout)
        self._before_apply = before_apply
        self._events = Events()

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
        except _Failed as failure:
            say(str(failure), Style.RED)
            events = self._events
            reason = failure_reason(str(failure), events.errors, events.said, events.more_errors)
            return Ending(failure_reason=reason, exit_code=failure.exit_code)
        except OSError as error:
            headline = f"{self._name} could not be run: {error.strerror}"
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
        self._check_directory()
        environment = self._environment()
        declared = configuration.read(self._directory, opentofu=self._is_opentofu(environment))
        # Without it a destroy plan has nothing to destroy, and succeeds.
        if not declared.files:
            raise _Failed(f"The working directory {self._directory} has no configuration")
        is_terminate = self._message.operation == "terminate"
        if not is_terminate and not declared.has_content:  # it would destroy what is there
            raise _Failed(f"The working directory {self._directory} has nothing to run of its own")
        if not is_terminate and TRACER_TAG in declared.tag_keys:
            raise _Failed(f"The artifact sets the tag {TRACER_TAG} itself{NOT_FOUND}")
        given = self._definitions(declared, environment)
        definitions.write(given.text.encode())
        definitions.flush()
        # It wins over what the artifact brings along in files of its own
        # (https://developer.hashicorp.com/terraform/language/values/variables#variable-definition-precedence).
        var_file = [f"-var-file=/dev/fd/{definitions.fileno()}"] if given.text else []
        # The plan has all but ephemeral ones. Terraform before 1.10, which has none, takes no file.
        again = var_file if given.ephemeral else []
        files = (plan, definitions.fileno())
        self._step(environment, files, "init", *var_file)  # OpenTofu can use variables there
        if not is_terminate:
            self._check_tags_arrive(environment)
        for attempt in range(1, PLANS + 1):
            self._plan(environment, files, var_file)
            self._before_apply()
            self._events.outputs = {}  # those of the plan have no values
            try:
                options = (self._lock_timeout, *again, f"/dev/fd/{plan}")
                self._step(environment, files, "apply", *options)
                break
            except _Failed:
                if attempt == PLANS or not self._is_stale():
                    raise
                say("another run has changed the state since the plan: once more", Style.YELLOW)
                self._events.errors.clear()
        return as_reported(self._events.outputs, declared.descriptions, self._message.token)

    def _plan(
        self, environment: dict[str, str], files: tuple[int, ...], var_file: list[str]
    ) -> None:
        """Write the plan into the first of `files`."""
        is_terminate = self._message.operation == "terminate"
        plan = files[0]
        os.ftruncate(plan, 0)
        # Said outright, since TF_CLI_ARGS_plan may say otherwise, and would come first.
        kind = [f"-destroy={str(is_terminate).lower()}", "-refresh-only=false"]
        kind += ["-detailed-exitcode=false", self._lock_timeout]
        self._step(environment, files, "plan", f"-out=/dev/fd/{plan}", *kind, *var_file)
        _check_plan(plan)
        if is_terminate and self._events.removes == "0":
            say("warning: nothing was found that could be destroyed", Style.YELLOW)
        elif not is_terminate and tags.may_be_changed(self._directory, environment):
            self._check_tracer_tag(environment, plan)
        self._raise_if_stopped("plan")

    def _is_stale(self) -> bool:
        """Whether apply did nothing, since the state is not that of the plan any more: its lock is
        free between the two."""
        summaries = [error.summary for error in self._events.errors]
        return summaries == ["Saved plan is stale"] and not self._stopper.by

    def _check_directory(self) -> None:
        if not self._directory.is_dir():
            raise _Failed(f"The working directory {self._directory} does not exist")
        if not os.access(self._directory, os.R_OK | os.X_OK):
            raise _Failed(f"The working directory {self._directory} cannot be read")

    def _definitions(
        self, declared: Configuration, environment: Mapping[str, str]
    ) -> parameters.Definitions:
        """Return what Terraform gets as variables; keep secret what nobody may read of them."""
        secret = [variable for variable in declared.variables.values() if variable.secret]
        inherited = [environment.get(f"TF_VAR_{variable.name}", "") for variable in secret]
        try:
            given = parameters.definitions(self._message.parameters, declared)
        except parameters.Unsuitable as error:
            raise _Failed(str(error)) from None
        for value in (*declared.values, *inherited, *given.secrets):
            keep_value(value)
        if kept := sorted(declared.tag_keys & self._message.tags.keys()):
            names = ", ".join(kept)
            say(f"warning: the artifact sets tags of the order itself: {names}", Style.YELLOW)
        if given.undeclared:
            names = ", ".join(given.undeclared)
            say(f"warning: no variable is declared for the parameters {names}", Style.YELLOW)
        return given

    def _is_opentofu(self, environment: dict[str, str]) -> bool:
        """Whether the program is OpenTofu, where it matters: it has files of its own."""
        if not any(self._directory.glob("*.tofu")) and not any(self._directory.glob("*.tofu.json")):
            return False
        try:
            _, said = self._ask(["version"], self._directory, environment)
        except OSError:  # the first step will say so
            return False
        return b"OpenTofu" in said

    def _environment(self) -> dict[str, str]:
        targeted = re.search(
            r"(?<!\S)--?(target|exclude)(-file)?\b",
            os.environ.get("TF_CLI_ARGS", "") + " " + os.environ.get("TF_CLI_ARGS_plan", ""),  # noqa: SIM112
        )
        if targeted:
            raise _Failed(f"{targeted[0]} in TF_CLI_ARGS would leave out a part of the product")
        try:
            for_tags = tags.environment(
                self._message.tags | {TRACER_TAG: self._message.provisioned_product_id}
            )
        except ValueError as error:
            raise _Failed(str(error)) from None
        own = (TOKEN_VARIABLE, REQUEST_VARIABLE)
        inherited = {name: value for name, value in os.environ.items() if name not in own}
        return inherited | for_tags | {"TF_IN_AUTOMATION": "1"}

    # --- the tags ---------------------------------------------------------------------------

    def _check_tags_arrive(self, environment: dict[str, str]) -> None:
        version = tags.aws_provider(self._directory)
        if version is None:
            return
        if version < tags.FIRST_PROVIDER:
            found = ".".join(map(str, version))
            wanted = ".".join(map(str, tags.FIRST_PROVIDER))
            raise _Failed(
                f"The AWS provider {found} takes no tags from the engine: the artifact needs "
                f"version {wanted} or later"
            )
        if not tags.is_script(self._program, environment.get("PATH")):
            return
        with tags.probe(environment) as (folder, probed):
            code, said = self._ask(["plan", "-input=false", "-no-color"], folder, probed)
        if code == 0 and tags.DROPPED.encode() in said:
            raise _Failed(
                f"{self._name} is a script that does not pass the order's tags on to Terraform: "
                "its shell drops variables with hyphens in their names; have bash run it"
            )

    def _check_tracer_tag(self, environment: dict[str, str], plan: int) -> None:
        """Have a look at the plan itself. It takes seconds, since each provider is started."""
        os.lseek(plan, 0, os.SEEK_SET)
        show = ["show", "-json", f"/dev/fd/{plan}"]
        _, shown = self._ask(show, self._directory, environment, plan)
        try:
            address = tags.changed_by(json.loads(shown), self._message.provisioned_product_id)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _Failed("The plan could not be searched for the tracer tag") from None
        if address:
            raise _Failed(f"The artifact sets the tag {TRACER_TAG} of {address} itself{NOT_FOUND}")

    # --- a step of Terraform ----------------------------------------------------------------

    def _step(
        self, environment: dict[str, str], files: tuple[int, ...], name: str, *options: str
    ) -> None:
        """Run `terraform NAME` to its end and tell what it says. Raises `_Failed`.

        `files` are the descriptors that it inherits.
        """
        self._raise_if_stopped(name)
        self._events.begin()
        say(f"{self._name} {name}", Style.BOLD)
        for file in files:  # macOS: /dev/fd/N begins where the last one who used it stopped
            os.lseek(file, 0, os.SEEK_SET)
        command = [self._program, name, "-json", "-input=false", *options]
        try:
            child = Child(command, self._directory, environment, files, self._stopper)
        except FileNotFoundError:
            headline = f"{self._program} was not found on the engine's machine"
            raise _Failed(headline, ExitCode.SETUP) from None
        except PermissionError:
            headline = f"{self._program} cannot be run on the engine's machine"
            raise _Failed(headline, ExitCode.SETUP) from None
        code = None
        try:
            for is_stdout, line in child.lines():
                self._events.take(line, is_stdout=is_stdout, quiet=name == "apply")
                if self._events.is_interrupted:
                    self._stopper.heard()
        finally:  # whatever went wrong here, Terraform must not go on unseen
            code = child.wait()
        if code == 0 and (name == "apply" or not self._stopper.by):
            return
        self._raise_if_stopped(name)
        if code < 0:
            raise _Failed(f"{self._name} {name} was killed by {signal_name(-code)}")
        if name == "init" and (unfit := self._unfit_version(environment)):
            raise _Failed(unfit)
        is_told = self._events.errors or self._events.said
        more = "" if is_told else f" with exit status {code}"
        raise _Failed(f"{self._name} {name} failed{more}")

    def _ask(
        self, arguments: list[str], folder: Path, environment: dict[str, str], *passed: int
    ) -> tuple[int, bytes]:
        """Run Terraform for an answer that nobody else gets to see: its exit code and stdout."""
        size = 0
        child = Child([self._program, *arguments], folder, environment, passed, self._stopper)
        try:
            said: list[bytes] = []
            for is_stdout, line in child.lines():
                if is_stdout and (size := size + len(line)) <= MAX_LINE:
                    said.append(line)
        finally:
            code = child.wait()
        return code, b"\n".join(said)

    def _raise_if_stopped(self, name: str) -> None:
        if self._stopper.is_due():
            raise _Failed(f"Terraform was stopped during {name}: {self._stopper.by}")

    def _unfit_version(self, environment: dict[str, str]) -> str | None:
        """Where `init` failed since this is the wrong Terraform for it: what is wrong."""
        version = self._events.version
        kind = "OpenTofu" if self._events.is_opentofu else "Terraform"
        if version:
            excluded = f"Unsupported {kind} Core version"
            if any(error.summary == excluded for error in self._events.errors):
                return f"The artifact's required_version excludes {kind} {version}"
            return None
        try:
            _, said = self._ask(["version", "-json"], self._directory, environment)
            version = str(json.loads(said)["terraform_version"])
            numbers = tuple(int(number) for number in version.split("-")[0].split("."))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if numbers < OLDEST:
            wanted = ".".join(map(str, OLDEST))
            return f"Terraform {version} is too old for this engine, which needs {wanted} or later"
        return None


def _check_plan(plan: int) -> None:
    """Raise `_Failed` where the plan is cut off, which Terraform 1.11 does not tell."""
    with open(plan, "rb", closefd=False) as file:
        # A zip archive, or JSON where HCP Terraform keeps the plan.
        if not zipfile.is_zipfile(file) and file.seek(0) == 0 and file.read(1) != b"{":
            folder = tempfile.gettempdir()
            raise _Failed(f"The plan could not be written: the disk may be full under {folder}")
