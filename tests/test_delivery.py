"""Where a delivery goes, and where its credentials may come from."""

import json
import os
import signal
from email.message import Message
from typing import Any

import boto3
import botocore.loaders
import botocore.session
import pytest
from botocore.exceptions import DataNotFoundError
from conftest import CREDENTIALS, UUID_TOKEN, Program, Sandbox, endpoint

from workflow_result.delivery import Delivery
from workflow_result.loader import ServiceCatalogLoader

ASSUMED = """\
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>
"""
REQUEST = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-demo", "Status": "SUCCEEDED"}


def test_credentials_can_come_from_a_role(program: Program, sandbox: Sandbox) -> None:
    asked: list[str] = []

    def assume(_: Message, body: bytes) -> tuple[int, bytes]:
        asked.append(body.decode())
        return 200, ASSUMED.encode()

    (program.home / ".aws").mkdir()
    (program.home / ".aws" / "config").write_text(
        "[profile engine]\nrole_arn = arn:aws:iam::123456789012:role/engine\n"
        "credential_source = Environment\n"
    )
    with endpoint(assume) as sts:
        environment = sandbox.environment | {"AWS_ENDPOINT_URL_STS": sts}
        outcome = program("notify", "--profile", "engine", stdin=REQUEST, **environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert sandbox.status() == "SUCCEEDED"
    assert len(asked) == 1
    assert "Action=AssumeRole" in asked[0]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"__type": "AccessDeniedException"}'),
        (200, b'{"message": "Forbidden"}'),
        (200, b"<p>Log in first</p>"),
        (200, b"[]"),
        (204, b""),
        (403, b"[]"),
        (403, b"null"),
        (400, b'{"__type": 5}'),
        (400, b'{"__type": "ThrottlingException", "message": "half \\ud83d"}'),
    ],
)
def test_answer_that_is_none_of_aws_leaves_the_result_owed(
    program: Program, status: int, body: bytes
) -> None:
    with endpoint(lambda *_: (status, body)) as url:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": url, "AWS_MAX_ATTEMPTS": "1"}
        outcome = program("notify", stdin=REQUEST, **environment)
    assert outcome.code == 75
    assert outcome.stderr.endswith(". It is saved: `resend` sends it\n")
    assert len(outcome.lines) == 1


def test_answer_that_botocore_trips_over_may_be_a_success(program: Program) -> None:
    with endpoint(lambda *_: (403, b"[]")) as url:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": url, "AWS_MAX_ATTEMPTS": "1"}
        outcome = program("notify", stdin=REQUEST, **environment)
    assert outcome.stderr.startswith("rec-demo: not known to be reported: ")


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_empty_answer_without_the_request_id_of_aws_leaves_the_result_owed(
    program: Program, body: bytes
) -> None:
    """What stands between here and AWS may have its own idea of an empty answer."""
    with endpoint(lambda *_: (200, body), request_id=None) as url:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": url, "AWS_MAX_ATTEMPTS": "1"}
        outcome = program("notify", stdin=REQUEST, **environment)
        listed = json.loads(program("pending", "--json", **environment).stdout)
    assert outcome.code == 75
    assert outcome.lines == [
        f"rec-demo: not known to be reported: what answered at {url}/ is not AWS, or broke off. "
        "It is saved: `resend` sends it"
    ]
    assert [entry["state"] for entry in listed] == ["owed"]


@pytest.mark.parametrize(("body", "length"), [(b"{}", 20), (b"", 2)])
def test_answer_that_breaks_off_is_no_success(program: Program, body: bytes, length: int) -> None:
    """Also where what has come of it is an answer by itself."""
    with endpoint(lambda *_: (200, body), length) as url:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": url, "AWS_MAX_ATTEMPTS": "1"}
        outcome = program("notify", stdin=REQUEST, **environment)
    assert outcome.code == 75
    assert outcome.stderr.startswith("rec-demo: not known to be reported: ")


def test_long_error_is_cut_and_what_to_do_about_it_is_not(program: Program) -> None:
    error = {"__type": "AccessDeniedException", "message": "x" * 1000}
    with endpoint(lambda *_: (400, json.dumps(error).encode())) as url:
        outcome = program("notify", stdin=REQUEST, **CREDENTIALS, AWS_ENDPOINT_URL=url)
    cause = "AccessDeniedException: ".ljust(399, "x") + "…"
    assert outcome.stderr.startswith(f"rec-demo: not reported: {cause}; allow this action in ")


def test_client_waits_for_seconds_and_keeps_a_connection_for_each_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    new_client = boto3.session.Session.client

    def remember(*arguments: Any, **settings: Any) -> Any:
        made.append(new_client(*arguments, **settings))
        return made[-1]

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3.session.Session, "client", remember)
    Delivery("us-east-1", None, "http://127.0.0.1:1", at_once=4).connect()
    config = made[0].meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 10)
    assert config.max_pool_connections == 4


