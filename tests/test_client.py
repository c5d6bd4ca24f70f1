"""A client of an AWS service: over which settings it is asked, and with whose credentials."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import CREDENTIALS, endpoint

from workflow_result.account import Account
from workflow_result.client import CallFailed, Client
from workflow_result.undelivered import NotAnAnswer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """That of a machine with credentials."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def config(client: Client) -> Any:
    return client.ask(lambda aws: aws.meta.config)


def test_its_region_goes_before_that_of_the_account(environment: pytest.MonkeyPatch) -> None:
    account = Account("us-east-1", None)
    clients = [Client("dynamodb", account, region) for region in ("eu-west-1", None)]
    regions = [client.ask(lambda aws: aws.meta.region_name) for client in clients]
    assert regions == ["eu-west-1", "us-east-1"]


def test_one_that_is_to_wait_no_longer_tries_once_and_for_two_seconds(
    environment: pytest.MonkeyPatch,
) -> None:
    client = Client("dynamodb", Account("us-east-1", None), read_timeout=10)
    assert config(client).read_timeout == 10
    client.wait_no_longer()
    impatient = config(client)
    assert (impatient.connect_timeout, impatient.read_timeout) == (1, 2)
    assert impatient.retries["total_max_attempts"] == 1


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("sqs", "AWS_ENDPOINT_URL_SQS"),
        ("stepfunctions", "AWS_ENDPOINT_URL_SFN"),
        ("servicecatalog", "AWS_ENDPOINT_URL_SERVICE_CATALOG"),
        ("s3", "AWS_ENDPOINT_URL"),
    ],
)
def test_endpoint_on_this_machine_is_not_asked_through_a_proxy(
    environment: pytest.MonkeyPatch, service: str, variable: str
) -> None:
    environment.setenv("HTTPS_PROXY", "http://192.0.2.1:3128")
    client = Client(service, Account("us-east-1", None))
    assert config(client).proxies is None
    environment.setenv(variable, "http://localhost:4566")
    client.wait_no_longer()
    assert config(client).proxies == {}
    assert config(Client(service, Account("us-east-1", None), None, "http://[::1]:1")).proxies == {}


def test_what_is_wrong_before_the_call_is_told_from_what_is_in_it(
    environment: pytest.MonkeyPatch,
) -> None:
    def call(_: Any) -> None:
        raise ClientError({"Error": {"Code": "NoSuchBucket"}}, "GetObject")

    with pytest.raises(CallFailed) as failed:
        Client("s3", Account("us-east-1", None)).ask(call)
    assert (failed.value.called, failed.value.code) == (True, "NoSuchBucket")
    with pytest.raises(CallFailed) as failed:
        Client("s3", Account("us-east-1", "no-such-profile")).ask(call)
    assert (failed.value.called, failed.value.code) == (False, "")


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("sqs", "receive_message", {"QueueUrl": "q"}),
        ("s3", "get_object", {"Bucket": "b", "Key": "k"}),
        ("codebuild", "batch_get_builds", {"ids": ["project:1"]}),
        ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "v"}}}),
        ("sts", "get_caller_identity", {}),
    ],
)
def test_web_page_is_no_answer(
    environment: pytest.MonkeyPatch,
    service: str,
    operation: str,
    parameters: dict[str, Any],
    status: int,
) -> None:
    page = b"<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>"
    with endpoint(lambda *_: (status, page), request_id=None) as url:
        client = Client(service, Account("us-east-1", None), None, url)
        with pytest.raises(CallFailed) as failed:
            client.ask(lambda aws: getattr(aws, operation)(**parameters))
    assert isinstance(failed.value.error, NotAnAnswer)


class TestStaleCredentials:
    """Others are fetched once, and the call is made again."""

    @staticmethod
    def client(answer: Callable[[int], str]) -> tuple[Callable[[], object], list[Any]]:
        """What calls over clients whose calls end with the error that `answer` gives; the calls."""
        client, calls = Client("s3", Account(None, None)), list[Any]()

        def ready(instead_of: Any = None) -> tuple[Any, Any]:
            return instead_of, "sources"

        def call(instead_of: Any) -> Mapping[str, Any]:
            calls.append(instead_of)
            if code := answer(len(calls)):
                raise ClientError({"Error": {"Code": code}}, "GetItem")
            return {}

        client._ready = ready  # type: ignore[method-assign]
        return lambda: client.ask(call), calls

    def test_have_successors(self) -> None:
        call, calls = self.client(lambda call: "ExpiredTokenException" if call == 1 else "")
        assert call() == {}
        assert calls == [None, "sources"]

    @pytest.mark.parametrize(("code", "tries"), [("ExpiredToken", 2), ("AccessDenied", 1)])
    def test_that_have_none_are_told(self, code: str, tries: int) -> None:
        call, calls = self.client(lambda _: code)
        with pytest.raises(CallFailed) as failed:
            call()
        assert (failed.value.called, failed.value.code, len(calls)) == (True, code, tries)

    def test_whose_successors_cannot_be_had_are_told_as_what_is_before_the_call(self) -> None:
        """AccessDenied, of whoever gives them, is no answer of the service that is asked."""
        client = Client("s3", Account(None, None))

        def ready(instead_of: Any = None) -> tuple[Any, Any]:
            if instead_of:
                raise ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole")
            return None, "sources"

        def call(_: Any) -> None:
            raise ClientError({"Error": {"Code": "ExpiredToken"}}, "GetObject")

        client._ready = ready  # type: ignore[method-assign]
        with pytest.raises(CallFailed) as failed:
            client.ask(call)
        assert (failed.value.called, failed.value.code) == (False, "")

    def test_are_read_anew_from_the_file_that_somebody_has_written_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "credentials"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        signed: list[str] = []

        def write(key: str) -> None:
            file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=b\n")

        def answer(headers: Any, _: bytes) -> tuple[int, bytes]:
            signed.append(str(headers["Authorization"]).partition("Credential=")[2].split("/")[0])
            if signed[-1] == "old":
                return 403, b'{"__type": "ExpiredTokenException", "message": "old"}'
            return 200, b'{"QueueUrl": "u"}'

        write("first")
        with endpoint(answer) as url:
            client = Client("sqs", Account("us-east-1", None), None, url)

            def ask() -> Any:
                return client.ask(lambda sqs: sqs.get_queue_url(QueueName="q"))

            ask()
            write("old")
            client = Client("sqs", Account("us-east-1", None), None, url)
            with pytest.raises(CallFailed):
                ask()
            write("new")
            assert ask()["QueueUrl"] == "u"
        assert signed == ["first", "old", "old", "old", "new"]
