"""An order from the queue to the report, by the worker."""

import ctypes
import json
import re
import signal
import sys
import time

import pytest
from served_cli import ACCOUNT, HELLO, TOKEN, Station, order, packed

STATE = f"{ACCOUNT}/pp-1"
WAIT = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "touch '%s'; exec sleep 300"
  }
}
"""


def status_and_reason(station: Station, record: str) -> tuple[str, str]:
    station.work()
    detail = station.sandbox.record(record)["RecordDetail"]
    errors = [error["Description"] for error in detail.get("RecordErrors", [])]
    return detail["Status"], "\n".join(errors)


def test_product_is_made_changed_and_ended(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order(name="you"))
    code, stdout, stderr = station.work()
    assert (code, json.loads(stdout)["status"]) == (0, "SUCCEEDED"), stderr
    outputs = station.sandbox.record("rec-1")["RecordOutputs"]
    assert [o["OutputValue"] for o in outputs] == ["hello you"]
    assert station.kept() == [STATE, f"{STATE}.artifact.tar.gz", f"{STATE}.seen"]
    station.send(order("UPDATE_PROVISIONED_PRODUCT", "rec-2", name="all"))
    station.work()
    assert station.sandbox.status("rec-2") == "SUCCEEDED"
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-3"))
    _, _, stderr = station.work()
    assert station.sandbox.status("rec-3") == "SUCCEEDED", stderr
    assert "1 destroyed" in stderr
    assert [station.left(queue) for queue in station.queues.values()] == [0, 0, 0]
    assert not list((station.home / "tmp").iterdir())
    assert TOKEN not in stdout + stderr


FAILING = (
    HELLO
    + """
