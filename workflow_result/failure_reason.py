"""FailureReason: all that the person who ordered the product gets to see of a failure."""

import unicodedata
from dataclasses import dataclass
from typing import Any

from workflow_result.problem import ESCAPES
from workflow_result.secret import hide

MAX_LENGTH = 2048
"""AWS API reference, FailureReason."""

_MAX_HEADLINE = 300
_MIN_SUMMARY = 300  # what of a summary is told at the least, before the details of others
_MAX_ADDRESS = 200
_CUT = " …"


@dataclass(frozen=True)
class TerraformError:
    """What Terraform says of an error, in `-json`'s diagnostics
    (https://developer.hashicorp.com/terraform/internals/machine-readable-ui#diagnostic)."""

    summary: str
    detail: str = ""
    address: str = ""
    place: str = ""

    @classmethod
    def from_diagnostic(cls, diagnostic: dict[str, Any]) -> "TerraformError":
        place = _object(diagnostic.get("range"))
        line = _object(place.get("start")).get("line")
        return cls(
            summary=str(diagnostic.get("summary") or "Error"),
            detail=str(diagnostic.get("detail") or ""),
            address=str(diagnostic.get("address") or ""),
            place=f"{place.get('filename', '')} line {line}" if line else "",
        )

    def head(self, room: int | None = None) -> str:
        """Summary and address, in about `room` characters where there is such a limit."""
        with_address = f" ({_cut(self.address, _MAX_ADDRESS)})" if self.address else ""
        if room is None:
            return self.summary + with_address
        return _cut(self.summary, max(room - len(with_address), _MIN_SUMMARY)) + with_address

    @property
    def rest(self) -> str:
        return "\n".join(text for text in (self.place and f"on {self.place}", self.detail) if text)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def failure_reason(headline: str, errors: list[TerraformError], said: list[str]) -> str:
    """Return a FailureReason: 1 to 2,048 characters, each of which AWS allows.

    `headline` says what failed; `errors` are Terraform's; `said` are the last lines that it
    printed otherwise, which count only where there is no error.
    """
    headline = _cut(clean(headline), _MAX_HEADLINE)
    errors = list(
        dict.fromkeys(
            TerraformError(*(clean(t) for t in (e.summary, e.detail, e.address, e.place)))
            for e in errors
        )
    )
    room = MAX_LENGTH - len(headline) - 2
    if len(errors) > 1:
        body = _many(errors, room)
    elif errors:
        body = _cut(
            "\n".join(text for text in (errors[0].head(room), errors[0].rest) if text), room
        )
    else:
        body = _last_lines([clean(line) for line in said], room)
    return f"{headline}:\n{body}" if body else f"{headline}."


def clean(text: str) -> str:
    """Return `text` without secrets, colours and whatever else AWS does not allow."""
    text = ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    allowed = (
        "\ufffd" if c > "\ufffd" or "\ud800" <= c <= "\udfff" else c
        for c in text
        if c in "\n\t" or unicodedata.category(c) != "Cc"
    )
    return hide("".join(allowed)).strip()


def _many(errors: list[TerraformError], room: int) -> str:
    """Every summary and address, then as many of the details as there is room for."""
    # The AWS provider's summaries are paragraphs: where there is room for them, they are whole.
    each = room // len(errors) - len(f"{len(errors)}. \n")
    heads = [f"{number}. {error.head(each)}" for number, error in enumerate(errors, 1)]
    shown = len(heads)
    while _length(heads[:shown]) + (len(_left_out(len(heads) - shown)) + 1) > room:
        shown -= 1
    if shown < len(heads):
        return "\n".join([*heads[:shown], _left_out(len(heads) - shown)])
    lines = heads
    for number, error in enumerate(errors, 1):
        left = room - _length(lines) - 2
        if left < 40:  # not enough for a sentence
            break
        if error.rest:
            lines.append(_cut(f"\n{number}. {error.rest}", left))
    return "\n".join(lines)


def _left_out(number: int) -> str:
    return f"… and {number} more error{'s'[: number != 1]}" if number else ""


def _length(lines: list[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _last_lines(lines: list[str], room: int) -> str:
    kept: list[str] = []
    for line in reversed([line for line in lines if line]):
        if _length([line, *kept]) > room:
            break
        kept.insert(0, line)
    if not kept and lines:
        return _cut(lines[-1], room)
    return "\n".join(kept)


def _cut(text: str, room: int) -> str:
    """Return `text` in at most `room` characters: cut after a line, a sentence or a word."""
    if len(text) <= room:
        return text
    start = text[: room - len(_CUT)]
    for boundary in ("\n", ". ", " "):
        end = start.rfind(boundary)
        if end > len(start) // 2:
            return start[: end + (boundary == ". ")].rstrip() + _CUT
    return start + _CUT
