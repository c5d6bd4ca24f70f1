"""How the program says that something is wrong: an exit code, and lines for a person."""

import os
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum, StrEnum
from pathlib import Path

from workflow_result.secret import hide

# ECMA-48 and ECMA-35: control sequences (colours), operating system commands (links) and other
# strings, shorter escapes (`tput sgr0` prints one to choose a character set).
ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])"
)


class ExitCode(IntEnum):
    """Exit codes: the README says what they mean; 65 to 78 are those of BSD's sysexits.h."""

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
    writer = _aside
    if writer is None:
        _write(line, style, end)
    else:
        writer.say(line, style, end)


_STALLED = 5.0
"""Seconds in which whoever reads stderr takes no line: nobody does, it seems."""

_MOST_WAITING = 8 * 2**20
"""Characters, and some for each line itself, that wait for whoever reads stderr."""

_EACH_LINE = 200


class _Writer(threading.Thread):
    """Writes to stderr what is said. Where too much waits, the oldest lines are left out."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._waiting: deque[tuple[str, Style | None, str]] = deque()
        self._size = 0
        self._left_out = 0
        self._ending = False
        self._changed = threading.Condition()

    def say(self, line: str, style: Style | None, end: str) -> None:
        with self._changed:
            self._waiting.append((line, style, end))
            self._size += len(line) + _EACH_LINE
            while self._size > _MOST_WAITING and len(self._waiting) > 1:
                self._take()
                self._left_out += 1
            self._changed.notify()

    def _take(self) -> tuple[str, Style | None, str]:
        self._size -= len(self._waiting[0][0]) + _EACH_LINE
        return self._waiting.popleft()

    def run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ending)
                if not self._waiting:
                    return
                left_out, self._left_out = self._left_out, 0
                said = self._take()
            if left_out:
                _write(f"… {left_out} lines left out: they came faster than they were read")
            _write(*said)

    def end(self) -> bool:
        """Write what is left, as long as somebody takes it. Return whether all of it was."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        left = -1
        while self.is_alive() and len(self._waiting) != left:
            left = len(self._waiting)
            self.join(_STALLED)
        return not self.is_alive()


_aside: _Writer | None = None


@contextmanager
def saying_aside() -> Iterator[None]:
    """Have a thread write to stderr meanwhile, so that nothing waits for whoever reads it.

    In the end that reader gets what is left, as long as it takes it.
    """
    global _aside
    _aside = _Writer()
    _aside.start()
    try:
        yield
    finally:
        if _aside.end():  # else what is said from now on is lost, too
            _aside = None


_record_id = ""


def name_record(record_id: str) -> None:
    """Begin every line, from now on, with the record that it is about."""
    global _record_id
    _record_id = record_id


def _write(line: str, style: Style | None = None, end: str = "\n") -> None:
    text = hide(printable(line))
    if _record_id and not text.startswith(_record_id):
        text = f"{_record_id}: {text}"
    if style and sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{style}m{text}\x1b[0m"
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, or never opened
        sys.stderr.write(text + end)
        sys.stderr.flush()


def printable(text: str) -> str:
    """Return `text` in one line that drives no terminal, wherever it comes from."""
    text = ESCAPES.sub("", text)
    if text.isprintable():
        return text
    return text.translate({ord(c): " " for c in set(text) if not c.isprintable()})


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
