"""The engine as it is installed: from the queue through functions and builds to the report."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import sandboxes
from ministack_server import ministack_server
from running_engine import RunningEngine, running_engine
from served_cli import ACCOUNT, HELLO, TOKEN, order, packed

pytestmark = pytest.mark.timeout(600)  # installing takes a minute or two

RECORDS = [f"rec-{number}" for number in range(40)]
SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "echo applying; sleep 600"
  }
}
"""


@pytest.fixture(scope="module")
def engine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    home = tmp_path_factory.mktemp("engine")
    with ministack_server(home) as ministack, sandboxes(home) as start:
        sandbox = start(*[f"--record={record}" for record in RECORDS])
        with running_engine(home, ministack, sandbox, package) as running:
            for name, text in {"hello": HELLO, "slow": SLOW}.items():
                running.s3.put_object(Bucket="artifacts", Key=name, Body=packed(main_tf=text))
            yield running


_unused = iter(RECORDS)
_products = iter(f"pp-{number}" for number in range(40))


@pytest.fixture
def record() -> str:
    return next(_unused)


@pytest.fixture
def product() -> str:
    return next(_products)


def until(happens: Callable[[], Any], engine: RunningEngine) -> None:
    deadline = time.monotonic() + 90
    while not happens():
        assert time.monotonic() < deadline, engine.told()
        time.sleep(0.1)


def reason(engine: RunningEngine, record: str) -> str:
    detail = engine.sandbox.record(record)["RecordDetail"]
    return "\n".join(error["Description"] for error in detail["RecordErrors"])


def reports(engine: RunningEngine, record: str) -> int:
    return len([called for called, _, _ in engine.sandbox.calls() if called == record])


def test_product_is_made_changed_and_ended(
    engine: RunningEngine, record: str, product: str
) -> None:
    engine.order(order(record=record, artifact="S3://artifacts/hello", product=product, name="you"))
    engine.until_ended(record)
    assert engine.sandbox.record(record)["RecordOutputs"] == [
        {"OutputKey": "hello", "OutputValue": "hello you"}
    ], engine.told()
    for kind in ("UPDATE_PROVISIONED_PRODUCT", "TERMINATE_PROVISIONED_PRODUCT"):
        later = next(_unused)
        engine.order(order(kind, later, "S3://artifacts/hello", product, name="all"))
        engine.until_ended(later)
        assert engine.status(later) == "SUCCEEDED", reason(engine, later)
    assert "1 destroyed" in engine.told()


def test_failure_is_told_with_a_link_to_its_log(
    engine: RunningEngine, record: str, product: str
) -> None:
    engine.order(order(record=record, artifact="S3://artifacts/none", product=product))
    engine.until_ended(record)
    lines = reason(engine, record).splitlines()
    assert lines[0].startswith("The artifact S3://artifacts/none could not be fetched")
    assert re.fullmatch(r"Log: https://console\.example\.com/workflow-result:\d+", lines[-1])


def test_message_that_comes_twice_is_run_once(
    engine: RunningEngine, record: str, product: str
) -> None:
    message = order(record=record, artifact="S3://artifacts/hello", product=product)
    for _ in range(3):
        engine.order(message)
    engine.until_ended(record)
    engine.order(message)
    until(lambda: engine.left("Provision") == 0, engine)
    assert engine.codebuild.records().count(record) == 1
    assert reports(engine, record) == 1


def test_token_is_in_nothing_that_a_build_is_given_or_says(
    engine: RunningEngine, record: str, product: str
) -> None:
    engine.order(order(record=record, artifact="S3://artifacts/hello", product=product))
    engine.until_ended(record)
    assert TOKEN not in json.dumps(engine.codebuild.started)
    assert TOKEN not in engine.told() + engine.ministack.log.read_text(errors="replace")
    until(lambda: TOKEN not in json.dumps(engine.journal()), engine)


def test_wrong_message_ends_its_order_without_a_build(engine: RunningEngine, record: str) -> None:
    message = order(record=record)
    del message["provisionedProductId"]
    engine.order(message)
    engine.until_ended(record)
    assert reason(engine, record) == (
        "The order's message to the engine is wrong:\nprovisionedProductId: required, but missing"
    )
    assert record not in engine.codebuild.records()


