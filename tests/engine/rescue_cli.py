"""What the tests of `rescue` share: an engine of which orders hang, on a stand-in for AWS."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from conftest import Outcome
from engine_cli import MESSAGE, TERMINATE
from journal_cli import TOKEN, Desk, a_request
from ministack_server import Ministack

from workflow_result import request as requests

FAILS = {"Type": "Fail", "Error": "States.TaskFailed", "Cause": f"the function said {TOKEN}"}
MACHINES: dict[str, dict[str, Any]] = {
    "fails": {"StartAt": "end", "States": {"end": FAILS}},
    "succeeds": {"StartAt": "end", "States": {"end": {"Type": "Succeed"}}},
    "waits": {"StartAt": "end", "States": {"end": {"Type": "Wait", "Seconds": 3600, "End": True}}},
}
"""State machines: how an execution of theirs comes to its end, if it does."""

_numbers = count()


def message_of(record_id: str, **changes: Any) -> dict[str, Any]:
    """What Service Catalog has sent for this order of the sandbox's."""
    product_id = f"pp-{record_id.removeprefix('rec-')}"
    own = {"token": TOKEN, "recordId": record_id, "provisionedProductId": product_id}
    return MESSAGE | own | changes


def terminate_of(record_id: str) -> dict[str, Any]:
    own = message_of(record_id)
    return TERMINATE | {name: own[name] for name in ("token", "recordId", "provisionedProductId")}


class HangingEngine:
    """State machines and a dead-letter queue on ministack, and `main.py rescue` to look at them."""

    def __init__(self, desk: Desk, server: Ministack) -> None:
        self.desk = desk
        self.sqs, self.sfn = server.client("sqs"), server.client("stepfunctions")
        desk.environment |= {
            "AWS_ENDPOINT_URL_SQS": server.url,
            "AWS_ENDPOINT_URL_SFN": server.url,
        }
        self.name = f"engine-{next(_numbers)}"
        self.queue = self.new_queue(f"{self.name}-dead")
        self.machines = {
            kind: self.sfn.create_state_machine(
                name=f"{self.name}-{kind}",
                definition=json.dumps(definition),
                roleArn="arn:aws:iam::000000000000:role/engine",
            )["stateMachineArn"]
            for kind, definition in MACHINES.items()
        }

    def new_queue(self, name: str, **attributes: str) -> str:
        url: str = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    # --- what hangs -------------------------------------------------------------------------

    def dead_letter(self, body: Any) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=text)

    def execution(self, kind: str, message: Any, record_id: str = "") -> str:
        """Have an execution for a message, and wait until it has ended, or has begun to wait."""
        record_id = record_id or message["recordId"]
        product_id = f"pp-{record_id.removeprefix('rec-')}"
        arn: str = self.sfn.start_execution(
            stateMachineArn=self.machines[kind],
            name=f"{product_id}-{record_id}",
            input=json.dumps(message),
        )["executionArn"]
        while kind != "waits" and self.sfn.describe_execution(executionArn=arn)["status"] == (
            "RUNNING"
        ):
            time.sleep(0.02)
        return arn

    # --- main.py ----------------------------------------------------------------------------

    @property
    def options(self) -> list[str]:
        machines = [f"--state-machine={arn}" for arn in self.machines.values()]
        return ["--older-than=0", f"--dead-letter-queue={self.queue}", *machines]

    def rescue(self, *options: str) -> Outcome:
        return self.desk.main("rescue", *self.options, *options)

    def found(self, *options: str) -> dict[str, dict[str, str]]:
        """What `rescue --json` lists, by record."""
        return by_record(self.rescue("--json", *options))

    # --- what is there ----------------------------------------------------------------------

    def letters(self) -> list[str]:
        """The bodies of all that is visible in the queue now; it is given back."""
        with self._received() as messages:
            return sorted(message["Body"] for message in messages)

    @contextmanager
    def _received(self) -> Iterator[list[dict[str, Any]]]:
        messages: list[dict[str, Any]] = []
        while more := self.sqs.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=60
        ).get("Messages"):
            messages += more
        try:
            yield messages
        finally:
            for message in messages:
                self._give_back(message)

    def _give_back(self, message: dict[str, Any]) -> None:
        self.sqs.change_message_visibility(
            QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )

    def snapshot(self) -> list[Any]:
        """Everything that a dry run must leave as it was."""
        executions = [
            self.sfn.list_executions(stateMachineArn=arn)["executions"]
            for arn in self.machines.values()
        ]
        statuses = [self.desk.sandbox.status(record_id) for record_id in self.records()]
        return [self.letters(), executions, self.desk.pending(), statuses]

    def records(self) -> list[str]:
        products = self.desk.sandbox.client.search_provisioned_products()["ProvisionedProducts"]
        return [product["LastRecordId"] for product in products]

    def reason(self, record_id: str) -> str:
        detail = self.desk.sandbox.record(record_id)["RecordDetail"]
        assert detail["Status"] == "FAILED"
        return str(detail["RecordErrors"][0]["Description"])


def have_reported(desk: Desk, record_id: str) -> None:
    """Have it in the journal that Service Catalog has a result, of which that makes nothing."""
    with desk.opened() as journal:
        request = requests.check(requests.Draft(a_request(record_id)), "provision")
        journal.settle([journal.owe(request, "sandbox", None)])


def by_record(outcome: Outcome) -> dict[str, dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(outcome.stdout)
    return {row["record_id"]: row for row in rows}
