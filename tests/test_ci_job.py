"""ci-job.sh: an order from the message to the report, S3 and STS at moto."""

import io
import json
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ci_job_cli import ENGINE_KEY, MESSAGE, TOKEN, CiJob, file, link, packed, terminate, update
from conftest import Sandbox
from moto_server import Moto, moto_server

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is missing on PATH")

STATE = "123456789012/pp-1"
PRODUCT = """
variable "greeting" {
  type = string
}
resource "terraform_data" "this" {
  input = var.greeting
}
output "greeting" {
  value = terraform_data.this.output
}
"""


@pytest.fixture(scope="module")
def one_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with moto_server(tmp_path_factory.mktemp("moto")) as moto:
        yield moto


@pytest.fixture
def moto(one_moto: Moto) -> Moto:
    one_moto.reset()
    return one_moto


@pytest.fixture
def job(tmp_path: Path, moto: Moto, start_sandbox: Callable[..., Sandbox]) -> CiJob:
    """A job with the real aws, and four records that wait."""
    records = ("rec-demo", "rec-2", "rec-3", "rec-4")
    sandbox = start_sandbox(*(option for name in records for option in ("--record", name)))
    return CiJob(tmp_path, sandbox, moto)


def ordered(greeting: str) -> dict[str, object]:
    return MESSAGE | {"parameters": [{"key": "greeting", "value": greeting}]}


def test_a_product_lives_and_dies(job: CiJob, moto: Moto) -> None:
    """Provisioned, an update that does not plan, one that fails half-way, terminated: with the
    artifact, the parameters and the lock file of what was applied last."""
    job.upload("a product/v1.tar.gz", packed(main_tf=PRODUCT))
    done = job.run(ordered("hello"))
    assert done.returncode == 0, done.stderr.decode()
    assert job.sandbox.record()["RecordOutputs"] == [
        {"OutputKey": "greeting", "OutputValue": "hello"}
    ]
    assert keys(job) == [STATE, f"{STATE}.artifact.tar.gz"]

    job.upload("v2", packed(main_tf=PRODUCT + "nonsense"))
    assert job.run(update("rec-2", "S3://artifacts/v2", greeting="no")).returncode == 1
    assert kept(job)["parameters.json"] == [{"key": "greeting", "value": "hello"}]

    half_way = f"""
    resource "terraform_data" "last" {{
      depends_on = [terraform_data.this]
      input      = "{job.home}/destroyed"
      provisioner "local-exec" {{
        when    = destroy
        command = "echo destroyed >${{self.input}}"
      }}
    }}
    resource "terraform_data" "fails" {{
      depends_on = [terraform_data.last]
      provisioner "local-exec" {{
        command = "exit 3"
      }}
    }}
    """
    job.upload("v3", packed(main_tf=PRODUCT + half_way))
    assert job.run(update("rec-3", "S3://artifacts/v3", greeting="hi")).returncode == 1
    assert "exit status 3" in job.reason("rec-3")
    assert kept(job)["parameters.json"] == [{"key": "greeting", "value": "hi"}]

    done = job.run(terminate("rec-4"))
    assert done.returncode == 0, done.stderr.decode()
    assert (job.home / "destroyed").exists()
    assert state_of(job)["resources"] == []
    assert job.left_behind() == []
    for method, path, key in moto.requests():
        if path.startswith("/artifacts/") and method == "GET":
            assert key not in ("", ENGINE_KEY)
        if path.startswith("/state/"):
            assert key in (ENGINE_KEY, "test")


def keys(job: CiJob) -> list[str]:
    return [item["Key"] for item in job.s3.list_objects_v2(Bucket="state")["Contents"]]


def kept(job: CiJob) -> dict[str, object]:
    """The parameters and the names of what is kept beside the state."""
    body = job.s3.get_object(Bucket="state", Key=f"{STATE}.artifact.tar.gz")["Body"]
    with tarfile.open(fileobj=io.BytesIO(body.read())) as archive:
        extracted = archive.extractfile("./parameters.json")
        assert extracted
        return {"parameters.json": json.load(extracted), "names": archive.getnames()}