def test_vanished_machine_ends_its_order_and_holds_no_other_one_off(
    engine: RunningEngine, record: str, product: str
) -> None:
    engine.order(order(record=record, artifact="S3://artifacts/slow", product=product))
    until(lambda: "(local-exec): applying" in engine.log(record), engine)
    engine.kill_machine(record)
    engine.until_ended(record)
    assert engine.status(record) == "FAILED"
    assert "so how far Terraform came is not known" in reason(engine, record)
    assert engine.holds_lock(f"{ACCOUNT}/{product}")
    later = next(_unused)
    engine.order(order("UPDATE_PROVISIONED_PRODUCT", later, "S3://artifacts/hello", product))
    engine.until_ended(later)
    assert engine.status(later) == "SUCCEEDED", reason(engine, later)
    assert not engine.holds_lock(f"{ACCOUNT}/{product}")


def test_stopped_build_ends_its_order(engine: RunningEngine, record: str, product: str) -> None:
    """What has begun to apply is let come to an end, until CodeBuild kills it."""
    engine.order(order(record=record, artifact="S3://artifacts/slow", product=product))
    until(lambda: "(local-exec): applying" in engine.log(record), engine)
    engine.stop_build(record)
    engine.until_ended(record)
    assert engine.status(record) == "FAILED"
    assert reports(engine, record) == 1


def test_build_that_ends_before_it_begins_its_order_ends_it(
    engine: RunningEngine, record: str, product: str
) -> None:
    """As where its image cannot be had."""
    engine.refuses_builds = True
    engine.order(order(record=record, artifact="S3://artifacts/hello", product=product))
    until(lambda: record in engine.codebuild.records(), engine)
    number = engine.codebuild.records().index(record)
    event = engine.codebuild.end(number, "FAILED", "PROVISIONING", "BUILD_CONTAINER_UNABLE_TO_PULL")
    engine.refuses_builds = False
    engine.finish(event)
    engine.until_ended(record)
    assert engine.status(record) == "FAILED"
    assert "PULL" in reason(engine, record)
    assert "Nothing was run" in reason(engine, record)


def test_orders_wait_where_builds_are_at_their_limit(engine: RunningEngine, product: str) -> None:
    """None is FAILED for that, and each is started as soon as there is room."""
    records = [next(_unused) for _ in range(3)]
    engine.codebuild.limit = 1
    try:
        for number, waiting in enumerate(records):
            engine.order(
                order(
                    record=waiting, artifact="S3://artifacts/hello", product=f"{product}-{number}"
                )
            )
        engine.until_ended(*records)
    finally:
        engine.codebuild.limit = 60
    assert {engine.status(waiting) for waiting in records} == {"SUCCEEDED"}


def test_what_is_no_message_is_kept_for_a_person(engine: RunningEngine) -> None:
    before = engine.left_dead()
    queue = engine.queues["Provision"]
    usual = engine.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])
    engine.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})
    engine.sqs.send_message(QueueUrl=queue, MessageBody="no JSON")
    until(lambda: engine.left_dead() == before + 1, engine)
    assert engine.left("Provision") == 0
    engine.sqs.set_queue_attributes(QueueUrl=queue, Attributes=usual["Attributes"])


@pytest.mark.parametrize("kind", ["throttle", "unavailable"])
def test_result_that_is_not_taken_now_is_delivered_by_the_schedule(
    tmp_path: Path, engine: RunningEngine, record: str, product: str, kind: str
) -> None:
    """It is owed in the journal meanwhile."""
    with sandboxes(tmp_path) as start:
        misbehaving = start(f"--record={record}", "--misbehave", kind)
        engine.reports_to(misbehaving.url)
        engine.order(order(record=record, artifact="S3://artifacts/hello", product=product))
        until(lambda: "is saved" in engine.log(record), engine)
        until(lambda: not engine.is_building(record), engine)
        engine.reports_to(engine.sandbox.url)
    assert engine.status(record) == "IN_PROGRESS"
    engine.finish({})
    assert engine.status(record) == "SUCCEEDED"


def test_order_that_a_build_cannot_carry_out_is_failed_with_the_reason(
    engine: RunningEngine, record: str, product: str
) -> None:
    """Its message does not come again."""
    engine.elsewhere["WORKFLOW_RESULT_STATE_BUCKET"] = "no-such-bucket"
    try:
        engine.order(order(record=record, artifact="S3://artifacts/hello", product=product))
        engine.until_ended(record)
    finally:
        del engine.elsewhere["WORKFLOW_RESULT_STATE_BUCKET"]
    assert engine.status(record) == "FAILED"
    assert reason(engine, record).startswith(
        "The engine could not carry out this order: the state bucket no-such-bucket cannot be used"
    )
