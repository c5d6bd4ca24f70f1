"""The S3 example, end to end: the AWS provider against moto, the report against a sandbox."""

import json
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import MAIN, ROOT, Sandbox, clean_environment, provider_mirror

EXAMPLE = ROOT / "terraform" / "examples" / "s3-bucket"
TRACER_TAG = "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE"


@pytest.fixture
def moto_url(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(tmp_path),
    )
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate()


@pytest.fixture
def environment(tmp_path: Path, moto_url: str, sandbox: Sandbox) -> dict[str, str]:
    mirror = provider_mirror("hashicorp/aws")
    config = tmp_path / "terraform.rc"
    config.write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n'
    )
    return clean_environment(
        tmp_path,
        **sandbox.environment,
        AWS_ENDPOINT_URL=moto_url,
        TF_CLI_CONFIG_FILE=str(config),
        CHECKPOINT_DISABLE="1",
    )


def test_bucket_has_the_tags_and_the_record_has_the_buckets_name(
    tmp_path: Path, moto_url: str, sandbox: Sandbox, environment: dict[str, str]
) -> None:
    artifact = tmp_path / "s3-bucket"
    artifact.mkdir()
    for file in EXAMPLE.glob("*.tf"):
        (artifact / file.name).write_text(file.read_text())
    done = subprocess.run(
        [sys.executable, MAIN, "run", "--chdir", artifact],
        input=(EXAMPLE / "message.json").read_bytes(),
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert bucket_tags(moto_url) == {"team": "platform", TRACER_TAG: "pp-demo"}
    assert sandbox.record()["RecordOutputs"] == [
        {
            "OutputKey": "bucket_arn",
            "OutputValue": "arn:aws:s3:::workflow-result-demo",
            "Description": "ARN of the bucket, for IAM policies.",
        },
        {
            "OutputKey": "bucket_name",
            "OutputValue": "workflow-result-demo",
            "Description": "Name of the bucket.",
        },
    ]
    assert sandbox.status() == "SUCCEEDED"


needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is missing on PATH")


@needs_jq
def test_ci_job_provisions_and_terminates(
    tmp_path: Path,
    moto_url: str,
    start_sandbox: Callable[..., Sandbox],
    environment: dict[str, str],
) -> None:
    """The script with the artifact and the state in S3, and the launch role assumed, at moto."""
    sandbox = start_sandbox("--record", "rec-demo", "--record", "rec-end")
    s3 = s3_client(moto_url)
    for bucket in ("artifacts", "state"):
        s3.create_bucket(Bucket=bucket)
    with tarfile.open(tmp_path / "artifact.tar.gz", "w:gz") as archive:
        for file in EXAMPLE.glob("*.tf"):
            archive.add(file, file.name)
    s3.upload_file(str(tmp_path / "artifact.tar.gz"), "artifacts", "s3-bucket.tar.gz")
    commands = {
        "main.py": f'exec {sys.executable} {MAIN} "$@"',
        "aws": f'exec {sys.executable} {Path(__file__).with_name("aws_s3_cp.py")} "$@"',
    }
    environment |= sandbox.environment | {
        "PATH": f"{tmp_path}/bin:{environment['PATH']}",
        "TMPDIR": str(tmp_path),
        "STATE_BUCKET": "state",
    }
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def job(message: dict[str, Any]) -> None:
        done = subprocess.run(
            [ROOT / "terraform" / "examples" / "ci-job.sh"],
            capture_output=True,
            env=environment | {"MESSAGE": json.dumps(message)},
        )
        assert done.returncode == 0, done.stderr.decode()

    message = json.loads((EXAMPLE / "message.json").read_text())
    job(message)
    assert sandbox.status("rec-demo") == "SUCCEEDED"
    assert bucket_tags(moto_url)[TRACER_TAG] == "pp-demo"
    kept = ("token", "provisionedProductId", "launchRoleArn")
    end = {"operation": "TERMINATE_PROVISIONED_PRODUCT", "recordId": "rec-end"}
    job({name: message[name] for name in kept} | end)
    assert sandbox.status("rec-end") == "SUCCEEDED"
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["artifacts", "state"]


@needs_jq
@pytest.mark.parametrize(
    ("aws", "state_bucket"),
    [("exit 1", "state"), ("kill -TERM $PPID", "state"), ("exit 0", "")],
    ids=["failed", "stopped", "no bucket"],
)
def test_ci_job_that_cannot_be_prepared_is_reported_failed(
    tmp_path: Path, sandbox: Sandbox, aws: str, state_bucket: str
) -> None:
    message = (EXAMPLE / "message.json").read_text()
    variables = sandbox.environment | {"MESSAGE": message, "STATE_BUCKET": state_bucket}
    assert ci_job(tmp_path, aws, **variables).returncode == 1
    detail = sandbox.record()["RecordDetail"]
    assert detail["RecordErrors"][0]["Description"] == "The engine could not prepare the run."


@needs_jq
@pytest.mark.parametrize("message", ["", "no JSON", "{}"])
def test_ci_job_without_a_message_says_so(tmp_path: Path, message: str) -> None:
    done = ci_job(tmp_path, "exit 1", MESSAGE=message, STATE_BUCKET="state")
    assert done.returncode == 65
    assert done.stderr == b"MESSAGE holds no operation message of Service Catalog\n"


def ci_job(home: Path, aws: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run the script where `aws` is another one."""
    (home / "bin").mkdir()
    for name, text in {"main.py": f'exec {sys.executable} {MAIN} "$@"', "aws": aws}.items():
        (home / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (home / "bin" / name).chmod(0o755)
    environment = clean_environment(home, **variables, TMPDIR=str(home))
    environment["PATH"] = f"{home}/bin:{environment['PATH']}"
    script = ROOT / "terraform" / "examples" / "ci-job.sh"
    return subprocess.run([script], capture_output=True, env=environment)


def s3_client(moto_url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=moto_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def bucket_tags(moto_url: str) -> dict[str, str]:
    tags = s3_client(moto_url).get_bucket_tagging(Bucket="workflow-result-demo")["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in tags}
