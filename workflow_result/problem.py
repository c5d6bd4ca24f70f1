"""How the program says that something is wrong: an exit code, and lines for a person."""

import os
import re
import sys
import traceback
from contextlib import suppress
from enum import IntEnum, StrEnum
from pathlib import Path

from workflow_result.secret import hide

# ECMA-48: control sequences (colours), operating system commands (links), two-byte escapes.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class ExitCode(IntEnum):
    """Exit codes, as the README lists them; 65 to 78 are those of BSD's sysexits.h."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INVALID = 65
    REFUSED = 69
    DEFECT = 70
    NOT_DELIVERED = 75
    SETUP = 78
    INTERRUPTED = 130


class Problem(Exception):
    """Something a person has to know of. `lines` go to stderr, `exit_code` to the caller."""

    def __init__(self, exit_code: ExitCode, *lines: str) -> None:
        super().__init__(*lines)
        self.exit_code = exit_code
        self.lines = lines


class Style(StrEnum):
    """How a line looks on a terminal, as parameters of the control sequence SGR (ECMA-48)."""

    BOLD = "1"
    RED = "31"
    YELLOW = "33"


def say(line: str, style: Style | None = None, end: str = "\n") -> None:
    """Write one line for a person to stderr, without any piece of a secret.

    A stderr that is closed loses the line, not the result. `style` counts on a terminal, and
    where NO_COLOR (https://no-color.org) is not set.
    """
    text = hide(printable(line))
    if style and sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{style}m{text}\x1b[0m"
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, or never opened
        sys.stderr.write(text + end)
        sys.stderr.flush()


def printable(text: str) -> str:
    """Return `text` in one line that drives no terminal, wherever it comes from."""
    return "".join(c if c.isprintable() else " " for c in ESCAPES.sub("", text))


_show_tracebacks = False


def show_tracebacks() -> None:
    """Show a traceback, from now on, with everything that goes wrong."""
    global _show_tracebacks
    _show_tracebacks = True


def say_traceback(error: BaseException) -> None:
    """Say where `error` comes from, if that is wanted."""
    if _show_tracebacks:
        for entry in traceback.format_exception(error):
            for line in entry.splitlines():
                say(line)


def defect(error: Exception) -> None:
    """Say, in a line, that `error` is a defect of this program. Its own text may hold anything."""
    step = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(step.filename).name}, line {step.lineno}"
    say(f"a defect of this program: {type(error).__name__} in {where}; --debug shows more")
    say_traceback(error)
