"""The sandbox, held against botocore's service model and asked as boto3 and others ask."""

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from conftest import Program, Sandbox

from workflow_result.sandbox import KINDS
from workflow_result.sandbox.service import service_model

PROVISION = "notify_provision_product_engine_workflow_result"
REQUEST = {
    "WorkflowToken": "965d4597-3088-41ae-87dc-3498daf1d69d",
    "RecordId": "rec-demo",
    "Status": "FAILED",
    "FailureReason": "why",
    "IdempotencyToken": "once",
}


def code_of(sandbox: Sandbox, **changes: Any) -> str:
    """The error code that boto3 gets for this request, or OK."""
    request = {name: value for name, value in (REQUEST | changes).items() if value is not None}
    try:
        getattr(sandbox.client, PROVISION)(**request)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "OK"


def post(sandbox: Sandbox, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """What HTTP alone gets, without an AWS SDK."""
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
    connection.request("POST", "/", body, headers)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def target(operation: str) -> dict[str, str]:
    return {"X-Amz-Target": f"AWS242ServiceCatalogService.{operation}"}


def test_answers_of_describe_record_are_those_of_botocores_model(sandbox: Sandbox) -> None:
    shape: Any = service_model().operation_model("DescribeRecord").output_shape
    for ended in (False, True):
        if ended:
            assert code_of(sandbox, Outputs=[{"OutputKey": "a"}]) == "OK"
        answer = {name: v for name, v in sandbox.record().items() if name != "ResponseMetadata"}
        assert not ParamValidator().validate(answer, shape).has_errors()
        status_shape = shape.members["RecordDetail"].members["Status"]
        assert answer["RecordDetail"]["Status"] in status_shape.enum


class TestProvisionedProducts:
    """As `rescue` looks for them."""

    def test_answer_is_that_of_botocores_model(self, sandbox: Sandbox) -> None:
        shape: Any = service_model().operation_model("SearchProvisionedProducts").output_shape
        answer = sandbox.client.search_provisioned_products()
        del answer["ResponseMetadata"]
        assert not ParamValidator().validate(answer, shape).has_errors()
        (product, *_) = answer["ProvisionedProducts"]
        assert (product["LastRecordId"], product["Status"]) == ("rec-demo", "UNDER_CHANGE")

    def test_they_come_in_pages(self, start_sandbox: Callable[..., Sandbox]) -> None:
        sandbox = start_sandbox(*(f"--record=rec-{n}" for n in range(5)))
        pages, page = [], {"PageSize": 2}
        while page:
            answer = sandbox.client.search_provisioned_products(**page)
            pages.append([p["LastRecordId"] for p in answer["ProvisionedProducts"]])
            token = answer.get("NextPageToken")
            page = {"PageSize": 2, "PageToken": token} if token else {}
        assert pages == [["rec-0", "rec-1"], ["rec-2", "rec-3"], ["rec-4"]]

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"Status": "SUCCEEDED", "FailureReason": None}, "AVAILABLE"),
            ({}, "ERROR"),
            ({"ResourceIdentifier": {"UniqueTag": {"Key": "k", "Value": "v"}}}, "TAINTED"),
        ],
        ids=["succeeded", "failed", "failed with its tag"],
    )
    def test_they_are_under_change_until_there_is_a_result(
        self, start_sandbox: Callable[..., Sandbox], changes: dict[str, Any], status: str
    ) -> None:
        sandbox = start_sandbox("--record", "rec-demo")

        def found(status: str) -> int:
            query = {"SearchQuery": [f"status:{status}"]}
            answer = sandbox.client.search_provisioned_products(Filters=query)
            return len(answer["ProvisionedProducts"])

        assert (found("UNDER_CHANGE"), found(status)) == (1, 0)
        assert code_of(sandbox, **changes) == "OK"
        assert (found("UNDER_CHANGE"), found(status)) == (0, 1)

    @pytest.mark.parametrize(
        "arguments", [{"Filters": {"SearchQuery": ["name:a"]}}, {"PageToken": "x"}], ids=str
    )
    def test_what_the_sandbox_does_not_know_is_refused(
        self, sandbox: Sandbox, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(sandbox.client.exceptions.InvalidParametersException):
            sandbox.client.search_provisioned_products(**arguments)


def test_success_is_http_200_with_an_empty_result(sandbox: Sandbox) -> None:
    operation = "NotifyProvisionProductEngineWorkflowResult"
    assert post(sandbox, json.dumps(REQUEST).encode(), **target(operation)) == (200, {})


@pytest.mark.parametrize(
    ("method", "arguments"),
    [(PROVISION, REQUEST | {"RecordId": "rec-x"}), ("describe_record", {"Id": "rec-x"})],
)
def test_unknown_record_is_not_found(
    sandbox: Sandbox, method: str, arguments: dict[str, str]
) -> None:
    with pytest.raises(sandbox.client.exceptions.ResourceNotFoundException):
        getattr(sandbox.client, method)(**arguments)


class TestIdempotency:
    def test_same_token_and_content_succeeds_and_changes_nothing(self, sandbox: Sandbox) -> None:
        assert code_of(sandbox) == "OK"
        before = sandbox.record()["RecordDetail"]
        assert code_of(sandbox) == "OK"
        assert sandbox.record()["RecordDetail"] == before

    def test_same_token_with_other_content_is_invalid(self, sandbox: Sandbox) -> None:
        code_of(sandbox)
        assert code_of(sandbox, Status="SUCCEEDED") == "InvalidParametersException"
        assert sandbox.status() == "FAILED"

    def test_same_token_for_another_record_is_invalid(
        self, start_sandbox: Callable[..., Sandbox]
    ) -> None:
        sandbox = start_sandbox("--record", "rec-demo", "--record", "rec-2")
        code_of(sandbox)
        assert code_of(sandbox, RecordId="rec-2") == "InvalidParametersException"

    def test_record_that_has_ended_is_not_ended_again(self, sandbox: Sandbox) -> None:
        code_of(sandbox)
        assert code_of(sandbox, IdempotencyToken="twice") == "InvalidParametersException"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("RecordId", "a b"),
        ("RecordId", "a" * 101),
        ("WorkflowToken", "a~b"),
        ("WorkflowToken", "a" * 20001),
        ("FailureReason", "\U0001f600"),
        ("FailureReason", "a" * 2049),
        ("IdempotencyToken", "-a"),
        ("Status", "DONE"),
        ("ResourceIdentifier", {"UniqueTag": {"Key": "!", "Value": "v"}}),
        ("ResourceIdentifier", {"UniqueTag": {"Key": "k", "Value": "v" * 257}}),
    ],
)
def test_limits_of_the_model_are_enforced(sandbox: Sandbox, member: str, value: Any) -> None:
    assert code_of(sandbox, **{member: value}) == "ValidationException"
    assert sandbox.status() == "IN_PROGRESS"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"RecordId": 1}', b'{"Other": "x"}', b'{"Outputs": {}}']
)
def test_body_that_does_not_fit_is_a_serialization_error(sandbox: Sandbox, body: bytes) -> None:
    operation = "NotifyProvisionProductEngineWorkflowResult"
    status, answer = post(sandbox, body, **target(operation))
    assert (status, answer["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("name", ["", "NotifyProvisionProduct", "DescribeProduct"])
def test_unknown_operation_is_named_so(sandbox: Sandbox, name: str) -> None:
    headers = target(name) if name else {}
    status, answer = post(sandbox, b"{}", **headers)
    assert (status, answer["__type"]) == (400, "UnknownOperationException")


def test_it_listens_on_loopback_alone(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    assert sandbox.url == f"http://127.0.0.1:{port}"
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", port))


def test_port_that_is_taken_is_told(program: Program, sandbox: Sandbox) -> None:
    port = sandbox.url.rpartition(":")[2]
    outcome = program("sandbox", "--port", port)
    assert outcome.code == 78
    assert outcome.lines == [
        f"port {port} on 127.0.0.1: Address already in use; --port 0 takes a free one"
    ]


@pytest.mark.parametrize("wrong", ["nonsense", "drop:", "drop:x", "drop:-1"])
def test_misbehaviour_that_is_none_is_wrong_usage(program: Program, wrong: str) -> None:
    outcome = program("sandbox", "--port", "0", "--misbehave", wrong)
    assert outcome.code == 2
    assert f"{wrong}: must be one of throttle, " in outcome.stderr


@pytest.mark.parametrize("record_id", ["", "a b", "é", "a" * 101])
def test_record_that_could_never_be_reported_is_wrong_usage(
    program: Program, record_id: str
) -> None:
    outcome = program("sandbox", "--port", "0", "--record", record_id)
    assert outcome.code == 2
    assert "a record ID has 1 to 100 letters" in outcome.stderr


def test_help_names_every_way_to_misbehave(program: Program) -> None:
    text = " ".join(program("sandbox", "--help").stdout.split())
    assert all(kind in text for kind in KINDS)


def test_misbehaviours_come_in_order_and_end(start_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = start_sandbox("--misbehave", "throttle:2", "--misbehave", "expired-token:1")
    codes = [code_of(sandbox) for _ in range(4)]
    assert codes == [
        "ThrottlingException",
        "ThrottlingException",
        "ExpiredTokenException",
        "OK",
    ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "silent"])
@pytest.mark.parametrize("record_id", ["rec-demo", "rec-unknown"])
def test_misbehaviour_is_one_line_that_names_the_call(
    start_sandbox: Callable[..., Sandbox], kind: str, record_id: str
) -> None:
    sandbox = start_sandbox("--misbehave", f"{kind}:1")
    with suppress(OSError, http.client.HTTPException, ValueError):
        operation = "NotifyProvisionProductEngineWorkflowResult"
        body = json.dumps(REQUEST | {"RecordId": record_id}).encode()
        post(sandbox, body, **target(operation))
    lines = sandbox.log.read_text().splitlines()
    assert lines[1:] == [f"{operation} {record_id} once: misbehaving ({kind})"]
