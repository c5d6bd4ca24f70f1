"""CodeBuild on loopback: StartBuild and BatchGetBuilds, limits and refusals. It runs nothing.

What it takes is decided by botocore's model.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from botocore.session import get_session
from botocore.validate import ParamValidator

MODEL = get_session().get_service_model("codebuild")
PROJECT = "engine"

Members = dict[str, Any]


class ServiceError(Exception):
    """An error as AWS answers it."""


@dataclass
class CodeBuild:
    """Builds, at most `limit` at the same time; `error` is what StartBuild answers instead."""

    url: str = ""
    project: str = PROJECT
    limit: int = 60
    error: tuple[str, str] | None = None
    builds: list[Members] = field(default_factory=list)
    started: list[Members] = field(default_factory=list)
    """What StartBuild was asked for."""
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def answer(self, operation: str, members: Members) -> Members:
        shape = MODEL.operation_model(operation).input_shape
        assert shape
        report = ParamValidator().validate(members, shape)
        if report.has_errors():
            raise ServiceError("InvalidInputException", report.generate_report())
        if operation == "BatchGetBuilds":
            found = [build for build in self.builds if build["id"] in members["ids"]]
            return {"builds": found}
        return {"build": self._start(members)}

    def _start(self, members: Members) -> Members:
        if self.error:
            raise ServiceError(*self.error)
        if members["projectName"] != self.project:
            raise ServiceError("ResourceNotFoundException", "Project cannot be found")
        for build in self.builds:
            if build["token"] == members["idempotencyToken"]:  # valid for five minutes
                return build
        if len([b for b in self.builds if b["buildStatus"] == "IN_PROGRESS"]) >= self.limit:
            message = f"Cannot have more than {self.limit} builds in queue for the account"
            raise ServiceError("AccountLimitExceededException", message)
        self.started.append(members)
        build_id = f"{self.project}:{next(self._numbers)}"
        self.builds.append(
            {
                "id": build_id,
                "arn": f"arn:aws:codebuild:us-east-1:123456789012:build/{build_id}",
                "buildStatus": "IN_PROGRESS",
                "startTime": time.time(),
                "environment": {"environmentVariables": members["environmentVariablesOverride"]},
                "phases": [{"phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED"}],
                "logs": {"deepLink": f"https://console.example.com/{build_id}"},
                "token": members["idempotencyToken"],
            }
        )
        return self.builds[-1]

    def records(self) -> list[str]:
        """What builds were started for."""
        return [members["environmentVariablesOverride"][0]["value"] for members in self.started]

    def end(self, number: int, status: str, phase: str = "BUILD", said: str = "") -> Members:
        """End a build; return the event that EventBridge gives of it."""
        build = self.builds[number]
        build["buildStatus"] = status
        build["phases"].append(
            {
                "phaseType": phase,
                "phaseStatus": status,
                "contexts": [{"statusCode": "", "message": said}],
            }
        )
        return {
            "version": "0",
            "detail-type": "CodeBuild Build State Change",
            "source": "aws.codebuild",
            "detail": {
                "build-status": status,
                "project-name": self.project,
                "build-id": build["arn"],
                "additional-information": {
                    "environment": {
                        "environment-variables": build["environment"]["environmentVariables"]
                    },
                    "logs": {"deep-link": build["logs"]["deepLink"]},
                    "phases": [
                        {
                            "phase-type": phase["phaseType"],
                            "phase-status": phase["phaseStatus"],
                            "phase-context": [
                                f"{c['statusCode']}: {c['message']}"
                                for c in phase.get("contexts", [])
                            ],
                        }
                        for phase in build["phases"]
                    ],
                },
            },
        }


@contextmanager
def codebuild_server() -> Iterator[CodeBuild]:
    """Start one; it ends with the context."""
    codebuild = CodeBuild()

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            members = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = 200
            try:
                answer = codebuild.answer(operation, members)
            except ServiceError as error:
                code, message = error.args
                status, answer = 400, {"__type": code, "message": message}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("x-amzn-RequestId", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    codebuild.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield codebuild
    finally:
        server.shutdown()
        server.server_close()
