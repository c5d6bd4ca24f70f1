"""What Terraform says of its errors, and a FailureReason made of it."""

import re
from dataclasses import dataclass
from typing import Any

from workflow_result.failure_reason import MAX_LENGTH, clean, cut

_MAX_HEADLINE = 300
_MIN_SUMMARY = 300  # what of a summary is told at the least, before the details of others
_MAX_ADDRESS = 200
_MAX_PART = 64 * 1024  # of each part of a diagnostic that is kept


_FOR_A_SHELL = re.compile(
    r"(Use a -var or -var-file command line argument|"
    r'For most commands,\s+you\s+can\s+disable\s+locking\s+with\s+the\s+"-lock=false")[^.]*\.'
)
"""Advice of Terraform's on a command line, which the person who ordered has not."""


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
            summary=_part(diagnostic, "summary") or "Error",
            detail=_FOR_A_SHELL.sub("", _part(diagnostic, "detail")).rstrip(),
            address=_part(diagnostic, "address"),
            place=f"{_part(place, 'filename')} line {line}" if line else "",
        )

    def head(self, room: int | None = None) -> str:
        """Summary and address, in about `room` characters where there is such a limit."""
        with_address = f" ({cut(self.address, _MAX_ADDRESS)})" if self.address else ""
        if room is None:
            return self.summary + with_address
        return cut(self.summary, max(room - len(with_address), _MIN_SUMMARY)) + with_address

    @property
    def rest(self) -> str:
        return "\n".join(text for text in (self.place and f"on {self.place}", self.detail) if text)


def _part(value: dict[str, Any], name: str) -> str:
    return str(value.get(name) or "")[:_MAX_PART]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def failure_reason(
    headline: str, errors: list[TerraformError], said: list[str], more_errors: int = 0
) -> str:
    """Return a FailureReason: 1 to 2,048 characters, each of which AWS allows.

    `headline` says what failed; `errors` are Terraform's; `said` are the last lines that it
    printed otherwise, which count only where there is no error. `more_errors` is how many there
    were beside `errors`.
    """
    is_all = not (errors or any(map(clean, said)))
    headline = cut(clean(headline), MAX_LENGTH - 1 if is_all else _MAX_HEADLINE)
    errors = list(
        dict.fromkeys(
            TerraformError(*(clean(t) for t in (e.summary, e.detail, e.address, e.place)))
            for e in errors
        )
    )
    room = MAX_LENGTH - len(headline) - 2
    if len(errors) > 1:
        body = _many(errors, room, more_errors)
    elif errors:
        body = cut("\n".join(text for text in (errors[0].head(room), errors[0].rest) if text), room)
    else:
        body = _last_lines([clean(line) for line in said], room)
    return f"{headline}:\n{body}" if body else f"{headline.removesuffix('.')}."


def _many(errors: list[TerraformError], room: int, more: int) -> str:
    """Every summary and address, then as many of the details as there is room for."""
    # The AWS provider's summaries are paragraphs: where there is room for them, they are whole.
    each = room // len(errors) - len(f"{len(errors)}. \n")
    heads = [f"{number}. {error.head(each)}" for number, error in enumerate(errors, 1)]
    shown = len(heads)
    while _length(heads[:shown]) + (len(_left_out(len(heads) - shown + more)) + 1) > room:
        shown -= 1
    if shown < len(heads) or more:
        return "\n".join([*heads[:shown], _left_out(len(heads) - shown + more)])
    lines = heads
    for number, error in enumerate(errors, 1):
        left = room - _length(lines) - 2
        if left < 40:  # not enough for a sentence
            break
        if error.rest:
            lines.append(cut(f"\n{number}. {error.rest}", left))
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
        return cut(lines[-1], room)
    return "\n".join(kept)
