"""What the tests of the engine share: a working directory, and `main.py run` for a message."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import warm
from conftest import MAIN, UUID_TOKEN, Outcome, Sandbox, clean_environment
from terraform_cli import stand_in_mirror

TRACER = {"Key": "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE", "Value": "pp-1"}
MESSAGE = {
    "token": UUID_TOKEN,
    "operation": "PROVISION_PRODUCT",
    "provisionedProductId": "pp-1",
    "provisionedProductName": "a product",
    "recordId": "rec-demo",
    "launchRoleArn": "arn:aws:iam::123456789012:role/launch",
    "productId": "prod-1",
    "provisioningArtifactId": "pa-1",
    "artifact": {"path": "S3://bucket/key", "type": "AWS_S3"},
    "identity": {"principal": "p", "awsAccountId": "123456789012", "organizationId": None},
    "parameters": [],
    "tags": [],
    "somethingNew": {"added": "later"},
}
TERMINATE = {
    name: MESSAGE[name] for name in ("token", "provisionedProductId", "recordId", "launchRoleArn")
} | {"operation": "TERMINATE_PROVISIONED_PRODUCT"}


class Engine:
    """An engine that calls `main.py run`: a working directory and a sandbox."""

    def __init__(self, home: Path, sandbox: Sandbox) -> None:
        self.home = home
        self.sandbox = sandbox
        self.directory = home / "artifact"
        self.directory.mkdir()

    def configure(self, text: str) -> None:
        (self.directory / "main.tf").write_text(text)

    def wrapper(self, script: str) -> str:
        """A program that runs the real Terraform with "$@" somewhere in this script."""
        file = self.home / "wrapper"
        file.write_text(f"#!/bin/bash\n{script}\n")
        file.chmod(0o755)
        return str(file)

    def start(
        self,
        *options: str,
        message: Any = None,
        before: Callable[[], object] | None = None,
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, MAIN, "run", "--chdir", self.directory, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(variables),
            cwd=self.home,
            preexec_fn=before,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(message or MESSAGE).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def end(self, process: subprocess.Popen[bytes]) -> Outcome:
        stdout, stderr = process.communicate()
        return Outcome(process.returncode, stdout.decode(), stderr.decode())

    def run(self, *options: str, message: Any = None, **settings: Any) -> Outcome:
        if "before" in settings:
            return self.end(self.start(*options, message=message, **settings))
        code, stdout, stderr = warm.run(
            ["run", "--chdir", self.directory, *options],
            json.dumps(message or MESSAGE).encode(),
            self._environment(settings),
            self.home,
        )
        return Outcome(code, stdout.decode(), stderr.decode())

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        environment = self.sandbox.environment | {"CHECKPOINT_DISABLE": "1"} | variables
        return clean_environment(self.home, **environment)

    def reason(self) -> str:
        """The FailureReason that Service Catalog has."""
        detail = self.sandbox.record()["RecordDetail"]
        assert detail["Status"] == "FAILED"
        return str(detail["RecordErrors"][0]["Description"])

    def outputs(self) -> dict[str, str]:
        return {o["OutputKey"]: o["OutputValue"] for o in self.sandbox.record()["RecordOutputs"]}


def limit_file_size(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def kill_left_over(home: Path) -> None:
    """End what a Terraform that was killed has left running."""
    for pid in running(home):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def running(home: Path) -> list[int]:
    """Processes of this test, told by the HOME that only they have; the sandbox is not one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            own = f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0")
            if own and b"sandbox" not in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def read_until(process: subprocess.Popen[bytes], text: str) -> None:
    """Read stderr up to a line with this text."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line.decode():
            return
    raise AssertionError(f"ended before it said {text!r}")


GREETING = """
variable "name" {
  type    = string
  default = "nobody"
}
resource "terraform_data" "greeting" {
  input = "hello ${var.name}"
}
output "greeting" {
  description = "What it says"
  value       = terraform_data.greeting.output
}
"""
ONE_RESOURCE = 'resource "terraform_data" "a" {}\n'
SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "echo begun; exec sleep 60"
  }
}
"""


def external_provider(engine: Engine) -> str:
    """The path of a CLI configuration with the stand-in for hashicorp/external."""
    config = engine.home / "terraform.rc"
    mirror = stand_in_mirror(engine.home)
    config.write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n'
    )
    return str(config)


def external_program(program: list[str]) -> str:
    return f'data "external" "program" {{\n  program = {json.dumps(program)}\n}}\n'


def hold_state_lock(engine: Engine, command: str) -> subprocess.Popen[bytes]:
    """Start a Terraform that has the lock of the engine's state while it runs this command."""
    engine.configure(SLOW.replace("exec sleep 60", command))
    terraform = ["terraform", f"-chdir={engine.directory}"]
    environment = clean_environment(engine.home)
    subprocess.run([*terraform, "init"], check=True, capture_output=True, env=environment)
    holder = subprocess.Popen(
        [*terraform, "apply", "-auto-approve", "-no-color"],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert holder.stdout is not None
    while b"begun" not in holder.stdout.readline():
        pass
    return holder
