"""Reports the result of a Terraform run to AWS Service Catalog.

Data goes one way: bytes (`source`), request, checked request (`request`, `rules`, `schemas`), saved
(`journal`) and sent (`delivery`, with what `loader` reads and `credentials` gets, to an `endpoint`;
`undelivered` says what it means where that fails) by `reporting`. `engine` drives Terraform for an
operation message. `sandbox` stands where AWS would be. `problem` and `secret` are what all of them
share.
"""

import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from workflow_result.problem import ExitCode, say

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line in `sys.argv` and end the process with its exit code."""
    # One short job a process: collecting its garbage and taking the interpreter down in
    # order is a fifth of the time of `notify`, and frees nothing that the exit does not.
    gc.disable()
    # Where the parent ignores it, so would we, and never learn how Terraform ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _fill_closed_streams()
    try:
        import resource

        # A core dump would hold the WorkflowToken.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        from workflow_result import cli

        code = cli.main()
    except Exception as error:  # `cli` tells all but those of a package that it cannot import
        say(_cannot_import(error))
        code = ExitCode.SETUP
    except KeyboardInterrupt:  # before `cli` could see to it
        say("interrupted")
        code = ExitCode.INTERRUPTED
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, or never opened
        sys.stdout.flush()
    os._exit(code)


def _fill_closed_streams() -> None:
    """Keep files and sockets out of the places of standard streams that were closed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one


def _cannot_import(error: Exception) -> str:
    """Say which package cannot be imported, why, and what to do about it."""
    name = getattr(error, "name", None) or _where(error)
    package = name.partition(".")[0]
    checkout = Path(__file__).resolve().parent.parent
    is_missing = isinstance(error, ModuleNotFoundError) and name == package
    if is_missing:
        what = f"is missing in {sys.executable}"
    else:
        what = f"cannot be imported in {sys.executable} ({type(error).__name__}: {error})"
    if package == __name__:
        remedy = "install it again"
    elif (checkout / "Makefile").is_file():
        targets = "venv" if is_missing else "clean venv"
        remedy = f"run `make -C {checkout} {targets}`, then use {checkout}/.venv/bin/python"
    else:
        remedy = f"run `{sys.executable} -m pip install --force-reinstall {package}`"
    if os.environ.get("PYTHONPATH") and not is_missing:
        remedy = f"unset PYTHONPATH, or {remedy}"
    return f"the Python package {package} {what}: {remedy}"


def _where(error: Exception) -> str:
    """Return the module whose code raised `error`."""
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    return str(step.tb_frame.f_globals.get("__name__")) if step else __name__