def test_orders_of_one_product_wait_for_each_other(job: CiJob) -> None:
    slow = SLOW.replace("HOME", str(job.home))
    job.upload("slow", packed(main_tf=PRODUCT + slow))
    job.upload("quick", packed(main_tf=PRODUCT + 'resource "terraform_data" "slow" {}'))
    first = job.start(update("rec-demo", "s3://artifacts/slow", greeting="one"))
    until((job.home / "begun").exists)
    second = job.start(update("rec-2", "s3://artifacts/quick", greeting="two"))
    until(lambda: len(list(job.temporary.glob("*/terraform.pid"))) == 2)
    assert f"{STATE}.tflock" in [
        i["Key"] for i in job.s3.list_objects_v2(Bucket="state")["Contents"]
    ]
    assert job.sandbox.status("rec-2") != "SUCCEEDED"
    (job.home / "gate").touch()
    said = second.communicate()[1].decode()
    assert [first.wait(), second.wait()] == [0, 0], said
    first.communicate()
    outputs = [job.sandbox.record(name)["RecordOutputs"] for name in ("rec-demo", "rec-2")]
    assert [output[0]["OutputValue"] for output in outputs] == ["one", "two"]


def test_the_engine_has_the_last_word(job: CiJob) -> None:
    """Whatever the artifact brings along, the state is where the engine keeps it; and a product of
    which nothing but the state was kept can be terminated."""
    elsewhere = "terraform {{ \n  {} \n}}"
    state = {"version": 4, "serial": 9, "lineage": "other", "outputs": {}, "resources": []}
    seen = """
    resource "terraform_data" "seen" {
      provisioner "local-exec" {
        command = "env >HOME/environment; cat /proc/$PPID/cmdline >>HOME/environment"
      }
    }
    """
    artifact = packed(
        file(".terraform/terraform.tfstate", json.dumps({"backend": {"type": "local"}})),
        file(".terraform/environment", "another"),
        file("terraform.tfstate", json.dumps(state)),
        file("terraform.tfstate.d/another/terraform.tfstate", json.dumps(state)),
        file("zzz_override.tf", elsewhere.format('backend "local" {}')),
        file("override.tf.json", "{}"),
        link("~engine_override.tf.json", "main.tf"),
        file("cloud.tf", elsewhere.format('cloud { \n organization = "another" \n }')),
        file("modules/main.tf", ""),
        link("again.tf.txt", "modules/main.tf"),
        main_tf=PRODUCT + seen.replace("HOME", str(job.home)),
    )
    job.upload("a product/v1.tar.gz", artifact)
    done = job.run(ordered("hello"))
    assert done.returncode == 0, done.stderr.decode()
    assert len(state_of(job)["resources"]) == 2
    environment = (job.home / "environment").read_bytes()
    assert b"AWS_CONFIG_FILE=" in environment
    for secret in (TOKEN, "AWS_SECRET_ACCESS_KEY"):
        assert secret.encode() not in environment

    job.s3.delete_object(Bucket="state", Key=f"{STATE}.artifact.tar.gz")
    done = job.run(terminate("rec-2"))
    assert done.returncode == 0, done.stderr.decode()
    assert state_of(job)["resources"] == []


def state_of(job: CiJob) -> dict[str, Any]:
    body = job.s3.get_object(Bucket="state", Key=STATE)["Body"].read()
    state: dict[str, Any] = json.loads(body)
    return state


SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "touch HOME/begun; while [ ! -e HOME/gate ]; do sleep 0.1; done"
  }
}
"""


def start_slow(job: CiJob) -> subprocess.Popen[bytes]:
    """Start a job, and return it when Terraform applies."""
    slow = SLOW.replace("HOME", str(job.home))
    job.upload("a product/v1.tar.gz", packed(main_tf=PRODUCT + slow))
    process = job.start(ordered("hello"))
    until((job.home / "begun").exists)
    return process


def test_a_signal_reaches_terraform(job: CiJob) -> None:
    process = start_slow(job)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 1
    assert "Terraform was stopped during apply: SIGTERM received" in job.reason()
    assert f"{STATE}.tflock" not in keys(job)
    assert job.left_behind() == []


def test_the_folder_stays_as_long_as_terraform_needs_it(job: CiJob) -> None:
    """`run` is killed: Terraform goes on to its end, in the folder."""
    process = start_slow(job)
    process.kill()
    process.wait()
    assert len(job.left_behind()) == 1
    (job.home / "gate").touch()
    process.communicate()  # until who removes the folder has ended
    assert job.left_behind() == []
    assert [r["name"] for r in state_of(job)["resources"]] == ["slow", "this"]


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)
