"""Where the credentials for a delivery may come from."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
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
def sts_url() -> Iterator[str]:
    """An STS that lets everybody assume every role."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(ASSUMED)))
            self.end_headers()
            self.wfile.write(ASSUMED.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_credentials_can_come_from_a_role(
    program: Program, sandbox: Sandbox, sts_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile engine]\nrole_arn = arn:aws:iam::123456789012:role/engine\n"
        "credential_source = Environment\n"
    )
    environment = sandbox.environment | {
        "AWS_CONFIG_FILE": str(config),
        "AWS_PROFILE": "engine",
        "AWS_ENDPOINT_URL_STS": sts_url,
    }
    outcome = program("notify", stdin=REQUEST, **environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert sandbox.status() == "SUCCEEDED"
