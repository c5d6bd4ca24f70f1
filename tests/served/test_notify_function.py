"""`notify` in the place of other engines' functions, as Lambda and their state machines call it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox, clean_environment, endpoint
from deployed import deploy
from lambda_runtime import Answer, function
from ministack_server import Ministack
from tables import new_table

TOKEN = "0c9a2f3e-57b1-4f0e-9d35-7f1f0e6b8a11"
TAG = {"key": "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE", "value": "pp-1"}
EVENT = {
    "token": TOKEN,
    "awsAccountId": "123456789012",
    "provisionedProductId": "pp-1",
    "provisionedProductName": "name",
    "recordId": "rec-demo",
    "tracerTag": TAG,
    "outputs": [{"key": "hello", "value": "world", "description": None}],
}
THROTTLED = (400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}')
REFUSED = (400, b'{"__type": "InvalidParametersException", "message": "Another result"}')


class Notify:
    """Calls the function, each time in a new instance of it."""

    def __init__(self, home: Path, sandbox: Sandbox, ministack: Ministack) -> None:
        self.home, self.sandbox = home, sandbox
        self.table = new_table(ministack)
        self.environment = clean_environment(
            home,
            **sandbox.environment,
            **self.table.environment,
            AWS_MAX_ATTEMPTS="1",
            WORKFLOW_RESULT_OPERATION="provision",
        )
        self.journal = {"WORKFLOW_RESULT_JOURNAL": self.table.url()}
        self.said = ""

    def __call__(self, event: dict[str, Any], **variables: str) -> Answer:
        with function("notify", self.home, self.environment | variables) as running:
            answer = running(event)
            self.said = running.said
        assert TOKEN not in self.said + json.dumps(answer.value)
        return answer


@pytest.fixture
def notify(tmp_path: Path, sandbox: Sandbox, ministack: Ministack) -> Notify:
    return Notify(tmp_path, sandbox, ministack)


def test_result_is_reported_and_nothing_of_it_is_kept(notify: Notify) -> None:
    assert notify(EVENT, **notify.journal) == Answer(None)
    assert notify.sandbox.status("rec-demo") == "SUCCEEDED"
    (item,) = notify.table.items()
    assert item["state"] == "reported"
    assert notify(EVENT, **notify.journal) == Answer(None)


def test_without_a_journal_it_is_reported_all_the_same(notify: Notify) -> None:
    assert notify(EVENT) == Answer(None)
    assert notify.sandbox.status("rec-demo") == "SUCCEEDED"


def test_result_that_is_not_taken_now_is_owed_in_the_journal(notify: Notify) -> None:
    with endpoint(lambda *_: THROTTLED) as url:
        answer = notify(EVENT, **notify.journal, AWS_ENDPOINT_URL_SERVICE_CATALOG=url)
    assert answer == Answer(None)
    assert [item["state"] for item in notify.table.items()] == ["owed"]
    assert "warning: rec-demo: not reported: ThrottlingException" in notify.said


def test_without_a_journal_the_error_is_one_that_the_state_machine_tries_again_for(
    notify: Notify,
) -> None:
    with endpoint(lambda *_: THROTTLED) as url:
        answer = notify(EVENT, AWS_ENDPOINT_URL_SERVICE_CATALOG=url)
    assert answer.failed
    assert answer.value["errorType"] == "Lambda.ServiceException"


def test_neither_service_catalog_nor_the_journal_is_the_same(notify: Notify) -> None:
    with endpoint(lambda *_: THROTTLED) as url:
        answer = notify(
            EVENT,
            **notify.journal,
            AWS_ENDPOINT_URL_SERVICE_CATALOG=url,
            AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:1",
        )
    assert answer.value["errorType"] == "Lambda.ServiceException"


def test_result_that_is_refused_for_good_fails_the_execution(notify: Notify) -> None:
    with endpoint(lambda *_: REFUSED) as url:
        answer = notify(EVENT, **notify.journal, AWS_ENDPOINT_URL_SERVICE_CATALOG=url)
    assert answer.failed
    assert answer.value["errorType"] == "Failed"
    assert "refused the result for good" in answer.value["errorMessage"]
    assert [item["state"] for item in notify.table.items()] == ["refused"]


def test_event_that_is_none_fails_the_execution(notify: Notify) -> None:
    answer = notify({"token": TOKEN, "outputs": []})
    assert answer.value["errorType"] == "Failed"
    assert answer.value["errorMessage"] == "RecordId: required, but missing"


def test_what_it_has_reported_before_changes_nothing(notify: Notify) -> None:
    """A piece of another order's token is no secret of this one."""
    failed = {"error": "E", "errorMessage": "No bucket 9b1deb4d-3b7d"}
    with function("notify", notify.home, notify.environment) as running:
        assert running({"token": "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"}).failed
        assert running(EVENT | failed) == Answer(None)
    (error,) = notify.sandbox.record("rec-demo")["RecordDetail"]["RecordErrors"]
    assert error["Description"] == "No bucket 9b1deb4d-3b7d"


# --- in the state machines ------------------------------------------------------------------


RETRY = [
    {
        "ErrorEquals": [
            "Lambda.ServiceException",
            "Lambda.AWSLambdaException",
            "Lambda.SdkClientException",
            "Runtime.HandlerError",  # what ministack calls whatever a function in Python raises
        ],
        "IntervalSeconds": 1,
        "MaxAttempts": 6,
        "BackoffRate": 1,
    }
]


