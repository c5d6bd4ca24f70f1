"""What the tests of ci-job.sh share: the job as a process, its bucket, its artifacts."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import boto3
from conftest import MAIN, ROOT, Sandbox, clean_environment
from moto_server import Moto

SCRIPT = ROOT / "terraform" / "examples" / "ci-job.sh"
TOKEN = "0c9a2f3e-57b1-4f0e-9d35-7f1f0e6b8a11"
ROLE = "arn:aws:iam::210987654321:role/launch"
MESSAGE: dict[str, Any] = {
    "token": TOKEN,
    "operation": "PROVISION_PRODUCT",
    "provisionedProductId": "pp-1",
    "recordId": "rec-demo",
    "launchRoleArn": ROLE,
    "artifact": {"path": "s3://artifacts/a product/v1.tar.gz", "type": "AWS_S3"},
    "identity": {"principal": "p", "awsAccountId": "123456789012", "organizationId": None},
    "parameters": [],
    "tags": [],
}
ENGINE_KEY = "ENGINEKEY"
ENGINE = {"AWS_ACCESS_KEY_ID": ENGINE_KEY, "AWS_SECRET_ACCESS_KEY": "engine"}


def update(record: str, path: str, **parameters: str) -> dict[str, Any]:
    """The message of an update to the artifact at this path."""
    return MESSAGE | {
        "operation": "UPDATE_PROVISIONED_PRODUCT",
        "recordId": record,
        "artifact": {"path": path, "type": "AWS_S3"},
        "parameters": [{"key": key, "value": value} for key, value in parameters.items()],
    }


def terminate(record: str) -> dict[str, Any]:
    """The message that ends the product: it has neither artifact nor parameters."""
    kept = {name: MESSAGE[name] for name in ("token", "provisionedProductId", "launchRoleArn")}
    return (
        kept
        | {"identity": MESSAGE["identity"]}
        | {"operation": "TERMINATE_PROVISIONED_PRODUCT", "recordId": record}
    )


def packed(*members: str | tuple[tarfile.TarInfo, bytes], **files: str) -> bytes:
    """A tar.gz archive of these members, then of files: `main_tf="…"` is main.tf."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            info, content = (tarfile.TarInfo(member), b"") if isinstance(member, str) else member
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("_tf", ".tf"))
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """A link for an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def file(name: str, content: str) -> tuple[tarfile.TarInfo, bytes]:
    """A file for an archive."""
    return tarfile.TarInfo(name), content.encode()


class CiJob:
    """A machine with ci-job.sh, and its own `aws` where a test gives one."""

    def __init__(
        self, home: Path, sandbox: Sandbox, moto: Moto | None = None, record: str = "rec-demo"
    ) -> None:
        self.home = home
        self.sandbox = sandbox
        self.script = SCRIPT
        self.record = record
        self.bin = home / "bin"
        self.temporary = home / "tmp"
        for folder in (self.bin, self.temporary):
            folder.mkdir()
        self.put("main.py", f'exec {sys.executable} {MAIN} "$@"')
        self.put("aws", f'exec {sys.executable} -m awscli "$@"')
        self.environment = clean_environment(
            home,
            **sandbox.environment,
            **({"AWS_ENDPOINT_URL": moto.url} if moto else {}),
            STATE_BUCKET="state",
            TMPDIR=str(self.temporary),
            CHECKPOINT_DISABLE="1",
        )
        self.environment |= ENGINE | {"PATH": f"{self.bin}:{self.environment['PATH']}"}
        if moto:
            self.s3: Any = boto3.client(
                "s3",
                endpoint_url=moto.url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            for bucket in ("artifacts", "state"):
                self.s3.create_bucket(Bucket=bucket)

    def put(self, name: str, script: str) -> None:
        """Put a program on PATH."""
        (self.bin / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.bin / name).chmod(0o755)

    def serve(self, archive: bytes) -> None:
        """Let `aws` answer with this artifact, and assume every role."""
        (self.home / "served").write_bytes(archive)
        self.put(
            "aws",
            f"""case "$*" in
            *assume-role*) echo '{{"AccessKeyId": "L", "SecretAccessKey": "s"}}' ;;
            *get-object*) exec cp "{self.home}/served" "${{!#}}" ;;
            esac""",
        )

    def upload(self, key: str, archive: bytes) -> None:
        self.s3.put_object(Bucket="artifacts", Key=key, Body=archive)

    def start(self, message: Any = MESSAGE, **variables: str) -> subprocess.Popen[bytes]:
        """Start it for a message; that of its own record, where it is not for another."""
        if isinstance(message, dict) and message.get("recordId") == MESSAGE["recordId"]:
            message = message | {"recordId": self.record}
        text = message if isinstance(message, str) else json.dumps(message)
        return subprocess.Popen(
            [self.script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment | {"MESSAGE": text} | variables,
        )

    def run(self, message: Any = MESSAGE, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end, the removal of its folder included."""
        process = self.start(message, **variables)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(self.script, process.returncode, stdout, stderr)

    def reason(self, record: str | None = None) -> str:
        """The FailureReason that Service Catalog has."""
        detail = self.sandbox.record(record or self.record)["RecordDetail"]
        assert detail["Status"] == "FAILED"
        return str(detail["RecordErrors"][0]["Description"])

    def left_behind(self) -> list[str]:
        """What lies in the folder for temporary files."""
        return sorted(path.name for path in self.temporary.iterdir())
