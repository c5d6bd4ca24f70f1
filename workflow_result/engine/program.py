"""Terraform or OpenTofu as a program: its steps, told as they go, and its answers."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workflow_result.engine.events import Events
from workflow_result.engine.process import MAX_LINE, Child, Stopper, signal_name
from workflow_result.problem import Event, ExitCode, Style, say

OLDEST = {"Terraform": (1, 9), "OpenTofu": (1, 7)}
"""The first versions whose `init` has -json (https://github.com/hashicorp/terraform/pull/34886,
https://github.com/opentofu/opentofu/pull/1453)."""


class Failed(Exception):
    """The run ends here: what failed, in the words of a headline."""

    def __init__(self, headline: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(headline)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Version:
    """Which one a program is: `kind` is a key of `OLDEST`, `text` its version."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"

    @property
    def needed(self) -> str | None:
        """The oldest version that would do, where this one is older."""
        oldest = OLDEST[self.kind]
        return ".".join(map(str, oldest)) if _numbers(self.text) < oldest else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("-")[0].split("."))


class Program:
    """Runs `program` in `directory`, one step after the other, until `stopper` says otherwise.

    `environment` is what it gets, `files` are descriptors that each step inherits. `events` has
    what it said. `watch` is told the process ID of each child that begins, and 0 at its end.
    """

    def __init__(
        self, program: str, directory: Path, stopper: Stopper, watch: Callable[[int], None]
    ) -> None:
        # A path is meant from here, not from `directory`.
        self.path = os.path.abspath(program) if os.sep in program else program
        self.name = Path(program).name
        self.directory = directory
        self.environment: Mapping[str, str] = {}
        self.files: tuple[int, ...] = ()
        self.events = Events()
        self._stopper = stopper
        self._watch = watch

    def step(self, name: str, *options: str) -> None:
        """Run `terraform NAME` to its end and tell what it says. Raises `Failed`."""
        self.raise_if_stopped(name)
        self.events.begin()
        say(f"{self.name} {name}", Style.BOLD, event=Event.STEP)
        for file in self.files:  # macOS: /dev/fd/N begins where the last one who used it stopped
            os.lseek(file, 0, os.SEEK_SET)
        command = [self.path, name, "-json", "-input=false", *options]
        try:
            child = Child(command, self.directory, self.environment, self.files, self._stopper)
        except FileNotFoundError:
            headline = f"{self.path} was not found on the engine's machine"
            raise Failed(headline, ExitCode.SETUP) from None
        except PermissionError:
            headline = f"{self.path} cannot be run on the engine's machine"
            raise Failed(headline, ExitCode.SETUP) from None
        self._watch(child.pid)
        try:
            for is_stdout, line in child.lines():
                self.events.take(line, is_stdout=is_stdout, quiet=name == "apply")
                if self.events.is_interrupted:
                    self._stopper.heard()
        finally:  # whatever went wrong here, Terraform must not go on unseen
            code = child.wait()
            self._watch(0)
        if code == 0 and (name == "apply" or not self._stopper.by):
            return
        self.raise_if_stopped(name)
        if code < 0:
            raise Failed(f"{self.name} {name} was killed by {signal_name(-code)}")
        if name == "init" and (unfit := self._unfit_version()):
            raise Failed(unfit)
        is_told = self.events.errors or self.events.said
        more = "" if is_told else f" with exit status {code}"
        raise Failed(f"{self.name} {name} failed{more}")

    def raise_if_stopped(self, name: str) -> None:
        """Raise `Failed` where nothing more is to be done, in the step `name` or before it."""
        if self._stopper.is_due():
            raise Failed(f"Terraform was stopped during {name}: {self._stopper.by}")

    def ask(
        self,
        *arguments: str,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Run it for an answer that nobody else gets to see; return exit code and stdout.

        Raises OSError where it cannot be run.
        """
        for file in self.files:
            os.lseek(file, 0, os.SEEK_SET)
        child = Child(
            [self.path, *arguments],
            directory or self.directory,
            self.environment if environment is None else environment,
            self.files,
            self._stopper,
        )
        self._watch(child.pid)
        said: list[bytes] = []
        size = 0
        try:
            for is_stdout, line in child.lines():
                if is_stdout and (size := size + len(line)) <= MAX_LINE:
                    said.append(line)
        finally:
            code = child.wait()
            self._watch(0)
        return code, b"\n".join(said)

    def is_opentofu(self) -> bool:
        """Whether it is OpenTofu. Where it cannot be run, it is not: the first step will say so."""
        try:
            return b"OpenTofu" in self.ask("version")[1]
        except OSError:
            return False

    def version(self) -> Version | None:
        """Return which one it is, or None where it does not tell. Raises OSError as `ask` does."""
        try:
            text = str(json.loads(self.ask("version", "-json")[1])["terraform_version"])
            _numbers(text)
        except (ValueError, KeyError, TypeError):
            return None
        return Version("OpenTofu" if self.is_opentofu() else "Terraform", text)

    def is_stale(self) -> bool:
        """Whether apply did nothing, since the state is not that of the plan any more: its lock is
        free between the two."""
        summaries = [error.summary for error in self.events.errors]
        return summaries == ["Saved plan is stale"] and not self._stopper.by

    def _unfit_version(self) -> str | None:
        """Where `init` failed since this is the wrong Terraform for it: what is wrong."""
        if said := self.events.version:
            kind = "OpenTofu" if self.events.is_opentofu else "Terraform"
            excluded = f"Unsupported {kind} Core version"
            if any(error.summary == excluded for error in self.events.errors):
                return f"The artifact's required_version excludes {kind} {said}"
            return None
        with suppress(OSError):
            version = self.version()
            if version and version.needed:
                needs = f"which needs {version.needed} or later"
                return f"{version} is too old for this engine, {needs}"
        return None
