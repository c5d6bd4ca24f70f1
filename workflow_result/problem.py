"""How the program says that something is wrong: an exit code, and lines for a person."""

import os
import queue
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    if _unwritten is None:
        _write(line, style, end)
    else:
        _unwritten.put((line, style, end))


_unwritten: queue.SimpleQueue[tuple[str, Style | None, str] | None] | None = None

_STALLED = 5.0
"""Seconds in which whoever reads stderr takes no line: nobody does, it seems."""


@contextmanager
def saying_aside() -> Iterator[None]:
    """Have a thread write to stderr meanwhile, so that nothing waits for whoever reads it.

    In the end that reader gets what is left, as long as it takes it.
    """
    global _unwritten
    unwritten: queue.SimpleQueue[tuple[str, Style | None, str] | None] = queue.SimpleQueue()

    def write() -> None:
        while (said := unwritten.get()) is not None:
            _write(*said)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    _unwritten = unwritten
    try:
        yield
    finally:
        unwritten.put(None)
        left = -1
        while writer.is_alive() and unwritten.qsize() != left:
            left = unwritten.qsize()
            writer.join(_STALLED)
        if not writer.is_alive():  # else what is said from now on is lost, too
            _unwritten = None


def _write(line: str, style: Style | None, end: str) -> None:
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
