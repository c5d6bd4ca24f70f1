"""Requests that are refused, and the lines that each gets."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from conftest import UUID_TOKEN, Program

VALID = {
    "WorkflowToken": UUID_TOKEN,
    "RecordId": "rec-1",
    "Status": "SUCCEEDED",
    "IdempotencyToken": "once",
}


def without(*names: str, **members: Any) -> str:
    """The valid request as JSON, without some members, with others."""
    return json.dumps({k: v for k, v in VALID.items() if k not in names} | members)


RECORD_ID_RULE = r"must match ^[a-zA-Z0-9_\-]*$"
KNOWN = (
    "known here: WorkflowToken, RecordId, Status, FailureReason, ResourceIdentifier, Outputs, "
    "IdempotencyToken"
)

# A bad input, and each line that it gets.
BAD_INPUTS: dict[str, tuple[bytes | str, list[str]]] = {
    "empty": (
        b"",
        [
            "the request: empty: one JSON object is expected on stdin, in --input FILE or in "
            "WORKFLOW_RESULT_REQUEST"
        ],
    ),
    "white space": (
        b" \n",
        [
            "the request: empty: one JSON object is expected on stdin, in --input FILE or in "
            "WORKFLOW_RESULT_REQUEST"
        ],
    ),
    "not UTF-8": (b'{"RecordId": "\xff"}', ["the request: not UTF-8 text: byte 15 cannot be read"]),
    "UTF-16": (
        json.dumps(VALID).encode("utf-16"),
        ["the request: not UTF-8 text: byte 1 cannot be read"],
    ),
    "no JSON": ("RecordId=1", ["the request: not JSON: Expecting value (line 1, column 1)"]),
    "half JSON": (
        without()[:40],
        ["the request: not JSON: Unterminated string (line 1, column 19)"],
    ),
    "two objects": ("{}\n{}", ["the request: not JSON: Extra data (line 2, column 1)"]),
    "a list": ("[]", ["the request: must be a JSON object, not a list"]),
    "a string": ('"{}"', ["the request: must be a JSON object, not a string"]),
    "a number": ("1", ["the request: must be a JSON object, not a number"]),
    "true": ("true", ["the request: must be a JSON object, not a boolean"]),
    "null": ("null", ["the request: must be a JSON object, not null"]),
    "NaN": ('{"Status": NaN}', ["the request: not JSON: NaN is not a JSON value"]),
    "Infinity": ('{"Status": -Infinity}', ["the request: not JSON: -Infinity is not a JSON value"]),
    "endless number": (
        without("Status")[:-1] + ', "Status": ' + "1" * 5000 + "}",
        ["Status: must be a string, not a number"],
    ),
    "opening brackets": ("[" * 100_000, ["the request: nested more than 16 deep"]),
    "opening braces": ('{"a":' * 100_000, ["the request: nested more than 16 deep"]),
    "nested a little too deep": (
        without()[:-1] + ', "Outputs": ' + "[" * 16 + "]" * 16 + "}",
        ["Outputs: nested more than 16 deep"],
    ),
    "nested in a string": (
        without(Outputs="[" * 100_000),
        ["Outputs: must be a list or its JSON text, but is nested more than 16 deep"],
    ),
    "megabytes": (b" " * (16 * 1024 * 1024 + 1), ["the request: larger than 16 MiB"]),
    "megabytes of one member": (
        without("RecordId", RecordId="a" * 5_000_000),
        ["RecordId: has 5,000,000 characters, may have at most 100"],
    ),
    "key twice": (
        without()[:-1] + ', "Status": "FAILED"}',
        ["Status: given twice in one object"],
    ),
    "key twice inside": (
        without()[:-1] + ', "Outputs": [{"OutputKey": "a", "OutputKey": "b"}]}',
        ["OutputKey: given twice in one object"],
    ),
    "key twice inside a string": (
        without(Outputs='[{"OutputKey": "a", "OutputKey": "b"}]'),
        ["OutputKey: given twice in one object"],
    ),
    "lone surrogate": (
        without(Outputs=[{"OutputValue": "ab\ud800"}]),
        ["Outputs[0].OutputValue: character 3 is a lone surrogate, half a character"],
    ),
    "reason as a number": (
        without(FailureReason=1),
        ["FailureReason: must be a string, not a number"],
    ),
    "reason as a list": (
        without(FailureReason=["why"]),
        ["FailureReason: must be a string, not a list"],
    ),
    "reason twice": (
        without(FailureReason="a")[:-1] + ', "FailureReason": "b"}',
        ["FailureReason: given twice in one object"],
    ),
    "reason nested without end": (
        without()[:-1] + ', "FailureReason": ' + "[" * 900 + "]" * 900 + "}",
        ["FailureReason: nested more than 16 deep"],
    ),
    "lone surrogate in the token": (
        without("WorkflowToken", WorkflowToken="ab\ud800"),
        ["WorkflowToken: character 3 is a lone surrogate, half a character"],
    ),
    "lone surrogate in a key": (
        without(**{"a\udfff": "x"}),
        ['"a\\udfff": character 2 is a lone surrogate, half a character'],
    ),
    "lone surrogate in JSON in a string": (
        without(Outputs='[{"OutputKey": "\\ud800"}]'),
        ["Outputs[0].OutputKey: character 1 is a lone surrogate, half a character"],
    ),
    "no JSON in a string": (
        without(Outputs="url=1"),
        [
            "Outputs: must be a list or its JSON text, but is not JSON: Expecting value "
            "(line 1, column 1)"
        ],
    ),
    "empty string for a list": (
        without(Outputs=""),
        [
            "Outputs: must be a list or its JSON text, but is not JSON: Expecting value "
            "(line 1, column 1)"
        ],
    ),
    "another type in a string": (
        without(Outputs='{"url": "x"}'),
        ["Outputs: must be a list, not an object"],
    ),
    "unknown key": (without(Colour="red"), [f"Colour: unknown key; {KNOWN}"]),
    "misspelt key": (
        without("RecordId", RecorId="rec-1"),
        ["RecordId: required, but missing", "RecorId: unknown key; did you mean RecordId?"],
    ),
    "wrong case": (
        without("RecordId", recordid="rec-1"),
        ["RecordId: required, but missing", "recordid: unknown key; did you mean RecordId?"],
    ),
    "snake case": (
        without("RecordId", record_id="rec-1"),
        ["RecordId: required, but missing", "record_id: unknown key; did you mean RecordId?"],
    ),
    "unknown key inside": (
        without(Outputs=[{"OutputKey": "a", "Outputvalue": "b"}]),
        ["Outputs[0].Outputvalue: unknown key; did you mean OutputValue?"],
    ),
    "control characters in a key": (
        without(**{"\x1b[31mred\n": "x"}),
        [f'"\\u001b[31mred\\n": unknown key; {KNOWN}'],
    ),
    "long key": (without(**{"k" * 100: "x"}), [f'"{"k" * 60}": unknown key; {KNOWN}']),
    "wrong status": (
        without("Status", Status="succeeded"),
        ["Status: must be SUCCEEDED or FAILED"],
    ),
    "status as a boolean": (
        without("Status", Status=True),
        ["Status: must be a string, not a boolean"],
    ),
    "output value as a number": (
        without(Outputs=[{"OutputKey": "a", "OutputValue": 1}]),
        ["Outputs[0].OutputValue: must be a string, not a number"],
    ),
    "null among outputs": (without(Outputs=[None]), ["Outputs[0]: must be an object, not null"]),
    "space": (
        without("RecordId", RecordId="rec 1"),
        [f"RecordId: character 4 (U+0020) is not allowed: {RECORD_ID_RULE}"],
    ),
    "newline at the end": (
        without("RecordId", RecordId="rec-1\n"),
        [f"RecordId: character 6 (U+000A) is not allowed: {RECORD_ID_RULE}"],
    ),
    "emoji in the record": (
        without("RecordId", RecordId="no \U0001f600"),
        [f"RecordId: character 3 (U+0020) is not allowed: {RECORD_ID_RULE}"],
    ),
    "token in the message's spelling": (
        without("WorkflowToken", token=UUID_TOKEN),
        [
            "WorkflowToken: required, but missing; it may also come from the environment variable "
            "WORKFLOW_RESULT_TOKEN",
            "token: unknown key; did you mean WorkflowToken?",
        ],
    ),
    "record as an ID": (
        without("RecordId", ID="rec-1", d="rec-1"),
        [
            "RecordId: required, but missing",
            "ID: unknown key; did you mean RecordId?",
            f"d: unknown key; {KNOWN}",
        ],
    ),
    "outputs with the keys of other engines": (
        without(Outputs=[{"key": "a", "value": "b", "x": "c"}]),
        [
            "Outputs[0].key: unknown key; did you mean OutputKey?",
            "Outputs[0].value: unknown key; did you mean OutputValue?",
            "Outputs[0].x: unknown key; known here: OutputKey, OutputValue, Description",
        ],
    ),
    "bad character in the token": (
        without("WorkflowToken", WorkflowToken="abc~def"),
        [r"WorkflowToken: character 4 is not allowed: must match ^[0-9A-Za-z+\/\-=]+$"],
    ),
    "token as a number": (
        without("WorkflowToken", WorkflowToken=8765432187654321),
        ["WorkflowToken: must be a string, not a number"],
    ),
    "token as IdempotencyToken": (
        without(IdempotencyToken=UUID_TOKEN),
        ["IdempotencyToken: holds the WorkflowToken, and is shown to others"],
    ),
    "token inside of others": (
        without(
            "RecordId",
            RecordId=f"r-{UUID_TOKEN}",
            Outputs=[{"OutputKey": "a"}, {"OutputValue": UUID_TOKEN}],
        ),
        [
            "RecordId: holds the WorkflowToken, and is shown to others",
            "Outputs: holds the WorkflowToken, and is shown to others",
        ],
    ),
    "newline after the token": (
        without("WorkflowToken", WorkflowToken=UUID_TOKEN + "\n"),
        [
            "WorkflowToken: character 37 (white space) is not allowed: "
            r"must match ^[0-9A-Za-z+\/\-=]+$"
        ],
    ),
    "five rules at once": (
        json.dumps({"RecordId": "", "Status": 1, "Outputs": "x", "status": "x"}),
        [
            "Outputs: must be a list or its JSON text, but is not JSON: Expecting value "
            "(line 1, column 1)",
            "WorkflowToken: required, but missing; it may also come from the environment variable "
            "WORKFLOW_RESULT_TOKEN",
            "RecordId: must have at least 1 character",
            "Status: must be a string, not a number",
            "status: unknown key; did you mean Status?",
        ],
    ),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_refused_with_a_line_a_rule(program: Program, name: str) -> None:
    source, expected = BAD_INPUTS[name]
    outcome = program("validate", stdin=source)
    assert outcome.lines == expected
    assert (outcome.code, outcome.stdout) == (65, "")


TERRAFORM_OUTPUT = {
    "url": {"sensitive": False, "type": "string", "value": "https://example.com"},
    "ports": {"sensitive": False, "type": ["list", "number"], "value": [80, 443]},
    "off": {"sensitive": False, "type": "bool", "value": False},
    "password": {"sensitive": True, "type": "string", "value": "hunter2"},
}
TERRAFORM_OUTPUT_LINE = (
    "this is what `terraform output -json` prints; Outputs is to be a list of "
    '{"OutputKey": …, "OutputValue": …}, strings: jq \'[to_entries[] | {OutputKey: .key, '
    'OutputValue: (.value | if .sensitive then "(sensitive value)" else '
    "(.value | strings // tojson) end)}]' makes it"
)
A_REQUEST = (
    "a request says how the run ended, with the keys RecordId, Status and WorkflowToken: the "
    "message's recordId, SUCCEEDED or FAILED, and its token"
)
MESSAGE = {
    "token": UUID_TOKEN,
    "operation": "PROVISION_PRODUCT",
    "provisionedProductId": "pp-1",
    "recordId": "rec-1",
}

# What was meant for something else, and the line that it gets from `validate` and `notify`.
MISTAKEN: dict[str, tuple[dict[str, Any], str]] = {
    "operation message": (
        MESSAGE,
        "the request: this is Service Catalog's operation message, which `run` takes; " + A_REQUEST,
    ),
    "operation message without a token": (
        {name: value for name, value in MESSAGE.items() if name != "token"},
        "the request: this is Service Catalog's operation message, which `run` takes; " + A_REQUEST,
    ),
    "what SQS delivers": (
        {"Messages": [{"MessageId": "1", "Body": json.dumps(MESSAGE)}]},
        "the request: this is what a queue delivers, which `run` takes; " + A_REQUEST,
    ),
    "event of a Lambda function": (
        {"Records": [{"messageId": "1", "body": json.dumps(MESSAGE)}]},
        "the request: this is what a queue delivers, which `run` takes; " + A_REQUEST,
    ),
    "terraform output": (TERRAFORM_OUTPUT, "the request: " + TERRAFORM_OUTPUT_LINE),
    "terraform output as Outputs": (
        VALID | {"Outputs": TERRAFORM_OUTPUT},
        "Outputs: " + TERRAFORM_OUTPUT_LINE,
    ),
    "terraform output as JSON text": (
        VALID | {"Outputs": json.dumps(TERRAFORM_OUTPUT)},
        "Outputs: " + TERRAFORM_OUTPUT_LINE,
    ),
}


@pytest.mark.parametrize("command", ["validate", "notify"])
@pytest.mark.parametrize("name", MISTAKEN)
def test_what_was_meant_for_something_else_is_told_so(
    program: Program, name: str, command: str
) -> None:
    source, line = MISTAKEN[name]
    outcome = program(command, stdin=source)
    assert (outcome.code, outcome.stdout, outcome.lines) == (65, "", [line])


@pytest.mark.parametrize("key", ["operation", "token", "recordId"])
def test_one_key_of_a_message_makes_no_message(program: Program, key: str) -> None:
    outcome = program("validate", "--partial", stdin={key: "PROVISION_PRODUCT"})
    assert outcome.code == 65
    assert outcome.stderr.startswith(f"{key}: unknown key; ")


def test_key_of_a_request_makes_it_one(program: Program) -> None:
    outcome = program("validate", "--partial", stdin=MESSAGE | {"RecordId": "rec-1"})
    assert outcome.code == 65
    assert "token: unknown key; did you mean WorkflowToken?" in outcome.lines


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"url": "https://example.com"},
        {"url": {"value": "https://example.com"}},
        TERRAFORM_OUTPUT | {"url": {"sensitive": False, "value": "a", "OutputValue": "a"}},
    ],
)
def test_other_objects_are_not_taken_for_the_output_of_terraform(
    program: Program, outputs: dict[str, Any]
) -> None:
    outcome = program("validate", stdin=VALID | {"Outputs": outputs})
    assert outcome.lines == ["Outputs: must be a list, not an object"]


def test_jq_line_for_the_output_of_terraform_makes_outputs_of_it(program: Program) -> None:
    if not shutil.which("jq"):
        pytest.skip("jq is missing")
    line = program("validate", stdin=TERRAFORM_OUTPUT).stderr
    jq = re.search(r"jq '(.*)'", line)
    assert jq
    done = subprocess.run(
        ["jq", jq[1]],
        input=json.dumps(TERRAFORM_OUTPUT),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [
        {"OutputKey": "url", "OutputValue": "https://example.com"},
        {"OutputKey": "ports", "OutputValue": "[80,443]"},
        {"OutputKey": "off", "OutputValue": "false"},
        {"OutputKey": "password", "OutputValue": "(sensitive value)"},
    ]
    assert program("validate", stdin=VALID | {"Outputs": done.stdout}).code == 0