def of_reference_engine(arn: str) -> dict[str, Any]:
    """The end of a state machine of that engine's shape: what notifies, and what comes after."""
    usual = {
        "token.$": "$.token",
        "awsAccountId.$": "$.identity.awsAccountId",
        "provisionedProductId.$": "$.provisionedProductId",
        "provisionedProductName.$": "$.provisionedProductName",
        "recordId.$": "$.recordId",
        "tracerTag.$": "$.tracerTag",
    }

    def notifies(more: dict[str, str]) -> dict[str, Any]:
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {
                "FunctionName": arn,
                "Payload": usual | more,
                "InvocationType": "RequestResponse",
            },
            "ResultPath": "$.notified",
            "Retry": RETRY,
            "TimeoutSeconds": 300,
            "Next": "Succeeded",
        }

    return {
        "StartAt": "Tracer tag",
        "States": {
            "Tracer tag": {
                "Type": "Pass",
                "Parameters": {"key": TAG["key"], "value.$": "$.provisionedProductId"},
                "ResultPath": "$.tracerTag",
                "Next": "Failed?",
            },
            "Failed?": {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.errorInfo", "IsPresent": True, "Next": "Notify failure"}
                ],
                "Default": "Notify success",
            },
            "Notify success": notifies({"outputs.$": "$.recordOutputs"}),
            "Notify failure": notifies(
                {"error.$": "$.errorInfo.Error", "errorMessage.$": "$.errorInfo.Cause"}
            ),
            "Succeeded": {"Type": "Succeed"},
        },
    }


def of_hashicorp(arn: str) -> dict[str, Any]:
    return {
        "StartAt": "Notify run result",
        "States": {
            "Notify run result": {
                "Type": "Task",
                "Resource": arn,
                "Parameters": {
                    "terraformRunId": "run-1",
                    "workflowToken.$": "$.token",
                    "recordId.$": "$.recordId",
                    "tracerTag": TAG,
                    "serviceCatalogOperation": "PROVISIONING",
                    "awsAccountId.$": "$.identity.awsAccountId",
                    "terraformOrganization": "org",
                    "provisionedProductId.$": "$.provisionedProductId",
                },
                "End": True,
            }
        },
    }


ORDER = {
    "token": TOKEN,
    "recordId": "rec-demo",
    "provisionedProductId": "pp-1",
    "provisionedProductName": "name",
    "identity": {"awsAccountId": "123456789012"},
}


class Machines:
    """State machines at ministack, whose function is `notify` with this environment."""

    def __init__(self, ministack: Ministack, name: str, environment: dict[str, str]) -> None:
        self._states = ministack.client("stepfunctions")
        self._name = name
        self.arn = deploy(ministack, "notify", name, environment)

    def run(self, definition: dict[str, Any], order: dict[str, Any]) -> str:
        """Run one to its end; return how that is called."""
        machine = self._states.create_state_machine(
            name=self._name,
            definition=json.dumps(definition),
            roleArn="arn:aws:iam::000000000000:role/states",
        )
        execution = self._states.start_execution(
            stateMachineArn=machine["stateMachineArn"], input=json.dumps(order)
        )
        while True:
            told = self._states.describe_execution(executionArn=execution["executionArn"])
            if told["status"] != "RUNNING":
                return str(told["status"])
            time.sleep(0.2)


def test_reference_engine_reports_through_it(notify: Notify, ministack: Ministack) -> None:
    machines = Machines(ministack, "notify-tre", notify.environment | notify.journal)
    outputs = {"recordOutputs": [{"key": "on", "value": "True", "description": "d"}]}
    assert machines.run(of_reference_engine(machines.arn), ORDER | outputs) == "SUCCEEDED"
    record = notify.sandbox.record("rec-demo")
    assert record["RecordDetail"]["Status"] == "SUCCEEDED"
    assert record["RecordOutputs"] == [
        {"OutputKey": "on", "OutputValue": "True", "Description": "d"}
    ]


def test_failure_reaches_the_person_who_ordered(notify: Notify, ministack: Ministack) -> None:
    machines = Machines(ministack, "notify-failure", notify.environment)
    error = {"Error": "Error running terraform-runner script", "Cause": "\x1b[31mNo such subnet"}
    assert machines.run(of_reference_engine(machines.arn), ORDER | {"errorInfo": error}) == (
        "SUCCEEDED"
    )
    detail = notify.sandbox.record("rec-demo")["RecordDetail"]
    assert detail["RecordErrors"][0]["Description"] == "No such subnet"


def test_throttled_call_is_tried_again_by_the_state_machine(
    notify: Notify, ministack: Ministack
) -> None:
    asked: list[object] = []

    def answer(*request: object) -> tuple[int, bytes]:
        asked.append(request)
        return THROTTLED if len(asked) < 3 else (200, b"{}")

    with endpoint(answer) as url:
        environment = notify.environment | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url}
        machines = Machines(ministack, "notify-throttled", environment)
        order = ORDER | {"recordOutputs": []}
        assert machines.run(of_reference_engine(machines.arn), order) == "SUCCEEDED"
    assert len(asked) == 3


def test_engine_of_hashicorp_reports_through_it(notify: Notify, ministack: Ministack) -> None:
    environment = dict(notify.environment)
    del environment["WORKFLOW_RESULT_OPERATION"]
    machines = Machines(ministack, "notify-hcp", environment)
    assert machines.run(of_hashicorp(machines.arn), ORDER) == "SUCCEEDED"
    assert notify.sandbox.status("rec-demo") == "SUCCEEDED"
