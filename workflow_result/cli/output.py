"""What goes to stdout: the results, for programs."""

import json
import sys
from typing import Any

from workflow_result.problem import ExitCode, Problem, say_problem


def print_result(value: dict[str, Any]) -> None:
    """Print what was reported. That it cannot be printed is told, and changes nothing of that."""
    try:
        print_json(value)
    except Problem as problem:
        say_problem(problem)


def print_json(value: dict[str, Any]) -> None:
    print_line(json.dumps(value, separators=(",", ":")))


def print_line(text: str) -> None:
    """Write `text` and a newline to stdout. That nobody reads it is no error: the work is done."""
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return
    except OSError as error:
        raise Problem(
            ExitCode.SETUP, f"stdout cannot be written: {error.strerror}; all else is done"
        ) from None
