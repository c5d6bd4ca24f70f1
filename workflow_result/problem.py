"""How the program says that something is wrong: an exit code, and lines for a person."""

import sys
from contextlib import suppress
from enum import IntEnum

from workflow_result.secret import hide


class ExitCode(IntEnum):
    """Exit codes, as the README lists them; 65 to 78 are those of BSD's sysexits.h."""

    DONE = 0
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


def say(line: str) -> None:
    """Write one line for a person to stderr, without any piece of a WorkflowToken.

    Control characters are replaced, so that text from elsewhere neither breaks the line nor
    drives the terminal. A stderr that is closed loses the line, not the result.
    """
    text = "".join(c if c.isprintable() else " " for c in hide(line))
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, or never opened
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
