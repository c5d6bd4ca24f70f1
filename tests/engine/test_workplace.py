"""The engine's workplace, where it cannot prepare an order."""

import errno
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest

from workflow_result.account import Account
from workflow_result.engine import workplace
from workflow_result.engine.message import Message
from workflow_result.engine.order import StopRequests
from workflow_result.engine.program import Failed
from workflow_result.engine.workplace import EngineWorkplace, Facilities
from workflow_result.problem import ExitCode, Problem


class Bucket:
    def __init__(self, name: str, _: Any) -> None:
        self.name = name

    def put(self, *_: Any, **__: Any) -> str:
        return "etag"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> EngineWorkplace:
    monkeypatch.setattr(workplace, "StateBucket", Bucket)
    facilities = Facilities("state", Account("us-east-1", None), "terraform", None, 0, 60)
    return EngineWorkplace(facilities, lambda _: False)


def message(**members: Any) -> Message:
    given = {
        "operation": "provision",
        "record_id": "rec-1",
        "provisioned_product_id": "pp-1",
        "parameters": {},
        "tags": {},
        "token": "965d4597-3088-41ae-87dc-3498daf1d69d",
        "launch_role": "arn:aws:iam::210987654321:role/launch",
        "artifact": "s3://artifacts/v1",
    }
    return Message(**(given | members))


def prepare(place: EngineWorkplace, given: Message) -> None:
    with place.prepared(given, StopRequests()):
        pass


def test_message_without_a_launch_role_is_failed(place: EngineWorkplace) -> None:
    with pytest.raises(Failed, match="add a launch constraint"):
        prepare(place, message(launch_role=None))


def test_full_disk_fails_no_order(
    place: EngineWorkplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next attempt, or another machine, may have room."""

    def full(**_: str) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(Problem) as problem:
        prepare(place, message())
    assert problem.value.exit_code == ExitCode.NOT_DELIVERED
    assert problem.value.lines == (
        "rec-1: the order cannot be prepared: No space left on device; nothing was run",
    )
