"""A Service Catalog endpoint on this machine, for trying and testing without AWS.

It speaks AWS's JSON 1.1 protocol (https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html)
for the three operations that report a result, for DescribeRecord and SearchProvisionedProducts.
"""

import gc
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click

from workflow_result.problem import ExitCode, Problem, say
from workflow_result.sandbox.service import (
    RECORD_TYPES,
    Members,
    ServiceCatalog,
    ServiceError,
    service_model,
)

ERRORS = {
    "throttle": ServiceError("ThrottlingException", "Rate exceeded"),
    "unavailable": ServiceError("ServiceUnavailableException", "Try again later", 503),
    "broken": ServiceError("InternalFailure", "An internal error has occurred", 500),
    "access-denied": ServiceError(
        "AccessDeniedException", "User: sandbox is not authorized to perform this action"
    ),
    "expired-token": ServiceError(
        "ExpiredTokenException", "The security token included in the request is expired"
    ),
    "invalid": ServiceError(
        "ValidationException",
        "1 validation error detected: Value at 'workflowToken' failed to satisfy constraint",
    ),
    "bad-signature": ServiceError(
        "InvalidSignatureException", "Signature expired: 5 minutes behind"
    ),
}
KINDS = [*ERRORS, "quote", "drop", "drop-after", "half", "rubbish", "silent"]
"""quote: refuse, and quote the whole request; drop: close the connection, drop-after: once the
result is taken; half: take it, and answer by half; rubbish: answer with a web page; silent:
never answer."""


class Misbehaviour:
    """A queue of ways to misbehave, each for a number of results or for ever."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._left: list[tuple[str, float]] = []
        for text in wanted:
            kind, colon, times = text.partition(":")
            if kind not in KINDS or (colon and not times.isdecimal()):
                raise click.BadParameter(
                    f"{text}: must be one of {', '.join(KINDS)}, with : and a number or without",
                    param_hint="--misbehave",
                )
            self._left.append((kind, int(times) if colon else float("inf")))
        self._lock = threading.Lock()

    def next(self) -> str | None:
        """Return the kind that this result is to meet with, or None to behave."""
        with self._lock:
            while self._left:
                kind, times = self._left.pop(0)
                if times > 0:
                    self._left.insert(0, (kind, times - 1))
                    return kind
            return None


def serve(
    port: int,
    record_ids: Sequence[str],
    misbehave: Sequence[str],
    delay: float,
    announce: Callable[[str], None],
) -> None:
    """Serve on 127.0.0.1:`port` (0: a free one) until interrupted, each result after `delay`
    seconds.

    `announce` gets the URL once the port is open. Raises `Problem` (SETUP) where it is taken,
    `click.BadParameter` where `misbehave` names a kind that is none.
    """
    for record_id in record_ids:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,100}", record_id):
            raise click.BadParameter(
                f"{record_id}: a record ID has 1 to 100 letters, digits, hyphens and underscores",
                param_hint="--record",
            )
    service = ServiceCatalog(record_ids)
    misbehaviour = Misbehaviour(misbehave)

    class BoundHandler(Handler):
        pass

    BoundHandler.service = service
    BoundHandler.misbehaviour = misbehaviour
    BoundHandler.delay = delay
    gc.enable()  # unlike the other commands, this one lives long
    try:
        server = Server(("127.0.0.1", port), BoundHandler)
    except OSError as error:
        raise Problem(
            ExitCode.SETUP, f"port {port} on 127.0.0.1: {error.strerror}; --port 0 takes a free one"
        ) from None
    some = record_ids if len(record_ids) <= 5 else [*record_ids[:5], "…"]
    say(f"waiting for the results of {', '.join(some)}; Ctrl-C ends the sandbox")
    announce(f"http://127.0.0.1:{server.server_port}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


class Server(ThreadingHTTPServer):
    """A thread a connection; many clients may knock at once."""

    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing: a client that has gone away has its reasons."""


class Handler(BaseHTTPRequestHandler):
    """One connection: a call a request, answered as AWS would, or as told to misbehave."""

    service: ServiceCatalog
    misbehaviour: Misbehaviour
    delay: float = 0
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        prefix, _, operation = self.headers.get("X-Amz-Target", "").rpartition(".")
        kind = None
        if operation in RECORD_TYPES:
            kind = self.misbehaviour.next()
            time.sleep(self.delay)
        call = operation
        is_told = False
        try:
            if prefix != service_model().metadata["targetPrefix"]:
                raise ServiceError(
                    "UnknownOperationException", "X-Amz-Target names no Service Catalog operation"
                )
            members = _parse(body)
            about = [members[n] for n in ("Id", "RecordId", "IdempotencyToken") if n in members]
            call = " ".join([operation, *(str(value) for value in about)])
            if kind:
                say(f"{call}: misbehaving ({kind})")
                is_told = True
                self._misbehave(kind, operation, members)
                return
            output = self.service.answer(operation, members)
        except ServiceError as error:
            if not is_told:
                say(f"{call}: {error.code}")
            self._reply(error.status, {"__type": error.code, "message": str(error)})
        else:
            say(f"{call}: OK")
            self._reply(200, output)

    def _misbehave(self, kind: str, operation: str, members: Members) -> None:
        if kind in ERRORS:
            raise ERRORS[kind]
        if kind == "quote":
            raise ServiceError("InvalidParametersException", f"not valid: {json.dumps(members)}")
        self.close_connection = True
        if kind in ("drop-after", "half"):
            self.service.answer(operation, members)
        match kind:
            case "half":
                self._send(200, b'{"half', length=20)
            case "rubbish":
                self._send(200, b"<!DOCTYPE html><p>It works!</p>")
            case "silent":
                self.rfile.read(1)  # returns when the other side has gone

    def _reply(self, status: int, output: Members) -> None:
        self._send(status, json.dumps(output).encode())

    def _send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: `do_POST` says what matters."""


def _parse(body: bytes) -> Members:
    try:
        members = json.loads(body)
    except ValueError:
        raise ServiceError("SerializationException", "the body is not JSON") from None
    if not isinstance(members, dict):
        raise ServiceError("SerializationException", "the body is not an object")
    return members
