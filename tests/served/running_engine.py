"""The module `engine` applied at stand-ins, and at work: queues, functions, builds, events.

Queues, functions, table, buckets, roles and schedule are ministack's. Builds are carried out here,
by the commands of the project's own buildspec, in the environment that the project gives them.
Service Catalog is the sandbox.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from codebuild_server import CodeBuild, Members, codebuild_server
from conftest import CREDENTIALS, Sandbox, clean_environment
from installed_engine import InstalledEngine
from ministack_server import Ministack


class RunningEngine:
    """An engine, installed and at work, in the folder `home`."""

    def __init__(
        self,
        home: Path,
        ministack: Ministack,
        sandbox: Sandbox,
        codebuild: CodeBuild,
        package: Path,
        settings: Mapping[str, str] | None,
        **variables: Any,
    ) -> None:
        self.home, self.ministack, self.sandbox = home, ministack, sandbox
        self.codebuild = codebuild
        self.module = InstalledEngine(home, ministack, package, settings)
        version = json.loads(self.module("version", "-json").stdout)["terraform_version"]
        sums = {version: 64 * "0"}  # it is on PATH already
        self.module.install(
            terraform_version=version, terraform_checksums=sums, log_link=True, **variables
        )
        self.queues: dict[str, str] = self.module.output("queue_urls")
        self.dead: str = self.module.output("dead_letter_queue_url")
        self.state: str = self.module.output("state_bucket")
        codebuild.project = self.module.output("build_project")
        self.elsewhere = {
            "AWS_ENDPOINT_URL_SERVICE_CATALOG": sandbox.url,
            "AWS_ENDPOINT_URL_CODEBUILD": codebuild.url,
        }
        self.s3 = ministack.client("s3")
        self.sqs = ministack.client("sqs")
        self.functions = ministack.client("lambda")
        for function in self.functions.list_functions()["Functions"]:
            given = function.get("Environment", {}).get("Variables", {})
            self.functions.update_function_configuration(
                FunctionName=function["FunctionName"],
                Environment={"Variables": given | self.elsewhere},
            )
        self.s3.create_bucket(Bucket="artifacts")
        self.refuses_builds = False
        """Whether no build that is asked for begins, from now on."""
        self.builds: dict[str, subprocess.Popen[bytes]] = {}
        self.logs: dict[str, Path] = {}
        self._ended = threading.Event()
        self._attending = threading.Thread(target=self._attend)
        self._attending.start()

    def close(self) -> None:
        self._ended.set()
        self._attending.join()
        for build in self.builds.values():
            with suppress(ProcessLookupError):
                os.killpg(build.pid, signal.SIGKILL)

    def order(self, message: dict[str, Any]) -> None:
        """What Service Catalog does: a message for the queue of its operation."""
        operation = message["operation"].partition("_")[0].title()
        self.sqs.send_message(QueueUrl=self.queues[operation], MessageBody=json.dumps(message))

    def finish(self, event: Members) -> None:
        """Call the function `finish`, as EventBridge does."""
        answer = self.functions.invoke(
            FunctionName=f"{self.codebuild.project}-finish", Payload=json.dumps(event).encode()
        )
        assert "FunctionError" not in answer, answer["Payload"].read()

    def reports_to(self, url: str) -> None:
        """Where builds report to, from now on."""
        self.elsewhere["AWS_ENDPOINT_URL_SERVICE_CATALOG"] = url

    def status(self, record: str) -> str:
        return self.sandbox.status(record)

    def journal(self) -> list[dict[str, Any]]:
        """What is in the journal's table, bodies as text."""
        table = self.ministack.client("dynamodb")
        items: list[dict[str, Any]] = table.scan(TableName="workflow-result")["Items"]
        for item in items:
            if "body" in item:
                item["body"] = zlib.decompress(item["body"]["B"]).decode()
        return items

    def left(self, queue: str) -> int:
        """How many messages a queue has, invisible ones included."""
        return self._left(self.queues[queue])

    def left_dead(self) -> int:
        return self._left(self.dead)

    def _left(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def holds_lock(self, key: str) -> bool:
        found = self.s3.list_objects_v2(Bucket=self.state, Prefix=f"{key}.tflock")
        return bool(found["KeyCount"])

    def build(self, record: str) -> Members | None:
        """The build that was asked for, for a record."""
        if record not in self.codebuild.records():
            return None
        return self.codebuild.builds[self.codebuild.records().index(record)]

    def is_building(self, record: str) -> bool:
        build = self.build(record)
        return build is not None and build["buildStatus"] == "IN_PROGRESS"

    def log(self, record: str) -> str:
        build = self.build(record)
        log = build and self.logs.get(build["id"])
        return log.read_text(errors="replace") if log else ""

    def stop_build(self, record: str) -> None:
        """What StopBuild does: it asks, and it does not wait for long."""
        build = self.build(record)
        assert build
        os.killpg(self.builds[build["id"]].pid, signal.SIGTERM)
        time.sleep(1)
        self.kill_machine(record)

    def until_ended(self, *records: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while any(self.status(record) == "IN_PROGRESS" for record in records):
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)

    def kill_machine(self, record: str) -> None:
        """Kill all that a build for a record has started, at once."""
        build = self.build(record)
        assert build
        found, seen = [self.builds[build["id"]].pid], set[int]()
        while found:
            pid = found.pop()
            seen.add(pid)
            with suppress(OSError):
                os.kill(pid, signal.SIGSTOP)  # it shall start nothing more
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        for pid in seen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def told(self) -> str:
        """What builds have said."""
        return "\n".join(log.read_text() for log in self.logs.values())

    def _attend(self) -> None:
        """Carry out builds as they are asked for, and tell of their end."""
        while not self._ended.wait(0.05):
            for number, build in enumerate(list(self.codebuild.builds)):
                if build["buildStatus"] != "IN_PROGRESS":
                    continue
                process = self.builds.get(build["id"])
                if process is None:
                    if not self.refuses_builds:
                        self.builds[build["id"]] = self._begin(build)
                elif process.poll() is not None:
                    code = process.returncode
                    status = "FAULT" if code < 0 else "FAILED" if code else "SUCCEEDED"
                    self.finish(self.codebuild.end(number, status, said=f"exit status {code}"))

    def _begin(self, build: Members) -> subprocess.Popen[bytes]:
        """Begin a build: its source, its environment, its commands in one shell."""
        client = self.ministack.client("codebuild")
        (project,) = client.batch_get_projects(names=[self.codebuild.project])["projects"]
        folder = self.home / "builds" / build["id"].replace(":", "-")
        bucket, _, key = project["source"]["location"].partition("/")
        source = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        with zipfile.ZipFile(io.BytesIO(source)) as archive:
            archive.extractall(folder)
        spec = yaml.safe_load(project["source"]["buildspec"])
        commands = [c for phase in ("install", "build") for c in spec["phases"][phase]["commands"]]
        variables = {
            variable["name"]: variable["value"]
            for given in (project["environment"], build["environment"])
            for variable in given.get("environmentVariables", [])
        }
        url = f"https://console.example.com/{build['id']}"
        temporary = folder / "tmp"
        temporary.mkdir()
        environment = (
            clean_environment(self.home, **CREDENTIALS, **variables)
            | {"AWS_ENDPOINT_URL": self.ministack.url, "CODEBUILD_BUILD_ID": build["id"]}
            | self.elsewhere
            | {"CODEBUILD_BUILD_URL": url, "TMPDIR": str(temporary), "CHECKPOINT_DISABLE": "1"}
        )
        settings = self.module.environment.get("TF_CLI_CONFIG_FILE")
        if settings:
            environment["TF_CLI_CONFIG_FILE"] = settings
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        self.logs[build["id"]] = folder / "log"
        with self.logs[build["id"]].open("wb") as log:
            return subprocess.Popen(
                ["bash", "-ec", "\n".join(commands)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def running_engine(
    home: Path,
    ministack: Ministack,
    sandbox: Sandbox,
    package: Path,
    settings: Mapping[str, str] | None = None,
    **variables: Any,
) -> Iterator[RunningEngine]:
    """Install one; its builds end with the context."""
    with codebuild_server() as codebuild:
        engine = RunningEngine(home, ministack, sandbox, codebuild, package, settings, **variables)
        try:
            yield engine
        finally:
            engine.close()
