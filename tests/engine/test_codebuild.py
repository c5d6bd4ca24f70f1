"""Builds of CodeBuild: what is asked, what its answers and events mean."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from botocore.session import get_session
from botocore.validate import validate_parameters

from workflow_result.account import Account
from workflow_result.engine.codebuild import Build, CodeBuild, NotStarted, Phase, of_event

MODEL = get_session().get_service_model("codebuild")
LOG = "https://console.aws.amazon.com/cloudwatch/home?region=us-gov-west-1#logEvent:group=g"
ARN = "arn:aws-us-gov:codebuild:us-gov-west-1:123456789012:build/engine:8745a7a9"


def event(status: str, *phases: tuple[str, str, str]) -> dict[str, Any]:
    """The detail of an event as CodeBuild sends it."""
    return {
        "build-status": status,
        "project-name": "engine",
        "build-id": ARN,
        "additional-information": {
            "environment": {
                "environment-variables": [
                    {"name": "OTHER", "type": "PLAINTEXT", "value": "x"},
                    {"name": "WORKFLOW_RESULT_RECORD", "type": "PLAINTEXT", "value": "rec-1"},
                ]
            },
            "phases": [
                {"phase-type": kind, "phase-status": state, "phase-context": [f": {said}"]}
                for kind, state, said in phases
            ]
            + [{"phase-type": "COMPLETED", "start-time": "Sep 1, 2017 4:14:21 PM"}],
            "logs": {"group-name": "g", "stream-name": "rec-1/8745a7a9", "deep-link": LOG},
        },
    }


class Client:
    """Answers as botocore's model has it, or with an error."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, method: str) -> Any:
        name = {"start_build": "StartBuild", "batch_get_builds": "BatchGetBuilds"}[method]

        def call(**parameters: Any) -> dict[str, Any]:
            shape = MODEL.operation_model(name).input_shape
            assert shape
            validate_parameters(parameters, shape)
            self.calls.append(parameters)
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


def codebuild(answer: dict[str, Any] | Exception) -> tuple[CodeBuild, Client]:
    builds, client = CodeBuild("engine", Account("us-east-1", None)), Client(answer)
    builds._client._ready = lambda instead_of=None: (client, cast("Any", None))  # type: ignore[method-assign]
    return builds, client


def error(code: str, message: str = "No", status: int = 400) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "StartBuild")


def test_build_gets_the_record_and_nothing_else() -> None:
    builds, client = codebuild({"build": {"id": "engine:1"}})
    assert builds.start("rec-1", "t" * 64) == "engine:1"
    (call,) = client.calls
    assert call["environmentVariablesOverride"] == [
        {"name": "WORKFLOW_RESULT_RECORD", "value": "rec-1", "type": "PLAINTEXT"}
    ]
    assert call["logsConfigOverride"]["cloudWatchLogs"] == {
        "status": "ENABLED",
        "groupName": "/aws/codebuild/engine",
        "streamName": "rec-1",
    }
    assert (call["projectName"], call["idempotencyToken"]) == ("engine", "t" * 64)


@pytest.mark.parametrize(
    ("raised", "refused"),
    [
        (error("AccountLimitExceededException", "Cannot have more than 1 builds in queue"), False),
        (error("InvalidInputException", "The concurrent build limit is reached"), False),
        (error("ThrottlingException", "Rate exceeded"), False),
        (error("InternalFailure", status=500), False),
        (error("ServiceUnavailableException", status=503), False),
        (ConnectTimeoutError(endpoint_url="https://codebuild"), False),
        (
            error("AccessDeniedException", "is not authorized to perform: codebuild:StartBuild"),
            True,
        ),
        (
            error(
                "AccessDeniedException",
                "is not authorized to perform: codebuild:StartBuild with an explicit deny in a "
                "permissions boundary: arn:aws:iam::123456789012:policy/limits",
            ),
            True,
        ),
        (error("ResourceNotFoundException", "Project cannot be found"), True),
        (error("InvalidInputException", "Invalid project source"), True),
    ],
)
def test_want_of_room_is_told_from_what_has_to_be_set_up(raised: Exception, refused: bool) -> None:
    builds, _ = codebuild(raised)
    with pytest.raises(NotStarted) as caught:
        builds.start("rec-1", "t")
    assert caught.value.refused == refused
    assert caught.value.cause


