"""Builds of CodeBuild: how one is asked for, and what became of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflow_result.account import Account
from workflow_result.client import CallFailed, Client
from workflow_result.failure_reason import clean, cut
from workflow_result.undelivered import is_throttled, not_delivered

RECORD_VARIABLE = "WORKFLOW_RESULT_RECORD"
"""The one environment variable that a build gets: the order's RecordId. The console shows it."""

_LONGEST_CONTEXT = 600
"""Characters of what CodeBuild said that go into a FailureReason."""

_BUSY = re.compile(
    "(?i)limit|cannot have more than|throttl|too many|rate exceeded|insufficientfreeaddresses"
)
"""How AWS says that there is no room now, where no code of its own says so. With
`concurrentBuildLimit` StartBuild refuses instead of queueing; a build in a VPC can fail in the
queue since EC2's API was called too often, with VPC_CLIENT_ERROR and EC2's RequestLimitExceeded, or
since its subnets have no address left for now: other builds have them
(https://docs.aws.amazon.com/codebuild/latest/userguide/builds-working.html)."""

_ENDINGS = {
    "SUCCEEDED": "ended without a result of the order",
    "FAILED": "failed",
    "FAULT": "failed by a fault of CodeBuild",
    "STOPPED": "was stopped",
    "TIMED_OUT": "took longer than it may",
}
"""https://docs.aws.amazon.com/codebuild/latest/APIReference/API_Build.html, buildStatus."""


class NotStarted(Exception):
    """No build was started, `cause` says why. `refused`: not for want of room, or for a fault that
    passes, but since something is not set up as it has to be."""

    def __init__(self, cause: str, *, refused: bool) -> None:
        super().__init__(cause)
        self.cause = cause
        self.refused = refused


@dataclass(frozen=True)
class Phase:
    """A phase of a build: its type and status, and what CodeBuild says of it."""

    kind: str
    status: str
    context: str


@dataclass(frozen=True)
class Build:
    """A build as CodeBuild tells of it: its id is `<project>:<uuid>`, as CODEBUILD_BUILD_ID has it.

    `record` is what it was started for, or None; `status` is CodeBuild's buildStatus, `log` the
    address of its log in the console, or None.
    """

    id: str
    record: str | None
    status: str
    phases: tuple[Phase, ...]
    log: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it goes on no more."""
        return self.status in _ENDINGS

    @property
    def found_no_room(self) -> bool:
        """Whether it ended in the queue, and not for a fault: AWS was busy."""
        last = next((phase for phase in reversed(self.phases) if phase.status), None)
        if last is None or last.kind != "QUEUED":
            return False
        return last.status == "TIMED_OUT" or _says_busy(last.context)

    def ending(self) -> str:
        """Return how it ended, in words that go on after "the build"."""
        text = _ENDINGS.get(self.status, f"ended ({self.status})")
        wrong = [phase for phase in self.phases if phase.status not in ("", "SUCCEEDED")]
        if not wrong or self.status == "STOPPED":
            return text
        context = cut(clean(wrong[0].context), _LONGEST_CONTEXT)
        return f"{text}, in its phase {wrong[0].kind}" + (f": {context}" if context else "")


class CodeBuild:
    """CodeBuild's API, for builds of `project`, in the account and region of `account`."""

    def __init__(self, project: str, account: Account) -> None:
        self.project = project
        self._client = Client("codebuild", account, read_timeout=10)

    def start(self, record_id: str, token: str) -> str:
        """Start a build for a record, and return its id. Raises `NotStarted`.

        With the same `token` within five minutes it is the same build. Its log streams are named
        for the record, in the log group that CodeBuild has for the project.
        """
        log = {
            "status": "ENABLED",
            "groupName": f"/aws/codebuild/{self.project}",
            "streamName": record_id,
        }
        answer = self._call(
            "start_build",
            projectName=self.project,
            environmentVariablesOverride=[
                {"name": RECORD_VARIABLE, "value": record_id, "type": "PLAINTEXT"}
            ],
            logsConfigOverride={"cloudWatchLogs": log},
            idempotencyToken=token,
        )
        return str(answer["build"]["id"])

    def look(self, build_id: str) -> Build | None:
        """Return what became of a build, or None where there is none. Raises `NotStarted`."""
        builds = self._call("batch_get_builds", ids=[build_id])["builds"]
        return _of_api(builds[0]) if builds else None

    def _call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        def call(client: Any) -> Mapping[str, Any]:
            answer: Mapping[str, Any] = getattr(client, method)(**parameters)
            return answer

        try:
            return self._client.ask(call)
        except CallFailed as failed:
            cause = not_delivered(failed.error, called=failed.called).cause
            refused = bool(failed.code) and not _is_busy(failed.error)
            raise NotStarted(cause, refused=refused) from failed.error


def _is_busy(error: Any) -> bool:
    """Whether this may be another time, or comes from a fault of AWS that passes."""
    response: Mapping[str, Any] = error.response
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = response["Error"]
    text = f"{said['Code']}: {said.get('Message')}"
    return is_throttled(response) or status >= 500 or _says_busy(text)


def _says_busy(text: str) -> bool:
    # What a policy or a role is called, in its ARN, says nothing.
    return bool(_BUSY.search(re.sub(r"arn:\S+", "", text)))


def of_event(detail: Mapping[str, Any]) -> Build:
    """Return the build that an event of EventBridge, "CodeBuild Build State Change", is of.

    https://docs.aws.amazon.com/codebuild/latest/userguide/sample-build-notifications.html
    """
    more = detail.get("additional-information", {})
    variables = more.get("environment", {}).get("environment-variables", [])
    phases = (
        Phase(
            phase.get("phase-type", ""),
            phase.get("phase-status", ""),
            _context(phase.get("phase-context") or []),
        )
        for phase in more.get("phases", [])
    )
    build_id = detail["build-id"].rpartition(":build/")[2]
    log = more.get("logs", {}).get("deep-link")
    return Build(build_id, _record(variables), detail["build-status"], tuple(phases), log)


def _of_api(build: Mapping[str, Any]) -> Build:
    phases = (
        Phase(
            phase.get("phaseType", ""),
            phase.get("phaseStatus", ""),
            _context(
                f"{context.get('statusCode', '')}: {context.get('message', '')}"
                for context in phase.get("contexts", [])
            ),
        )
        for phase in build.get("phases", [])
    )
    variables = build.get("environment", {}).get("environmentVariables", [])
    log = build.get("logs", {}).get("deepLink")
    return Build(build["id"], _record(variables), build["buildStatus"], tuple(phases), log)


def _record(variables: Any) -> str | None:
    return next((v.get("value") for v in variables if v.get("name") == RECORD_VARIABLE), None)


def _context(texts: Any) -> str:
    """What is said of a phase: ": " stands for nothing."""
    return " ".join(text.strip(" :") for text in texts if text.strip(" :"))
