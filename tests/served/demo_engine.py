"""`make demo-engine`: the engine, installed by Terraform at stand-ins on loopback, and at work.

Three orders: one that works, one that fails, one whose machine is killed while Terraform applies.
Shows what the person who ordered gets to see of each. Leaves nothing running or lying about.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from conftest import sandboxes
from ministack_server import ministack_server
from running_engine import RunningEngine, running_engine
from served_cli import HELLO, order, packed
from served_package import PYTHON, make_package
from terraform_cli import person_settings

FAILS = """
variable "size" {
  type = number
}
resource "terraform_data" "disk" {
  input = var.size
  lifecycle {
    precondition {
      condition     = var.size <= 100
      error_message = "A disk has 100 GB at the most, not ${var.size}."
    }
  }
}
"""
SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "sleep 600"
  }
}
"""


def main() -> None:
    mirror = os.environ.get("TEST_PROVIDER_MIRROR")
    settings = None if mirror else person_settings()
    with tempfile.TemporaryDirectory(prefix="demo-engine-") as folder:
        home = Path(folder)
        say("Making the package …")
        package = home / "workflow-result.zip"
        make_package(package, PYTHON)
        records = [f"--record=rec-{name}" for name in ("works", "fails", "killed", "next")]
        with ministack_server(home) as ministack, sandboxes(home) as start:
            say("Installing the engine: terraform apply, with next to nothing configured …")
            began = time.monotonic()
            with running_engine(home, ministack, start(*records), package, settings) as engine:
                say(f"… installed in {time.monotonic() - began:.0f} s.\n")
                show_orders(engine)


def show_orders(engine: RunningEngine) -> None:
    """Order three times, and once more."""
    for name, text in {"hello": HELLO, "disk": FAILS, "slow": SLOW}.items():
        engine.s3.put_object(Bucket="artifacts", Key=name, Body=packed(main_tf=text))
    say("1. An order that works:")
    engine.order(order(record="rec-works", artifact="S3://artifacts/hello", name="world"))
    show(engine, "rec-works")
    say("2. An order that fails:")
    wrong = order(record="rec-fails", artifact="S3://artifacts/disk", product="pp-2", size="500")
    engine.order(wrong)
    show(engine, "rec-fails")
    say("3. An order whose machine is killed while Terraform applies:")
    slow = order(record="rec-killed", artifact="S3://artifacts/slow", product="pp-3")
    engine.order(slow)
    wait_for(lambda: "Provisioning with" in engine.told())
    engine.kill_machine("rec-killed")
    show(engine, "rec-killed")
    say("   Its lock was left behind. The next order for that product:")
    engine.order(
        order("UPDATE_PROVISIONED_PRODUCT", "rec-next", "S3://artifacts/hello", product="pp-3")
    )
    show(engine, "rec-next")


def show(engine: RunningEngine, record: str) -> None:
    """What DescribeRecord shows to the person who ordered."""
    engine.until_ended(record)
    answer = engine.sandbox.record(record)
    detail = answer["RecordDetail"]
    say(f"   {record}: {detail['Status']}")
    for output in answer.get("RecordOutputs", []):
        say(f"   {output['OutputKey']} = {output['OutputValue']}")
    for error in detail.get("RecordErrors", []):
        for line in error["Description"].splitlines():
            say(f"   | {line}")
    say("")


def wait_for(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.1)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
