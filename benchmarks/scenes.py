"""What is measured: one method a measure, named as in the rows of `__main__`.

A method prepares its run and then times only the run. All of it happens in one folder on the
disk of this checkout, since the journal's share is the time that the disk takes.
"""

import http.client
import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.measure import NotMeasured, Sample, process

if TYPE_CHECKING:
    from benchmarks.orders import Orders

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
MAIN = ROOT / "main.py"
MINISTACK = ROOT / "tests" / "ministack" / ".venv" / "bin" / "python"
S3_EXAMPLE = ROOT / "terraform" / "examples" / "s3-bucket"

TOKEN = "965d4597-3088-41ae-87dc-3498daf1d69d"
OWED = 1000
DELAY = 0.05
OLD = 100_000
CLI_RUNS = 40
CLI_AT_ONCE = 8

SMALLEST = """
resource "terraform_data" "this" {
  input = "https://www.example.com"
}
output "url" {
  value = terraform_data.this.output
}
"""


class Scenes:
    """The stage for all measures: endpoints, journals and folders, ended by `at_end`."""

    def __init__(self, folder: Path, at_end: ExitStack) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._at_end = at_end
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        self._environment = kept | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(folder),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CHECKPOINT_DISABLE": "1",
        }
        self._at_once = self._endpoint(0)
        self._slow = self._endpoint(DELAY)
        self._make_journal("new", "reported", 1)
        self._make_journal("old", "reported", OLD)
        self._make_journal("owed", "owed", OWED)
        self._known = self._request("rec-0")

    # --- one call -----------------------------------------------------------------------------

    def validate(self) -> Sample:
        return self._main(["validate"], self._request())

    def notify(self) -> Sample:
        return self._main(["notify"], self._request())

    def notify_old_journal(self) -> Sample:
        return self._main(["notify"], self._request(), journal="old")

    def notify_again(self) -> Sample:
        """Report what is reported already; the warm-up run has reported it."""
        return self._main(["notify"], self._known)

    def boto3_script(self) -> Sample:
        script = HERE / "boto3_notify.py"
        return process([sys.executable, script], self._at_once, self._request())

    def aws_cli(self) -> Sample:
        return process(self._aws_cli(self._request()), self._at_once)

    # --- a journal that machines share --------------------------------------------------------

    def use_ministack(self) -> None:
        """Start a DynamoDB with a table. Raises `NotMeasured` where ministack is missing."""
        if not MINISTACK.exists():
            raise NotMeasured("ministack is missing: `make bench` installs it")
        port = _free_port()
        settings = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0"}
        command = [str(MINISTACK), "-m", "ministack"]
        self._at_end.enter_context(_running(command, self._environment | settings))
        _wait_for("ministack", port)
        url = f"http://127.0.0.1:{port}"
        self._table = _output_of("make_table", url).strip()
        self._shared = self._at_once | {"AWS_ENDPOINT_URL_DYNAMODB": url}

    @cached_property
    def orders(self) -> "Orders":
        """An engine at ministack. It loads boto3: what is measured for its memory comes before."""
        from benchmarks.orders import Orders

        url = self._shared["AWS_ENDPOINT_URL_DYNAMODB"]
        return Orders(self._at_once, url, self._table, self._folder, self._at_end)

    def notify_shared(self) -> Sample:
        variables = {"WORKFLOW_RESULT_JOURNAL": f"dynamodb://{self._table}"}
        command = [sys.executable, str(MAIN), "notify"]
        return process(command, self._shared | variables, self._request())

    def boto3_shared_script(self) -> Sample:
        script = HERE / "boto3_shared_notify.py"
        return process([sys.executable, script, self._table], self._shared, self._request())

    # --- many calls ---------------------------------------------------------------------------

    def resend(self) -> Sample:
        path = shutil.copy(self._folder / "owed", self._folder / "owed-now")
        sample = self._main(["resend"], b"", journal="owed-now", environment=self._slow)
        with closing(sqlite3.connect(path)) as journal:
            query = "SELECT count(*) FROM result WHERE state = 'reported'"
            reported = journal.execute(query).fetchone()[0]
        if reported != OWED:
            raise NotMeasured(f"resend has reported {reported:,} of {OWED:,} results")
        return sample

    def aws_cli_each(self) -> Sample:
        """One process a result, 8 at a time: some of them, scaled to all."""
        records = [f"rec-{next(self._numbers)}\n" for _ in range(CLI_RUNS)]
        each = self._aws_cli(self._request("RECORD"))
        command = ["xargs", "-P", str(CLI_AT_ONCE), "-I", "RECORD", *each]
        sample = process(command, self._slow, "".join(records).encode())
        return Sample(sample.seconds * OWED / CLI_RUNS)

    # --- many outputs -------------------------------------------------------------------------

    def check(self, outputs: int) -> Sample:
        return Sample(float(_output_of("check_outputs", str(outputs))))

    # --- Terraform ----------------------------------------------------------------------------

    def run_smallest(self) -> Sample:
        return self._run(self._smallest(), self._at_once)

    def by_hand_smallest(self) -> Sample:
        return self._by_hand(self._smallest(), self._at_once)

    def run_bucket(self) -> Sample:
        return self._run(*self._bucket())

    def by_hand_bucket(self) -> Sample:
        return self._by_hand(*self._bucket())

    def use_moto(self) -> None:
        """Start an S3 for the bucket. Raises `NotMeasured` where there is no AWS provider."""
        _need_terraform()
        mirror = Path(os.environ.get("TEST_PROVIDER_MIRROR", ""))
        if not (mirror / "registry.terraform.io" / "hashicorp" / "aws").is_dir():
            raise NotMeasured(
                "TEST_PROVIDER_MIRROR names no folder with registry.terraform.io/hashicorp/aws; "
                "`terraform -chdir=terraform/examples/s3-bucket providers mirror FOLDER` makes one"
            )
        config = self._folder / "terraform.rc"
        config.write_text(
            f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n'
        )
        port = _free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._at_end.enter_context(_running(command, self._environment))
        _wait_for("moto", port)
        self._moto = self._at_once | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "TF_CLI_CONFIG_FILE": str(config),
        }

    def _smallest(self) -> Path:
        _need_terraform()
        artifact = self._empty_folder()
        (artifact / "main.tf").write_text(SMALLEST)
        return artifact

    def _bucket(self) -> tuple[Path, dict[str, str]]:
        artifact = self._empty_folder()
        for file in S3_EXAMPLE.glob("*.tf"):
            shutil.copy(file, artifact)
        address = urlsplit(self._moto["AWS_ENDPOINT_URL"]).netloc
        try:
            with closing(http.client.HTTPConnection(address, timeout=10)) as moto:
                moto.request("POST", "/moto-api/reset")  # the bucket of the run before is gone
                moto.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise NotMeasured(f"moto does not answer: {error}") from error
        return artifact, self._moto

    def _empty_folder(self) -> Path:
        shutil.rmtree(self._folder / "artifact", ignore_errors=True)
        (self._folder / "artifact").mkdir()
        return self._folder / "artifact"

    def _run(self, artifact: Path, environment: dict[str, str]) -> Sample:
        message = json.loads((S3_EXAMPLE / "message.json").read_bytes())
        message["recordId"] = f"rec-{next(self._numbers)}"
        stdin = json.dumps(message).encode()
        return self._main(["run", "--chdir", str(artifact)], stdin, environment=environment)

    def _by_hand(self, artifact: Path, environment: dict[str, str]) -> Sample:
        steps = [
            "terraform init -input=false",
            "terraform plan -input=false -out=plan",
            "terraform apply -input=false plan",
        ]
        variables = {
            "TF_VAR_bucket_name": "workflow-result-demo",
            "TF_IN_AUTOMATION": "1",
            "TF_CLI_ARGS": "-no-color",
        }
        return process(["sh", "-c", " && ".join(steps)], environment | variables, folder=artifact)

    # --- what they share ----------------------------------------------------------------------

    def _main(
        self,
        arguments: list[str],
        stdin: bytes,
        journal: str = "new",
        environment: dict[str, str] | None = None,
    ) -> Sample:
        variables = {"WORKFLOW_RESULT_JOURNAL": str(self._folder / journal)}
        command = [sys.executable, str(MAIN), *arguments]
        return process(command, (environment or self._at_once) | variables, stdin)

    def _request(self, record_id: str | None = None) -> bytes:
        """A request like no other before, so that the journal has to take it in."""
        members = {
            "WorkflowToken": TOKEN,
            "RecordId": record_id or f"rec-{next(self._numbers)}",
            "Status": "SUCCEEDED",
            "Outputs": [{"OutputKey": "url", "OutputValue": "https://www.example.com"}],
            "ResourceIdentifier": {"UniqueTag": {"Key": "product", "Value": "pp-demo"}},
        }
        return json.dumps(members).encode()

    def _aws_cli(self, request: bytes) -> list[str]:
        members = json.loads(request)
        return [
            *("aws", "servicecatalog", "notify-provision-product-engine-workflow-result"),
            *("--workflow-token", members["WorkflowToken"], "--record-id", members["RecordId"]),
            *("--status", members["Status"], "--outputs", json.dumps(members["Outputs"])),
            *("--resource-identifier", json.dumps(members["ResourceIdentifier"])),
        ]

    def _make_journal(self, name: str, state: str, count: int) -> None:
        _output_of("make_journal", str(self._folder / name), state, str(count))

    def _endpoint(self, delay: float) -> dict[str, str]:
        """Start an endpoint; return the environment in which it is Service Catalog."""
        command = [sys.executable, "-m", "benchmarks.endpoint", str(delay)]
        url = self._at_end.enter_context(_running(command, self._environment))()
        if not url:  # AWS itself would be called
            raise NotMeasured("the endpoint that stands in for Service Catalog did not start")
        return self._environment | {"AWS_ENDPOINT_URL_SERVICE_CATALOG": url}


def _output_of(module: str, *arguments: str) -> str:
    """Run a module of this folder; return what it prints. Raises `NotMeasured` where it fails."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise NotMeasured(f"{module} ended with {done.returncode}: {last}")
    return done.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_for(server: str, port: int) -> None:
    for _ in range(300):
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.1)
    raise NotMeasured(f"{server} did not start")


def _need_terraform() -> None:
    if not shutil.which("terraform"):
        raise NotMeasured("terraform is not on this machine's PATH")


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[Callable[[], str]]:
    """Run a server; yields what reads a line from its stdout."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,  # an interrupt at the terminal ends first what calls it
    ) as server:
        assert server.stdout is not None  # it is a pipe
        stdout = server.stdout
        try:
            yield lambda: stdout.readline().strip()
        finally:
            server.kill()  # it has nothing to save, and may not answer any more
