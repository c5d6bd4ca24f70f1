"""Where the credentials for a delivery may come from."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from conftest import UUID_TOKEN, Program, Sandbox

ASSUMED = """\
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>
"""
REQUEST = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-demo", "Status": "SUCCEEDED"}


@pytest.fixture
def sts() -> Iterator[tuple[str, list[str]]]:
    """The URL of an STS that lets everybody assume every role, and the requests it has had."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(ASSUMED)))
            self.end_headers()
            self.wfile.write(ASSUMED.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def test_credentials_can_come_from_a_role(
    program: Program, sandbox: Sandbox, sts: tuple[str, list[str]]
) -> None:
    url, requests = sts
    (program.home / ".aws").mkdir()
    (program.home / ".aws" / "config").write_text(
        "[profile engine]\nrole_arn = arn:aws:iam::123456789012:role/engine\n"
        "credential_source = Environment\n"
    )
    environment = sandbox.environment | {"AWS_ENDPOINT_URL_STS": url}
    outcome = program("notify", "--profile", "engine", stdin=REQUEST, **environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert sandbox.status() == "SUCCEEDED"
    assert len(requests) == 1
    assert "Action=AssumeRole" in requests[0]
