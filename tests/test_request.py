"""Checking a request: limits, and what may be left out."""

import json
import os
import subprocess
from typing import Any

import pytest
from conftest import UUID_TOKEN, Program

from workflow_result.request import check, decode

VALID = {
    "WorkflowToken": UUID_TOKEN,
    "RecordId": "rec-1",
    "Status": "SUCCEEDED",
    "IdempotencyToken": "once",
}
MINIMAL = {"RecordId": "rec-1", "Status": "SUCCEEDED", "WorkflowToken": UUID_TOKEN}


def send(program: Program, source: str, request: dict[str, Any], *options: str) -> tuple[int, str]:
    """Validate `request` from one of the sources; the exit code and stderr."""
    text = json.dumps(request)
    if source == "stdin":
        outcome = program("validate", *options, stdin=text)
    elif source == "environment":
        outcome = program("validate", *options, WORKFLOW_RESULT_REQUEST=text)
    else:
        file = program.home / "request.json"
        file.write_text(text)
        outcome = program("validate", *options, "--input", file)
    return outcome.code, outcome.stderr


# Member, a value of n characters, the lowest and the highest n that AWS takes.
LIMITS = [
    ("WorkflowToken", "a", 1, 20000),
    ("RecordId", "a", 1, 100),
    ("IdempotencyToken", "a", 1, 128),
]
SOURCES = ["stdin", "environment", "file"]
OPERATIONS = ["provision", "update", "terminate"]


