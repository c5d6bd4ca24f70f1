"""What `rescue` asks of AWS, answered as a test wants it: what no stand-in can be brought to do.

One endpoint for Service Catalog, Step Functions and SQS, with a hook before each answer.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from itertools import count
from typing import Any

from conftest import CREDENTIALS, endpoint
from engine_cli import MESSAGE

MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:engine"
PLACED = 1_700_000_000
"""When each order was placed, in seconds since 1970."""

ENDED = {
    "status": "FAILED",
    "startDate": PLACED,
    "stopDate": PLACED + 60,
    "error": "Lambda.Unknown",
}


class Refusal(Exception):
    """An error as AWS answers it."""

    def __init__(self, code: str, message: str = "no") -> None:
        super().__init__(code)
        self.body = {"__type": code, "message": message}


class SimulatedEngine:
    """One order or more, and what is left of them."""

    def __init__(self, *record_ids: str) -> None:
        self.statuses = dict.fromkeys(record_ids or ["rec-demo"], "IN_PROGRESS")
        self.under_change: list[str] = []
        """Those that are though they have ended."""
        self.executions: dict[str, dict[str, Any]] = {}
        """By record: what DescribeExecution answers."""
        self.letters: dict[str, str] = {}
        self.hidden: set[str] = set()
        self.queue_attributes: dict[str, str] = {}
        self.machine: dict[str, Any] = {"type": "STANDARD"}
        self.refuses: dict[str, Refusal] = {}
        """By operation."""
        self.before: Callable[[str], object] = lambda _: None
        """Called with the operation, before it is answered."""
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        """Operations, what they were called with, and the access key that signed it."""
        self._numbers = count()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve it; yields the URL."""
        with endpoint(self._answer) as url:
            self.url = url
            yield url

    @property
    def environment(self) -> dict[str, str]:
        return CREDENTIALS | {"AWS_ENDPOINT_URL": self.url, "AWS_MAX_ATTEMPTS": "1"}

    @property
    def queue(self) -> str:
        return f"{self.url}/123456789012/dead"

    def message(self, record_id: str = "rec-demo", **changes: Any) -> str:
        return json.dumps(MESSAGE | {"recordId": record_id} | changes)

    def dead_letter(self, body: str | None = None) -> None:
        self.letters[str(next(self._numbers))] = self.message() if body is None else body

    def execution(self, record_id: str = "rec-demo", **changes: Any) -> None:
        self.executions[record_id] = ENDED | {"input": self.message(record_id)} | changes

    def results(self) -> list[tuple[str, str]]:
        """The records that it was asked to end, and as what."""
        return [(m["RecordId"], m["Status"]) for name, m, _ in self.calls if "Notify" in name]

    # --- answers ----------------------------------------------------------------------------

    def _answer(self, headers: Message, body: bytes) -> tuple[int, bytes]:
        operation = str(headers["X-Amz-Target"]).rpartition(".")[2]
        members = json.loads(body)
        self.before(operation)
        key = re.search("Credential=([^/]+)/", str(headers["Authorization"]))
        self.calls.append((operation, members, key[1] if key else ""))
        try:
            if operation in self.refuses:
                raise self.refuses[operation]
            name = "notify" if operation.startswith("Notify") else operation
            answer = getattr(self, f"_{re.sub('(?<!^)(?=[A-Z])', '_', name).lower()}")(members)
        except Refusal as refusal:
            return 400, json.dumps(refusal.body).encode()
        return 200, json.dumps(answer or {}).encode()

    def _search_provisioned_products(self, _: Any) -> Any:
        return {
            "ProvisionedProducts": [
                {
                    "Id": "pp-1",
                    "Name": "a-product",
                    "Arn": "arn:aws:servicecatalog:us-east-1:210987654321:stack/a-product/pp-1",
                    "Type": "EXTERNAL",
                    "Status": "UNDER_CHANGE",
                    "LastRecordId": record_id,
                }
                for record_id, status in self.statuses.items()
                if status == "IN_PROGRESS" or record_id in self.under_change
            ]
        }

    def _describe_record(self, members: Any) -> Any:
        detail = {
            "Status": self.statuses[members["Id"]],
            "RecordType": "UPDATE_PROVISIONED_PRODUCT",
        }
        return {"RecordDetail": detail | {"RecordId": members["Id"], "CreatedTime": PLACED}}

    def _notify(self, members: Any) -> None:
        self.statuses[members["RecordId"]] = members["Status"]

    def _describe_state_machine(self, _: Any) -> Any:
        own = {"stateMachineArn": MACHINE, "name": "engine", "definition": "{}", "roleArn": "r"}
        return self.machine | own | {"creationDate": PLACED}

    def _describe_execution(self, members: Any) -> Any:
        record_id = members["executionArn"].rpartition(":pp-1-")[2]
        if record_id not in self.executions:
            raise Refusal("ExecutionDoesNotExist")
        execution = dict(self.executions[record_id])
        if members.get("includedData") == "METADATA_ONLY":
            execution.pop("input", None)
            execution.pop("error", None)
        elif isinstance(execution.get("input"), Refusal):
            raise execution["input"]
        return execution | {"executionArn": members["executionArn"], "stateMachineArn": MACHINE}

    def _get_queue_attributes(self, _: Any) -> Any:
        return {"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:dead"}} | (
            {"Attributes": self.queue_attributes} if self.queue_attributes else {}
        )

    def _receive_message(self, members: Any) -> Any:
        seen = [id_ for id_ in self.letters if id_ not in self.hidden]
        seen = seen[: members["MaxNumberOfMessages"]]
        self.hidden.update(seen)
        return {
            "Messages": [
                {
                    "MessageId": id_,
                    "ReceiptHandle": f"{id_}@{time.time()}",
                    "Body": self.letters[id_],
                }
                for id_ in seen
            ]
        }

    def _change_message_visibility_batch(self, members: Any) -> Any:
        for entry in members["Entries"]:
            assert entry["VisibilityTimeout"] == 0
            self.hidden.discard(entry["ReceiptHandle"].partition("@")[0])
        return {"Successful": [{"Id": entry["Id"]} for entry in members["Entries"]], "Failed": []}

    def _delete_message(self, members: Any) -> None:
        id_ = members["ReceiptHandle"].partition("@")[0]
        assert id_ in self.hidden
        del self.letters[id_]
        self.hidden.discard(id_)
