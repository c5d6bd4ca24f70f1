"""From bytes to a request that Service Catalog will take.

`decode` turns text into a draft, its FailureReason made to fit; `add_token` adds what the
environment has, `check` holds it against the schema. Only `check` makes a `Request`, and only a
`Request` can be sent.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workflow_result import recognise
from workflow_result.problem import ExitCode, Problem
from workflow_result.rules import TOKEN_KEYS, TYPES, join, kind, lone_surrogate, plain, violations
from workflow_result.rules import TOKEN_VARIABLE as TOKEN_VARIABLE
from workflow_result.schemas import Schema, load
from workflow_result.secret import REAL_LENGTH, keep_secret

MAX_BYTES = 16 * 1024 * 1024
"""10,000 outputs of a kilobyte and a half; no table of outputs that a person reads is larger."""

MAX_NESTING = 16
"""A request nests three deep; what nests deeper than this is no request."""

REQUEST_VARIABLE = "WORKFLOW_RESULT_REQUEST"

REASON = "FailureReason"

Members = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A checked request: `members` are those of the API operation, complete and valid."""

    operation: str
    members: Mapping[str, Any] = field(repr=False)  # the WorkflowToken is among them


@dataclass
class Draft:
    """A decoded request that nobody has checked.

    `faults` are the rules it broke while it was decoded, one line each; `broken` are the
    places of these faults, of which the schema need not speak again. `changes` are lines that
    say what was done to make it fit.
    """

    members: Members = field(default_factory=dict, repr=False)
    faults: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    changes: list[str] = field(default_factory=list)

    def fault(self, place: str, rule: str) -> None:
        self.faults.append(f"{place}: {rule}")
        self.broken.add(place)


def decode(source: bytes, operation: str) -> Draft:
    """Read a request from JSON text.

    A member for which the API wants an object or a list may also be a string that holds
    its JSON text: an external data source passes nothing but strings
    (https://registry.terraform.io/providers/hashicorp/external/latest/docs/data-sources/external).

    Raises `Problem` (INVALID) where there is no JSON object to speak of, or one that was meant
    for something else.
    """
    places = f"stdin, in --input FILE or in {REQUEST_VARIABLE}"
    draft = read_object(source, "the request", places)
    if other := recognise.instead_of_request(draft.members):
        raise Problem(ExitCode.INVALID, f"the request: {other}")
    _fit_reason(draft)
    schema = load(operation)
    _decode_strings(draft.members, schema, "", draft)
    if "Outputs" in schema["properties"] and recognise.is_terraform_output(
        draft.members.get("Outputs")
    ):
        draft.fault("Outputs", recognise.TERRAFORM_OUTPUT)
    return draft


