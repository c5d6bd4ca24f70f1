"""What holds for every input: ours and the sandbox's, which knows botocore alone, agree."""

import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from conftest import new_client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow_result.failure_reason import fit
from workflow_result.problem import ExitCode, Problem
from workflow_result.request import Request, add_token, check, check_partial, decode
from workflow_result.sandbox import Handler, Misbehaviour
from workflow_result.sandbox.service import ServiceCatalog, ServiceError
from workflow_result.schemas import API_OPERATIONS

operations = st.sampled_from(list(API_OPERATIONS))


def text_of(alphabet: str, most: int) -> st.SearchStrategy[str]:
    """From 1 to `most` of these characters, often at a limit."""
    at_limit = st.builds(
        lambda unit, length: unit * length,
        st.sampled_from(alphabet),
        st.sampled_from([1, most - 1, most]),
    )
    return st.text(alphabet, min_size=1, max_size=20) | at_limit


TAG = "abcß中٣ _.:/=+-@"
REASON = "aé\t\n\r\ud7ff\ue000\ufffd"
output = st.fixed_dictionaries(
    {}, optional={name: st.text(max_size=9) for name in ("OutputKey", "OutputValue", "Description")}
)
tag = st.fixed_dictionaries({}, optional={"Key": text_of(TAG, 128), "Value": text_of(TAG, 256)})
common: dict[str, st.SearchStrategy[Any]] = {
    "WorkflowToken": text_of("abcXYZ019+/=-", 20000),
    "RecordId": text_of("abcXYZ019_-", 100),
    "Status": st.sampled_from(["SUCCEEDED", "FAILED"]),
    "IdempotencyToken": text_of("abcXYZ019", 128) | st.just("a-_9"),
}
reason: dict[str, st.SearchStrategy[Any]] = {"FailureReason": text_of(REASON, 2048)}
outputs = {"Outputs": st.lists(output, max_size=3)}
identifier = {"ResourceIdentifier": st.fixed_dictionaries({}, optional={"UniqueTag": tag})}
valid_requests = {
    "provision": st.fixed_dictionaries(common, optional=reason | outputs | identifier),
    "update": st.fixed_dictionaries(common, optional=reason | outputs),
    "terminate": st.fixed_dictionaries(common, optional=reason),
}

