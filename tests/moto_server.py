"""S3 and STS on loopback, where AWS would be: a moto server."""

import base64
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import clean_environment


@dataclass
class Moto:
    """A running moto server."""

    url: str
    recording: Path

    def reset(self) -> None:
        """Forget everything."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310
        self.recording.write_text("")

    def requests(self) -> list[tuple[str, str, str]]:
        """What it was asked: method, path, and the access key that signed the request."""
        found = []
        for line in self.recording.read_text().splitlines():
            entry = json.loads(line)
            signed = re.search(r"Credential=([^/]+)/", entry["headers"].get("Authorization", ""))
            path = "/" + entry["url"].split("/", 3)[3].partition("?")[0]
            if entry["body_encoded"] and b"Action=" in (body := base64.b64decode(entry["body"])):
                path = body.decode()
            found.append((entry["method"], path, signed[1] if signed else ""))
        return found


@contextmanager
def moto_server(home: Path) -> Iterator[Moto]:
    """Start one; it ends with the context."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    recording = home / "moto.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(
            home, MOTO_ENABLE_RECORDING="1", MOTO_RECORDER_FILEPATH=str(recording)
        ),
    )
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    try:
        yield Moto(f"http://127.0.0.1:{port}", recording)
    finally:
        process.terminate()
        process.communicate()
