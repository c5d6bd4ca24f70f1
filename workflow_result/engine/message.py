"""The message that Service Catalog sends to an engine, and what Terraform needs of it."""

import json
from dataclasses import dataclass, field

from workflow_result import request as requests
from workflow_result.schemas import schema_file

# AWS Service Catalog Administrator Guide, "External engines": by this tag it finds resources.
TRACER_TAG = "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE"


@dataclass(frozen=True)
class Message:
    """A checked operation message; `operation` is a key of `schemas.API_OPERATIONS`."""

    operation: str
    record_id: str
    provisioned_product_id: str
    parameters: dict[str, str] = field(repr=False)
    tags: dict[str, str]
    token: str = field(repr=False)

    def result(self, outputs: list[dict[str, str]], failure_reason: str | None) -> requests.Request:
        """Return the checked request that reports how the run for this message ended.

        It succeeded where there is no reason for a failure.
        """
        members: requests.Members = {"WorkflowToken": self.token, "RecordId": self.record_id}
        if failure_reason:
            members |= {"Status": "FAILED", "FailureReason": failure_reason}
        else:
            members["Status"] = "SUCCEEDED"
            if self.operation != "terminate":
                members["Outputs"] = outputs
        if self.operation == "provision":  # failed, too: some resources may exist
            tag = {"Key": TRACER_TAG, "Value": self.provisioned_product_id}
            members["ResourceIdentifier"] = {"UniqueTag": tag}
        return requests.check(requests.Draft(members), self.operation)


def read(source: bytes) -> Message:
    """Read an operation message from JSON text; raises `Problem` (INVALID) where it is none."""
    draft = requests.read_object(source, "the message", "stdin")
    requests.check_object(draft, json.loads(schema_file("message").read_text(encoding="utf-8")))
    members = draft.members
    return Message(
        operation=members["operation"].partition("_")[0].lower(),
        record_id=members["recordId"],
        provisioned_product_id=members["provisionedProductId"],
        parameters=_pairs(members.get("parameters", [])),
        tags=_pairs(members.get("tags", [])),
        token=members["token"],
    )


def _pairs(items: list[dict[str, str]]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in items if "value" in item}
