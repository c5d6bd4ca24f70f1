"""Operation messages: what is read of them, what ends their order, what cannot be answered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import UUID_TOKEN, Outcome, Program, Sandbox
from engine_cli import MESSAGE, TERMINATE, TRACER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow_result import request as requests
from workflow_result.engine.message import Message, Unusable, read
from workflow_result.problem import ExitCode, Problem

OPERATIONS = (
    "PROVISION_PRODUCT or UPDATE_PROVISIONED_PRODUCT or UPDATE_PROVISION_PRODUCT or "
    "TERMINATE_PROVISIONED_PRODUCT or TERMINATE_PROVISION_PRODUCT"
)
A_REQUEST = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-demo", "Status": "FAILED"}

Run = Callable[..., Outcome]


@pytest.fixture
def run(program: Program, sandbox: Sandbox) -> Run:
    """`main.py run` in a folder that has a configuration."""
    folder = program.home / "artifact"
    folder.mkdir()
    (folder / "main.tf").write_text('output "a" { value = "b" }\n')

    def run(stdin: Any, *options: str | Path, **variables: str) -> Outcome:
        if not isinstance(stdin, str | bytes):
            stdin = json.dumps(stdin)
        environment = sandbox.environment | {"CHECKPOINT_DISABLE": "1"} | variables
        return program("run", "--chdir", folder, *options, stdin=stdin, **environment)

    return run


# --- what cannot be answered --------------------------------------------------------------

UNANSWERABLE: dict[str, tuple[Any, list[str]]] = {
    "nothing": (
        "",
        ["the message: empty: one JSON object is expected on stdin or in --input FILE"],
    ),
    "no JSON": ("hello", ["the message: not JSON: Expecting value (line 1, column 1)"]),
    "a list": ([MESSAGE], ["the message: must be a JSON object, not a list"]),
    "no token": (MESSAGE | {"token": None}, ["token: required, but missing"]),
    "no record": (MESSAGE | {"recordId": None}, ["recordId: required, but missing"]),
    "bad token": (
        MESSAGE | {"token": "a~b"},
        [r"token: character 2 is not allowed: must match ^[0-9A-Za-z+\/\-=]+$"],
    ),
    "unknown operation": (MESSAGE | {"operation": "DESTROY"}, [f"operation: must be {OPERATIONS}"]),
    "two records": (
        json.dumps(MESSAGE)[:-1] + ', "recordId": "rec-other"}',
        ["recordId: given twice in one object"],
    ),
    "half a character in the record": (
        MESSAGE | {"recordId": "rec\ud800"},
        ["recordId: character 4 is a lone surrogate, half a character"],
    ),
    "the token as record": (
        MESSAGE | {"recordId": UUID_TOKEN},
        ["recordId: holds the token, and is shown to others"],
    ),
    "the token as record, and more": (
        MESSAGE | {"recordId": UUID_TOKEN, "parameters": {}},
        ["parameters: must be a list, not an object"],
    ),
    "no token, and more": (
        MESSAGE | {"token": None, "parameters": {}},
        ["token: required, but missing", "parameters: must be a list, not an object"],
    ),
    "a request": (
        A_REQUEST,
        [
            "the message: this is a request, which `notify` takes; an operation message of "
            "Service Catalog's has the keys token, recordId, operation and provisionedProductId"
        ],
    ),
    "no messages": ({"Messages": []}, ["the message: Messages holds no message: one is needed"]),
    "two messages": (
        {"Messages": [{"Body": json.dumps(MESSAGE)}] * 2},
        ["the message: Messages holds 2 messages: one is needed"],
    ),
    "two records of an event": (
        {"Records": [{"body": json.dumps(MESSAGE)}] * 2},
        ["the message: Records holds 2 messages: one is needed"],
    ),
    "no body": ({"Messages": [{"MessageId": "1"}]}, ["the message: Messages[0].Body is missing"]),
    "null for a message": ({"Records": [None]}, ["the message: Records[0].Body is missing"]),
    "no JSON in a body": (
        {"Records": [{"body": "hello"}]},
        ["the message in Records[0].body: not JSON: Expecting value (line 1, column 1)"],
    ),
    "half a character in a body": (
        {"Body": '{"token": "\ud800"}'},
        ["the message in Body: not UTF-8 text: byte 12 cannot be read"],
    ),
    "bad token in a body": (
        {"Body": json.dumps(MESSAGE | {"token": "a b"})},
        [r"token: character 2 (white space) is not allowed: must match ^[0-9A-Za-z+\/\-=]+$"],
    ),
}


@pytest.mark.parametrize("name", UNANSWERABLE)
def test_message_that_cannot_be_answered_runs_and_sends_nothing(
    run: Run, sandbox: Sandbox, program: Program, name: str
) -> None:
    source, lines = UNANSWERABLE[name]
    outcome = run(source)
    assert (outcome.lines, outcome.stdout, outcome.code) == (lines, "", 65)
    assert sandbox.calls() == []
    assert {path.name for path in program.home.iterdir()} == {"artifact", "sandbox-0.log"}
    assert [path.name for path in (program.home / "artifact").iterdir()] == ["main.tf"]


# --- what is wrong, and answered ----------------------------------------------------------

WRONG: dict[str, tuple[Any, list[str]]] = {
    "no product": (
        MESSAGE | {"provisionedProductId": None},
        ["provisionedProductId: required, but missing"],
    ),
    "bad product": (
        MESSAGE | {"provisionedProductId": "pp*"},
        [
            "provisionedProductId: character 3 (U+002A) is not allowed: must match "
            r"^([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)$"
        ],
    ),
    "the token as product": (
        MESSAGE | {"provisionedProductId": UUID_TOKEN},
        ["provisionedProductId: holds the token, and is shown to others"],
    ),
    "parameters as an object": (
        MESSAGE | {"parameters": {"a": "b"}},
        ["parameters: must be a list, not an object"],
    ),
    "number as a parameter": (
        MESSAGE | {"parameters": [{"key": "a", "value": 1}]},
        ["parameters[0].value: must be a string, not a number"],
    ),
    "tag without a key": (
        MESSAGE | {"tags": [{"value": "a"}]},
        ["tags[0].key: required, but missing"],
    ),
    "artifact as a string": (
        MESSAGE | {"artifact": "s3://bucket/key"},
        ["artifact: must be an object, not a string"],
    ),
    "parameter with two values": (
        json.dumps(MESSAGE)[:-1] + ', "parameters": [{"key": "a", "value": "b", "value": "c"}]}',
        ["parameters: given twice in one object", "value: given twice in one object"],
    ),
    "half a character in a parameter": (
        MESSAGE | {"parameters": [{"key": "a", "value": "\ud800"}]},
        ["parameters[0].value: character 1 is a lone surrogate, half a character"],
    ),
    "nested without end": (
        json.dumps(MESSAGE)[:-1] + ', "new": ' + "[" * 900 + "]" * 900 + "}",
        ["new: nested more than 16 deep"],
    ),
    "two faults of a terminate": (
        TERMINATE | {"tags": "a", "provisionedProductId": ""},
        [
            "provisionedProductId: must have at least 1 character",
            "tags: must be a list, not a string",
        ],
    ),
    "in an envelope": (
        {"Records": [{"body": json.dumps(MESSAGE | {"tags": 1})}]},
        ["tags: must be a list, not a number"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_message_that_is_wrong_otherwise_ends_its_order_failed(
    run: Run, sandbox: Sandbox, program: Program, name: str
) -> None:
    source, faults = WRONG[name]
    outcome = run(source)
    assert sorted(outcome.lines[:-1]) == sorted(faults)
    assert outcome.lines[-1] == "rec-demo: reporting FAILED, nothing was run"
    assert outcome.code == 1
    assert (outcome.json["status"], outcome.json["reported"]) == ("FAILED", "true")
    detail = sandbox.record()["RecordDetail"]
    assert detail["Status"] == "FAILED"
    reason = detail["RecordErrors"][0]["Description"]
    first, *others = reason.splitlines()
    assert first == "The order's message to the engine is wrong:"
    assert sorted(others) == sorted(faults)
    assert [path.name for path in (program.home / "artifact").iterdir()] == ["main.tf"]


def test_reason_is_made_to_fit() -> None:
    message = MESSAGE | {"parameters": [{"key": 1, "value": 1}] * 1000}
    unusable = read(json.dumps(message).encode())
    assert isinstance(unusable, Unusable)
    assert 1900 < len(unusable.request.members["FailureReason"]) <= 2048


def test_failed_provision_has_the_tracer_tag_where_the_product_is_known() -> None:
    def members(**changes: Any) -> Any:
        unusable = read(json.dumps(MESSAGE | {"tags": 1} | changes).encode())
        assert isinstance(unusable, Unusable)
        return unusable.request.members

    assert members()["ResourceIdentifier"] == {"UniqueTag": TRACER}
    assert "ResourceIdentifier" not in members(provisionedProductId=None)
    assert "ResourceIdentifier" not in members(operation="UPDATE_PROVISIONED_PRODUCT")


class TestRepetition:
    def test_wrong_message_is_answered_once(self, run: Run, sandbox: Sandbox) -> None:
        first, second = (run(MESSAGE | {"tags": 1}) for _ in range(2))
        assert (second.code, second.stdout) == (1, first.stdout)
        assert second.lines == [
            "tags: must be a list, not a number",
            "rec-demo: reported before, says the journal; nothing was run",
        ]
        assert len(sandbox.calls()) == 1

    def test_record_that_succeeded_before_stays_so(self, run: Run, sandbox: Sandbox) -> None:
        first = run(MESSAGE)
        assert first.code == 0
        second = run(MESSAGE | {"tags": 1})
        assert (second.code, second.json["status"]) == (0, "SUCCEEDED")
        assert (len(sandbox.calls()), sandbox.status()) == (1, "SUCCEEDED")

    def test_result_that_is_owed_is_left_to_resend(self, run: Run, sandbox: Sandbox) -> None:
        nowhere = "http://127.0.0.1:9"
        first, second = (
            run(MESSAGE | {"tags": 1}, AWS_ENDPOINT_URL_SERVICE_CATALOG=nowhere) for _ in range(2)
        )
        assert (first.code, second.code) == (75, 75)
        assert "`resend` sends it" in first.stderr
        assert "`resend` sends it" in second.stderr


# --- envelopes ----------------------------------------------------------------------------

TEXT = json.dumps(MESSAGE)
NOTIFICATION = {"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": TEXT}
ENVELOPES: dict[str, Any] = {
    "SQS, ReceiveMessage": {
        "Messages": [{"MessageId": "1", "ReceiptHandle": "r", "MD5OfBody": "m", "Body": TEXT}]
    },
    "SQS, one message of it": {"MessageId": "1", "ReceiptHandle": "r", "Body": TEXT},
    "Lambda, from SQS": {
        "Records": [{"messageId": "1", "body": TEXT, "attributes": {}, "eventSource": "aws:sqs"}]
    },
    "Lambda, from SQS, one record of it": {"messageId": "1", "body": TEXT},
    "SNS": NOTIFICATION,
    "SNS, in SQS": {"Messages": [{"Body": json.dumps(NOTIFICATION)}]},
    "Lambda, from SNS": {"Records": [{"EventSource": "aws:sns", "Sns": NOTIFICATION}]},
    "byte-order mark in a body": {"Body": "\ufeff" + TEXT},
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_one_message_is_taken_out_of_an_envelope(name: str) -> None:
    assert read(json.dumps(ENVELOPES[name]).encode()) == read(TEXT.encode())


@pytest.mark.parametrize("name", ["SQS, ReceiveMessage", "Lambda, from SQS"])
def test_message_in_an_envelope_is_run(run: Run, sandbox: Sandbox, name: str) -> None:
    assert run(ENVELOPES[name]).code == 0
    assert sandbox.status() == "SUCCEEDED"


def test_envelopes_without_end_are_no_message() -> None:
    text = TEXT
    for _ in range(5):
        text = json.dumps({"Body": text})
    with pytest.raises(Problem) as raised:
        read(text.encode())
    assert raised.value.exit_code is ExitCode.INVALID


def test_message_that_has_a_member_of_an_envelopes_name_is_a_message() -> None:
    message = read(json.dumps(MESSAGE | {"body": "x", "Message": "y", "Records": "z"}).encode())
    assert isinstance(message, Message)


# --- --input ------------------------------------------------------------------------------


def test_message_may_come_in_a_file(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "message.json"
    file.write_text(TEXT)
    assert run("", "--input", file).code == 0
    assert sandbox.status() == "SUCCEEDED"


def test_hyphen_is_stdin_and_the_request_in_the_environment_is_none_of_it(
    run: Run, sandbox: Sandbox
) -> None:
    assert run(MESSAGE, "--input", "-", WORKFLOW_RESULT_REQUEST='{"RecordId": "x"}').code == 0
    assert sandbox.status() == "SUCCEEDED"


# --- what holds for every message ---------------------------------------------------------

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.sampled_from(["", "a", "ü", "\ud800", UUID_TOKEN, TEXT]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["key", "value", "body", "Sns", "é"]), inner)
    ),
    max_leaves=5,
)
members = st.sampled_from([*MESSAGE, "body", "Body", "Messages", "Records", "Status", "RecordId"])


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(changes=st.dictionaries(members, values, max_size=3))
def test_message_is_read_or_answered_or_refused(changes: dict[str, Any]) -> None:
    try:
        message = read(json.dumps(MESSAGE | changes).encode())
    except Problem as problem:
        assert problem.exit_code is ExitCode.INVALID
        assert all("\n" not in line and UUID_TOKEN not in line for line in problem.lines)
        return
    if isinstance(message, Message):
        message.result([], "it failed")  # checks what it makes
    else:
        members = message.request.members
        again = requests.check(requests.Draft(dict(members)), message.operation)
        assert (again.members, members["Status"]) == (members, "FAILED")
        assert UUID_TOKEN not in members["FailureReason"]


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_nesting_is_taken_up_to_16_levels(begin: str, end: str) -> None:
    """The message itself is one of them."""

    def nested(levels: int) -> bytes:
        return f'{TEXT[:-1]}, "new": {begin * levels}"a"{end * levels}}}'.encode()

    assert isinstance(read(nested(15)), Message)
    too_deep = read(nested(16))
    assert isinstance(too_deep, Unusable)
    assert too_deep.faults == ("new: nested more than 16 deep",)
