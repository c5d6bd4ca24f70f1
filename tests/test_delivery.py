"""Where a delivery goes, and where its credentials may come from."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from botocore.exceptions import DataNotFoundError
from conftest import UUID_TOKEN, Program, Sandbox

from workflow_result.delivery import Delivery
from workflow_result.loader import ServiceCatalogLoader

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


@pytest.fixture
def loader() -> ServiceCatalogLoader:
    return ServiceCatalogLoader(botocore.session.Session())


@pytest.mark.parametrize(
    "name",
    [
        "endpoints",
        "partitions",
        "_retry",
        "sdk-default-configuration",
        "servicecatalog/2015-12-10/service-2",
        "servicecatalog/2015-12-10/endpoint-rule-set-1",
        "sts/2011-06-15/service-2",
    ],
)
def test_models_are_read_as_botocore_reads_them(loader: ServiceCatalogLoader, name: str) -> None:
    expected = botocore.loaders.Loader().load_data_with_path(name)
    assert json.dumps(loader.load_data_with_path(name)) == json.dumps(expected)


def test_model_that_is_missing_is_told_as_botocore_tells_it(loader: ServiceCatalogLoader) -> None:
    with pytest.raises(DataNotFoundError):
        loader.load_data("servicecatalog/2015-12-10/nothing")


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        (None, "aws"),
        ("https://servicecatalog.eu-west-1.amazonaws.com", "aws"),
        ("https://vpce-1-servicecatalog.eu-west-1.vpce.amazonaws.com", "aws"),
        ("https://127.example.com", "aws"),
        ("http://127.0.0.1:4510", "sandbox"),
        ("http://localhost:4510", "sandbox"),
        ("http://[::1]:4510", "sandbox"),
        ("http://[", "aws"),
    ],
)
def test_destination_is_a_sandbox_where_the_endpoint_is_on_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str | None, destination: str
) -> None:
    for name in ("AWS_ENDPOINT_URL_SERVICE_CATALOG", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    assert Delivery(None, None, url).destination == destination
    if url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_CATALOG", url)
        assert Delivery(None, None, None).destination == destination


def test_endpoint_that_is_no_url_is_told_and_the_result_is_kept(program: Program) -> None:
    settings = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    outcome = program("notify", "--endpoint-url", "http://[", stdin=REQUEST, **settings)
    assert outcome.code == 75
    assert outcome.stderr.endswith("It is saved: `resend` sends it\n")
