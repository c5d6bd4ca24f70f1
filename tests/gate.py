"""A gate on loopback in front of a stand-in: it counts the calls, and lets some go wrong."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

THROTTLED = (
    b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"Too much"}'
)
BROKEN = b'{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"Oh"}'

PASS = "pass"
KINDS = {
    "throttled": "400, nothing done",
    "broken": "500, nothing done",
    "broken-after": "500, though it was done",
    "dropped": "the connection ends, nothing done",
    "dropped-after": "the connection ends, though it was done",
    "cut-off": "half of the answer, though it was done",
    "late": "the answer comes when nobody waits for it any more",
    "web-page": "200, but of a proxy; nothing done",
}


@dataclass
class Gate:
    """What passes it: `calls` are DynamoDB's operations as they came.

    `decide` is asked for each what is to happen to it: `PASS`, or one of `KINDS`. `hours` is how
    much the clock behind it is ahead.
    """

    url: str = ""
    calls: list[str] = field(default_factory=list)
    decide: Callable[[str, int], str] = lambda *_: PASS
    hours: float = 0
    late: float = 12.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_DYNAMODB": self.url}

    def fail(self, operation: str, kind: str, times: int = 1) -> None:
        """Have the first calls of an operation go wrong, from now on."""
        left = [times]

        def decide(called: str, _: int) -> str:
            if called != operation or not left[0]:
                return PASS
            left[0] -= 1
            return kind

        self.decide = decide


@contextmanager
def gate(target: str) -> Iterator[Gate]:
    """Open one in front of `target`, a URL."""
    opened = Gate()
    host = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            with opened.lock:
                opened.calls.append(operation)
                kind = opened.decide(operation, len(opened.calls))
            if kind == "throttled":
                self.answer(400, THROTTLED)
            elif kind == "broken":
                self.answer(500, BROKEN)
            elif kind == "web-page":
                self.answer(200, b"{}", request_id="")
            elif kind == "dropped":
                self.close_connection = True
            else:
                self.pass_on(kind, body)

        def pass_on(self, kind: str, body: bytes) -> None:
            connection = http.client.HTTPConnection(host)
            connection.request("POST", "/", body, dict(self.headers))
            response = connection.getresponse()
            answer = response.read()
            connection.close()
            if kind == "broken-after":
                self.answer(500, BROKEN)
            elif kind == "dropped-after":
                self.close_connection = True
            elif kind == "cut-off":
                self.answer(response.status, answer[: len(answer) // 2], length=len(answer) + 1)
                self.close_connection = True
            else:
                if kind == "late":
                    time.sleep(opened.late)
                self.answer(response.status, answer)

        def answer(
            self, status: int, body: bytes, request_id: str = "gate", length: int | None = None
        ) -> None:
            self.send_response_only(status)
            self.send_header("Date", formatdate(time.time() + opened.hours * 3600, usegmt=True))
            self.send_header("Content-Length", str(len(body) if length is None else length))
            if request_id:
                self.send_header("x-amzn-RequestId", request_id)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Who asked has gone: that is what is tried here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        opened.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield opened
        server.shutdown()