@pytest.mark.parametrize("request_id", ["x-amzn-RequestId", "X-Amzn-Requestid", "x-amz-request-id"])
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_empty_answer_is_a_success(program: Program, body: bytes, request_id: str) -> None:
    """Empty is what the AWS API reference says; an empty object what AWS's JSON protocol has."""
    with endpoint(lambda *_: (200, body), request_id=request_id) as url:
        outcome = program("notify", stdin=REQUEST, **CREDENTIALS, AWS_ENDPOINT_URL=url)
    assert (outcome.code, outcome.stderr) == (0, "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AWS_REGION": b"eu-west-1\xa0"}, "eu-west-1"),
        ({"AWS_PROFILE": b"pr\xe9"}, "pr"),
        ({"AWS_ENDPOINT_URL": b"http://\xff"}, "http://"),
        ({"AWS_CONFIG_FILE": b"config"}, "TypeError in botocore"),
        ({"AWS_SESSION_TOKEN": b"IQoJb3JpZ2luX2VjEJr\n"}, "(AWS_SESSION_TOKEN)"),
    ],
)
def test_setting_that_cannot_be_used_leaves_the_result_owed(
    program: Program, settings: dict[str, bytes], said: str
) -> None:
    (program.home / "config").write_text("[default]\nregion =\n  nested = 1\n")
    environment = CREDENTIALS | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    if "AWS_CONFIG_FILE" in settings:
        del environment["AWS_REGION"]
    environment |= {name: os.fsdecode(value) for name, value in settings.items()}
    outcome = program("notify", stdin=REQUEST, **environment)
    assert outcome.code == 75, outcome.stderr
    assert outcome.stderr.startswith("rec-demo: not reported: ")
    assert said in outcome.stderr
    assert "IQoJb3" not in outcome.stderr
    assert outcome.stderr.endswith(". It is saved: `resend` sends it\n")
    assert program("pending").code == 0


@pytest.fixture
def loader() -> ServiceCatalogLoader:
    folders = botocore.session.Session().get_component("data_loader").search_paths
    return ServiceCatalogLoader(folders)


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
        ("http://[::ffff:127.0.0.1]:4510", "sandbox"),
        ("http://localhost.:4510", "sandbox"),
        ("http://aws.localhost:4510", "sandbox"),
        ("http://127.1:4510", "sandbox"),
        ("http://0.0.0.0:4510", "sandbox"),
        ("http://10.0.0.1:4510", "aws"),
        ("127.0.0.1:4510", "sandbox"),
        ("localhost:4510", "sandbox"),
        ("//[::1]:4510", "sandbox"),
        ("http:/127.0.0.1:4510", "sandbox"),
        ("10.0.0.1:4510", "aws"),
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


@pytest.mark.parametrize(
    ("lines", "variables", "destination"),
    [
        ("endpoint_url = http://127.0.0.1:1", {}, "sandbox"),
        (
            "services = local\n[services local]\nservice_catalog =\n  endpoint_url = X",
            {},
            "sandbox",
        ),
        ("endpoint_url = https://example.com", {}, "aws"),
        ("endpoint_url = X", {"AWS_ENDPOINT_URL": "https://example.com"}, "aws"),
        ("endpoint_url = https://example.com", {"AWS_ENDPOINT_URL": "X"}, "sandbox"),
        ("", {"AWS_ENDPOINT_URL": "X", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "aws"),
        ("ignore_configured_endpoint_urls = true", {"AWS_ENDPOINT_URL": "X"}, "aws"),
    ],
)
def test_result_that_is_owed_is_meant_for_the_endpoint_that_is_configured(
    program: Program, lines: str, variables: dict[str, str], destination: str
) -> None:
    here = "http://127.0.0.1:1"
    config = "[default]\nregion = us-east-1\ncredential_process = false\n"
    (program.home / "config").write_text(config + lines.replace("X", here))
    environment = {
        "AWS_CONFIG_FILE": "$HOME/config",  # which the AWS SDKs expand
        "AWS_MAX_ATTEMPTS": "1",
        "HTTPS_PROXY": here,  # AWS itself is never asked
        **{name: value.replace("X", here) for name, value in variables.items()},
    }
    assert program("notify", stdin=REQUEST, **environment).code == 75
    (entry,) = json.loads(program("pending", "--json", **environment).stdout)
    assert entry["destination"] == destination


def test_result_is_on_disk_before_credentials_are_asked_for(program: Program) -> None:
    """Where the region is in the profile, too; a `credential_process` may take its time."""
    deadly = program.home / "deadly"
    deadly.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    deadly.chmod(0o700)
    config = program.home / "config"
    config.write_text(f"[default]\nregion = eu-west-1\ncredential_process = {deadly}\n")
    outcome = program("notify", stdin=REQUEST, AWS_CONFIG_FILE=str(config))
    assert outcome.code == -signal.SIGKILL
    (entry,) = json.loads(program("pending", "--json").stdout)
    assert (entry["state"], entry["region"]) == ("owed", "eu-west-1")


def test_endpoint_that_is_no_url_is_told_and_the_result_is_kept(program: Program) -> None:
    settings = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    outcome = program("notify", "--endpoint-url", "http://[", stdin=REQUEST, **settings)
    assert outcome.code == 75
    assert outcome.stderr.endswith("It is saved: `resend` sends it\n")


def test_endpoint_on_this_machine_is_not_asked_through_a_proxy(
    program: Program, sandbox: Sandbox
) -> None:
    asked: list[str] = []

    def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
        asked.append(headers["Host"])
        return 200, b"{}"

    with endpoint(answer) as proxy:
        proxies = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "http_proxy": proxy}
        outcome = program("notify", stdin=REQUEST, **sandbox.environment, **proxies)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert sandbox.status() == "SUCCEEDED"
    assert asked == []


def test_endpoint_elsewhere_is_asked_through_the_proxy(program: Program) -> None:
    asked: list[str] = []

    def answer(headers: Message, _: bytes) -> tuple[int, bytes]:
        asked.append(headers["Host"])
        return 200, b"{}"

    with endpoint(answer) as proxy:
        environment = CREDENTIALS | {"AWS_ENDPOINT_URL": "http://example.com", "HTTP_PROXY": proxy}
        outcome = program("notify", stdin=REQUEST, **environment)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert asked == ["example.com"]
