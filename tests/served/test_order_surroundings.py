"""What an order has around it: whose credentials, which state, whose lock, which log."""

import io
import json
import tarfile
from pathlib import Path

from conftest import CREDENTIALS
from ministack_server import Ministack
from served_cli import ACCOUNT, HELLO, Station, order, packed
from terraform_cli import Terraform, mirror_settings
from test_orders import STATE, WAIT, lock, until_applying
from watched_calls import watched

ALIASES = """
variable "name" {
  type = string
}
provider "aws" {
  s3_use_path_style = true
}
provider "aws" {
  alias             = "other"
  region            = "eu-west-1"
  s3_use_path_style = true
}
resource "aws_s3_bucket" "here" {
  bucket = "${var.name}-here"
}
resource "aws_s3_bucket" "there" {
  provider = aws.other
  bucket   = "${var.name}-there"
}
"""


def test_providers_have_the_launch_role_and_the_backend_the_engine_s(
    station: Station, ministack: Ministack
) -> None:
    """A product of AWS's with provider aliases, from its order to its end."""
    name = f"product{station.suffix}"
    key = CREDENTIALS["AWS_ACCESS_KEY_ID"]
    with watched(ministack.url, key) as engine, watched(engine.url) as everybody:
        settings = mirror_settings(station.home, "hashicorp/aws")
        settings["AWS_ENDPOINT_URL"] = everybody.url
        station.upload("v1", packed(main_tf=ALIASES))
        station.send(order(name=name))
        _, _, stderr = station.work(**settings)
        assert station.sandbox.status("rec-1") == "SUCCEEDED", stderr
        buckets = {bucket["Name"] for bucket in station.s3.list_buckets()["Buckets"]}
        assert {f"{name}-here", f"{name}-there"} <= buckets
        kept = station.s3.get_object(Bucket=station.state, Key=f"{STATE}.artifact.tar.gz")
        with tarfile.open(fileobj=io.BytesIO(kept["Body"].read())) as archive:
            names = archive.getnames()
        assert "./artifact/.terraform.lock.hcl" in names
        assert not [name for name in names if ".terraform/" in name]

        station.send(order("TERMINATE_PROVISIONED_PRODUCT", "rec-2"))
        _, _, stderr = station.work(**settings)
    assert station.sandbox.status("rec-2") == "SUCCEEDED", stderr
    assert "Reusing previous version from the dependency lock file" in stderr
    assert "2 destroyed" in stderr
    mine = {on for _, on in engine.calls if on.startswith("arn:aws:s3")}
    role_s = {on for _, on in everybody.calls - engine.calls if on.startswith("arn:aws:s3")}
    assert role_s == {f"arn:aws:s3:::{name}-here", f"arn:aws:s3:::{name}-there"} | {
        f"arn:aws:s3:::{station.artifacts}/v1"
    }
    state = f"arn:aws:s3:::{station.state}"
    own = ("check", STATE, f"{STATE}.seen", f"{STATE}.tflock", f"{STATE}.artifact.tar.gz")
    assert mine == {state} | {f"{state}/{key}" for key in own}


def test_state_and_what_lies_beside_it_are_encrypted_with_the_bucket_s_key(
    station: Station,
) -> None:
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    station.s3.put_bucket_encryption(
        Bucket=station.state,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": default}]
        },
    )
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order())
    station.work()
    found = {
        name: station.s3.head_object(Bucket=station.state, Key=name).get("SSEKMSKeyId")
        for name in station.kept()
    }
    assert found == dict.fromkeys([STATE, f"{STATE}.artifact.tar.gz", f"{STATE}.seen"], key)


def test_orders_share_nothing_by_terraform_s_own_variables(station: Station) -> None:
    shared = station.home / "shared"
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order())
    station.work(TF_DATA_DIR=str(shared), TF_WORKSPACE="other")
    assert station.sandbox.status("rec-1") == "SUCCEEDED"
    assert STATE in station.kept()
    assert not shared.exists()


def test_files_of_the_worker_s_environment_are_not_the_artifact_s(station: Station) -> None:
    (station.home / "terraform.rc").write_text("disable_checkpoint = true\n")
    own = {"terraform.rc": "this is { no configuration"}
    station.upload("v1", packed(main_tf=HELLO, **own))
    station.send(order())
    _, _, stderr = station.work(TF_CLI_CONFIG_FILE="terraform.rc")
    assert station.sandbox.status("rec-1") == "SUCCEEDED", stderr


def test_person_s_terraform_sees_whose_lock_it_is_and_can_remove_it(
    station: Station, tmp_path: Path
) -> None:
    gate = station.home / "gate"
    slow = WAIT.replace("exec sleep 300", f"until [ -e '{gate}' ]; do sleep 0.1; done")
    station.upload("v1", packed(main_tf=slow % (station.home / "applying")))
    station.send(order())
    process = station.start("--once", output="/dev/null")
    until_applying(station)
    held = lock(station)
    assert held
    person = Terraform(tmp_path / "person", **station.environment)
    backend = {"bucket": station.state, "key": STATE, "use_lockfile": True, "use_path_style": True}
    (person.folder / "main.tf.json").write_text(
        json.dumps({"terraform": {"backend": {"s3": backend}}})
    )
    person.init()
    planned = person("plan", "-no-color", "-lock-timeout=0s")
    assert planned.code == 1
    assert held["ID"] in planned.stderr
    assert "OperationTypeApply" in planned.stderr
    assert "Service Catalog record rec-1, in " in planned.stderr
    unlocked = person("force-unlock", "-force", held["ID"])
    assert unlocked.code == 0, unlocked.stderr
    assert lock(station) is None
    gate.touch()
    assert process.wait() == 0
    assert station.sandbox.status("rec-1") == "SUCCEEDED"


def test_reason_ends_with_its_log_however_long_it_is(station: Station) -> None:
    url = "https://console.example.com/log?" + "x" * 200
    talks = station.program("printf '%0150d\\n' {1..40} >&2; exit 1")
    station.upload("v1", packed(main_tf=HELLO))
    station.send(order())
    station.work("--terraform", talks, WORKFLOW_RESULT_LOG_URL=url)
    detail = station.sandbox.record("rec-1")["RecordDetail"]
    (reason,) = [error["Description"] for error in detail["RecordErrors"]]
    assert reason.startswith("program init failed")
    assert reason.endswith(f"\nLog: {url}")
    assert 1800 < len(reason) <= 2048
