"""Terraform's root outputs, as Service Catalog gets them."""

from collections.abc import Mapping

from workflow_result.engine.events import compact, string
from workflow_result.problem import Style, say
from workflow_result.request import MAX_BYTES
from workflow_result.secret import REAL_LENGTH, SENSITIVE_VALUE, WORKFLOW_TOKEN

Output = dict[str, str]


def as_reported(
    outputs: Mapping[str, Mapping[str, bytes]], descriptions: Mapping[str, str], token: str
) -> list[Output]:
    """Return the API's Outputs, in name order: a string as it is, any other value as compact JSON.

    `outputs` are those of `Events`. Nothing about one of them is an error, since the resources are
    there: a value that is sensitive, or shows the WorkflowToken, is replaced; one that cannot be
    read is left out; the longest ones are, where all together are longer than a request may be.
    """
    hidden = token if len(token) >= REAL_LENGTH else None
    result: list[Output] = []
    for name, members in sorted(outputs.items()):
        try:
            value = _value(members)
        except (KeyError, ValueError):
            say(f"warning: the output {name} cannot be read, and is left out", Style.YELLOW)
            continue
        description = descriptions.get(name, "").encode("utf-8", "replace").decode("utf-8")
        if hidden:  # a result that shows the token is invalid
            value = SENSITIVE_VALUE if hidden in value else value
            name = name.replace(hidden, WORKFLOW_TOKEN)
            description = description.replace(hidden, WORKFLOW_TOKEN)
        result.append(
            {"OutputKey": name, "OutputValue": value}
            | ({"Description": description} if description else {})
        )
    _shorten(result)
    return result


def _value(members: Mapping[str, bytes]) -> str:
    if members.get("sensitive") == b"true":
        return SENSITIVE_VALUE
    value = members["value"]
    return string(value) if value.startswith(b'"') else compact(value)


def _shorten(outputs: list[Output]) -> None:
    size = sum(len(text) for output in outputs for text in output.values())
    for output in sorted(outputs, key=lambda o: len(o["OutputValue"]), reverse=True):
        if size <= MAX_BYTES:
            break
        length = len(output["OutputValue"])
        output["OutputValue"] = f"({length:,} characters, too long to be reported)"
        say(f"warning: the output {output['OutputKey']} is too long to be reported", Style.YELLOW)
        size -= length
