"""Reading and checking a request: doors, limits, what may be left out, and bad input."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MAIN, UUID_TOKEN, Program, clean_environment

VALID = {
    "WorkflowToken": UUID_TOKEN,
    "RecordId": "rec-1",
    "Status": "SUCCEEDED",
    "IdempotencyToken": "once",
}
MINIMAL = {"RecordId": "rec-1", "Status": "SUCCEEDED", "WorkflowToken": UUID_TOKEN}


def send(program: Program, door: str, request: dict[str, Any], *options: str) -> tuple[int, str]:
    """Validate `request` through one of the doors; the exit code and stderr."""
    text = json.dumps(request)
    if door == "stdin":
        outcome = program("validate", *options, stdin=text)
    elif door == "environment":
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
    ("FailureReason", "é", 1, 2048),
    ("IdempotencyToken", "a", 1, 128),
]
DOORS = ["stdin", "environment", "file"]
OPERATIONS = ["provision", "update", "terminate"]


@pytest.mark.parametrize(("operation", "door"), list(zip(OPERATIONS, DOORS, strict=True)))
@pytest.mark.parametrize(("member", "unit", "lowest", "highest"), LIMITS)
def test_length_is_taken_at_its_limits_and_refused_beyond(
    program: Program, member: str, unit: str, lowest: int, highest: int, operation: str, door: str
) -> None:
    def validate(length: int) -> tuple[int, str]:
        request = VALID | {member: unit * length}
        return send(program, door, request, "--operation", operation)

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


def test_doors_have_an_order_file_then_environment_then_stdin(
    program: Program, tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(VALID | {"RecordId": "from-file"}))
    environment = json.dumps(VALID | {"RecordId": "from-environment"})
    stdin = VALID | {"RecordId": "from-stdin"}

    def record_id(*options: str | Path, **variables: str) -> str:
        return program("validate", *options, stdin=stdin, **variables).json["record_id"]

    assert record_id() == "from-stdin"
    assert record_id(WORKFLOW_RESULT_REQUEST=environment) == "from-environment"
    assert record_id("--input", file, WORKFLOW_RESULT_REQUEST=environment) == "from-file"
    assert record_id("--input", "-", WORKFLOW_RESULT_REQUEST=environment) == "from-stdin"


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
        '{"Outputs": ' + "[" * 16 + "]" * 16 + "}",
        ["the request: nested more than 16 deep"],
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
        without(FailureReason="ab\ud800"),
        ["FailureReason: character 3 is a lone surrogate, half a character"],
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
    "emoji in the reason": (
        without(FailureReason="no é \U0001f600"),
        [
            "FailureReason: character 6 (U+1F600) is not allowed: "
            r"must match ^[\u0009\u000a\u000d\u0020-\uD7FF\uE000-\uFFFD]*$"
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
            FailureReason=f"no {UUID_TOKEN}!",
            Outputs=[{"OutputKey": "a"}, {"OutputValue": UUID_TOKEN}],
        ),
        [
            "RecordId: holds the WorkflowToken, and is shown to others",
            "FailureReason: holds the WorkflowToken, and is shown to others",
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


@pytest.mark.parametrize(("length", "code"), [(15, 0), (16, 65)])
def test_token_as_long_as_a_real_one_is_refused_in_other_members(
    program: Program, length: int, code: int
) -> None:
    token = UUID_TOKEN[:length]
    request = VALID | {"WorkflowToken": token, "FailureReason": f"no {token}!"}
    assert program("validate", stdin=request).code == code


def test_request_in_the_environment_that_is_not_utf_8_is_refused(program: Program) -> None:
    outcome = program("validate", WORKFLOW_RESULT_REQUEST=os.fsdecode(b'{"a": "\xff"}'))
    assert outcome.code == 65
    assert outcome.lines == ["the request: not UTF-8 text: byte 8 cannot be read"]


class TestInputFile:
    def test_missing(self, program: Program) -> None:
        outcome = program("validate", "--input", "nowhere.json")
        assert outcome.code == 2
        assert outcome.lines[-1].endswith("File 'nowhere.json' does not exist.")

    def test_directory(self, program: Program) -> None:
        outcome = program("validate", "--input", ".")
        assert outcome.code == 2
        assert outcome.lines[-1].endswith("File '.' is a directory.")

    def test_unreadable(self, program: Program) -> None:
        """Nobody, not even root, can read a process's memory at address 0."""
        outcome = program("validate", "--input", "/proc/self/mem")
        assert outcome.code == 2
        assert outcome.lines[-1] == "Error: Invalid value for --input: Input/output error"

    @pytest.mark.parametrize(("more", "code"), [(0, 0), (1, 65)])
    def test_of_16_mib_is_taken_and_a_larger_one_refused(
        self, program: Program, more: int, code: int
    ) -> None:
        file = program.home / "request.json"
        file.write_text(json.dumps(VALID).ljust(16 * 1024 * 1024 + more))
        assert program("validate", "--input", file).code == code


def test_terminal_on_stdin_is_told_what_is_waited_for(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, MAIN, "validate"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(tmp_path),
    )
    assert process.stderr is not None
    assert "waiting for a request on stdin" in process.stderr.readline()
    os.write(ours, json.dumps(VALID).encode() + b"\n\x04")  # Ctrl-D
    stdout, stderr = process.communicate()
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, stderr) == (0, "")
    assert json.loads(stdout)["record_id"] == "rec-1"


def test_ten_thousand_outputs_are_each_checked(program: Program) -> None:
    outputs: list[dict[str, Any]] = [
        {"OutputKey": f"key{i}", "OutputValue": "v", "Description": "d"} for i in range(10_000)
    ]
    assert program("validate", stdin=VALID | {"Outputs": outputs}).code == 0
    outputs[9_999]["OutputKey"] = 1
    outcome = program("validate", stdin=VALID | {"Outputs": outputs})
    assert outcome.lines == ["Outputs[9999].OutputKey: must be a string, not a number"]


def test_interrupt_while_waiting_is_one_line(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, MAIN, "validate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(tmp_path),
    )
    wait_until_reading(process.pid)
    process.send_signal(2)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr.split()) == (130, "", ["interrupted"])


def test_stdin_that_does_not_block_is_read_to_its_end(tmp_path: Path) -> None:
    """As some parents leave their pipes: what has not come yet looks like the end."""
    text = json.dumps(VALID).encode()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, text[:40])
    process = subprocess.Popen(
        [sys.executable, MAIN, "validate"],
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(tmp_path),
    )
    try:
        wait_until_reading(process.pid)
        os.write(writing, text[40:])
    finally:
        os.close(writing)
        _, stderr = process.communicate()
        os.close(reading)
    assert (process.returncode, stderr) == (0, "")


def wait_until_reading(pid: int) -> None:
    """Wait until the process is blocked reading a pipe."""
    for _ in range(1000):
        if Path(f"/proc/{pid}/wchan").read_text() in ("pipe_read", "anon_pipe_read"):
            return
        time.sleep(0.01)
    raise AssertionError("the process does not read its stdin")