def read_object(source: bytes, name: str, places: str) -> Draft:
    """Read a JSON object, `name` to a person, that is expected on `places`.

    Raises `Problem` (INVALID) where there is none.
    """

    def invalid(rule: str) -> Problem:
        return Problem(ExitCode.INVALID, f"{name}: {rule}")

    if len(source) > MAX_BYTES:
        raise invalid(f"larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = source.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(f"not UTF-8 text: byte {error.start + 1} cannot be read") from None
    if not text.strip():
        raise invalid(f"empty: one JSON object is expected on {places}")
    draft = Draft()
    try:
        members = _parse(text, draft)
    except ValueError as error:
        raise invalid(str(error)) from None
    if not isinstance(members, dict):
        raise invalid(f"must be a JSON object, not {kind(members)}")
    for key, value in members.items():
        _look_for_surrogates(key, join("", key), draft)
        try:
            if key != REASON or not isinstance(value, str):  # that is made to fit
                _walk(value, join("", key), MAX_NESTING - 1, draft)
            draft.members[key] = value
        except ValueError as error:  # not kept: whatever looks at it next could choke on it
            draft.fault(join("", key), str(error))
    return draft


def _fit_reason(draft: Draft) -> None:
    """Make the FailureReason what AWS allows: an order must not hang for an ill-formed text."""
    reason = draft.members.get(REASON)
    if not isinstance(reason, str):
        return
    from workflow_result.failure_reason import fit

    fitting, done = fit(reason)
    if fitting:
        draft.members[REASON] = fitting
    else:
        del draft.members[REASON]
    if done:
        draft.changes.append(f"{REASON}: {done}")


def add_token(draft: Draft, workflow_token: str) -> None:
    """Give `draft` this WorkflowToken where it has none of its own."""
    keep_secret(workflow_token)
    if "WorkflowToken" not in draft.members:
        draft.members["WorkflowToken"] = workflow_token
        _look_for_surrogates(workflow_token, "WorkflowToken", draft)


def check(draft: Draft, operation: str) -> Request:
    """Return the request in `draft`, with an IdempotencyToken derived where it has none.

    Raises `Problem` (INVALID) with a line for every rule that the request breaks.
    """
    if "IdempotencyToken" not in draft.members:
        draft.members["IdempotencyToken"] = digest_of(operation, draft.members)
    _check_members(draft, load(operation))
    return Request(operation, draft.members)


def check_partial(draft: Draft, operation: str) -> None:
    """Like `check`, but members that are absent are not missed. Makes nothing that can be sent."""
    _check_members(draft, load(operation) | {"required": []})


def check_object(draft: Draft, schema: Schema) -> None:
    """Raise `Problem` (INVALID), with a line for every rule of `schema` that `draft` breaks."""
    lines = dict.fromkeys(draft.faults)
    for place, line in violations(draft.members, schema):
        if not _is_within(place, draft.broken):
            lines[f"{place}: {line}"] = None
    if lines:
        raise Problem(ExitCode.INVALID, *lines)


def keep_tokens(text: str) -> None:
    """Keep as secret what looks like a WorkflowToken, in a place where none should be."""
    for token in re.findall(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        keep_secret(token)


def result(operation: str, members: Mapping[str, Any], *, reported: bool) -> dict[str, str]:
    """Return what goes to stdout, all strings, as an external data source has to have it."""
    return {
        "operation": operation,
        "record_id": members.get("RecordId", ""),
        "status": members.get("Status", ""),
        "idempotency_token": members.get("IdempotencyToken", ""),
        "reported": "true" if reported else "false",
    }


# --- decoding -----------------------------------------------------------------------------


def _parse(text: str, draft: Draft) -> Any:
    """Return the JSON value in `text`, without the members that are null: null means absent.

    Raises ValueError with the rule that is broken where the text is not JSON.
    """

    def members(pairs: list[tuple[str, Any]]) -> Members:
        seen: set[str] = set()
        for key, value in pairs:
            if plain(key) in TOKEN_KEYS and isinstance(value, str):
                keep_secret(value)
            keep_tokens(key)
            if isinstance(value, str) and plain(value) in TOKEN_KEYS:  # the two are swapped
                keep_secret(key)
            if key in seen:
                draft.faults.append(f"{join('', key)}: given twice in one object")
            seen.add(key)
        return {key: value for key, value in pairs if value is not None}

    def constant(name: str) -> None:
        raise ValueError(f"not JSON: {name} is not a JSON value")

    try:
        # Members are never numbers: as floats, those of any length can be read and refused.
        return json.loads(text, object_pairs_hook=members, parse_constant=constant, parse_int=float)
    except json.JSONDecodeError as error:
        fault = error.msg.removesuffix(" at").removesuffix(" starting")
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"not JSON: {fault} ({where})") from None
    except RecursionError:
        raise ValueError(f"nested more than {MAX_NESTING} deep") from None


def _walk(value: Any, place: str, levels: int, draft: Draft) -> None:
    """Look at every string for lone surrogates, and at how deep the value nests."""
    if isinstance(value, str):
        _look_for_surrogates(value, place, draft)
        return
    if not isinstance(value, dict | list):
        return
    if not levels:
        raise ValueError(f"nested more than {MAX_NESTING} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _look_for_surrogates(key, join(place, key), draft)
            _walk(item, join(place, key), levels - 1, draft)
    else:
        for index, item in enumerate(value):
            _walk(item, f"{place}[{index}]", levels - 1, draft)


def _look_for_surrogates(text: str, place: str, draft: Draft) -> None:
    if at := lone_surrogate(text):
        draft.fault(place, f"character {at} is a lone surrogate, half a character")


def _decode_strings(value: Any, schema: Schema, place: str, draft: Draft) -> None:
    """Replace, in place, each string that stands where `schema` wants an object or a list."""
    if isinstance(value, dict):
        parts = [(key, rule) for key, rule in schema.get("properties", {}).items() if key in value]
    elif isinstance(value, list) and "items" in schema:
        parts = [(index, schema["items"]) for index in range(len(value))]
    else:
        return
    for key, rule in parts:
        if rule["type"] == "string":
            continue
        inner_place = join(place, key) if isinstance(key, str) else f"{place}[{key}]"
        if isinstance(value[key], str) and inner_place not in draft.broken:
            try:
                value[key] = _parse(value[key], draft)
                _walk(value[key], inner_place, MAX_NESTING, draft)
            except ValueError as error:
                draft.fault(
                    inner_place, f"must be {TYPES[rule['type']]} or its JSON text, but is {error}"
                )
                continue
        if value[key] is None and isinstance(value, dict):
            del value[key]
        else:
            _decode_strings(value[key], rule, inner_place, draft)


# --- checking -----------------------------------------------------------------------------


def digest_of(operation: str, members: Mapping[str, Any]) -> str:
    """Return 64 hexadecimal digits: the same for the same request, on any machine."""
    canonical = json.dumps([operation, members], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _check_members(draft: Draft, schema: Schema) -> None:
    draft.faults.extend(_shown_tokens(draft.members))
    check_object(draft, schema)


def _is_within(place: str, broken: set[str]) -> bool:
    ends = [index for index, character in enumerate(place) if character in ".["]
    return any(place[:end] in broken for end in [*ends, len(place)])


def _shown_tokens(members: Members) -> Iterator[str]:
    # RecordId and IdempotencyToken are printed; the others are shown to whoever ordered.
    token = members.get("WorkflowToken")
    if isinstance(token, str) and len(token) >= REAL_LENGTH:
        for name, value in members.items():
            if name != "WorkflowToken" and token in json.dumps(value, ensure_ascii=False):
                yield f"{name}: holds the WorkflowToken, and is shown to others"
