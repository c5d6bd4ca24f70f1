"""The S3 example, end to end: the AWS provider against moto, the report against a sandbox."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from ci_job_cli import CiJob, file, packed
from conftest import MAIN, ROOT, Sandbox, clean_environment
from moto_server import Moto, moto_server
from terraform_cli import mirror_settings

EXAMPLE = ROOT / "terraform" / "examples" / "s3-bucket"
TRACER_TAG = "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE"


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[Moto]:
    with moto_server(tmp_path) as moto:
        yield moto


@pytest.fixture
def environment(tmp_path: Path, moto: Moto, sandbox: Sandbox) -> dict[str, str]:
    return clean_environment(
        tmp_path,
        **sandbox.environment,
        **mirror_settings(tmp_path, "hashicorp/aws"),
        AWS_ENDPOINT_URL=moto.url,
        CHECKPOINT_DISABLE="1",
    )


def test_bucket_has_the_tags_and_the_record_has_the_buckets_name(
    tmp_path: Path, moto: Moto, sandbox: Sandbox, environment: dict[str, str]
) -> None:
    artifact = tmp_path / "s3-bucket"
    artifact.mkdir()
    for source in EXAMPLE.glob("*.tf"):
        (artifact / source.name).write_text(source.read_text())
    done = subprocess.run(
        [sys.executable, MAIN, "run", "--chdir", artifact],
        input=(EXAMPLE / "message.json").read_bytes(),
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert bucket_tags(moto) == {"team": "platform", TRACER_TAG: "pp-demo"}
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


IN_ANOTHER_REGION = """
provider "aws" {
  alias  = "other"
  region = "eu-west-1"
}
resource "aws_s3_bucket" "other" {
  provider = aws.other
  bucket   = "in-another-region"
}
"""
CONTAINER = "CONTAINERKEY"
EXPORT_CREDENTIALS = f"""
if [ "$1 $2" = "configure export-credentials" ]; then
  exec {sys.executable} -c 'import botocore.session as b, json
c = b.get_session().get_credentials().get_frozen_credentials()
print(json.dumps(dict(Version=1, AccessKeyId=c[0], SecretAccessKey=c[1], SessionToken=c[2])))'
fi
"""
"""Version 2 of the AWS CLI has this command, version 1, which PyPI has, does not."""


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is missing on PATH")
def test_ci_job_provisions_and_terminates(
    tmp_path: Path,
    moto: Moto,
    start_sandbox: Callable[..., Sandbox],
    environment: dict[str, str],
    container: str,
) -> None:
    """On an engine with a container's credentials, as in CodeBuild: every configuration of the
    provider has the launch role, so has who fetches the artifact; the state is the engine's."""
    job = CiJob(tmp_path, start_sandbox("--record", "rec-demo", "--record", "rec-end"), moto)
    job.put("aws", EXPORT_CREDENTIALS + f'exec {sys.executable} -m awscli "$@"')
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del job.environment[name]
    job.environment |= {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": container,
        "TF_CLI_CONFIG_FILE": environment["TF_CLI_CONFIG_FILE"],
    }
    files = [file(path.name, path.read_text()) for path in sorted(EXAMPLE.glob("*.tf"))]
    job.upload("s3-bucket.tar.gz", packed(*files, file("other.tf", IN_ANOTHER_REGION)))
    message = json.loads((EXAMPLE / "message.json").read_text())
    done = job.run(message)
    assert done.returncode == 0, done.stderr.decode()
    assert job.sandbox.status("rec-demo") == "SUCCEEDED"
    assert bucket_tags(moto)[TRACER_TAG] == "pp-demo"
    kept = ("token", "provisionedProductId", "launchRoleArn")
    end = {"operation": "TERMINATE_PROVISIONED_PRODUCT", "recordId": "rec-end"}
    done = job.run({name: message[name] for name in kept} | end)
    assert done.returncode == 0, done.stderr.decode()
    assert job.sandbox.status("rec-end") == "SUCCEEDED"
    assert [bucket["Name"] for bucket in job.s3.list_buckets()["Buckets"]] == ["artifacts", "state"]
    signed_by: dict[str, set[str]] = {}
    for _, path, key in moto.requests():
        if key != "test":  # the test's own
            signed_by.setdefault(path.split("/")[1] if path[0] == "/" else path, set()).add(key)
    assert signed_by["state"] == {CONTAINER}
    for name in ("artifacts", "workflow-result-demo", "in-another-region"):
        assert signed_by[name]
        assert CONTAINER not in signed_by[name]


@pytest.fixture
def container() -> Iterator[str]:
    """The URL at which a container's credentials are found."""
    expiration = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    credentials = {"AccessKeyId": CONTAINER, "SecretAccessKey": "s", "Token": "t"}
    body = json.dumps(credentials | {"Expiration": expiration}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/credentials"
        server.shutdown()


def s3_client(moto: Moto) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=moto.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def bucket_tags(moto: Moto) -> dict[str, str]:
    tags = s3_client(moto).get_bucket_tagging(Bucket="workflow-result-demo")["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in tags}
