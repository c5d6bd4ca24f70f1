"""`make demo`: a result goes through the real Terraform to a sandbox and ends a record there.

Starts `main.py sandbox` on a free port, applies the configuration in `local-exec/` in a
temporary folder, and shows the record before and after. Leaves nothing running or lying about.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parent / "local-exec"
MAIN = EXAMPLE.parents[2] / "main.py"
RECORD_ID = "rec-demo"
TOKEN = "965d4597-3088-41ae-87dc-3498daf1d69d"


def demo() -> None:
    """Run the demo; raises `subprocess.CalledProcessError` where a step of it fails."""
    # What goes to this machine goes past any proxy; the lower-case name is the older one.
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = f"{others},127.0.0.1" if others else "127.0.0.1"
    os.environ["NO_PROXY"] = os.environ["no_proxy"]
    with sandbox() as url, tempfile.TemporaryDirectory(prefix="demo-") as folder:
        environment = {name: v for name, v in os.environ.items() if not name.startswith("AWS_")} | {
            "AWS_ENDPOINT_URL_SERVICE_CATALOG": url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "WORKFLOW_RESULT_TOKEN": TOKEN,
            "WORKFLOW_RESULT_JOURNAL": f"{folder}/journal.sqlite3",
            "CHECKPOINT_DISABLE": "1",  # Terraform asks nobody whether it is up to date
        }
        print("The order, as Service Catalog has it while it waits for the engine:")
        show(describe_record(url))
        if shutil.which("terraform"):
            report_through_terraform(Path(folder) / "example", environment)
        else:
            print("\nTerraform is not on this machine's PATH, so main.py reports by itself.")
            report_alone(environment)
        print("\nThe order after the report:")
        show(describe_record(url))


@contextmanager
def sandbox() -> Iterator[str]:
    """Run a sandbox on a free port; its URL."""
    command = [sys.executable, str(MAIN), "sandbox", "--port", "0", "--record", RECORD_ID]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None  # it is a pipe
        url = process.stdout.readline().strip()
        if not url:
            raise subprocess.CalledProcessError(process.wait(), command)
        yield url
    finally:
        process.terminate()
        process.communicate()


def report_through_terraform(folder: Path, environment: dict[str, str]) -> None:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    program = json.dumps([sys.executable, str(MAIN)])
    run(["terraform", "init", "-input=false"], folder, environment, stdout=subprocess.DEVNULL)
    plain = [] if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else ["-no-color"]
    run(
        ["terraform", "apply", "-auto-approve", f"-var=record_id={RECORD_ID}", *plain],
        folder,
        environment | {"TF_VAR_program": program},
    )


def report_alone(environment: dict[str, str]) -> None:
    request = {"RecordId": RECORD_ID, "Status": "SUCCEEDED"}
    run(
        [sys.executable, str(MAIN), "notify"],
        MAIN.parent,
        environment | {"WORKFLOW_RESULT_REQUEST": json.dumps(request)},
    )


def run(
    command: list[str], folder: Path, environment: dict[str, str], stdout: int | None = None
) -> None:
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run(command, cwd=folder, env=environment, stdout=stdout, check=True)


def describe_record(url: str) -> dict[str, Any]:
    import boto3

    client = boto3.client(
        "servicecatalog",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",
    )
    record: dict[str, Any] = client.describe_record(Id=RECORD_ID)
    return record


def show(record: dict[str, Any]) -> None:
    detail = record["RecordDetail"]
    print(f"  {detail['RecordId']}: {detail['Status']}")
    for output in record["RecordOutputs"]:
        print(f"  {output['OutputKey']} = {output['OutputValue']}  ({output['Description']})")


if __name__ == "__main__":
    # Ended from outside, it still ends the sandbox and removes its folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        demo()
    except subprocess.CalledProcessError as error:
        sys.exit(f"the demo failed: {error.cmd[0]} ended with exit status {error.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)
