"""The notify events of other engines, as results."""

import json
from typing import Any

import pytest
from conftest import UUID_TOKEN
from hypothesis import given
from hypothesis import strategies as st

from workflow_result.engine import notices
from workflow_result.problem import ExitCode, Problem
from workflow_result.request import Request

TAG = {"key": "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE", "value": "pp-1"}
REFERENCE = {
    "token": UUID_TOKEN,
    "awsAccountId": "123456789012",
    "provisionedProductId": "pp-1",
    "provisionedProductName": "name",
    "recordId": "rec-1",
    "tracerTag": TAG,
}
HASHICORP = {
    "terraformRunId": "run-1",
    "workflowToken": UUID_TOKEN,
    "recordId": "rec-1",
    "tracerTag": TAG,
    "awsAccountId": "123456789012",
    "terraformOrganization": "org",
    "provisionedProductId": "pp-1",
}
UNIQUE = {"UniqueTag": {"Key": TAG["key"], "Value": "pp-1"}}


def told(event: dict[str, Any], operation: str | None = "provision") -> Request:
    return notices.read(event, operation)


def failed(error: Any, cause: Any) -> str:
    members = told(REFERENCE | {"error": error, "errorMessage": cause}).members
    assert members["Status"] == "FAILED"
    reason: str = members["FailureReason"]
    return reason


class TestReferenceEngine:
    def test_provision_has_outputs_and_the_tracer_tag(self) -> None:
        outputs = [
            {"key": "a", "value": "text", "description": "What it is"},
            {"key": "b", "value": True, "description": None},
            {"key": "c", "value": ["x", {"y": None}]},
        ]
        request = told(REFERENCE | {"outputs": outputs})
        assert request.operation == "provision"
        assert {**request.members, "IdempotencyToken": ""} == {
            "WorkflowToken": UUID_TOKEN,
            "RecordId": "rec-1",
            "Status": "SUCCEEDED",
            "Outputs": [
                {"OutputKey": "a", "OutputValue": "text", "Description": "What it is"},
                {"OutputKey": "b", "OutputValue": "true"},
                {"OutputKey": "c", "OutputValue": '["x",{"y":null}]'},
            ],
            "ResourceIdentifier": UNIQUE,
            "IdempotencyToken": "",
        }

    def test_update_has_no_tracer_tag(self) -> None:
        members = told(REFERENCE | {"outputs": []}, "update").members
        assert "ResourceIdentifier" not in members
        assert members["Outputs"] == []

    def test_terminate_has_no_outputs(self) -> None:
        members = told(REFERENCE, "terminate").members
        assert set(members) == {"WorkflowToken", "RecordId", "Status", "IdempotencyToken"}

    def test_failed_provision_has_the_tracer_tag(self) -> None:
        """Without it the product is ERROR, and never gets a resource group."""
        members = told(REFERENCE | {"error": "E", "errorMessage": "no"}).members
        assert (members["Status"], members["ResourceIdentifier"]) == ("FAILED", UNIQUE)

    def test_same_event_has_the_same_idempotency_token(self) -> None:
        tokens = {told(dict(REFERENCE)).members["IdempotencyToken"] for _ in range(2)}
        assert len(tokens) == 1

    def test_operation_has_to_be_said(self) -> None:
        for operation in (None, "", "destroy"):
            with pytest.raises(Problem) as caught:
                told(REFERENCE, operation)
            assert caught.value.exit_code == ExitCode.SETUP
            assert caught.value.lines == (
                "WORKFLOW_RESULT_OPERATION has to say which operation's results come here: "
                "provision, update, terminate",
            )


class TestHashiCorp:
    @pytest.mark.parametrize(
        ("named", "operation"),
        [("PROVISIONING", "provision"), ("UPDATING", "update"), ("TERMINATING", "terminate")],
    )
    def test_event_says_the_operation(self, named: str, operation: str) -> None:
        request = told(HASHICORP | {"serviceCatalogOperation": named}, None)
        assert (request.operation, request.members["Status"]) == (operation, "SUCCEEDED")
        assert ("ResourceIdentifier" in request.members) == (operation == "provision")

    def test_unknown_operation_is_told(self) -> None:
        with pytest.raises(Problem) as caught:
            told(HASHICORP | {"serviceCatalogOperation": "PLANNING"}, "provision")
        assert "PROVISIONING or UPDATING or TERMINATING" in caught.value.lines[0]

    def test_failure_is_told(self) -> None:
        event = HASHICORP | {
            "serviceCatalogOperation": "UPDATING",
            "error": "TFEError",
            "errorMessage": '{"errorMessage":"unauthorized","errorType":"errorString"}',
        }
        assert told(event).members["FailureReason"] == "unauthorized"