@pytest.mark.parametrize(("operation", "source"), list(zip(OPERATIONS, SOURCES, strict=True)))
@pytest.mark.parametrize(("member", "unit", "lowest", "highest"), LIMITS)
def test_length_is_taken_at_its_limits_and_refused_beyond(
    program: Program, member: str, unit: str, lowest: int, highest: int, operation: str, source: str
) -> None:
    def validate(length: int) -> tuple[int, str]:
        request = VALID | {member: unit * length}
        return send(program, source, request, "--operation", operation)

    for length in (lowest, highest - 1, highest):
        assert validate(length) == (0, "")
    too_long = f"{member}: has {highest + 1:,} characters, may have at most {highest:,}\n"
    assert validate(highest + 1) == (65, too_long)
    code, message = validate(lowest - 1)
    assert (code, message) == (65, f"{member}: must have at least 1 character\n")


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "json-text"])
@pytest.mark.parametrize(("part", "highest"), [("Key", 128), ("Value", 256)])
def test_tag_length_is_taken_at_its_limits_and_refused_beyond(
    program: Program, part: str, highest: int, as_text: bool
) -> None:
    def validate(length: int) -> tuple[int, str]:
        identifier: Any = {"UniqueTag": {"Key": "k", "Value": "v"} | {part: "é" * length}}
        if as_text:
            identifier = json.dumps(identifier)
        return send(program, "stdin", VALID | {"ResourceIdentifier": identifier})

    place = f"ResourceIdentifier.UniqueTag.{part}"
    for length in (1, highest - 1, highest):
        assert validate(length) == (0, "")
    assert validate(0) == (65, f"{place}: must have at least 1 character\n")
    assert validate(highest + 1) == (
        65,
        f"{place}: has {highest + 1} characters, may have at most {highest}\n",
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_both_statuses_are_taken(program: Program, operation: str, status: str) -> None:
    outcome = program("validate", "--operation", operation, stdin=VALID | {"Status": status})
    assert outcome.code == 0
    assert outcome.json == {
        "operation": operation,
        "record_id": "rec-1",
        "status": status,
        "idempotency_token": "once",
        "reported": "false",
    }


@pytest.mark.parametrize(
    ("operation", "member"),
    [
        ("update", "ResourceIdentifier"),
        ("terminate", "ResourceIdentifier"),
        ("terminate", "Outputs"),
    ],
)
def test_member_of_another_operation_is_unknown(
    program: Program, operation: str, member: str
) -> None:
    outcome = program("validate", "--operation", operation, stdin=VALID | {member: "[]"})
    assert outcome.code == 65
    assert outcome.stderr.startswith(f"{member}: unknown key; known here: WorkflowToken, RecordId")


@pytest.mark.parametrize("missing", ["RecordId", "Status"])
def test_required_member_is_missed(program: Program, missing: str) -> None:
    request = {name: value for name, value in VALID.items() if name != missing}
    outcome = program("validate", stdin=request)
    assert (outcome.code, outcome.stderr) == (65, f"{missing}: required, but missing\n")


def test_missing_token_names_the_environment_variable(program: Program) -> None:
    outcome = program("validate", stdin={"RecordId": "rec-1", "Status": "FAILED"})
    assert outcome.code == 65
    assert outcome.lines == [
        "WorkflowToken: required, but missing; it may also come from the environment variable "
        "WORKFLOW_RESULT_TOKEN"
    ]


def test_token_comes_from_the_environment(program: Program) -> None:
    request = {"RecordId": "rec-1", "Status": "FAILED"}
    by_variable = program("validate", stdin=request, WORKFLOW_RESULT_TOKEN=UUID_TOKEN)
    by_request = program("validate", stdin=request | {"WorkflowToken": UUID_TOKEN})
    assert by_variable.code == 0
    assert by_variable.stdout == by_request.stdout


def test_token_in_the_request_goes_before_the_environment(program: Program) -> None:
    with_both = program("validate", stdin=MINIMAL, WORKFLOW_RESULT_TOKEN="another")
    assert with_both.stdout == program("validate", stdin=MINIMAL).stdout


def test_idempotency_token_is_the_same_on_any_machine(program: Program) -> None:
    """The figure was computed apart: SHA-256 of the operation and the request, in JSON."""
    canonical = (
        '["provision",{"RecordId":"rec-1","Status":"SUCCEEDED",'
        '"WorkflowToken":"965d4597-3088-41ae-87dc-3498daf1d69d"}]'
    )
    digest = subprocess.run(
        ["sha256sum"], input=canonical, capture_output=True, text=True, check=True
    ).stdout.split()[0]
    first, second = (program("validate", stdin=MINIMAL) for _ in range(2))
    assert first.json["idempotency_token"] == digest
    assert first.stdout == second.stdout


@pytest.mark.parametrize(
    "other",
    [
        {"Status": "FAILED"},
        {"RecordId": "rec-2"},
        {"WorkflowToken": "another"},
        {"Outputs": []},
        {"FailureReason": "x"},
    ],
)
def test_another_request_has_another_idempotency_token(
    program: Program, other: dict[str, Any]
) -> None:
    one = program("validate", stdin=MINIMAL).json["idempotency_token"]
    assert program("validate", stdin=MINIMAL | other).json["idempotency_token"] != one


def test_another_operation_has_another_idempotency_token(program: Program) -> None:
    tokens = {
        program("validate", "--operation", operation, stdin=MINIMAL).json["idempotency_token"]
        for operation in OPERATIONS
    }
    assert len(tokens) == 3


@pytest.mark.parametrize(
    "outputs",
    [
        [{"OutputKey": "a", "OutputValue": "b"}],
        '[{"OutputKey": "a", "OutputValue": "b"}]',
        ['{"OutputKey": "a", "OutputValue": "b"}'],
        [{"OutputValue": "b", "OutputKey": "a", "Description": None}],
        '[ {"OutputKey":"\\u0061","OutputValue":"b"} ]',
    ],
)
def test_json_text_stands_for_an_object_or_a_list(program: Program, outputs: Any) -> None:
    plain = program(
        "validate", stdin=MINIMAL | {"Outputs": [{"OutputKey": "a", "OutputValue": "b"}]}
    )
    outcome = program("validate", stdin=MINIMAL | {"Outputs": outputs})
    assert outcome.code == 0
    assert outcome.stdout == plain.stdout


@pytest.mark.parametrize(
    "absent", [{"Outputs": None}, {"Outputs": "null"}, {"FailureReason": None}, {"Nonsense": None}]
)
def test_null_means_absent(program: Program, absent: dict[str, Any]) -> None:
    outcome = program("validate", stdin=MINIMAL | absent)
    assert outcome.stdout == program("validate", stdin=MINIMAL).stdout


def test_byte_order_mark_is_fine(program: Program) -> None:
    assert program("validate", stdin=b"\xef\xbb\xbf" + json.dumps(VALID).encode()).code == 0


class TestPartial:
    def test_absent_members_are_not_missed(self, program: Program) -> None:
        outcome = program("validate", "--partial", stdin="{}")
        assert outcome.code == 0
        assert outcome.json == {
            "operation": "provision",
            "record_id": "",
            "status": "",
            "idempotency_token": "",
            "reported": "false",
        }

    def test_present_members_are_checked(self, program: Program) -> None:
        outcome = program("validate", "--partial", stdin={"Status": "DONE", "RecordId": "a b"})
        assert outcome.code == 65
        assert len(outcome.lines) == 2

    def test_result_does_not_depend_on_the_environment(self, program: Program) -> None:
        request = {"RecordId": "rec-1", "Status": "SUCCEEDED"}
        with_token = program("validate", "--partial", stdin=request, WORKFLOW_RESULT_TOKEN="abc")
        assert with_token.stdout == program("validate", "--partial", stdin=request).stdout

    @pytest.mark.parametrize(
        ("token", "rule"),
        [
            (b"a b", r"(white space) is not allowed: must match ^[0-9A-Za-z+\/\-=]+$"),
            (b"a\xffb", "is a lone surrogate, half a character"),
        ],
        ids=["white-space", "not-utf-8"],
    )
    def test_bad_token_in_the_environment_is_found(
        self, program: Program, token: bytes, rule: str
    ) -> None:
        variables = {"WORKFLOW_RESULT_TOKEN": os.fsdecode(token)}
        outcome = program("validate", "--partial", stdin="{}", **variables)
        assert outcome.code == 65
        assert outcome.lines == [f"WorkflowToken: character 2 {rule}"]


@pytest.mark.parametrize(("length", "code"), [(15, 0), (16, 65)])
def test_token_as_long_as_a_real_one_is_refused_in_other_members(
    program: Program, length: int, code: int
) -> None:
    token = UUID_TOKEN[:length]
    request = VALID | {"WorkflowToken": token, "Outputs": [{"OutputValue": f"no {token}!"}]}
    assert program("validate", stdin=request).code == code


def test_what_holds_the_token_does_not_show_it() -> None:
    """In a traceback, for example."""
    draft = decode(json.dumps(VALID).encode(), "provision")
    assert UUID_TOKEN not in repr(draft) + repr(check(draft, "provision"))


def test_ten_thousand_outputs_are_each_checked(program: Program) -> None:
    outputs: list[dict[str, Any]] = [
        {"OutputKey": f"key{i}", "OutputValue": "v", "Description": "d"} for i in range(10_000)
    ]
    assert program("validate", stdin=VALID | {"Outputs": outputs}).code == 0
    outputs[9_999]["OutputKey"] = 1
    outcome = program("validate", stdin=VALID | {"Outputs": outputs})
    assert outcome.lines == ["Outputs[9999].OutputKey: must be a string, not a number"]
