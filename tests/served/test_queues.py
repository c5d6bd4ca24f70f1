"""The queues: what is worked on stays invisible, and one that cannot be asked is asked again."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

import pytest
from conftest import CREDENTIALS, endpoint
from ministack_server import Ministack

from workflow_result.account import Account
from workflow_result.engine import queues as module
from workflow_result.engine.queues import Action, Done, Emptied, Queues, Taken

PATIENCE = 60
REFUSED = 400, json.dumps({"__type": "AccessDenied", "message": "no"}).encode()
EMPTY = 200, b"{}"


def message(number: int) -> tuple[int, bytes]:
    told = {"MessageId": f"m{number}", "ReceiptHandle": f"r{number}", "Body": "{}"}
    return 200, json.dumps({"Messages": [told]}).encode()


@contextmanager
def serving(
    url: str, *queues: str, room: int = 1, once: bool = False
) -> Iterator[tuple[Connection, Thread]]:
    """Serve these queues at `url`, for as many orders; yields the worker's end, and who serves."""
    with pytest.MonkeyPatch.context() as patch:
        variables = {"AWS_ENDPOINT_URL_SQS": url, "AWS_MAX_ATTEMPTS": "1"}
        for name, value in (CREDENTIALS | variables).items():
            patch.setenv(name, value)
        ours, theirs = Pipe()
        served = Queues(queues, Account(None, None), once=once)
        served._redrive = {queue: {} for queue in queues}  # as `find` finds it
        thread = Thread(target=served.serve, args=[theirs])
        thread.start()
        ours.send(room)
        try:
            yield ours, thread
        finally:
            ours.close()
            theirs.close()
            thread.join(PATIENCE)


def told(worker: Connection) -> Any:
    assert worker.poll(PATIENCE)
    return worker.recv()


def until(happens: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_message_that_is_worked_on_stays_invisible_and_one_that_is_left_does_not(
    ministack: Ministack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VISIBILITY", 3)
    sqs = ministack.client("sqs")
    url = sqs.create_queue(QueueName="kept-invisible")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="it")

    def received(seconds: int) -> list[str]:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=seconds)
        return [got["Body"] for got in answer.get("Messages", [])]

    with serving(ministack.url, url) as (worker, _):
        taken = told(worker)
        assert received(2 * module.VISIBILITY) == []
        worker.send(Done(taken.receipt, Action.LEAVE))
        assert received(20) == ["it"]


def test_queue_that_cannot_be_asked_is_asked_until_it_answers_and_both_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_BACKOFF", (0.01,))
    answers = iter([REFUSED, (500, b""), REFUSED, EMPTY, EMPTY, message(1)])
    with endpoint(lambda *_: next(answers)) as url, serving(url, "the queue") as (worker, _):
        assert told(worker).message_id == "m1"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("warning: the queue cannot be asked: AccessDenied: no; allow ")
    assert lines[0].endswith("; trying on")
    assert lines[1] == "the queue answers again"


def test_queue_that_cannot_be_asked_takes_no_room_and_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BACKOFF", (3600,))
    monkeypatch.setattr(module, "SHORT_PAUSE", 0.0)
    asked: list[str] = []

    def answer(_: Any, body: bytes) -> tuple[int, bytes]:
        asked.append(json.loads(body)["QueueUrl"])
        return REFUSED if asked[-1] == "refused" else message(len(asked))

    with endpoint(answer) as url, serving(url, "refused", "good") as (worker, thread):
        while "refused" not in asked:
            assert isinstance(told(worker), Taken)
            worker.send(1)
        for _ in range(2):  # one may have been on its way
            assert isinstance(told(worker), Taken)
            worker.send(1)
        worker.send(None)
        until(lambda: not worker.poll(0) or worker.recv())
        worker.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert asked.count("refused") == 1


def test_web_page_is_no_empty_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKOFF", (0.01,))
    calls: list[int] = []

    def answer(*_: Any) -> tuple[int, bytes]:
        calls.append(1)
        return 200, b"<html>"

    with (
        endpoint(answer, request_id=None) as url,
        serving(url, "q", once=True) as (worker, _),
    ):
        until(lambda: len(calls) >= 3)
        assert not worker.poll(0)


def test_each_queue_is_asked_where_there_is_room_for_one_order() -> None:
    with endpoint(lambda *_: EMPTY) as url, serving(url, "a", "b", once=True) as (worker, _):
        assert isinstance(told(worker), Emptied)
