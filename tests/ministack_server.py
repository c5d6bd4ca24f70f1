"""DynamoDB and more on loopback, where AWS would be: a ministack server.

`make` puts it into a virtual environment of its own. Nothing of the tests is imported here, so that
`make torture` and `make bench` can use it, too.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

PYTHON = Path(__file__).with_name("ministack") / ".venv" / "bin" / "python"


@dataclass(frozen=True)
class Ministack:
    """A running ministack server."""

    url: str
    log: Path

    def client(self, service: str) -> Any:
        """A boto3 client that asks once, so that a test sees every answer as it came."""
        new_client: Any = boto3.client  # its stubs want to know the service
        return new_client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",
            config=Config(retries={"total_max_attempts": 1}),
        )


@contextmanager
def ministack_server(home: Path) -> Iterator[Ministack]:
    """Start one that has nothing yet; it ends with the context, and with it all that it started.

    Its files are in `home`/ministack. The test is skipped where ministack is not installed.
    """
    if not PYTHON.exists():
        import pytest

        pytest.skip("ministack is missing: `make tests/ministack/.venv/.ready` installs it")
    folder = home / "ministack"
    folder.mkdir()
    process, server = start(folder)
    try:
        yield server
    finally:
        end(process)


def start(folder: Path) -> tuple[subprocess.Popen[bytes], Ministack]:
    """Start one, on another port where somebody was faster; return once it listens."""
    for attempt in range(10):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = Ministack(f"http://127.0.0.1:{port}", folder / f"{attempt}.log")
        with server.log.open("wb") as log:
            process = subprocess.Popen(
                [PYTHON, "-m", "ministack"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "HOME": str(folder),
                    "TMPDIR": str(folder),
                    "GATEWAY_PORT": str(port),
                    "BIND_HOST": "127.0.0.1",
                    "IOT_MTLS_ENABLED": "0",  # it would listen on a port that others want, too
                },
                start_new_session=True,  # so that what it starts can be ended with it
            )
        if listens(process, server):
            return process, server
        end(process)
    raise RuntimeError(f"ministack does not start:\n{server.log.read_text(errors='replace')}")


def listens(process: subprocess.Popen[bytes], server: Ministack) -> bool:
    """Wait until it says so itself: on the port there may be somebody else."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if f"Running on {server.url} ".encode() in server.log.read_bytes():
            return True
        time.sleep(0.02)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started, also where it was stopped or has died."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
