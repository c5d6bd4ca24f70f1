"""The launch role: what Terraform gets of it, and of nothing else."""

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from conftest import endpoint

from workflow_result.engine import launch_role
from workflow_result.engine.artifact import Unfit, fetch
from workflow_result.engine.launch_role import LaunchRole, NotAssumed, account_of
from workflow_result.loader import new_session
from workflow_result.problem import ExitCode, Problem

ROLE = "arn:aws:iam::210987654321:role/launch"


class Sources:
    """The engine's own credentials."""

    def fetch(self) -> tuple[str, str, str]:
        return "ENGINE", "Rz4HtW7oCv15KaEx", "Np9SgU3bDi80FyLm"

    def may_be_asked(self) -> bool:
        return False


class Account:
    """An account whose STS answers with `answer`, a number of minutes for each call."""

    region = "us-east-1"
    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_: None))

    def __init__(self, *minutes: float, error: Exception | None = None) -> None:
        self.minutes = list(minutes)
        self.error = error
        self.calls: list[dict[str, str]] = []

    def client(self, *_: Any) -> tuple[Any, Sources]:
        return self, Sources()

    def new_session(self) -> Any:
        return new_session(None)

    def within_patience(self, work: Callable[[], Any]) -> Any:
        return work()

    def assume_role(self, **parameters: str) -> dict[str, Any]:
        if self.error:
            raise self.error
        self.calls.append(parameters)
        left = timedelta(minutes=self.minutes.pop(0) if len(self.minutes) > 1 else self.minutes[0])
        return {
            "Credentials": {
                "AccessKeyId": f"LAUNCH{len(self.calls)}",
                "SecretAccessKey": "Gc7ZqP0wXk93LrTu",
                "SessionToken": "Vd1MfB8sYh62JnQe",
                "Expiration": datetime.now(UTC) + left,
            }
        }


def new_role(account: Any, role: str = ROLE, session: str = "pp-1-rec-1") -> LaunchRole:
    return LaunchRole(role, session, account)


@pytest.fixture
def role() -> Iterator[LaunchRole]:
    role = new_role(Account(60))
    role.assume()
    yield role
    role.close()


@pytest.mark.parametrize(
    "role",
    ["", "launch", "arn:aws:iam::1234:role/x", "arn:aws:iam::123456789012:user/x", f"{ROLE}\n"],
)
def test_role_that_is_none_is_not_assumed(role: str) -> None:
    with pytest.raises(NotAssumed, match="is no ARN of an IAM role"):
        account_of(role)


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_account_is_that_of_the_role_in_every_partition(partition: str) -> None:
    assert account_of(f"arn:{partition}:iam::210987654321:role/a/launch") == "210987654321"


def test_session_is_named_for_product_and_record() -> None:
    account: Any = Account(60)
    new_role(account, session=f"pp 1/é-{'rec' * 40}").assume()
    (called,) = account.calls
    assert called["RoleArn"] == ROLE
    assert called["RoleSessionName"] == f"pp-1---{'rec' * 40}"[:64]


def test_role_that_may_not_be_assumed_fails_the_order() -> None:
    error = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole")
    with pytest.raises(
        NotAssumed, match=r"could not be assumed: AccessDenied: no\. Check its trust"
    ):
        new_role(Account(error=error)).assume()


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "Throttling", "Message": "slow down"}}, "AssumeRole"),
        EndpointConnectionError(endpoint_url="https://sts.example.com"),
    ],
)
def test_sts_that_does_not_answer_fails_no_order(error: Exception) -> None:
    with pytest.raises(Problem) as problem:
        new_role(Account(error=error)).assume()
    assert problem.value.exit_code == ExitCode.NOT_DELIVERED
    assert "nothing was run" in problem.value.lines[0]


def test_web_page_is_no_artifact(
    role: LaunchRole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(lambda *_: (200, b"<html>"), request_id=None) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises(Unfit, match=r"with the launch role: what answered is not AWS$"):
            fetch(role.client("s3", "us-east-1"), "s3://b/k", tmp_path / "artifact")


def test_terraform_has_the_launch_role_and_the_backend_the_engine_s(
    role: LaunchRole, tmp_path: Path
) -> None:
    environment = role.write(tmp_path)
    text = Path(environment["AWS_CONFIG_FILE"]).read_text()
    assert text == (
        f'[default]\ncredential_process = /bin/cat "{tmp_path}/launch.json"\n'
        f'[profile engine]\ncredential_process = /bin/cat "{tmp_path}/engine.json"\n'
    )
    for name, key in {"launch": "LAUNCH1", "engine": "ENGINE"}.items():
        file = tmp_path / f"{name}.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        keys = json.loads(file.read_text())
        assert (keys["Version"], keys["AccessKeyId"]) == (1, key)
        assert datetime.fromisoformat(keys["Expiration"]) > datetime.now(UTC)


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
        *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        *("AWS_DEFAULT_PROFILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        *("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN"),
    ],
)
def test_terraform_inherits_no_credentials_of_the_engine(
    role: LaunchRole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "the engine's")
    monkeypatch.setenv("TF_TOKEN_app_terraform_io", "kept")
    environment = role.write(tmp_path)
    assert name not in environment
    assert environment["TF_TOKEN_app_terraform_io"] == "kept"
    assert environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert environment["AWS_EC2_METADATA_DISABLED"] == "true"


def test_credentials_are_renewed_while_terraform_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_role, "_RENEWED_EVERY", 0.02)
    account: Any = Account(5, 60)
    role = new_role(account)
    role.assume()
    role.write(tmp_path)
    deadline = time.monotonic() + 20
    while json.loads((tmp_path / "launch.json").read_text())["AccessKeyId"] != "LAUNCH2":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    role.close()
    assert len(account.calls) == 2


def test_renewal_that_fails_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch_role, "_RENEWED_EVERY", 0.02)
    account: Any = Account(5)
    role = new_role(account)
    role.assume()
    account.error = EndpointConnectionError(endpoint_url="https://sts.example.com")
    role.write(tmp_path)
    time.sleep(0.3)  # a dozen attempts
    role.close()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("warning: credentials could not be renewed: the launch role")
