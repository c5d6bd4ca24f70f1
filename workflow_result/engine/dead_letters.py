"""A dead-letter queue: what lies in it is read, and given back at once.

Nothing that is received from here moves on: a queue that counts what it has given away, or that
Service Catalog sends to, is never received from.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from workflow_result.account import Account
from workflow_result.engine.calls import Service, Unanswered
from workflow_result.engine.message import Message, Unusable, read
from workflow_result.problem import ExitCode, Problem

READING = 180
"""Seconds for which messages are invisible while all of them are read, and in which all have to
be."""

HOLDING = 900
"""Seconds for which those of orders that are to be ended are."""

_MARGIN = 60
"""Seconds that one call may take, and what comes after it."""

BATCH = 10
"""Messages in one call, at most: a quota of SQS's."""

_WAIT = 1
"""Seconds, since only for a call that waits all of SQS's servers are asked
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html)."""

_OPERATION_QUEUE = re.compile(r"ServiceCatalog\w*OperationQueue")
_HOST = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True)
class Letter:
    """A message that was read."""

    message_id: str
    receipt: str = field(repr=False)
    content: Message | Unusable


class DeadLetterQueue:
    """The queue at `url`."""

    def __init__(self, url: str, account: Account) -> None:
        self.url = url
        self.name = urlsplit(url).path.rstrip("/").rpartition("/")[2] or url
        host = _HOST.fullmatch(urlsplit(url).hostname or "")
        self._sqs = Service("sqs", account, (host[1] or host[2]) if host else None)
        self._what = f"the dead-letter queue {self.name} cannot be read"
        self._received: dict[str, str] = {}
        self._held_until = 0.0
        self.unreadable: list[str] = []
        """Why a message can be nobody's, one line each, as the queue was read last."""

    def check(self) -> None:
        """Raise `Problem` where it cannot be received from, or must not be."""
        try:
            answer = self._sqs.call(
                self._what, "get_queue_attributes", QueueUrl=self.url, AttributeNames=["All"]
            )
        except Unanswered as problem:
            if "NonExistentQueue" in problem.code or "QueueDoesNotExist" in problem.code:
                line = f"{self._what}: there is none; check --dead-letter-queue {self.url}"
                raise Problem(ExitCode.SETUP, line) from problem
            raise
        why = ""
        if _OPERATION_QUEUE.fullmatch(self.name):
            why = "it is a queue that Service Catalog sends to"
        elif "RedrivePolicy" in answer.get("Attributes", {}):
            why = "it counts how often a message was received, and has a dead-letter queue itself"
        if why:
            raise Problem(ExitCode.SETUP, f"{self._what}: {why}")

    def look(self) -> list[Letter]:
        """Return what lies in it, and give everything back."""
        try:
            return self._read(READING)
        finally:
            self.give_back()

    def hold(self, record_ids: Iterable[str]) -> list[Letter]:
        """Return the messages of these records, which nobody else gets for `HOLDING` seconds."""
        wanted = set(record_ids)
        self._held_until = time.monotonic() + HOLDING - _MARGIN
        held: list[Letter] = []
        try:
            held = [letter for letter in self._read(HOLDING) if letter.content.record_id in wanted]
            return held
        finally:
            kept = {letter.message_id for letter in held}
            self._give_back([id_ for id_ in self._received if id_ not in kept])

    @property
    def holds(self) -> bool:
        """Whether nobody else can have got what was held, for a while yet."""
        return time.monotonic() < self._held_until

    def delete(self, letter: Letter) -> None:
        """Take a message out for good that was held."""
        self._sqs.call(
            f"a message in {self.name} was not deleted",
            "delete_message",
            QueueUrl=self.url,
            ReceiptHandle=letter.receipt,
        )
        self._received.pop(letter.message_id, None)

    def give_back(self) -> None:
        """Make all that was received visible again."""
        self._give_back(list(self._received))

    def _read(self, invisible: int) -> list[Letter]:
        letters: dict[str, Letter] = {}
        self.unreadable = []
        deadline = time.monotonic() + READING - _MARGIN
        while True:
            if time.monotonic() > deadline:
                line = f"{self._what}: it has more messages than can be read in time; delete some"
                raise Problem(ExitCode.NOT_DELIVERED, line)
            answer = self._sqs.call(
                self._what,
                "receive_message",
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                VisibilityTimeout=invisible,
                WaitTimeSeconds=_WAIT,
            )
            found = answer.get("Messages", [])
            if not found:
                return list(letters.values())
            for message in found:
                id_, receipt = message["MessageId"], message["ReceiptHandle"]
                self._received[id_] = receipt
                try:
                    content = read(message["Body"].encode("utf-8", "surrogatepass"))
                except Problem as problem:
                    self.unreadable.append(problem.lines[0])
                else:
                    letters[id_] = Letter(id_, receipt, content)

    def _give_back(self, message_ids: Sequence[str]) -> None:
        for start in range(0, len(message_ids), BATCH):
            batch = message_ids[start : start + BATCH]
            entries = [
                {"Id": str(n), "ReceiptHandle": self._received[id_], "VisibilityTimeout": 0}
                for n, id_ in enumerate(batch)
            ]
            self._sqs.call(
                f"messages in {self.name} come back later",
                "change_message_visibility_batch",
                QueueUrl=self.url,
                Entries=entries,
            )
            for id_ in batch:
                del self._received[id_]
