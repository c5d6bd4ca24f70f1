"""Reports the result of a Terraform run to AWS Service Catalog.

Data goes one way: bytes (`cli`), request, checked request (`request`, `schemas`), saved
(`journal`) and sent (`delivery`, with what `loader` reads and `credentials` gets, to an `endpoint`;
`undelivered` says what it means where that fails) by `reporting`. `engine` drives Terraform for an
operation message. `sandbox` stands where AWS would be. `problem` and `secret` are what all of them
share.
"""

import gc
import os
import resource
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
    # A core dump would hold the WorkflowToken.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Where the parent ignores it, so would we, and never learn how Terraform ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _fill_closed_streams()
    try:
        from workflow_result import cli

        code = cli.main()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == __name__:
            raise
        say(_missing_package(package))
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


def _missing_package(package: str) -> str:
    checkout = Path(__file__).resolve().parent.parent
    missing = f"the Python package {package} is missing in {sys.executable}: run "
    if (checkout / "Makefile").is_file():
        return missing + f"`make -C {checkout} venv`, then use {checkout}/.venv/bin/python"
    return missing + f"`{sys.executable} -m pip install {package}`"
