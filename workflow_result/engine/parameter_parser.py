"""What Service Catalog asks an engine when a product is made or ordered: an artifact's parameters.

The request and the response are those of AWS Service Catalog's Administrator Guide, "External
engines", and of the parser of AWS's Terraform Reference Engine.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from workflow_result.account import Account
from workflow_result.answers import of_aws_alone
from workflow_result.client import settings
from workflow_result.engine import artifact, blocks, configuration
from workflow_result.engine.configuration import Variable
from workflow_result.engine.launch_role import LaunchRole, NotAssumed, account_of
from workflow_result.engine.values import Expression, Number, Value, plain_number

_SESSION = "parse-parameters"
"""What CloudTrail calls the use of the launch role."""


class Unparsable(Exception):
    """There is no telling what the parameters are. The text is for who makes the product."""


def answer(request: Mapping[str, Any]) -> dict[str, list[dict[str, str | bool]]]:
    """Return the response to a request: `parameters`, in the order in which they are declared.

    Each has `key`, `defaultValue` (empty where there is none), `type` (as it stands in the
    configuration; empty where there is none), `description` and `isNoEcho`, which alone is no text.

    Raises `Unparsable`, `artifact.Unfit`, `launch_role.NotAssumed`, and `Problem` where AWS cannot
    be asked.
    """
    found = request.get("artifact")
    found = found if isinstance(found, Mapping) else {}
    path, kind, role = found.get("path"), found.get("type"), request.get("launchRoleArn")
    if not isinstance(path, str) or not path:
        raise Unparsable("The request has no artifact.path.")
    if kind != "AWS_S3":
        raise Unparsable(f"The artifact is not of the type AWS_S3, but {kind}.")
    s3, reader = _client(role)
    with tempfile.TemporaryDirectory(prefix="parse-") as name:
        folder = Path(name) / "artifact"
        artifact.fetch(s3, path, folder, reader)
        return {"parameters": parameters(folder, f"The artifact {path}")}


def _client(role: Any) -> tuple[Any, str]:
    """Return a client for S3 with the credentials of the role, and whose they are."""
    account = Account(None, None)
    if not role:
        client, _ = account.client("s3", account.region, None, settings("s3"))
        return of_aws_alone(client), "the parser's own role"
    try:
        account_of(str(role))
    except NotAssumed as error:  # it is the request that is wrong, not the role
        raise Unparsable(str(error)) from None
    launch_role = LaunchRole(str(role), _SESSION, account)
    launch_role.assume()
    return launch_role.client("s3", account.region), f"the launch role {role}"


def parameters(folder: Path, name: str) -> list[dict[str, str | bool]]:
    """Return the parameters of the root module in `folder`, told of as `name`: see `answer`.

    Raises `Unparsable`.
    """
    found = configuration.read(folder)
    if not found.files:
        found = configuration.read(folder, opentofu=True)
    if not found.complete:
        faults = ((file, blocks.fault(folder / file)) for file in found.files)
        told = next((f"{file}, {fault}" for file, fault in faults if fault), "a file")
        raise Unparsable(f"{name} cannot be read: {told}.")
    return [
        {
            "key": variable.name,
            "defaultValue": default_text(variable),
            "type": variable.type,
            "description": variable.description,
            "isNoEcho": variable.secret,
        }
        for variable in found.variables.values()
    ]


def default_text(variable: Variable) -> str:
    """Return a default as a parameter has it: a string as it is, any other value as compact JSON.

    Nothing where there is none, where it is null, and where it is more than a literal or
    arithmetic. Raises `Unparsable`.
    """
    default = variable.default
    if default is None or isinstance(default, Expression):
        return ""
    try:
        text = default if type(default) is str else _json(default)
    except RecursionError:
        raise Unparsable(f"The default of variable {variable.name} is nested too deeply.") from None
    return re.sub("[\ud800-\udfff]", "\ufffd", text)  # halves of characters, as Terraform does it


def _json(value: Value) -> str:
    """Return the JSON text of a value, its numbers with all their digits, its keys in order."""
    match value:
        case Number():
            with suppress(ValueError):  # it has an exponent of thousands
                return plain_number(value)
            return str(value)
        case list():
            return f"[{','.join([_json(item) for item in value])}]"
        case dict():
            members = [f"{_json(str(key))}:{_json(value[key])}" for key in sorted(value)]
            return f"{{{','.join(members)}}}"
    return json.dumps(value, ensure_ascii=False)
