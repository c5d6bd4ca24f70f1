"""docs/rescue.md does what it says, for the reference engine's state machines and queue."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import ROOT, Sandbox, clean_environment
from ministack_server import Ministack
from rescue_cli import message_of
from test_docs import FENCE, pattern, script, steps

PAGE = (ROOT / "docs" / "rescue.md").read_text(encoding="utf-8")
RUN_HERE = "the tests of the engine run it"
MANAGE, TERMINATE = (
    "ManageProvisionedProductStateMachine",
    "TerminateProvisionedProductStateMachine",
)
DEAD = "ServiceCatalogTerraformOSOperationsDLQ"

MACHINE = {
    "StartAt": "Select worker host",
    "States": {
        "Select worker host": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.recordId", "StringEquals": "rec-2", "Next": "Wait"}],
            "Default": "Notify",
        },
        "Wait": {"Type": "Wait", "Seconds": 3600, "Next": "Notify"},
        # As where its function is throttled: only Lambda's own errors are tried again.
        "Notify": {"Type": "Fail", "Error": "Lambda.TooManyRequestsException"},
    },
}


def test_orders_of_the_reference_engine_are_found_and_ended_as_the_page_says(
    start_sandbox: Callable[..., Sandbox], ministack: Ministack, tmp_path: Path
) -> None:
    sandbox = start_sandbox("--record=rec-1", "--record=rec-2", "--record=rec-3")
    sfn, sqs = ministack.client("stepfunctions"), ministack.client("sqs")
    queue = sqs.create_queue(QueueName=DEAD)["QueueUrl"]
    manage, _ = (
        sfn.create_state_machine(
            name=name, definition=json.dumps(MACHINE), roleArn="arn:aws:iam::000000000000:role/r"
        )["stateMachineArn"]
        for name in (MANAGE, TERMINATE)
    )
    for n in (1, 2):
        own = {"name": f"pp-{n}-rec-{n}", "input": json.dumps(message_of(f"rec-{n}"))}
        arn = sfn.start_execution(stateMachineArn=manage, **own)["executionArn"]
        while n == 1 and sfn.describe_execution(executionArn=arn)["status"] == "RUNNING":
            time.sleep(0.02)
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(message_of("rec-3")))

    fences = [found for found in FENCE.finditer(PAGE) if RUN_HERE in (found["why"] or "")]
    text = "".join(f"```{found['kind']}\n{found['text']}```\n" for found in fences)
    text = re.sub(r"https://sqs\S+", queue, text)
    text = text.replace("main.py rescue", "main.py rescue --older-than 0")
    text = text.replace("eu-west-1:123456789012", "us-east-1:000000000000")
    expected = list(steps(text))
    assert len(expected) == 3
    environment = sandbox.environment | {
        "AWS_ENDPOINT_URL_SFN": ministack.url,
        "AWS_ENDPOINT_URL_SQS": ministack.url,
        "PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", script(expected)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment(tmp_path) | environment,
    )
    printed = done.stdout.split("\0")
    for step, output in zip(expected, printed, strict=False):
        assert step.printed is None or re.fullmatch(pattern(step.printed), output), output
    assert [sandbox.status(f"rec-{n}") for n in (1, 2, 3)] == ["FAILED", "IN_PROGRESS", "FAILED"]
    assert sandbox.record("rec-1")["RecordDetail"]["RecordErrors"]
