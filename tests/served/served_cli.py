"""What the tests of served orders share: queues and a state bucket at ministack, and the worker."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from conftest import MAIN, Sandbox, clean_environment
from ministack_server import Ministack

TOKEN = "0c9a2f3e-57b1-4f0e-9d35-7f1f0e6b8a11"
ROLE = "arn:aws:iam::000000000000:role/launch"
ACCOUNT = "123456789012"
_numbers = itertools.count()
NAMES = {
    "PROVISION_PRODUCT": "ServiceCatalogExternalProvisionOperationQueue",
    "UPDATE_PROVISIONED_PRODUCT": "ServiceCatalogExternalUpdateOperationQueue",
    "TERMINATE_PROVISIONED_PRODUCT": "ServiceCatalogExternalTerminateOperationQueue",
}
HELLO = """
variable "name" {
  default = "nobody"
}
output "hello" {
  value = "hello ${var.name}"
}
resource "terraform_data" "it" {
  input = var.name
}
"""


def order(
    kind: str = "PROVISION_PRODUCT",
    record: str = "rec-1",
    artifact: str = "S3://artifacts/v1",
    product: str = "pp-1",
    **parameters: str,
) -> dict[str, Any]:
    """An operation message; a terminate's has neither artifact nor parameters."""
    message: dict[str, Any] = {
        "token": TOKEN,
        "operation": kind,
        "provisionedProductId": product,
        "recordId": record,
        "launchRoleArn": ROLE,
        "identity": {"principal": "p", "awsAccountId": ACCOUNT, "organizationId": None},
    }
    if not kind.startswith("TERMINATE"):
        message |= {
            "artifact": {"path": artifact, "type": "AWS_S3"},
            "parameters": [{"key": key, "value": value} for key, value in parameters.items()],
            "tags": [],
        }
    return message


def packed(**files: str) -> bytes:
    """A tar.gz archive of files: `main_tf="…"` is main.tf."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("_tf", ".tf"))
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


class Station:
    """An engine's account: queues, buckets, and a Service Catalog that waits for results."""

    def __init__(self, home: Path, ministack: Ministack, sandbox: Sandbox) -> None:
        self.home = home
        self.sandbox = sandbox
        # Each test has names of its own, since they share a server.
        self.suffix = f"-{next(_numbers)}"
        self.state, self.artifacts = f"state{self.suffix}", f"artifacts{self.suffix}"
        self.s3, self.sqs = ministack.client("s3"), ministack.client("sqs")
        for bucket in (self.state, self.artifacts):
            self.s3.create_bucket(Bucket=bucket)
        dead = self._new_queue("dead-letters")
        arn = self.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        redrive = {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": "5"}
        self.dead = dead
        self.queues = {
            kind: self._new_queue(name, RedrivePolicy=json.dumps(redrive))
            for kind, name in NAMES.items()
        }
        self.environment = clean_environment(
            home,
            **sandbox.environment,
            AWS_ENDPOINT_URL=ministack.url,
            TMPDIR=str(home / "tmp"),
            CHECKPOINT_DISABLE="1",
            WORKFLOW_RESULT_STATE_BUCKET=self.state,
        )
        (home / "tmp").mkdir()
        self._started: list[subprocess.Popen[bytes]] = []

    def _new_queue(self, name: str, **attributes: str) -> str:
        answer = self.sqs.create_queue(QueueName=f"{name}{self.suffix}", Attributes=attributes)
        return str(answer["QueueUrl"])

    def upload(self, key: str, archive: bytes) -> None:
        self.s3.put_object(Bucket=self.artifacts, Key=key, Body=archive)

    def send(self, message: dict[str, Any] | str) -> None:
        """Order something: what S3://artifacts means is this station's own bucket."""
        text = message if isinstance(message, str) else json.dumps(message)
        kind = message["operation"] if isinstance(message, dict) else "PROVISION_PRODUCT"
        text = text.replace("S3://artifacts/", f"S3://{self.artifacts}/")
        self.sqs.send_message(QueueUrl=self.queues[kind], MessageBody=text)

    def start(
        self,
        *options: str,
        output: str | None = None,
        before: Callable[[], object] | None = None,
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        """Start a worker for the three queues; what it says goes to the file `output`, or comes."""
        said = subprocess.PIPE if output is None else open(output, "wb")  # noqa: SIM115
        queues = [option for url in self.queues.values() for option in ("--queue", url)]
        process = subprocess.Popen(
            [sys.executable, MAIN, "worker", *queues, *options],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=self.environment | variables,
            cwd=self.home,
            preexec_fn=before,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End what a test that failed has left running; guards end the rest."""
        for process in self._started:
            if process.poll() is None:
                for pid in (*self.children(process), process.pid):
                    self.kill(pid)
                process.wait()

    def work(self, *options: str, **variables: Any) -> tuple[int, str, str]:
        """Have a worker work the queues off; return its exit code, stdout and stderr."""
        process = self.start("--once", *options, **variables)
        stdout, stderr = process.communicate()
        return process.returncode, stdout.decode(), stderr.decode()

    def children(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The processes that a worker has forked."""
        found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def program(self, script: str) -> str:
        """A program in Terraform's place."""
        file = self.home / "program"
        file.write_text(f"#!/bin/bash\n{script}\n")
        file.chmod(0o755)
        return str(file)

    def left(self, queue: str) -> int:
        """How many messages a queue has, invisible ones included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def kept(self) -> list[str]:
        """The keys in the state bucket."""
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=self.state)["Contents"]]
