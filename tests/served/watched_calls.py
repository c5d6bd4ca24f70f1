"""What is asked of AWS, seen on the way there: which action, on which resource."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HERE = "us-east-1:000000000000"

Call = tuple[str, str]
"""An action and a resource, as IAM has them."""


@dataclass
class Watched:
    """A way to `upstream`; `calls` is what came along it, signed with this key if given.

    What `is_denied` does not come that far.
    """

    upstream: str
    key: str | None = None
    url: str = ""
    calls: set[Call] = field(default_factory=set)
    is_denied: Callable[[Call], bool] = lambda _: False

    def note(self, method: str, path: str, headers: Message, body: bytes) -> None:
        if self.key is None or f"Credential={self.key}/" in headers.get("Authorization", ""):
            self.calls.add(call(method, path, headers, body))


def call(method: str, path: str, headers: Message, body: bytes) -> Call:
    """What IAM would be asked about a request."""
    prefix, _, operation = headers.get("X-Amz-Target", "").partition(".")
    if operation:
        members: dict[str, Any] = json.loads(body)
        service = prefix.partition("_")[0].lower()
        if service == "dynamodb":
            index = members.get("IndexName")
            table = f"arn:aws:dynamodb:{HERE}:table/{members['TableName']}"
            return f"dynamodb:{operation}", f"{table}/index/{index}" if index else table
        if service == "codebuild":
            name = members.get("projectName") or members["ids"][0].partition(":")[0]
            return f"codebuild:{operation}", f"arn:aws:codebuild:{HERE}:project/{name}"
        return f"servicecatalog:{operation}", "*"
    form = parse_qs(body.decode(errors="replace")) if method == "POST" else {}
    if "Action" in form:
        return f"sts:{form['Action'][0]}", form.get("RoleArn", ["*"])[0]
    bucket, _, key = urlsplit(path).path.lstrip("/").partition("/")
    verb = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "POST": "Put", "DELETE": "Delete"}[method]
    if key:
        return f"s3:{verb}Object", f"arn:aws:s3:::{bucket}/{key}"
    return ("s3:ListBucket" if verb == "Get" else f"s3:{verb}Bucket"), f"arn:aws:s3:::{bucket}"


@contextmanager
def watched(upstream: str, key: str | None = None) -> Iterator[Watched]:
    """Pass on what comes, and note it."""
    way = Watched(upstream, key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            way.note(self.command, self.path, self.headers, body)
            if way.is_denied(call(self.command, self.path, self.headers, body)):
                self.answer(403, Message(), b"<Error><Code>AccessDenied</Code></Error>")
                return
            request = urllib.request.Request(  # noqa: S310
                upstream + self.path, body or None, dict(self.headers), method=self.command
            )
            try:
                with urllib.request.urlopen(request) as answer:  # noqa: S310
                    self.answer(answer.status, answer.headers, answer.read())
            except urllib.error.HTTPError as error:
                self.answer(error.code, error.headers, error.read())

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST  # noqa: N815

        def answer(self, status: int, headers: Message, body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                is_length = name.lower() == "content-length"
                if name.lower() not in ("connection", "transfer-encoding") and not (
                    is_length and self.command != "HEAD"
                ):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        way.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield way
        server.shutdown()
