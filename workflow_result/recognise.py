"""Tells a JSON object that is well-formed, but was meant for something else."""

from collections.abc import Mapping
from typing import Any

TERRAFORM_OUTPUT = (
    "this is what `terraform output -json` prints; Outputs is to be a list of "
    '{"OutputKey": …, "OutputValue": …}, strings: '
    "jq '[to_entries[] | {OutputKey: .key, OutputValue: (.value | "
    'if .sensitive then "(sensitive value)" else (.value | strings // tojson) end)}]\' makes it'
)
"""What to do with it, and what `run` does with each output itself."""

_REQUEST_KEYS = {"WorkflowToken", "RecordId", "Status", "FailureReason", "Outputs"}
_MESSAGE_KEYS = {"token", "recordId", "provisionedProductId"}


def instead_of_request(members: Mapping[str, Any]) -> str | None:
    """Say what `members` are where they are no request, but something that comes near one."""
    if is_terraform_output(members):
        return TERRAFORM_OUTPUT
    if members.keys() & _REQUEST_KEYS:
        return None
    # SQS's ReceiveMessage and one message of it; the event of a Lambda function.
    if members.keys() & {"Messages", "Records", "Body", "body"}:
        return "this is what a queue delivers, which `run` takes; " + _A_REQUEST
    if "operation" in members and members.keys() & _MESSAGE_KEYS:
        return "this is Service Catalog's operation message, which `run` takes; " + _A_REQUEST
    return None


_A_REQUEST = (
    "a request says how the run ended, with the keys RecordId, Status and WorkflowToken: the "
    "message's recordId, SUCCEEDED or FAILED, and its token"
)


def instead_of_message(members: Mapping[str, Any]) -> str | None:
    """Say what `members` are where they are a request instead of an operation message."""
    if members.keys() & _REQUEST_KEYS and not members.keys() & _MESSAGE_KEYS:
        return (
            "this is a request, which `notify` takes; an operation message of Service Catalog's "
            "has the keys token, recordId, operation and provisionedProductId"
        )
    return None


def is_terraform_output(value: Any) -> bool:
    """Whether `value` is what `terraform output -json` prints of one output or more
    (https://developer.hashicorp.com/terraform/cli/commands/output)."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            isinstance(output, dict)
            and output.keys() <= {"sensitive", "type", "value"}
            and "sensitive" in output
            for output in value.values()
        )
    )
