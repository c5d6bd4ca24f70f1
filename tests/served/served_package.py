"""The package that functions and builds run, made as `make package` makes it."""

import fcntl
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python that is here."""


def make_package(output: Path, python: str, checkout: Path = ROOT) -> None:
    """Make it with the checkout's own script."""
    script = checkout / "terraform" / "package.py"
    subprocess.run([sys.executable, script, "--python", python, output], check=True)


def package_of_this_run(temporary: Path) -> Path:
    """The package for the Python that is here, made once for all the processes of a run."""
    if temporary.name.startswith("popen-"):  # of pytest-xdist: a folder for each process in one
        temporary = temporary.parent
    made, part = temporary / "workflow-result.zip", temporary / "workflow-result.part"
    with (temporary / "package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make_package(part, PYTHON)
            part.rename(made)
    return made