def test_build_that_goes_on_is_found() -> None:
    answer = {
        "id": "engine:1",
        "buildStatus": "IN_PROGRESS",
        "environment": {"environmentVariables": [{"name": "WORKFLOW_RESULT_RECORD", "value": "r"}]},
        "phases": [{"phaseType": "QUEUED", "startTime": datetime.now(UTC)}],
    }
    builds, client = codebuild({"builds": [answer]})
    assert builds.look("engine:1") == Build(
        "engine:1", "r", "IN_PROGRESS", (Phase("QUEUED", "", ""),)
    )
    assert client.calls == [{"ids": ["engine:1"]}]


def test_build_that_is_not_there_is_none() -> None:
    builds, _ = codebuild({"builds": [], "buildsNotFound": ["engine:1"]})
    assert builds.look("engine:1") is None


def test_answer_of_the_api_and_event_say_the_same() -> None:
    answer = {
        "id": "engine:8745a7a9",
        "buildStatus": "FAILED",
        "environment": {
            "environmentVariables": [{"name": "WORKFLOW_RESULT_RECORD", "value": "rec-1"}]
        },
        "phases": [
            {
                "phaseType": "BUILD",
                "phaseStatus": "FAILED",
                "contexts": [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": "exit status 1"}],
            },
            {"phaseType": "COMPLETED"},
        ],
        "logs": {"groupName": "g", "streamName": "rec-1/8745a7a9", "deepLink": LOG},
    }
    builds, _ = codebuild({"builds": [answer]})
    said = "COMMAND_EXECUTION_ERROR: exit status 1"
    assert builds.look("engine:8745a7a9") == of_event(event("FAILED", ("BUILD", "FAILED", said)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (event("STOPPED", ("BUILD", "STOPPED", "")), "was stopped"),
        (event("SUCCEEDED", ("BUILD", "SUCCEEDED", "")), "ended without a result of the order"),
        (
            event("TIMED_OUT", ("BUILD", "TIMED_OUT", "")),
            "took longer than it may, in its phase BUILD",
        ),
        (
            event("FAILED", ("INSTALL", "FAILED", "COMMAND_EXECUTION_ERROR: exit status 78")),
            "failed, in its phase INSTALL: COMMAND_EXECUTION_ERROR: exit status 78",
        ),
        (
            event("FAULT", ("PROVISIONING", "FAULT", "INTERNAL_SERVICE_ERROR: \x1b[1mNo")),
            "failed by a fault of CodeBuild, in its phase PROVISIONING: INTERNAL_SERVICE_ERROR: No",
        ),
    ],
)
def test_ending_is_told_in_words(build: dict[str, Any], words: str) -> None:
    assert of_event(build).ending() == words


def test_what_codebuild_says_is_cut() -> None:
    assert len(of_event(event("FAILED", ("BUILD", "FAILED", "word " * 999))).ending()) < 700


@pytest.mark.parametrize(
    ("build", "no_room"),
    [
        (event("TIMED_OUT", ("SUBMITTED", "SUCCEEDED", ""), ("QUEUED", "TIMED_OUT", "")), True),
        (
            event(
                "FAILED",
                (
                    "QUEUED",
                    "CLIENT_ERROR",
                    "VPC_CLIENT_ERROR: Unexpected EC2 error: RequestLimitExceeded",
                ),
            ),
            True,
        ),
        (
            event(
                "FAILED",
                (
                    "QUEUED",
                    "CLIENT_ERROR",
                    "VPC_CLIENT_ERROR: Unexpected EC2 error: InsufficientFreeAddressesInSubnet",
                ),
            ),
            True,
        ),
        (event("FAILED", ("QUEUED", "CLIENT_ERROR", "VPC_CLIENT_ERROR: no such subnet")), False),
        (event("STOPPED", ("QUEUED", "STOPPED", "")), False),
        (event("TIMED_OUT", ("QUEUED", "SUCCEEDED", ""), ("BUILD", "TIMED_OUT", "")), False),
        (event("FAILED"), False),
    ],
)
def test_build_that_found_no_room_is_told_from_one_that_failed(
    build: dict[str, Any], no_room: bool
) -> None:
    assert of_event(build).found_no_room == no_room
