"""The calls to DynamoDB: over which client, and what is heard in their answers."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from conftest import CREDENTIALS
from ministack_server import Ministack
from tables import new_table

from workflow_result.account import Account
from workflow_result.journal.store import JournalProblem
from workflow_result.journal.table import Table


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """That of a machine with credentials."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def client_of(table: Table) -> Any:
    return table._ready()[0]


def test_region_of_the_table_goes_before_that_of_the_account(
    environment: pytest.MonkeyPatch,
) -> None:
    account = Account("us-east-1", None)
    regions = [
        client_of(Table("t", region, account)).meta.region_name for region in ("eu-west-1", None)
    ]
    assert regions == ["eu-west-1", "us-east-1"]


def test_client_that_is_to_wait_no_longer_tries_once_and_for_two_seconds(
    environment: pytest.MonkeyPatch,
) -> None:
    table = Table("t", "us-east-1", Account(None, None))
    assert client_of(table).meta.config.read_timeout == 10
    table.wait_no_longer()
    config = client_of(table).meta.config
    assert (config.connect_timeout, config.read_timeout) == (1, 2)
    assert config.retries["total_max_attempts"] == 1


def test_table_on_this_machine_is_not_asked_through_a_proxy(
    environment: pytest.MonkeyPatch, ministack: Ministack
) -> None:
    shared = new_table(ministack)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy"):
        environment.setenv(name, "http://127.0.0.1:1")
    environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", ministack.url)
    table = Table(shared.name, "us-east-1", Account(None, None))
    table.wait_no_longer()
    assert table.call("get_item", Key={"record": {"S": "aws#rec-1"}})


class TestStaleCredentials:
    """Others are fetched once, and the call is made again."""

    @staticmethod
    def table(answer: Callable[[int], str]) -> tuple[Table, list[Any]]:
        """One with clients whose calls end with the error that `answer` gives; and the calls."""
        table, calls = Table("t", None, Account(None, None)), list[Any]()

        class Client:
            def __init__(self, instead_of: Any) -> None:
                self.instead_of = instead_of

            def get_item(self, **_: object) -> Mapping[str, Any]:
                calls.append(self.instead_of)
                headers = {"HTTPHeaders": {"x-amzn-requestid": "1"}}
                response: Any = {"ResponseMetadata": headers}
                if code := answer(len(calls)):
                    raise ClientError(response | {"Error": {"Code": code}}, "GetItem")
                return cast("Mapping[str, Any]", response)

        def ready(instead_of: Any = None) -> tuple[Any, Any]:
            return Client(instead_of), "sources"

        table._ready = ready  # type: ignore[method-assign]
        return table, calls

    def test_have_successors(self) -> None:
        table, calls = self.table(lambda call: "ExpiredTokenException" if call == 1 else "")
        assert table.call("get_item")
        assert calls == [None, "sources"]

    def test_that_have_none_are_told(self) -> None:
        table, calls = self.table(lambda _: "ExpiredTokenException")
        with pytest.raises(JournalProblem, match="renew the AWS credentials"):
            table.call("get_item")
        assert len(calls) == 2

    def test_are_not_what_denies_access(self) -> None:
        table, calls = self.table(lambda _: "AccessDeniedException")
        with pytest.raises(JournalProblem, match="allow this action"):
            table.call("get_item")
        assert len(calls) == 1
