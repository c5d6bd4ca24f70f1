"""What Service Catalog knows in the sandbox, and answers.

What it takes is decided by botocore's service model alone, never by `schemas/`, so that a mistake
there shows.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from regress import Regex

from workflow_result.schemas import API_OPERATIONS, API_VERSION

RECORD_TYPES = {
    API_OPERATIONS["provision"]: "PROVISION_PRODUCT",
    API_OPERATIONS["update"]: "UPDATE_PROVISIONED_PRODUCT",
    API_OPERATIONS["terminate"]: "TERMINATE_PROVISIONED_PRODUCT",
}

Members = dict[str, Any]

LARGEST_PAGE = 20
"""Products in an answer where the call names no number: AWS's own documents name none."""


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


@dataclass
class Record:
    """What DescribeRecord tells, in the API's names, and the provisioned product's status."""

    detail: Members
    outputs: list[Members] = field(default_factory=list)
    product_status: str = "UNDER_CHANGE"

    def product(self) -> Members:
        """What SearchProvisionedProducts tells."""
        detail = self.detail
        name, product_id = detail["ProvisionedProductName"], detail["ProvisionedProductId"]
        return {
            "Id": product_id,
            "Name": name,
            "Arn": f"arn:aws:servicecatalog:us-east-1:123456789012:stack/{name}/{product_id}",
            "Type": detail["ProvisionedProductType"],
            "Status": self.product_status,
            "CreatedTime": detail["CreatedTime"],
            "LastRecordId": detail["RecordId"],
        }


def _new_record(record_id: str) -> Record:
    now = time.time()
    suffix = record_id.removeprefix("rec-")
    return Record(
        {
            "RecordId": record_id,
            "RecordType": "PROVISION_PRODUCT",
            "ProvisionedProductId": f"pp-{suffix}",
            "ProvisionedProductName": f"product-{suffix}"[:128],
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
        if operation not in (*RECORD_TYPES, "DescribeRecord", "SearchProvisionedProducts"):
            raise ServiceError("UnknownOperationException", f"the sandbox has no {operation}")
        shape = service_model().operation_model(operation).input_shape
        assert shape is not None  # each of them has input
        broken = list(_checked(shape, members, ""))
        if broken:
            found = "1 validation error" if len(broken) == 1 else f"{len(broken)} validation errors"
            raise ServiceError("ValidationException", f"{found} detected: {'; '.join(broken)}")
        with self._lock:
            if operation == "DescribeRecord":
                record = self._record(members["Id"])
                return {"RecordDetail": record.detail, "RecordOutputs": record.outputs}
            if operation == "SearchProvisionedProducts":
                return self._search(members)
            self._end_record(operation, members)
            return {}

    def _search(self, members: Members) -> Members:
        """Return a page of the provisioned products; of the searches, `status:…` is known."""
        queries = members.get("Filters", {}).get("SearchQuery", [])
        if not all(query.startswith("status:") for query in queries):
            raise ServiceError("InvalidParametersException", "the sandbox knows status:… alone")
        wanted = [query.removeprefix("status:") for query in queries]
        found = [r.product() for r in self._records.values()]
        found = [product for product in found if not wanted or product["Status"] in wanted]
        try:
            start = int(members.get("PageToken", "0"))
        except ValueError:
            raise ServiceError("InvalidParametersException", "Invalid page token.") from None
        end = start + (members.get("PageSize") or LARGEST_PAGE)
        page = {"ProvisionedProducts": found[start:end], "TotalResultsCount": len(found)}
        return page | ({"NextPageToken": str(end)} if end < len(found) else {})

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
        failed = "TAINTED" if members.get("ResourceIdentifier") else "ERROR"
        record.product_status = failed if members["Status"] == "FAILED" else "AVAILABLE"

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
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _checked(shape.value, item, f"{path}.{key}")
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
    types = {"structure": dict, "map": dict, "list": list, "string": str, "integer": int}
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
