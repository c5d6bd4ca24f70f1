"""A Service Catalog endpoint on this machine, for trying and testing without AWS.

It speaks AWS's JSON 1.1 protocol (https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html)
for the three operations that report a result and for DescribeRecord. What it takes is decided
by botocore's service model alone, never by `schemas/`, so that a mistake there shows.
"""

import gc
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click
from botocore.loaders import Loader
from botocore.model import ListShape, ServiceModel, Shape, StructureShape
from regress import Regex

from workflow_result.problem import ExitCode, Problem, say
from workflow_result.schemas import API_OPERATIONS, API_VERSION

RECORD_TYPES = {
    API_OPERATIONS["provision"]: "PROVISION_PRODUCT",
    API_OPERATIONS["update"]: "UPDATE_PROVISIONED_PRODUCT",
    API_OPERATIONS["terminate"]: "TERMINATE_PROVISIONED_PRODUCT",
}

Members = dict[str, Any]


@cache
def service_model() -> ServiceModel:
    """Return botocore's model of Service Catalog."""
    model = Loader().load_service_model("servicecatalog", "service-2", API_VERSION)
    return ServiceModel(model, "servicecatalog")


class ServiceError(Exception):
    """An error as AWS answers it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


# --- the service --------------------------------------------------------------------------


@dataclass
class Record:
    """What DescribeRecord tells, in the API's names."""

    detail: Members
    outputs: list[Members] = field(default_factory=list)


def _new_record(record_id: str) -> Record:
    now = time.time()
    return Record(
        {
            "RecordId": record_id,
            "Status": "IN_PROGRESS",
            "CreatedTime": now,
            "UpdatedTime": now,
            "ProvisionedProductType": "EXTERNAL",
            "RecordErrors": [],
        }
    )


class ServiceCatalog:
    """Records, and the results that end them. Safe for use from many threads."""

    def __init__(self, record_ids: Sequence[str]) -> None:
        self._records = {record_id: _new_record(record_id) for record_id in record_ids}
        self._results: dict[str, tuple[str, Members]] = {}  # by IdempotencyToken
        self._lock = threading.Lock()

    def answer(self, operation: str, members: Members) -> Members:
        """Carry out one call and return its output. Raises `ServiceError`."""
        if operation not in RECORD_TYPES and operation != "DescribeRecord":
            raise ServiceError("UnknownOperationException", f"the sandbox has no {operation}")
        shape = service_model().operation_model(operation).input_shape
        assert shape is not None  # each of the four has input
        broken = list(_checked(shape, members, ""))
        if broken:
            found = "1 validation error" if len(broken) == 1 else f"{len(broken)} validation errors"
            raise ServiceError("ValidationException", f"{found} detected: {'; '.join(broken)}")
        with self._lock:
            if operation == "DescribeRecord":
                record = self._record(members["Id"])
                return {"RecordDetail": record.detail, "RecordOutputs": record.outputs}
            self._end_record(operation, members)
            return {}

    def _end_record(self, operation: str, members: Members) -> None:
        record = self._record(members["RecordId"])
        token = members["IdempotencyToken"]
        if token in self._results:
            if self._results[token] != (operation, members):
                raise ServiceError(
                    "InvalidParametersException",
                    "The IdempotencyToken was used before with other parameters.",
                )
            return
        if record.detail["Status"] != "IN_PROGRESS":
            raise ServiceError("InvalidParametersException", "The record has ended already.")
        self._results[token] = (operation, members)
        reason = members.get("FailureReason")
        record.detail |= {
            "Status": members["Status"],
            "UpdatedTime": time.time(),
            "RecordType": RECORD_TYPES[operation],
            "RecordErrors": [{"Code": "EngineFailure", "Description": reason}] if reason else [],
        }
        record.outputs = members.get("Outputs", [])

    def _record(self, record_id: str) -> Record:
        if record_id not in self._records:
            raise ServiceError("ResourceNotFoundException", f"Record {record_id} not found.")
        return self._records[record_id]


def _broken_constraints(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Yield what `value` breaks of `shape`, in AWS's words, which quote the value.

    Raises `ServiceError` where the value is not of the shape's type at all.
    """
    limits: Members = shape.metadata
    if isinstance(value, int):
        measure, size = "value", value
    else:
        measure, size = "length", len(value)

    def breaks(constraint: str) -> str:
        return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"

    if size < limits.get("min", size):
        yield breaks(f"have {measure} greater than or equal to {limits['min']}")
    if size > limits.get("max", size):
        yield breaks(f"have {measure} less than or equal to {limits['max']}")
    if value not in limits.get("enum", [value]):
        yield breaks(f"satisfy enum value set: [{', '.join(limits['enum'])}]")
    if "pattern" in limits:
        # Real tokens are UUIDs, and the model's pattern has no hyphen: let it pass for a letter.
        text = value.replace("-", "a") if shape.name == "EngineWorkflowToken" else value
        if not _matches_all_of(limits["pattern"], text):
            yield breaks(f"satisfy regular expression pattern: {limits['pattern']}")
    if isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from _checked(shape.member, item, f"{path}.{index + 1}.member")
    elif isinstance(shape, StructureShape):
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_inner(path, name)}' failed to satisfy constraint: Not null"
        for name, item in value.items():
            if name not in shape.members:
                raise ServiceError("SerializationException", f"{_inner(path, name)} is no member")
            if item is not None:
                yield from _checked(shape.members[name], item, _inner(path, name))


def _checked(shape: Shape, value: Any, path: str) -> Iterator[str]:
    types = {"structure": dict, "list": list, "string": str, "integer": int}
    if not isinstance(value, types[shape.type_name]):
        raise ServiceError("SerializationException", f"{path} must be a {shape.type_name}")
    return _broken_constraints(shape, value, path)


def _inner(path: str, name: str) -> str:
    lower = name[0].lower() + name[1:]
    return f"{path}.{lower}" if path else lower


def _matches_all_of(pattern: str, text: str) -> bool:
    encoded = text.encode("utf-8", "surrogatepass")  # regress counts bytes
    match = Regex(pattern, flags="u").find(encoded.decode("utf-8", "replace"))
    return match is not None and match.range() == slice(0, len(encoded), 1)


# --- the ways to misbehave ----------------------------------------------------------------

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


# --- HTTP ---------------------------------------------------------------------------------


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
