"""The calls to DynamoDB: over which client, and what is heard in their answers."""

import pytest
from conftest import CREDENTIALS
from ministack_server import Ministack
from tables import new_table

from workflow_result.account import Account
from workflow_result.journal.table import Table


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """That of a machine with credentials."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


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
