"""The message that Service Catalog sends to an engine, and what Terraform needs of it."""

import json
from dataclasses import dataclass, field
from typing import Any

from workflow_result import recognise
from workflow_result import request as requests
from workflow_result.engine import envelope
from workflow_result.failure_reason import fit
from workflow_result.problem import ExitCode, Problem
from workflow_result.schemas import schema_file
from workflow_result.secret import REAL_LENGTH

# AWS Service Catalog Administrator Guide, "External engines": by this tag it finds resources.
TRACER_TAG = "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE"


@dataclass(frozen=True)
class Message:
    """A checked operation message; `operation` is a key of `schemas.API_OPERATIONS`.

    `launch_role` is an ARN, `artifact` a path, `account_id` that of who ordered: what an engine
    needs, and not every message has.
    """

    operation: str
    record_id: str
    provisioned_product_id: str
    parameters: dict[str, str] = field(repr=False)
    tags: dict[str, str]
    token: str = field(repr=False)
    launch_role: str | None = None
    artifact: str | None = None
    account_id: str | None = None

    def result(self, outputs: list[dict[str, str]], failure_reason: str | None) -> requests.Request:
        """Return the checked request that reports how the run for this message ended.

        It succeeded where there is no reason for a failure.
        """
        ending: requests.Members
        if failure_reason:
            ending = {"Status": "FAILED", "FailureReason": failure_reason}
        else:
            ending = {"Status": "SUCCEEDED"}
            if self.operation != "terminate":
                ending["Outputs"] = outputs
        return _result(
            self.operation, self.token, self.record_id, self.provisioned_product_id, ending
        )

    def failed(self, reason: str) -> requests.Request:
        """Return the checked request that ends the order FAILED for this reason, made to fit."""
        return self.result([], fit(reason)[0])


@dataclass(frozen=True)
class Unusable:
    """A message that is wrong, of an order that can be ended all the same.

    `request` ends it FAILED; `faults` are what is wrong, one line each.
    """

    request: requests.Request
    faults: tuple[str, ...]

    @property
    def operation(self) -> str:
        return self.request.operation

    @property
    def record_id(self) -> str:
        record_id: str = self.request.members["RecordId"]
        return record_id

    def failed(self, reason: str) -> requests.Request:
        """Return the request that ends it for this reason, too."""
        members = dict(self.request.members)
        del members["IdempotencyToken"]
        members["FailureReason"], _ = fit(f"{reason}\n{members['FailureReason']}")
        return requests.check(requests.Draft(members), self.operation)


def read(source: bytes) -> Message | Unusable:
    """Read an operation message from JSON text, in an envelope or without.

    Raises `Problem` (INVALID) where it cannot be answered: it has no valid token, record and
    operation, or there is none, or more than one.
    """
    draft = envelope.take_off(requests.read_object(source, "the message", envelope.PLACES))
    if other := recognise.instead_of_message(draft.members):
        raise Problem(ExitCode.INVALID, f"the message: {other}")
    members = draft.members
    if _holds_token(members.get("provisionedProductId"), members.get("token")):
        draft.fault("provisionedProductId", "holds the token, and is shown to others")
    try:
        requests.check_object(draft, json.loads(schema_file("message").read_text(encoding="utf-8")))
    except Problem as problem:
        request = _failed(members, problem.lines)
        if request is None:
            raise
        return Unusable(request, problem.lines)
    if _holds_token(members["recordId"], members["token"]):
        raise Problem(ExitCode.INVALID, "recordId: holds the token, and is shown to others")
    return Message(
        operation=_operation(members),
        record_id=members["recordId"],
        provisioned_product_id=members["provisionedProductId"],
        parameters=_pairs(members.get("parameters", [])),
        tags=_pairs(members.get("tags", [])),
        token=members["token"],
        launch_role=members.get("launchRoleArn"),
        artifact=_text(members.get("artifact"), "path"),
        account_id=_text(members.get("identity"), "awsAccountId"),
    )


def _text(member: Any, name: str) -> str | None:
    value = member.get(name) if member else None
    return value if isinstance(value, str) else None


def _pairs(items: list[dict[str, str]]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in items if "value" in item}


def _operation(members: requests.Members) -> str:
    operation: str = members["operation"]
    return operation.partition("_")[0].lower()


def _holds_token(value: Any, token: Any) -> bool:
    texts = isinstance(value, str) and isinstance(token, str)
    return texts and len(token) >= REAL_LENGTH and token in value


# --- what cannot be carried out -----------------------------------------------------------


def _failed(members: requests.Members, faults: tuple[str, ...]) -> requests.Request | None:
    """Return the request that ends the order of a message with these faults, if there can be one.

    The person who ordered can do nothing about the faults; whoever they turn to can.
    """
    places = {fault.partition(":")[0] for fault in faults}
    if places & {"token", "recordId", "operation"}:
        return None
    if _holds_token(members["recordId"], members["token"]):
        return None
    reason, _ = fit("\n".join(["The order's message to the engine is wrong:", *faults]))
    product = None if "provisionedProductId" in places else members["provisionedProductId"]
    return _result(
        _operation(members),
        members["token"],
        members["recordId"],
        product,
        {"Status": "FAILED", "FailureReason": reason},
    )


def _result(
    operation: str, token: str, record_id: str, product: str | None, ending: requests.Members
) -> requests.Request:
    members: requests.Members = {"WorkflowToken": token, "RecordId": record_id} | ending
    if operation == "provision" and product:  # failed, too: some resources may exist
        tag = {"Key": TRACER_TAG, "Value": product}
        members["ResourceIdentifier"] = {"UniqueTag": tag}
    return requests.check(requests.Draft(members), operation)
