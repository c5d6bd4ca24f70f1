"""The queues of Service Catalog: messages are received, kept invisible, and seen to in the end.

All calls to SQS are made here, in a process of its own beside the worker's: it waits in threads,
and the worker, which forks a process for each order, is to have none.
"""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from workflow_result.account import Account
from workflow_result.client import CallFailed, Client
from workflow_result.problem import ExitCode, Problem, Style, say
from workflow_result.undelivered import ADVICE, NotDelivered, not_delivered

NAMES = tuple(
    f"ServiceCatalogExternal{operation}OperationQueue"
    for operation in ("Provision", "Update", "Terminate")
)
"""What Service Catalog calls them (Administrator Guide, "External engines")."""

VISIBILITY = 300
"""Seconds for which a message that is worked on is invisible, each time."""

LONG_POLL = 10
"""Seconds that SQS waits at the most for a message to come. Whoever hangs up before loses one that
comes meanwhile: it is invisible until its time is over."""

SHORT_PAUSE = 1.0
"""Seconds until a queue that was empty is looked at again, where there is not room to wait."""

_BACKOFF = (1, 2, 5, 10, 20, 30, 60)
"""Seconds between attempts while a queue cannot be asked."""

_ADVICE = ADVICE | {
    "NonExistentQueue": "check --queue, the region and the account",
    "QueueDoesNotExist": "check --queue, the region and the account",
    "EndpointConnection": "check the network and the region",
    "ValueError": "check AWS_ENDPOINT_URL_SQS, AWS_MAX_ATTEMPTS and the other AWS settings",
}


_LASTING = ("NonExistentQueue", "QueueDoesNotExist", "AccessDenied")
"""Parts of error codes that stay until somebody changes what is configured."""


class Action(StrEnum):
    """What is done with a message in the end."""

    DELETE = "delete"
    RETURN = "return"
    """It comes again, after a while that is said."""
    LEAVE = "leave"
    """It comes again when it is not kept invisible any more."""
    DEAD = "dead"
    """It goes to the queue for dead letters, with the reason."""


@dataclass(frozen=True)
class Taken:
    """A message that was received; `sent_at` is in seconds since 1970.

    It `comes_again` where it is not deleted, unless it has been received as often as its queue has
    it: then the queue for dead letters gets it.
    """

    queue: str
    receipt: str = field(repr=False)
    message_id: str
    body: str = field(repr=False)
    sent_at: float
    comes_again: bool


class Done(NamedTuple):
    """What is to be done with the message of this receipt, after `seconds` or for a `reason`."""

    receipt: str
    action: Action
    seconds: int = 0
    reason: str = ""


class Emptied(NamedTuple):
    """All queues were empty, one after the other, while there was room."""


