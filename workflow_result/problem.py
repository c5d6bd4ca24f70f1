"""How the program says that something is wrong: an exit code, and lines for a person."""

import os
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import NamedTuple

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


class Event(StrEnum):
    """What a line is about, for who asks a log for all of a kind; most lines are about nothing of
    these. docs/logs.md lists them."""

    STEP = "step"
    TERRAFORM = "terraform"
    STOP = "stop"
    REPORT = "report"
    MESSAGE = "message"
    RESEND = "resend"
    INVALID = "invalid"
    REFUSED = "refused"
    NOT_DELIVERED = "not_delivered"
    SETUP = "setup"
    USAGE = "usage"
    DEFECT = "defect"
    TRACEBACK = "traceback"


LOG_VARIABLE = "WORKFLOW_RESULT_LOG"


class _Line(NamedTuple):
    text: str
    style: Style | None = None
    end: str = "\n"
    event: Event | None = None


_WRONG = (
    *(Event.INVALID, Event.REFUSED, Event.NOT_DELIVERED, Event.SETUP, Event.USAGE),
    *(Event.DEFECT, Event.TRACEBACK),
)
"""Events of lines that tell an error, however they look."""


def say(line: str, style: Style | None = None, end: str = "\n", event: Event | None = None) -> None:
    """Write one line for a person to stderr, without any piece of a secret.

    A stderr that is closed loses the line, not the result. `style` counts on a terminal, and
    where NO_COLOR (https://no-color.org) is not set. Where WORKFLOW_RESULT_LOG is json, the line is
    a JSON object, for programs.
    """
    writer = _aside
    if writer is None:
        _write(_Line(line, style, end, event))
    else:
        writer.say(_Line(line, style, end, event))


def say_object(members: Mapping[str, object]) -> None:
    """Write a JSON object to stderr where programs read that: where WORKFLOW_RESULT_LOG is json,
    and in a build, whose log CloudWatch has. Else nothing.

    https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html
    """
    if os.environ.get(LOG_VARIABLE) == "json" or os.environ.get("CODEBUILD_BUILD_ID"):
        import json

        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(json.dumps(members) + "\n")
            sys.stderr.flush()


def say_problem(problem: Problem) -> None:
    """Say what is wrong."""
    event = next((e for e in Event if e.name == problem.exit_code.name), None)
    for line in problem.lines:
        say(line, Style.RED, event=event)


_STALLED = 5.0
"""Seconds in which whoever reads stderr takes no line: nobody does, it seems."""

_MOST_WAITING = 8 * 2**20
"""Characters, and some for each line itself, that wait for whoever reads stderr."""

_EACH_LINE = 200


class _Writer(threading.Thread):
    """Writes to stderr what is said. Where too much waits, the oldest lines are left out."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._waiting: deque[_Line] = deque()
        self._size = 0
        self._left_out = 0
        self._ending = False
        self._changed = threading.Condition()

    def say(self, line: _Line) -> None:
        with self._changed:
            self._waiting.append(line)
            self._size += len(line.text) + _EACH_LINE
            while self._size > _MOST_WAITING and len(self._waiting) > 1:
                self._take()
                self._left_out += 1
            self._changed.notify()

    def _take(self) -> _Line:
        self._size -= len(self._waiting[0].text) + _EACH_LINE
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
                _write(_Line(f"… {left_out} lines left out: they came faster than they were read"))
            _write(said)

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


_record_id = _operation = ""
_in_every_line = False


def name_record(record_id: str, operation: str, *, in_every_line: bool = False) -> None:
    """Say, from now on, which record the lines are about: in JSON, and `in_every_line` where other
    processes write between them, on other records."""
    global _record_id, _operation, _in_every_line
    _record_id, _operation, _in_every_line = record_id, operation, in_every_line


@contextmanager
def about(record_id: str, operation: str = "") -> Iterator[None]:
    """Say, meanwhile, which record the lines are about."""
    before = _record_id, _operation
    name_record(record_id, operation, in_every_line=_in_every_line)
    try:
        yield
    finally:
        name_record(*before, in_every_line=_in_every_line)


def on_terminal() -> bool:
    """Whether a person looks at what is said, and can be shown a line that is written over."""
    try:
        return bool(sys.stderr and sys.stderr.isatty()) and os.environ.get(LOG_VARIABLE) != "json"
    except ValueError:  # closed
        return False


_is_over = False
"""Whether the next line is written over the last one of this process."""


def _write(line: _Line) -> None:
    global _is_over
    text, end = hide(printable(line.text)), line.end
    if os.environ.get(LOG_VARIABLE) == "json":
        if not text.strip():
            return
        text, end = _as_json(text, line), "\n"
    else:
        if _in_every_line and not text.startswith(_record_id):
            text = f"{_record_id}: {text}"
        if on_terminal():
            is_last, _is_over = _is_over, end == "\r"
            if _is_over:  # in one line of the terminal
                text = text[: (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1]
            if line.style and not os.environ.get("NO_COLOR"):
                text = f"\x1b[{line.style}m{text}\x1b[0m"
            # Beside other processes, it may be the line of one of them that is written over.
            text = "\x1b[K" + text if is_last or _in_every_line else text
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, or never opened
        sys.stderr.write(text + end)
        sys.stderr.flush()


def _as_json(text: str, line: _Line) -> str:
    import json
    from datetime import UTC, datetime

    level = {Style.RED: "error", Style.YELLOW: "warning"}.get(line.style or Style.BOLD, "info")
    if line.event in _WRONG:
        level = "error"
    for word in ("warning", "error"):
        if text.startswith(f"{word}: "):
            level, text = word, text.removeprefix(f"{word}: ")
    known = {"record": _record_id, "operation": _operation, "event": line.event}
    members = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        **{name: value for name, value in known.items() if value},
        "message": text.rstrip() if line.event == Event.TRACEBACK else text.strip(),
    }
    return json.dumps(members)


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
                say(line, event=Event.TRACEBACK)


def defect(error: Exception) -> None:
    """Say, in a line, that `error` is a defect of this program. Its own text may hold anything."""
    step = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(step.filename).name}, line {step.lineno}"
    line = f"a defect of this program: {type(error).__name__} in {where}; --debug shows more"
    say(line, Style.RED, event=Event.DEFECT)
    say_traceback(error)
