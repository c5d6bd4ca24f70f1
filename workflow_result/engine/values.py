"""Values as JSON and HCL have them: what kind they are, read from JSON, written in HCL."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Value = Any
"""None, bool, Number, str, list or dict, as in JSON."""


class Number(str):
    """A number as it was written: some have more digits than a float."""


class Kind(StrEnum):
    """What a value is, as far as a conversion between types needs to know."""

    STRING = "string"
    NUMBER = "number"
    BOOL = "bool"
    SEQUENCE = "sequence"  # list, set, tuple
    MAPPING = "mapping"  # map, object
    ANY = "any"


@dataclass(frozen=True)
class Expression:
    """An expression that is no literal: what will come of it, and the literals in it that may be
    a part of that."""

    kind: Kind
    literals: tuple[Value, ...] = ()


class Object(dict[str, Value]):
    """An object of JSON, and its members as they stand there: some names come more than once."""

    def __init__(self, pairs: list[tuple[str, Value]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def parse_json(text: str) -> Value:
    """Return the value of JSON text. Raises `ValueError` where it is none, or is nested some 1,000
    times."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(
            text,
            object_pairs_hook=Object,
            parse_int=Number,
            parse_float=Number,
            parse_constant=refuse,  # NaN, which Python has of its own
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def kind_of(value: Value | Expression) -> Kind:
    """Return what a value is; `Kind.ANY` for null, and for what is not known."""
    match value:
        case Expression():
            return value.kind
        case bool():
            return Kind.BOOL
        case Number():
            return Kind.NUMBER
        case str():
            return Kind.STRING
        case list():
            return Kind.SEQUENCE
        case dict():
            return Kind.MAPPING
    return Kind.ANY


def plain_number(number: Number) -> str:
    """Return how Terraform writes `number` where a string is needed. Raises `ValueError`."""
    found = re.fullmatch(r"(-?)0*(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,4}))?", number)
    if not found:  # an exponent of more than four digits makes a string of more than 10,000
        raise ValueError("too long")
    sign, whole, part, exponent = found[1], found[2], found[3] or "", int(found[4] or 0)
    digits, point = whole + part, len(whole) + exponent
    digits = "0" * -point + digits + "0" * (point - len(digits))
    point = max(point, 0)
    whole, part = digits[:point].lstrip("0") or "0", digits[point:].rstrip("0")
    text = f"{whole}.{part}" if part else whole
    return text if text == "0" else sign + text


def write(value: Value) -> str:
    """Return `value` as a literal, in one line of ASCII.

    Raises `UnicodeError` where a string has a lone surrogate, `OverflowError` where a number has an
    exponent of millions, `RecursionError` where it is nested deeper than some hundred times.
    """
    match value:
        case Number():
            if re.search(r"[eE][+-]?0*[0-9]{7}", value):
                raise OverflowError(value)  # Terraform takes no exponent of ten digits
            return str(value)
        case str():
            return f'"{_PLAIN.sub(_escape, value)}"'
        case list():
            return f"[{', '.join([write(item) for item in value])}]"
        case dict():
            return f"{{{', '.join([f'{write(k)} = {write(v)}' for k, v in value.items()])}}}"
        case None:
            return "null"
    return "true" if value else "false"


# Escapes keep a template from beginning wherever it stands ("$$${" is one escape, too), and a
# combining character from joining with what stands before it: HCL reads grapheme clusters.
_PLAIN = re.compile(r"[^ !#&-\[\]-~]")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xD800 <= code < 0xE000:
        raise UnicodeError("a lone surrogate")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