class TestReason:
    @pytest.mark.parametrize(
        ("error", "cause", "reason"),
        [
            ("Error running terraform-runner script", "No bucket", "No bucket"),
            ("States.Timeout", "", "A step of the engine took longer than it may."),
            ("States.Timeout", None, "A step of the engine took longer than it may."),
            ("Error", "", "Error"),
            ("Error", "\x00 \n", "Error"),
            (None, None, "The engine said no more than that it failed."),
            ("", "", "The engine said no more than that it failed."),
            ("E", {"a": 1}, '{"a":1}'),
            ("E", "[1]", "[1]"),
            ("E", "\x1b[31mred\x1b[0m \ud800 \U0001f600", "red ? \ufffd"),
            (
                "RuntimeError",
                json.dumps({"errorMessage": "it broke", "errorType": "E", "stackTrace": ["…"]}),
                "it broke",
            ),
        ],
    )
    def test_it_is_what_a_person_can_read(self, error: Any, cause: Any, reason: str) -> None:
        assert failed(error, cause) == reason

    def test_long_one_is_cut(self) -> None:
        assert len(failed("E", "word " * 1000)) <= 2048

    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_one_that_is_nested_without_end_is_told_as_it_is(self, opening: str) -> None:
        assert failed("E", opening * 6000).startswith(opening)

    def test_token_is_masked(self) -> None:
        assert UUID_TOKEN not in failed("E", f"the token is {UUID_TOKEN}")

    def test_one_of_the_two_tells_that_it_failed(self) -> None:
        assert told(REFERENCE | {"errorMessage": "no"}).members["Status"] == "FAILED"
        assert told(REFERENCE | {"error": "no"}).members["Status"] == "FAILED"


class TestWhatCannotBeTold:
    def test_outputs_that_are_none_are_left_out(self) -> None:
        outputs = [
            None,
            {"value": "1"},
            {"key": "a"},
            {"key": UUID_TOKEN, "value": "x"},
            {"key": "b", "value": f"x {UUID_TOKEN}", "description": UUID_TOKEN},
        ]
        members = told(REFERENCE | {"outputs": outputs}).members
        assert members["Outputs"] == [{"OutputKey": "b", "OutputValue": "(sensitive value)"}]

    def test_tracer_tag_that_aws_does_not_allow_is_left_out(self) -> None:
        tag = {"tracerTag": {"key": "k", "value": "<>"}}
        members = told(REFERENCE | tag | {"outputs": [{"key": "a", "value": "1"}]}).members
        assert members["Status"] == "SUCCEEDED"
        assert "ResourceIdentifier" not in members
        assert members["Outputs"] == [{"OutputKey": "a", "OutputValue": "1"}]
        members = told(REFERENCE | tag | {"error": "E", "errorMessage": "No bucket"}).members
        assert members["FailureReason"] == "No bucket"

    def test_missing_tracer_tag_is_that_of_the_product(self) -> None:
        event = {name: value for name, value in REFERENCE.items() if name != "tracerTag"}
        assert told(event).members["ResourceIdentifier"] == UNIQUE

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"recordId": None}, "RecordId: required, but missing"),
            ({"recordId": 7}, "RecordId: must be a string, not a number"),
            ({"token": ""}, "WorkflowToken: must have at least 1 character"),
        ],
    )
    def test_event_that_cannot_be_answered_is_told(
        self, changes: dict[str, Any], line: str
    ) -> None:
        with pytest.raises(Problem) as caught:
            told(REFERENCE | changes)
        assert caught.value.exit_code == ExitCode.INVALID
        assert line in caught.value.lines


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("outputs", "error", "errorMessage", "tracerTag"), JSON)
    ),
    st.sampled_from(["provision", "update", "terminate"]),
)
def test_whatever_else_an_event_holds_it_is_reported(rest: dict[str, Any], operation: str) -> None:
    members = told(REFERENCE | rest, operation).members
    failed = bool({"error", "errorMessage"} & set(rest))
    assert members["Status"] == ("FAILED" if failed else "SUCCEEDED")
    assert ("FailureReason" in members) == failed