# What a fault is made of: values of every kind, and text that is good in some members only.
bad_values: st.SearchStrategy[Any] = (
    st.sampled_from(["", "a\n", "-a", "a b", "ü", "\U0001f600", "\a", "a" * 129, "a" * 2049])
    | st.sampled_from([None, True, 0, 1.5, [], {}, [None], ["a"], {"UniqueTag": []}, {"Key": "a"}])
    | st.text(max_size=5)
)
names = st.sampled_from([*common, "FailureReason", "Outputs", "ResourceIdentifier", "Extra"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An operation and a request for it: half of them valid, half with a fault somewhere."""
    operation = draw(operations)
    request: dict[str, Any] = draw(valid_requests[operation])
    match draw(st.sampled_from(["none", "none", "none", "value", "absent", "output", "tag"])):
        case "value":
            request[draw(names)] = draw(bad_values)
        case "absent":
            request.pop(draw(names), None)
        case "output":
            request["Outputs"] = [{draw(st.sampled_from(["OutputKey", "x"])): draw(bad_values)}]
        case "tag":
            part = draw(st.sampled_from(["Key", "Value", "x"]))
            request["ResourceIdentifier"] = {"UniqueTag": {part: draw(bad_values)}}
    return operation, request


def checked(operation: str, request: dict[str, Any]) -> Request | None:
    """The request where ours takes it, None where it refuses it."""
    try:
        return check(decode(json.dumps(request).encode(), operation), operation)
    except Problem as problem:
        assert problem.exit_code is ExitCode.INVALID
        assert problem.lines
        return None


@pytest.fixture(scope="module")
def client_of_fresh_service() -> Iterator[Any]:
    """A boto3 client, and a way to give the service behind it a fresh record."""

    class BoundHandler(Handler):
        misbehaviour = Misbehaviour([])
        service = ServiceCatalog(["rec-demo"])

    server = ThreadingHTTPServer(("127.0.0.1", 0), BoundHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = new_client(f"http://127.0.0.1:{server.server_port}")

    def fresh(record_id: str) -> Any:
        BoundHandler.service = ServiceCatalog([record_id])
        return client

    yield fresh
    server.shutdown()
    server.server_close()


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(case=requests())
def test_what_the_schema_accepts_botocore_sends_and_the_sandbox_takes(
    client_of_fresh_service: Any, case: tuple[str, dict[str, Any]]
) -> None:
    operation, request_ = case
    request = checked(operation, request_)
    if request is None:
        return
    client = client_of_fresh_service(request.members["RecordId"])
    client._make_api_call(API_OPERATIONS[operation], dict(request.members))
    record = client.describe_record(Id=request.members["RecordId"])
    assert record["RecordDetail"]["Status"] == request_["Status"]


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(case=requests())
def test_schema_and_sandbox_refuse_the_same(case: tuple[str, dict[str, Any]]) -> None:
    operation, request_ = case
    request = json.loads(json.dumps(request_))
    if isinstance(request.get("FailureReason"), str):
        request["FailureReason"] = fit(request["FailureReason"])[0] or None
    try:
        ServiceCatalog([str(request.get("RecordId"))]).answer(API_OPERATIONS[operation], request)
        refused = False
    except ServiceError as error:
        assert error.code in ("ValidationException", "SerializationException")
        refused = True
    # Ours reads more than AWS takes: JSON text for a list, null for absent, a token left out.
    if any(isinstance(request.get(n), str) for n in ("Outputs", "ResourceIdentifier")):
        return
    if "IdempotencyToken" not in request or "null" in json.dumps(request_):
        return
    others = {n: v for n, v in request.items() if n not in ("WorkflowToken", "FailureReason")}
    if str(request.get("WorkflowToken")) in json.dumps(others):
        return
    assert (checked(operation, request_) is None) == refused


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@settings(deadline=None, max_examples=150)
@given(operation=operations, source=st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_no_bytes_make_it_crash(operation: str, source: bytes) -> None:
    try:
        check(decode(source, operation), operation)
    except Problem as problem:
        assert problem.exit_code is ExitCode.INVALID


@settings(deadline=None, max_examples=150)
@given(
    operation=operations,
    value=json_values,
    token=st.text(max_size=5),
    name=st.sampled_from(["Outputs", "ResourceIdentifier", "RecordId", "WorkflowToken", "x"]),
    as_text=st.booleans(),
)
def test_no_json_makes_it_crash(
    operation: str, value: Any, token: str, name: str, as_text: bool
) -> None:
    """Escaped lone surrogates, NaN and numbers of any size included."""
    request = json.dumps({name: json.dumps(value) if as_text else value}).encode()
    for partial in (True, False):
        try:
            draft = decode(request, operation)
            add_token(draft, token)
            check_partial(draft, operation) if partial else check(draft, operation)
        except Problem as problem:
            assert problem.exit_code is ExitCode.INVALID
            assert all("\n" not in line for line in problem.lines)


@settings(deadline=None, max_examples=150)
@given(case=requests(), seed=st.randoms(use_true_random=False))
def test_order_white_space_and_form_do_not_change_the_idempotency_token(
    case: tuple[str, dict[str, Any]], seed: Any
) -> None:
    operation, request_ = case
    request_.pop("IdempotencyToken", None)
    request = checked(operation, request_)
    if request is None:
        return
    names = list(request_)
    seed.shuffle(names)
    other = {name: request_[name] for name in names}
    for name in ("Outputs", "ResourceIdentifier"):
        if other.get(name) is not None:
            other[name] = json.dumps(other[name], indent=3)
    again = check(decode(json.dumps(other, indent=1).encode(), operation), operation)
    assert again.members["IdempotencyToken"] == request.members["IdempotencyToken"]
