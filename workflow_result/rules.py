"""What a schema forbids of a value, in words: a place, and what has to be changed there."""

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from workflow_result.schemas import Schema

TOKEN_VARIABLE = "WORKFLOW_RESULT_TOKEN"
"""The environment variable that the WorkflowToken may come in."""

TOKEN_KEYS = {"workflowtoken", "token"}
"""The WorkflowToken's keys in a request and in Service Catalog's message, as `plain` has them."""


def violations(members: dict[str, Any], schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield the place and the rule, in words, of everything in `members` that `schema` forbids."""
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        # jsonschema uses Python's `re`; JSON Schema's patterns are ECMA-262's, and AWS's
        # have \p{L}. https://json-schema.org/draft/2020-12/json-schema-core#section-6.4
        is_text = isinstance(instance, str) and not lone_surrogate(instance)
        if is_text and _regex(pattern).find(instance) is None:
            yield ValidationError("")

    validator = extend(Draft202012Validator, {"pattern": pattern})(schema)
    for error in validator.iter_errors(members):
        place = ""
        for part in error.absolute_path:
            place = join(place, part) if isinstance(part, str) else f"{place}[{part}]"
        value, rule = error.instance, error.validator_value
        match error.validator:
            case "required":
                for name in rule:
                    if name not in value:
                        yield join(place, name), _missing(name)
            case "additionalProperties":
                known = list(error.schema["properties"])
                for name in value:
                    if name not in known:
                        yield join(place, name), _unknown(name, known)
            case "type":
                yield place, f"must be {TYPES[rule]}, not {kind(value)}"
            case "enum":
                if isinstance(value, str):  # of another type the line before speaks
                    yield place, f"must be {' or '.join(rule)}"
            case "minLength":
                yield place, f"must have at least {rule} character{'s'[: rule > 1]}"
            case "maxLength":
                yield place, f"has {len(value):,} characters, may have at most {rule:,}"
            case "pattern":
                if not value:  # of which the minimum length speaks
                    continue
                at = _first_mismatch(rule, value)
                # One character of any other member is worth showing; of the token none is.
                shown = f" (U+{ord(value[at]):04X})"
                if plain(place) in TOKEN_KEYS:
                    shown = " (white space)" if value[at].isspace() else ""
                yield place, f"character {at + 1}{shown} is not allowed: must match {rule}"
            case other:
                raise AssertionError(f"no message for the keyword {other}")


def _missing(name: str) -> str:
    elsewhere = f"; it may also come from the environment variable {TOKEN_VARIABLE}"
    return f"required, but missing{elsewhere if name == 'WorkflowToken' else ''}"


def _unknown(name: str, known: list[str]) -> str:
    import difflib

    by_plain_name = {plain(key): key for key in known}
    near = difflib.get_close_matches(plain(name), by_plain_name, n=1)
    if len(plain(name)) > 1:  # token, key, ID
        near += [key for key in by_plain_name if key.endswith(plain(name))]
    if near:
        return f"unknown key; did you mean {by_plain_name[near[0]]}?"
    return f"unknown key; known here: {', '.join(known)}"


@cache
def _regex(pattern: str) -> Any:
    from regress import Regex

    return Regex(pattern, flags="u")


def _first_mismatch(pattern: str, value: str) -> int:
    """Return the index of the first character that keeps `value` from matching `^…$`.

    AWS's patterns are runs of character classes: what matches without the `$` is what is good.
    """
    match = _regex(pattern.removesuffix("$")).find(value)
    good = value.encode()[match.range()] if match else b""  # regress counts bytes of UTF-8
    return min(len(good.decode()), len(value) - 1)


# --- words --------------------------------------------------------------------------------


@lru_cache  # thousands of outputs have the same three keys
def plain(key: str) -> str:
    """The key as it is told from others when case and separators are off: record_id, recordId."""
    return re.sub(r"[\s_-]", "", key).casefold()


def join(place: str, key: str) -> str:
    return f"{place}.{_shown(key)}" if place else _shown(key)


@lru_cache
def _shown(key: str) -> str:
    return key if re.fullmatch(r"\w{1,60}", key) else json.dumps(key[:60])


TYPES = {"string": "a string", "array": "a list", "object": "an object"}


def kind(value: Any) -> str:
    match value:
        case str():
            return TYPES["string"]
        case list():
            return TYPES["array"]
        case dict():
            return TYPES["object"]
        case None:
            return "null"
        case bool():
            return "a boolean"
        case _:
            return "a number"


def lone_surrogate(text: str) -> int:
    """Return the position of the first lone surrogate, counted from 1, or 0."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start + 1
    return 0
