"""The engine's own bucket: what is fetched from it, whatever happens to a connection."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS

from workflow_result.account import Account
from workflow_result.engine.state_bucket import StateBucket
from workflow_result.problem import Problem

CONTENT = b"of the archive"


class S3(ThreadingHTTPServer):
    """Has one object, and breaks off in its middle so many times."""

    breaks = 0


class Handler(BaseHTTPRequestHandler):
    server: S3

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.send_header("ETag", '"1"')
        self.send_header("x-amz-request-id", "1")
        self.end_headers()
        is_whole = self.server.breaks == 0
        self.wfile.write(CONTENT if is_whole else CONTENT[:2])
        self.server.breaks -= not is_whole

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with S3(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL_S3": url}).items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()


def test_object_whose_connection_breaks_is_fetched_again(s3: S3, tmp_path: Path) -> None:
    bucket = StateBucket("states", Account(None, None))
    s3.breaks = 2
    assert bucket.download("key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    s3.breaks = 2
    found = bucket.get("key")
    assert found
    assert found.body == CONTENT


def test_object_whose_connection_breaks_each_time_cannot_be_had(s3: S3, tmp_path: Path) -> None:
    s3.breaks = 99
    with pytest.raises(Problem, match="the state bucket states cannot be used: "):
        StateBucket("states", Account(None, None)).download("key", tmp_path / "file")
    assert s3.breaks == 96
