"""The S3 example, end to end: the AWS provider against moto, the report against a sandbox."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
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


def test_bucket_has_the_tags_and_the_record_has_the_buckets_name(
    tmp_path: Path, moto_url: str, sandbox: Sandbox
) -> None:
    config = tmp_path / "terraform.rc"
    mirror = provider_mirror("hashicorp/aws")
    config.write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n'
    )
    artifact = tmp_path / "s3-bucket"
    artifact.mkdir()
    for file in EXAMPLE.glob("*.tf"):
        (artifact / file.name).write_text(file.read_text())
    done = subprocess.run(
        [sys.executable, MAIN, "run", "--chdir", artifact],
        input=(EXAMPLE / "message.json").read_bytes(),
        capture_output=True,
        env=clean_environment(
            tmp_path,
            **sandbox.environment,
            AWS_ENDPOINT_URL=moto_url,
            TF_CLI_CONFIG_FILE=str(config),
            CHECKPOINT_DISABLE="1",
        ),
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


def bucket_tags(moto_url: str) -> dict[str, str]:
    client: Any = boto3.client(
        "s3",
        endpoint_url=moto_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    tags = client.get_bucket_tagging(Bucket="workflow-result-demo")["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in tags}
