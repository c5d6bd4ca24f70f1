"""Orders, served by a worker that runs already, and by one that is started for each."""

import io
import itertools
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3

from benchmarks.measure import NotMeasured, Sample, process

HERE = Path(__file__).resolve().parent
MAIN = HERE.parent / "main.py"
ROLE = "arn:aws:iam::000000000000:role/launch"
ARTIFACT = 'output "hello" {\n  value = "world"\n}\n'

TERRAFORM = """#!/bin/bash
for word in "$@"; do case $word in -out=*) printf '{}' >"${word#-out=}" ;; esac; done
"""
"""In Terraform's place: it does nothing, and takes no time for it."""


class Orders:
    """An engine's queue, buckets and roles at ministack, with the journal in its `table`.

    `environment` has all that a worker needs to know of them; what is started ends with `at_end`.
    """

    def __init__(
        self, environment: Mapping[str, str], url: str, table: str, folder: Path, at_end: ExitStack
    ) -> None:
        self._numbers = itertools.count(1)
        self._url = url
        self._s3, self._sqs = self._client("s3"), self._client("sqs")
        for bucket in ("states", "artifacts"):
            self._s3.create_bucket(Bucket=bucket)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            info = tarfile.TarInfo("main.tf")
            info.size = len(ARTIFACT)
            tar.addfile(info, io.BytesIO(ARTIFACT.encode()))
        self._s3.put_object(Bucket="artifacts", Key="v1", Body=archive.getvalue())
        self._queue = self._sqs.create_queue(QueueName="orders")["QueueUrl"]
        script = folder / "no-terraform"
        script.write_text(TERRAFORM)
        script.chmod(0o755)
        self._table = table
        self._environment = dict(environment) | {
            "AWS_ENDPOINT_URL": url,
            "WORKFLOW_RESULT_JOURNAL": f"dynamodb://{table}",
            "WORKFLOW_RESULT_STATE_BUCKET": "states",
        }
        self._command = [sys.executable, str(MAIN), "worker", "--terraform", str(script)]
        self._at_end = at_end
        self._worker: subprocess.Popen[str] | None = None

    def cold(self) -> Sample:
        """A build's command, from its start to its end, for an order that waits in the journal."""
        message = self._message()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.make_waiting", self._table],
            input=message,
            env=self._environment,
            cwd=HERE.parent,
            text=True,
            check=True,
        )
        record = json.loads(message)["recordId"]
        return process([*self._command, "--record", record], self._environment)

    def warm(self) -> Sample:
        """From when a message is sent to when its result is reported."""
        worker = self._running()
        text = self._message()
        began = time.perf_counter()
        self._sqs.send_message(QueueUrl=self._queue, MessageBody=text)
        assert worker.stdout
        told = worker.stdout.readline()
        took = time.perf_counter() - began
        if '"SUCCEEDED"' not in told:
            raise NotMeasured(f"a worker told {told!r}")
        return Sample(took)

    def idle(self) -> Sample:
        """The memory of a worker that has carried out orders, and has none."""
        return Sample(0, memory(self._running().pid))

    def boto3_idle(self) -> Sample:
        """The same of a process that has its clients."""
        with subprocess.Popen(
            [sys.executable, HERE / "boto3_idle.py"],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            process.stdout.readline()
            return Sample(0, memory(process.pid))

    def _running(self) -> subprocess.Popen[str]:
        """A worker that has the queue."""
        if self._worker is None:
            self._worker = self._at_end.enter_context(
                subprocess.Popen(
                    [*self._command, "--queue", self._queue],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    process_group=0,
                )
            )
            self._at_end.callback(self._worker.terminate)
        return self._worker

    def _message(self) -> str:
        number = next(self._numbers)
        return json.dumps(
            {
                "token": "965d4597-3088-41ae-87dc-3498daf1d69d",
                "operation": "PROVISION_PRODUCT",
                "provisionedProductId": f"pp-{number}",
                "recordId": f"rec-order-{number}",
                "launchRoleArn": ROLE,
                "artifact": {"path": "S3://artifacts/v1", "type": "AWS_S3"},
            }
        )

    def _client(self, service: str) -> Any:
        new: Callable[..., Any] = boto3.client
        return new(
            service,
            endpoint_url=self._url,
            region_name="us-east-1",
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",
        )


def memory(pid: int) -> int:
    """The memory of a process and of those that it has begun, shared pages once, in KiB."""
    total, processes = 0, [pid]
    while processes:
        process = processes.pop()
        try:
            smaps = Path(f"/proc/{process}/smaps_rollup").read_text()
            children = Path(f"/proc/{process}/task/{process}/children").read_text()
        except OSError as error:
            raise NotMeasured(f"memory is told by Linux alone: {error}") from error
        total += next(int(line.split()[1]) for line in smaps.splitlines() if "Pss:" in line)
        processes += map(int, children.split())
    return total
