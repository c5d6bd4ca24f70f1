"""FailureReason: what AWS allows of a text that the person who ordered gets to see."""

import unicodedata

from workflow_result.problem import ESCAPES
from workflow_result.secret import hide

MAX_LENGTH = 2048
"""AWS API reference, FailureReason."""

_CUT = " …"


def clean(text: str) -> str:
    """Return `text` without secrets, colours and whatever else AWS does not allow."""
    text = ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    allowed = (
        "\ufffd" if c > "\ufffd" or "\ud800" <= c <= "\udfff" else c
        for c in text
        if c in "\n\t" or unicodedata.category(c) != "Cc"
    )
    return hide("".join(allowed)).strip()


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
