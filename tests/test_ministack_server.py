"""The stand-in for AWS starts, and ends, whatever else is on the machine."""

import socket
import subprocess
from pathlib import Path

import ministack_server
import pytest


def test_each_server_has_what_it_was_given_and_no_more(tmp_path: Path) -> None:
    with ministack_server.ministack_server(tmp_path) as one:
        one.client("sqs").create_queue(QueueName="one")
        (tmp_path / "other").mkdir()
        with ministack_server.ministack_server(tmp_path / "other") as other:
            assert not other.client("sqs").list_queues().get("QueueUrls")
        assert len(one.client("sqs").list_queues()["QueueUrls"]) == 1


def test_what_a_server_started_ends_with_it() -> None:
    process = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo started; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    ministack_server.end(process)
    assert process.stdout.read() == b""  # only once nobody is left who could write


def test_a_port_that_somebody_took_is_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_server = socket.create_server
    with create_server(("127.0.0.1", 0)) as somebody:
        taken = somebody.getsockname()[1]
        answers = iter([somebody.dup()])
        monkeypatch.setattr(
            socket, "create_server", lambda *args: next(answers, None) or create_server(*args)
        )
        with ministack_server.ministack_server(tmp_path) as server:
            assert not server.url.endswith(f":{taken}")
            assert server.client("dynamodb").list_tables()["TableNames"] == []
            assert f"{taken} is already in use" in (tmp_path / "ministack" / "0.log").read_text()


def test_skip_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ministack_server, "PYTHON", tmp_path / "python")
    with (
        pytest.raises(
            pytest.skip.Exception, match=r"^ministack is missing: `make .*` installs it$"
        ),
        ministack_server.ministack_server(tmp_path),
    ):
        pass
