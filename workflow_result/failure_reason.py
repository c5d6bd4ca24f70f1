"""FailureReason: what AWS allows of a text that the person who ordered gets to see."""

import re
from collections.abc import Callable

from workflow_result.problem import ESCAPES
from workflow_result.secret import WORKFLOW_TOKEN, hide

MAX_LENGTH = 2048
"""AWS API reference, FailureReason."""

_CUT = " …"

# Unicode's category Cc, but for the three that are white space. AWS allows some of it.
_CONTROLS = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

# What AWS's pattern of a FailureReason leaves out besides.
_NOT_ALLOWED = re.compile(r"[\ud800-\udfff\ufffe-\U0010ffff]")


def fit(text: str) -> tuple[str, str]:
    """Return of `text` what AWS allows, and what was done to it, in words; "" where nothing was.

    Nothing is returned of a text in which there is nothing to read. What fits is left as it is,
    so doing it twice is doing it once.
    """
    done = []
    fitting = text
    for what, change in _CHANGES:
        changed = change(fitting)
        if changed != fitting:
            done.append(what)
        fitting = changed
    if not fitting.strip():
        return "", "left out: there is nothing to read in it"
    if len(fitting) > MAX_LENGTH:
        fitting = cut(fitting.strip(), MAX_LENGTH)
        done.append(f"shortened from {len(text):,} to {len(fitting):,} characters")
    return fitting, f"made to fit: {', '.join(done)}" if done else ""


def clean(text: str) -> str:
    """Return `text` without secrets, colours and whatever else AWS does not allow."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for _, change in _CHANGES:
        text = change(text)
    return text.strip()


def with_log(reason: str, url: str | None) -> str:
    """Return the reason, as far as there is room for it, and in its last line where more is to be
    read; as it is where there is no `url`."""
    if not url:
        return reason
    line = cut(f"Log: {url}", MAX_LENGTH // 2)
    return f"{cut(reason, MAX_LENGTH - len(line) - 1)}\n{line}"


def _masked(text: str) -> str:
    # What stands in for a token is not looked into: it could be taken for a piece of one.
    parts = text.split(WORKFLOW_TOKEN)
    return WORKFLOW_TOKEN.join(hide(part) for part in parts)


_CHANGES: list[tuple[str, Callable[[str], str]]] = [
    ("escape sequences removed", lambda text: ESCAPES.sub("", text)),
    ("control characters removed", lambda text: _CONTROLS.sub("", text)),
    ("what AWS does not allow replaced", lambda text: _NOT_ALLOWED.sub("\ufffd", text)),
    ("secrets masked", _masked),
]


def cut(text: str, room: int) -> str:
    """Return `text` in at most `room` characters: cut after a line, a sentence or a word."""
    if len(text) <= room:
        return text
    start = text[: room - len(_CUT)]
    for boundary in ("\n", ". ", " "):
        end = start.rfind(boundary)
        if end > len(start) // 2:
            return start[: end + (boundary == ". ")].rstrip() + _CUT
    return start + _CUT
