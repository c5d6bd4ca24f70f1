"""Functions of the engine at ministack's Lambda, which runs them without a container."""

import io
import os
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Mapping

import pytest
from conftest import ROOT
from ministack_server import Ministack

ROLE = "arn:aws:iam::000000000000:role/function"


def deploy(ministack: Ministack, handler: str, name: str, environment: Mapping[str, str]) -> str:
    """Make a function with this handler; return its ARN.

    Its code is where it lies. The test is skipped where the functions' packages are missing.
    """
    pytest.importorskip("aws_lambda_powertools", reason="aws-lambda-powertools is missing")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("README", "PYTHONPATH has the code.")
    found = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    answer = ministack.client("lambda").create_function(
        FunctionName=name,
        Runtime=f"python3.{sys.version_info.minor}",
        Role=ROLE,
        Handler=f"workflow_result.engine.functions.{handler}",
        Code={"ZipFile": packed.getvalue()},
        Timeout=60,
        Environment={"Variables": {**environment, "PYTHONPATH": found}},
    )
    return str(answer["FunctionArn"])


def feed(ministack: Ministack, queue: str, function: str) -> str:
    """Have a function take the messages of a queue; return the id of that mapping."""
    attributes = ministack.client("sqs").get_queue_attributes(
        QueueUrl=queue, AttributeNames=["QueueArn"]
    )
    answer = ministack.client("lambda").create_event_source_mapping(
        EventSourceArn=attributes["Attributes"]["QueueArn"],
        FunctionName=function,
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    return str(answer["UUID"])


def until(happens: Callable[[], bool], seconds: float = 90) -> None:
    """Wait for something that has to happen."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.2)