class Queues:
    """The queues with these `urls`, or those with Service Catalog's names.

    With `once` it is told when they are `Emptied`, and no message is waited for.
    """

    def __init__(self, urls: Sequence[str], account: Account, *, once: bool) -> None:
        self._urls = list(urls)
        self._sqs = Client("sqs", account)
        self._once = once
        self._redrive: dict[str, dict[str, Any]] = {}
        self._under_way: dict[str, Taken] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._room = 0
        self._polling = 0
        self._stopping = False
        self._is_over = threading.Event()
        self._empty: set[str] = set()

    def find(self) -> list[str]:
        """Return the URLs of the queues. Raises `Problem` where one cannot be used."""
        for name in NAMES if not self._urls else ():
            self._urls.append(self._asked(name, "get_queue_url", QueueName=name)["QueueUrl"])
        for url in self._urls:
            answer = self._asked(
                url, "get_queue_attributes", QueueUrl=url, AttributeNames=["RedrivePolicy"]
            )
            policy = answer.get("Attributes", {}).get("RedrivePolicy")
            self._redrive[url] = json.loads(policy or "{}")
        return self._urls

    def serve(self, worker: Connection) -> None:
        """Send the worker what is `Taken`, and see to what is `Done`, until it hangs up.

        It sends a number for the orders that it has room for besides, and None where it takes no
        more.
        """
        polling = [threading.Thread(target=self._poll, args=[u, worker]) for u in self._urls]
        for thread in polling:
            thread.start()
        threading.Thread(target=self._keep_invisible, daemon=True).start()
        with suppress(EOFError, OSError):
            while True:
                told = worker.recv()
                if isinstance(told, Done):
                    self._see_to(told)
                elif told is None:
                    self._stop()
                else:
                    with self._changed:
                        self._room += told
                        self._empty.clear()
                        self._changed.notify_all()

        self._stop()
        for thread in polling:
            thread.join()
        self._is_over.set()

    def _stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _poll(self, url: str, worker: Connection) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._polling < self._room or self._stopping)
                if self._stopping:
                    return
                self._polling += 1
                # A place for a message of each queue: else none is kept for one that may be empty.
                has_room = self._room >= len(self._urls)
            taken = None
            try:
                taken = self._receive(url, 1 if self._once else LONG_POLL if has_room else 0)
                if failures:
                    say(f"{url} answers again")
                failures = 0
            except CallFailed as failed:
                if not failures:
                    cause = _cause(failed).cause
                    say(f"warning: {url} cannot be asked: {cause}; trying on", Style.YELLOW)
                failures += 1
            with self._changed:
                self._polling -= 1
                if taken:
                    self._room -= 1
                    self._empty.clear()
                elif not failures:
                    self._empty.add(url)
                is_empty = len(self._empty) == len(self._urls)
                self._changed.notify_all()
                stopping = self._stopping
                with suppress(OSError):
                    if taken and not stopping:
                        worker.send(taken)
                    elif is_empty and self._once:
                        worker.send(Emptied())
                pause = 0.0 if taken or has_room else SHORT_PAUSE
                if failures:
                    pause = _BACKOFF[min(failures, len(_BACKOFF)) - 1]
                self._changed.wait_for(lambda: self._stopping, pause)  # others have its place
            if taken and stopping:
                self._see_to(Done(taken.receipt, Action.RETURN))

    def _receive(self, url: str, patience: int) -> Taken | None:
        def receive(sqs: Any) -> Taken | None:
            answer = sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=1,
                WaitTimeSeconds=patience,
                VisibilityTimeout=VISIBILITY,
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
            for got in answer.get("Messages", []):
                known = got.get("Attributes", {})
                sent = float(known.get("SentTimestamp", 0)) / 1000
                most = int(self._redrive[url].get("maxReceiveCount", sys.maxsize))
                again = int(known.get("ApproximateReceiveCount", 0)) < most
                return Taken(url, got["ReceiptHandle"], got["MessageId"], got["Body"], sent, again)
            return None

        taken = self._sqs.ask(receive)
        if taken:
            with self._lock:
                self._under_way[taken.receipt] = taken
        return taken

    def _keep_invisible(self) -> None:
        while not self._is_over.wait(VISIBILITY / 3):
            with self._lock:
                under_way = list(self._under_way.values())
            for taken in under_way:
                # After twelve hours it comes again all the same; the journal knows its run then.
                self._change_visibility(taken, VISIBILITY)

    def _see_to(self, done: Done) -> None:
        with self._lock:
            taken = self._under_way.pop(done.receipt)
        if done.action == Action.RETURN:
            self._change_visibility(taken, done.seconds)
        elif done.action == Action.DELETE or (
            done.action == Action.DEAD and self._bury(taken, done)
        ):
            self._try(
                taken,
                "deleted",
                lambda sqs: sqs.delete_message(QueueUrl=taken.queue, ReceiptHandle=taken.receipt),
            )

    def _bury(self, taken: Taken, done: Done) -> bool:
        """Send it to the queue for dead letters; whether that came about."""
        arn = str(self._redrive[taken.queue].get("deadLetterTargetArn", ""))
        if not arn:
            say(f"warning: message {taken.message_id} is left: its queue has no dead-letter queue")
            return False

        def send(sqs: Any) -> None:
            _, _, _, _, account, name = arn.split(":")
            url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
            sqs.send_message(
                QueueUrl=url["QueueUrl"],
                MessageBody=taken.body,
                MessageAttributes={
                    "Reason": {"DataType": "String", "StringValue": done.reason[:1000] or "-"}
                },
            )

        return self._try(taken, "sent to the dead-letter queue", send)

    def _change_visibility(self, taken: Taken, seconds: int) -> None:
        self._try(
            taken,
            "kept invisible" if seconds == VISIBILITY else "given back",
            lambda sqs: sqs.change_message_visibility(
                QueueUrl=taken.queue, ReceiptHandle=taken.receipt, VisibilityTimeout=seconds
            ),
        )

    def _try(self, taken: Taken, what: str, call: Callable[[Any], object]) -> bool:
        try:
            self._sqs.ask(call)
        except CallFailed as failed:
            cause = _cause(failed).cause
            say(f"warning: message {taken.message_id} could not be {what}: {cause}", Style.YELLOW)
            return False
        return True

    def _asked(self, queue: str, operation: str, **parameters: Any) -> Any:
        try:
            return self._sqs.ask(lambda sqs: getattr(sqs, operation)(**parameters))
        except CallFailed as failed:
            cause = _cause(failed)
            lasts = cause.setup or any(part in failed.code for part in _LASTING)
            raise Problem(
                ExitCode.SETUP if lasts else ExitCode.NOT_DELIVERED,
                f"the {f'queue {queue}' if failed.called else 'queues'} cannot be used: "
                f"{cause.cause}",
            ) from failed.error


def _cause(failed: CallFailed) -> NotDelivered:
    return not_delivered(failed.error, called=failed.called, advice=_ADVICE)


def attend(queues: Queues, worker: Connection) -> None:
    """What the process beside the worker does: it tells the URLs, or what is wrong, then serves."""
    try:
        worker.send(queues.find())
    except Problem as problem:
        worker.send(problem)
        return
    queues.serve(worker)
