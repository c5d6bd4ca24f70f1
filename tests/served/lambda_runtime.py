"""A function as AWS Lambda runs it: awslambdaric, and a stub of the runtime API in front of it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

SECONDS = 60
"""How long a call may take."""

TOLD = 300
"""What it is told that it has: the longest time that the module gives a function."""

VERSION = "/2018-06-01/runtime"


@dataclass
class Answer:
    """What a call came to: what the function returned, or its error as the runtime tells it."""

    value: Any
    failed: bool = False


@dataclass
class Function:
    """A running function. It has one call at a time."""

    log: Path
    _events: "queue.Queue[tuple[Any, float]]" = field(default_factory=queue.Queue)
    _answers: "queue.Queue[Answer]" = field(default_factory=queue.Queue)

    def __call__(self, event: Any, seconds: float = TOLD) -> Answer:
        """Call it; it is told that it has so many seconds."""
        self._events.put((event, time.time() + seconds))
        return self._answers.get(timeout=SECONDS)

    @property
    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")


@contextmanager
def function(name: str, home: Path, environment: Mapping[str, str]) -> Iterator[Function]:
    """Start the function `name` of the engine; it ends with the context.

    The test is skipped where the functions' packages are not installed.
    """
    for package in ("awslambdaric", "aws_lambda_powertools"):
        pytest.importorskip(package, reason=f"{package} is missing: the dev group has it")
    log = home / f"{name}-{len(list(home.glob('*.log')))}.log"
    running = Function(log)

    class Api(BaseHTTPRequestHandler):
        """What the runtime asks, and tells."""

        def do_GET(self) -> None:
            event, deadline = running._events.get()
            body = json.dumps(event).encode()
            self.send_response(200)
            self.send_header(
                "Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
            )
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000)))
            arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", arn)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            running._answers.put(Answer(json.loads(body), not self.path.endswith("/response")))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", f"workflow_result.engine.functions.{name}"],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={
                **environment,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": name,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
                "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
                "AWS_LAMBDA_LOG_STREAM_NAME": "1",
            },
        )
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
