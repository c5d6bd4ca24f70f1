"""From the queues through the functions to builds: Lambda's event sources, and dead letters."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from codebuild_server import CodeBuild, codebuild_server
from conftest import MAIN
from deployed import deploy, feed, until
from lambda_runtime import function
from ministack_server import Ministack
from served_cli import HELLO, TOKEN, Station, order, packed
from tables import SharedTable, new_table


class Line:
    """A station whose queues feed the functions."""

    def __init__(self, station: Station, ministack: Ministack, codebuild: CodeBuild) -> None:
        self.station, self.ministack, self.codebuild = station, ministack, codebuild
        self.table: SharedTable = new_table(ministack)
        self.environment = station.environment | {
            "AWS_ENDPOINT_URL_CODEBUILD": codebuild.url,
            "AWS_MAX_ATTEMPTS": "1",
            "WORKFLOW_RESULT_JOURNAL": self.table.url(),
            "WORKFLOW_RESULT_BUILD_PROJECT": "engine",
        }
        self.mappings: list[str] = []
        self.queue = station.queues["PROVISION_PRODUCT"]
        for queue in (self.queue, station.dead):
            station.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1"})

    def connect(self, handler: str, queue: str, **variables: str) -> None:
        name = f"{handler}{self.station.suffix}-{len(self.mappings)}"
        arn = deploy(self.ministack, handler, name, self.environment | variables)
        self.mappings.append(feed(self.ministack, queue, arn))

    def close(self) -> None:
        """Take no more messages: some are left on purpose."""
        for mapping in self.mappings:
            self.ministack.client("lambda").delete_event_source_mapping(UUID=mapping)

    def begin(self, number: int) -> subprocess.Popen[bytes]:
        """Have a build begin: run its command with what it has."""
        build = self.codebuild.builds[number]
        (variable,) = build["environment"]["environmentVariables"]
        return subprocess.Popen(
            [sys.executable, MAIN, "worker", "--record", variable["value"]],
            env=self.environment | {"CODEBUILD_BUILD_ID": build["id"]},
            cwd=self.station.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def build(self, number: int) -> int:
        """Carry a build out; return the exit code."""
        process = self.begin(number)
        said = b"".join(process.communicate())
        assert TOKEN.encode() not in said
        return process.returncode


@pytest.fixture
def line(station: Station, ministack: Ministack) -> Iterator[Line]:
    with codebuild_server() as codebuild:
        line = Line(station, ministack, codebuild)
        yield line
        line.close()


def test_order_goes_from_the_queue_to_the_report(line: Line) -> None:
    line.station.upload("v1", packed(main_tf=HELLO))
    line.connect("start", line.queue)
    line.station.send(order(name="you"))
    until(lambda: len(line.codebuild.started) == 1)
    assert line.build(0) == 0
    record = line.station.sandbox.record("rec-1")
    assert record["RecordDetail"]["Status"] == "SUCCEEDED"
    assert [o["OutputValue"] for o in record["RecordOutputs"]] == ["hello you"]
    until(lambda: line.station.left(line.queue) == 0)
    assert line.table.leftovers(TOKEN.encode()) == []


def test_build_tells_how_long_its_order_took(line: Line) -> None:
    line.connect("start", line.queue)
    line.station.send(order())  # nothing was uploaded: FAILED
    until(lambda: len(line.codebuild.started) == 1)
    _, said = line.begin(0).communicate()
    told = [json.loads(row) for row in said.splitlines() if row.startswith(b'{"_aws"')]
    assert [metrics["Reported"] for metrics in told] == [1]
    assert 0 <= told[0]["SecondsToReport"] < 120


SLOW = """
resource "terraform_data" "it" {
  provisioner "local-exec" {
    command = "sleep 60"
  }
}
"""


def test_order_whose_build_is_killed_is_failed_and_the_product_can_be_changed(line: Line) -> None:
    station = line.station
    station.upload("v1", packed(main_tf=SLOW))
    station.upload("v2", packed(main_tf=HELLO))
    line.connect("start", line.queue)
    line.connect("start", station.queues["UPDATE_PROVISIONED_PRODUCT"])
    station.send(order())
    until(lambda: len(line.codebuild.started) == 1)
    process = line.begin(0)
    until(lambda: [item.get("phase") for item in line.table.items()] == ["applying"])
    process.kill()
    process.communicate()
    with function("finish", station.home, line.environment) as finish:
        assert not finish(line.codebuild.end(0, "STOPPED")).failed
    (error,) = station.sandbox.record("rec-1")["RecordDetail"]["RecordErrors"]
    assert error["Description"] == (
        "The build that carried out this order was stopped, so how far Terraform came is not known."
    )
    station.send(order("UPDATE_PROVISIONED_PRODUCT", "rec-2", "S3://artifacts/v2", name="you"))
    until(lambda: len(line.codebuild.started) == 2)
    assert line.build(1) == 0
    assert station.sandbox.status("rec-2") == "SUCCEEDED"


def test_poison_goes_to_the_dead_letters_and_stays_there(line: Line) -> None:
    line.connect("start", line.queue)
    line.connect("finish", line.station.dead)
    line.station.send("poison")
    line.station.send(order())
    until(lambda: line.station.left(line.station.dead) == 1)
    assert line.codebuild.records() == ["rec-1"]
    assert line.station.left(line.queue) == 0


def test_order_that_start_cannot_take_is_failed(line: Line) -> None:
    line.connect("start", line.queue, AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:1")
    line.connect("finish", line.station.dead)
    line.station.send(order())
    until(lambda: line.station.sandbox.status("rec-1") == "FAILED")
    until(lambda: line.station.left(line.station.dead) == 0)
    assert line.codebuild.started == []