resource "terraform_data" "fails" {
  input = terraform_data.it.output
  lifecycle {
    postcondition {
      condition     = self.input != "fail"
      error_message = "It is to fail."
    }
  }
}
"""
)


def test_terminate_gets_what_was_applied_last_though_that_failed(station: Station) -> None:
    """What it had made by then is destroyed, too."""
    station.upload("v1", packed(main_tf=HELLO))
    station.upload("v2", packed(main_tf=FAILING))
    station.send(order())
    station.work()
    station.send(order("UPDATE_PROVISIONED_PRODUCT", "rec-2", "S3://artifacts/v2", name="fail"))
    status, reason = status_and_reason(station, "rec-2")
    assert status == "FAILED"
    assert "It is to fail." in reason
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-3"))
    _, _, stderr = station.work()
    assert station.sandbox.status("rec-3") == "SUCCEEDED", stderr
    assert "2 destroyed" in stderr


def test_terminate_of_what_was_never_applied_succeeds_without_terraform(station: Station) -> None:
    station.send(order(artifact="S3://artifacts/none"))
    status, reason = status_and_reason(station, "rec-1")
    assert status == "FAILED"
    assert re.fullmatch(
        r"The artifact S3://artifacts-\d+/none could not be fetched with the launch role: "
        r"NoSuchKey: .*",
        reason,
    )
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-2"))
    _, _, stderr = station.work()
    assert station.sandbox.status("rec-2") == "SUCCEEDED"
    assert "terraform" not in stderr


def test_terminate_of_a_product_of_another_engine_fails(station: Station) -> None:
    station.send(order("TERMINATE_PROVISIONED_PRODUCT"))
    assert status_and_reason(station, "rec-1") == (
        "FAILED",
        f"This engine has never seen the product: there is no {STATE} in its state bucket "
        f"{station.state}. Where its resources are gone, or are to stay, an administrator can "
        "terminate it with the option to ignore errors (IgnoreErrors), which leaves them alone.",
    )


def test_state_of_an_engine_that_kept_no_artifact_is_destroyed(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order())
    station.work()
    for ending in (".artifact.tar.gz", ".seen"):
        station.s3.delete_object(Bucket=station.state, Key=STATE + ending)
    station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-2"))
    _, _, stderr = station.work()
    assert station.sandbox.status("rec-2") == "SUCCEEDED"
    assert "1 destroyed" in stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"launchRoleArn": None},
            "The message names no launch role, without which nothing is run: add a launch "
            "constraint.",
        ),
        (
            {"launchRoleArn": "launch", "identity": None},
            "The launch role launch is no ARN of an IAM role.",
        ),
        (
            {"artifact": {"path": "/v1"}},
            "The path of the artifact is not s3://BUCKET/KEY: /v1.",
        ),
    ],
)
def test_order_that_lacks_something_is_failed(
    station: Station, changes: dict[str, object], reason: str
) -> None:
    changed = order() | changes
    station.send({name: value for name, value in changed.items() if value is not None})
    assert status_and_reason(station, "rec-1") == ("FAILED", reason)


BACKENDS = {
    "a backend": 'backend "local" {\n    path = "/tmp/elsewhere.tfstate"\n  }',
    "HCP Terraform": 'cloud {\n  organization = "x"\n  workspaces {\n    name = "y"\n  }\n}',
}


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
@pytest.mark.parametrize("file", ["backend_tf", "my_override_tf"])
def test_state_is_the_engine_s_whatever_the_artifact_says(
    station: Station, backend: str, file: str
) -> None:
    text = f"terraform {{\n  {backend}\n}}\n"
    station.upload("v1", packed(main_tf=HELLO, **{file: text}))
    station.send(order())
    _, _, stderr = station.work()
    assert station.sandbox.status("rec-1") == "SUCCEEDED", stderr
    assert STATE in station.kept()


def test_override_that_would_come_last_is_refused(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO, **{"~zzz_override_tf": ""}))
    station.send(order())
    assert status_and_reason(station, "rec-1") == (
        "FAILED",
        "The artifact's ~zzz_override.tf would take the place of the engine's backend.",
    )


def test_what_is_no_message_goes_to_the_dead_letters_with_the_reason(station: Station) -> None:
    station.send("no JSON")
    code, _, stderr = station.work()
    assert code == 0
    assert [station.left(queue) for queue in station.queues.values()] == [0, 0, 0]
    (dead,) = station.sqs.receive_message(
        QueueUrl=station.dead, MessageAttributeNames=["All"], VisibilityTimeout=0
    )["Messages"]
    assert dead["Body"] == "no JSON"
    assert "the message: not JSON" in dead["MessageAttributes"]["Reason"]["StringValue"]
    assert "cannot be an order" in stderr


NO_STS = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}


@pytest.mark.parametrize(("received", "status"), [(3, "IN_PROGRESS"), (4, "FAILED")])
def test_order_is_failed_where_its_message_does_not_come_again(
    station: Station, received: int, status: str
) -> None:
    """Nobody may look at the dead letters. The queue has five tries."""
    station.send(order())
    queue = station.queues["PROVISION_PRODUCT"]
    for _ in range(received):
        assert station.sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)["Messages"]
    _, _, stderr = station.work(**NO_STS)
    assert "the launch role" in stderr
    detail = station.sandbox.record("rec-1")["RecordDetail"]
    assert detail["Status"] == status
    assert station.left(queue) == (status == "IN_PROGRESS")
    for error in detail["RecordErrors"]:
        assert "could not carry out this order: the launch role" in error["Description"]


SETUPS = {
    "no such table": (
        {"WORKFLOW_RESULT_JOURNAL": "dynamodb://nope"},
        "the journal dynamodb://nope cannot be used: there is no such table in us-east-1; check "
        "its name, region and account (terraform/journal makes one)",
    ),
    "no such queue": (
        {"QUEUE": "nope"},
        "the queue nope cannot be used: AWS.SimpleQueueService.NonExistentQueue: The specified "
        "queue does not exist for this wsdl version; check --queue, the region and the account",
    ),
    "no such bucket": (
        {"WORKFLOW_RESULT_STATE_BUCKET": "nope"},
        "the state bucket nope cannot be used: NoSuchBucket: The specified bucket does not exist; "
        "check --state-bucket, and the region",
    ),
    "no bucket's name": (
        {"WORKFLOW_RESULT_STATE_BUCKET": "s3://states"},
        "the state bucket s3://states is none: its name alone is wanted, as terraform-states",
    ),
    "a backend of its own": (
        {"TF_CLI_ARGS_init": "-no-color '-backend-config=key=shared'"},
        "-backend-config in TF_CLI_ARGS: where each product's state lies is the engine's to say; "
        "leave it out",
    ),
    "no region": (
        {"AWS_REGION": ""},
        "the state bucket STATE cannot be used: You must specify a region; set AWS_REGION or give "
        "--region",
    ),
}


@pytest.mark.parametrize(("changes", "told"), SETUPS.values(), ids=SETUPS.keys())
def test_set_up_that_is_wrong_is_told_before_an_order_is_taken(
    station: Station, changes: dict[str, str], told: str
) -> None:
    station.send(order())
    queue = changes.get("QUEUE")
    code, _, stderr = station.work(*(["--queue", queue] if queue else []), **changes)
    assert (code, stderr) == (78, told.replace("STATE", station.state) + "\n")
    assert station.left(station.queues["PROVISION_PRODUCT"]) == 1


def lock(station: Station) -> dict[str, str] | None:
    try:
        found = station.s3.get_object(Bucket=station.state, Key=f"{STATE}.tflock")
    except station.s3.exceptions.NoSuchKey:
        return None
    held: dict[str, str] = json.loads(found["Body"].read())
    return held


def until_applying(station: Station) -> None:
    deadline = time.monotonic() + 60
    while not (station.home / "applying").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_lock_of_a_killed_run_is_taken_over_once_its_terraform_has_ended(
    station: Station,
) -> None:
    station.upload("v1", packed(main_tf=WAIT % (station.home / "applying")))
    station.upload("v2", packed(main_tf=HELLO))
    station.send(order())
    process = station.start("--once")
    until_applying(station)
    children = station.children(process)
    for pid in (process.pid, *children):
        station.kill(pid)
    process.communicate()
    held = lock(station)
    assert held
    assert held["Info"].startswith("Service Catalog record rec-1, in ")
    time.sleep(1)  # what was asked for by the worker is answered, though it is dead
    station.send(order("UPDATE_PROVISIONED_PRODUCT", "rec-2", "S3://artifacts/v2"))
    _, _, stderr = station.work()
    assert "taking over a lock that nobody holds any more" in stderr
    assert station.sandbox.status("rec-1") == "FAILED"
    assert station.sandbox.status("rec-2") == "SUCCEEDED"
    assert lock(station) is None
    assert not list((station.home / "tmp").iterdir())


def test_lock_of_a_person_is_respected_and_named(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    held = {"ID": "4711", "Operation": "OperationTypePlan", "Who": "ann@desk", "Created": "today"}
    station.s3.put_object(
        Bucket=station.state, Key=f"{STATE}.tflock", Body=json.dumps(held).encode()
    )
    station.send(order())
    station.work("--lock-timeout", "1")
    detail = station.sandbox.record("rec-1")["RecordDetail"]
    assert [error["Description"] for error in detail["RecordErrors"]] == [
        "The state of this product is locked: Terraform elsewhere, OperationTypePlan, by ann@desk "
        "since today, lock ID 4711."
    ]
    assert lock(station) == held


def test_orders_of_one_product_come_one_after_the_other(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    for number in range(1, 5):
        kind = "PROVISION_PRODUCT" if number == 1 else "UPDATE_PROVISIONED_PRODUCT"
        station.send(order(kind, f"rec-{number}", name=f"n{number}"))
    station.work()
    for number in range(1, 5):
        assert station.sandbox.status(f"rec-{number}") == "SUCCEEDED"


def test_first_signal_gives_back_what_has_not_begun_to_apply(station: Station) -> None:
    station.upload("v1", packed(main_tf=HELLO))
    script = station.program(
        f'[ "$1" = plan ] && touch "{station.home}/applying" && exec sleep 300; exec terraform "$@"'
    )
    station.send(order())
    process = station.start("--terraform", script)
    until_applying(station)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == 0
    assert b"nothing was applied: its message comes again" in stderr
    assert lock(station) is None
    station.work()
    assert station.sandbox.status("rec-1") == "SUCCEEDED"


def test_first_signal_lets_what_applies_come_to_its_end(station: Station) -> None:
    slow = WAIT.replace("300", "3") % (station.home / "applying")
    station.upload("v1", packed(main_tf=slow))
    station.send(order())
    process = station.start()
    until_applying(station)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0
    assert station.sandbox.status("rec-1") == "SUCCEEDED"


def test_worker_that_is_a_container_s_first_process_leaves_no_zombies(station: Station) -> None:
    """What an order leaves running becomes a child of it."""
    if sys.platform != "linux":
        pytest.skip("PR_SET_CHILD_SUBREAPER is missing: it is Linux's")
    station.upload("v1", packed(main_tf=HELLO))
    for number in range(1, 4):
        station.send(order(record=f"rec-{number}", product=f"pp-{number}"))
    process = station.start(before=lambda: ctypes.CDLL(None).prctl(36, 1))
    deadline = time.monotonic() + 60
    while any(station.sandbox.status(f"rec-{n}") == "IN_PROGRESS" for n in range(1, 4)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while len(left := station.children(process)) > 1:  # the one with the queues
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    process.terminate()
    process.communicate()


def test_second_signal_stops_terraform(station: Station) -> None:
    station.upload("v1", packed(main_tf=WAIT % (station.home / "applying")))
    station.send(order())
    process = station.start()
    until_applying(station)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    process.communicate()
    assert process.returncode == 0
    assert station.sandbox.status("rec-1") == "FAILED"
