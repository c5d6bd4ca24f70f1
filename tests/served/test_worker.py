"""The worker: what becomes of messages where an order is not reported, and what it tells."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from served_cli import HELLO, Station, order, packed

PATIENCE = 60
SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "echo applying; exec sleep 300"
  }
}
"""


def until(happens: Callable[[], Any], said: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)


def waiting(station: Station) -> tuple[int, int]:
    """How many messages of provisions can be received, and how many cannot for a while."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = station.queues["PROVISION_PRODUCT"]
    found = station.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def test_message_of_a_record_that_another_process_works_on_comes_again_later(
    station: Station,
) -> None:
    """Should that one die, it is what the order is run for."""
    station.upload("v1", packed(main_tf=SLOW))
    said = station.home / "said"
    station.start(output=str(said))
    station.send(order())
    until(lambda: "applying" in said.read_text(), said)
    station.send(order())
    until(lambda: "another process" in said.read_text(), said)
    time.sleep(3)  # as long as it takes to take it again
    assert said.read_text().count("another process") == 1
    assert waiting(station) == (0, 2)


def test_message_of_an_order_whose_process_dies_is_left(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    script = station.program('[ "$1" = plan ] && kill -9 $PPID && exit; exec terraform "$@"')
    said = station.home / "said"
    station.send(order())
    options = ("--once", "--at-once", "1", "--terraform", script)
    assert station.start(*options, output=str(said)).wait(PATIENCE) == 75
    assert "its process has died (-9)" in said.read_text()
    assert waiting(station) == (0, 1)
    assert station.sandbox.status("rec-1") == "IN_PROGRESS"


def test_set_up_that_goes_wrong_meanwhile_ends_the_worker_and_the_order_stays(
    station: Station,
) -> None:
    said = station.home / "said"
    process = station.start(output=str(said))
    until(lambda: "serving 3 queues" in said.read_text(), said)
    station.s3.delete_bucket(Bucket=station.state)
    station.send(order())
    assert process.wait(PATIENCE) == 78
    assert f"rec-1: the state bucket {station.state} cannot be used" in said.read_text()
    assert waiting(station) == (0, 1)
    assert station.sandbox.status("rec-1") == "IN_PROGRESS"


def test_worker_ends_where_nobody_asks_the_queues_any_more(station: Station) -> None:
    said = station.home / "said"
    process = station.start(output=str(said))
    until(lambda: "serving 3 queues" in said.read_text(), said)
    for pid in station.children(process):  # and the one that delivers what is owed
        station.kill(pid)
    assert process.wait(PATIENCE) == 70
    assert "the process that asks the queues has ended: so does this one" in said.read_text()


def test_reports_are_counted_and_timed_in_a_log_of_json(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order())
    _, _, stderr = station.work(WORKFLOW_RESULT_LOG="json")
    lines = [json.loads(line) for line in stderr.splitlines()]
    (told,) = [line for line in lines if "Reported" in line]
    assert told["Reported"] == 1
    assert 0 <= told["SecondsToReport"] < 3600
    (directive,) = told["_aws"]["CloudWatchMetrics"]
    names = {metric["Name"] for metric in directive["Metrics"]}
    assert names >= {"Reported", "SecondsToReport"}


def test_each_line_of_an_order_has_its_record_in_front(station: Station) -> None:
    """Several are at work at the same time."""
    station.upload("v1", packed(main_tf=HELLO))
    for number in (1, 2):
        station.send(order(record=f"rec-{number}", product=f"pp-{number}"))
    _, _, stderr = station.work()
    first, *lines = stderr.splitlines()
    assert first.startswith("serving 3 queues")
    assert {line.partition(": ")[0] for line in lines} == {"rec-1", "rec-2"}, stderr
