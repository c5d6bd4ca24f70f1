"""The notify events of other engines: what the functions that they call are told of a run's end.

AWS's Terraform Reference Engine has a function for each operation, HashiCorp's engine for HCP
Terraform has one. Their events are taken as they are, so that one function can stand in for them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from workflow_result.failure_reason import fit
from workflow_result.problem import ExitCode, Problem, Style, say
from workflow_result.request import Draft, Request, check
from workflow_result.schemas import API_OPERATIONS
from workflow_result.secret import REAL_LENGTH, SENSITIVE_VALUE, keep_secret

OPERATION_VARIABLE = "WORKFLOW_RESULT_OPERATION"
"""The environment variable that says in whose place the function stands."""

_OPERATIONS = {"PROVISIONING": "provision", "UPDATING": "update", "TERMINATING": "terminate"}
"""`serviceCatalogOperation` of HashiCorp's engine."""

_CAN_BE_LEFT_OUT = {"FailureReason", "Outputs", "ResourceIdentifier"}

_UNTOLD = "The engine said no more than that it failed."

_TIMED_OUT = "States.Timeout"
"""https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"""


def read(event: Mapping[str, Any], operation: str | None) -> Request:
    """Return the result that an event tells; `operation` is what the environment says, if it does.

    Nothing about an output or a reason is an error: what happened has to be told all the same.
    Raises `Problem` where the event cannot be reported: SETUP where it is not known of which
    operation it is, else INVALID.
    """
    token = event.get("workflowToken", event.get("token"))
    if isinstance(token, str):
        keep_secret(token)
    operation = _operation(event, operation)
    members: dict[str, Any] = {"WorkflowToken": token, "RecordId": event.get("recordId")}
    members = {name: value for name, value in members.items() if value is not None}
    # What an engine says of a failure may be empty; that it says something tells that there is one.
    failed = "error" in event or "errorMessage" in event
    members["Status"] = "FAILED" if failed else "SUCCEEDED"
    if failed:
        members["FailureReason"] = _reason(event)
    if operation != "terminate":
        outputs = event.get("outputs")
        members["Outputs"] = list(_outputs(outputs if isinstance(outputs, list) else [], token))
    if operation == "provision" and (tag := _tracer_tag(event)):
        members["ResourceIdentifier"] = {"UniqueTag": tag}
    try:
        return check(Draft(dict(members)), operation)
    except Problem as problem:
        for line in problem.lines:
            say(f"warning: left out of the result: {line}", Style.YELLOW)
        wrong = {re.split(r"\W", line, maxsplit=1)[0] for line in problem.lines}
        for name in _CAN_BE_LEFT_OUT & wrong or _CAN_BE_LEFT_OUT:
            members.pop(name, None)
        if failed:
            members.setdefault("FailureReason", _UNTOLD)
        return check(Draft(members), operation)


def _operation(event: Mapping[str, Any], told: str | None) -> str:
    named = event.get("serviceCatalogOperation")
    if named is None:
        if told in API_OPERATIONS:
            return str(told)
        kinds = ", ".join(API_OPERATIONS)
        line = f"{OPERATION_VARIABLE} has to say which operation's results come here: {kinds}"
        raise Problem(ExitCode.SETUP, line)
    if named not in _OPERATIONS:
        line = f"the event: serviceCatalogOperation must be {' or '.join(_OPERATIONS)}"
        raise Problem(ExitCode.INVALID, line)
    return _OPERATIONS[named]


def _reason(event: Mapping[str, Any]) -> str:
    """Why the run failed, of what Step Functions calls Error and Cause."""
    error, cause = _text(event.get("error")), _text(event.get("errorMessage"))
    if error == _TIMED_OUT:
        cause = "A step of the engine took longer than it may."
    try:  # of a function that failed, Cause is the JSON text of its error
        told = json.loads(cause)
        cause = _text(told["errorMessage"]) or cause
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return fit(cause)[0] or fit(error)[0] or _UNTOLD


def _outputs(outputs: list[Any], token: Any) -> Any:
    """The API's Outputs. One that has no name is left out."""
    for output in outputs:
        key = output.get("key") if isinstance(output, dict) else None
        if not isinstance(key, str) or "value" not in output:
            say("warning: an output has no key or no value, and is left out", Style.YELLOW)
            continue
        value, description = _text(output["value"]), _text(output.get("description"))
        if isinstance(token, str) and len(token) >= REAL_LENGTH:  # AWS gets no result that shows it
            if token in key:
                say("warning: an output shows the token, and is left out", Style.YELLOW)
                continue
            value = SENSITIVE_VALUE if token in value else value
            description = "" if token in description else description
        result = {"OutputKey": key, "OutputValue": value}
        yield result | ({"Description": description} if description else {})


def _tracer_tag(event: Mapping[str, Any]) -> dict[str, str] | None:
    from workflow_result.engine.message import TRACER_TAG

    tag = event.get("tracerTag")
    if isinstance(tag, dict) and tag.get("key") and tag.get("value"):
        return {"Key": _text(tag["key"]), "Value": _text(tag["value"])}
    product = event.get("provisionedProductId")
    return {"Key": TRACER_TAG, "Value": product} if isinstance(product, str) and product else None


def _text(value: Any) -> str:
    """A string as it is, nothing as nothing, any other value as compact JSON."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value).encode("utf-8", "replace").decode("utf-8")
