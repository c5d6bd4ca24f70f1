"""The JSON Schemas of a request: where they lie, and how they are built.

They are built from botocore's service model of Service Catalog, the machine-readable
form of AWS's API reference. `make schemas` runs this module and writes them to `schemas/`.
"""

import json
import re
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

API_VERSION = "2015-12-10"

API_OPERATIONS = {
    "provision": "NotifyProvisionProductEngineWorkflowResult",
    "update": "NotifyUpdateProvisionedProductEngineWorkflowResult",
    "terminate": "NotifyTerminateProvisionedProductEngineWorkflowResult",
}
"""What an engine does, and the API operation that reports its result."""

# Where AWS's documents are wrong: shape, the pattern they give, the pattern that holds.
CORRECTIONS = {
    # Service Catalog sends UUIDs as tokens (965d4597-3088-41ae-87dc-3498daf1d69d); the pattern
    # has no hyphen. A later revision of the Terminate operation's page has this one.
    "EngineWorkflowToken": (r"[0-9A-Za-z+\/=]+", r"[0-9A-Za-z+\/\-=]+"),
}

# A checkout has the folder beside the package, an installed wheel has it inside.
_HERE = Path(__file__).resolve().parent
_FOLDER = _HERE / "schemas" if (_HERE / "schemas").is_dir() else _HERE.parent / "schemas"


def schema_file(operation: str) -> Path:
    """Return the path of the schema for `operation`, a key of `API_OPERATIONS`."""
    return _FOLDER / f"{operation}.schema.json"


def load(operation: str) -> Schema:
    """Return the schema of a complete request for `operation`."""
    schema: Schema = json.loads(schema_file(operation).read_text(encoding="utf-8"))
    return schema


def build(operation: str) -> Schema:
    """Return the schema for `operation`, made from the installed botocore's service model."""
    from botocore.loaders import Loader

    model = Loader().load_service_model("servicecatalog", "service-2", API_VERSION)
    api_operation = API_OPERATIONS[operation]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": (
            "Made by `make schemas` from botocore's service model servicecatalog "
            f"{API_VERSION}, operation {api_operation}. Do not edit. Two things differ from the "
            "model: AWS means a pattern to match the whole value, so each is anchored here; "
            "and a WorkflowToken may have hyphens, since Service Catalog sends such tokens."
        ),
        "title": api_operation,
        "description": _plain(model["operations"][api_operation]["documentation"])
        + f" https://docs.aws.amazon.com/servicecatalog/latest/dg/API_{api_operation}.html",
        **_from_shape(model["shapes"], model["operations"][api_operation]["input"]["shape"]),
    }


def _from_shape(shapes: dict[str, Any], name: str) -> Schema:
    shape = shapes[name]
    match shape["type"]:
        case "structure":
            members = {
                member: {
                    "description": _plain(target["documentation"]),
                    **_from_shape(shapes, target["shape"]),
                }
                for member, target in shape["members"].items()
            }
            return {
                "type": "object",
                **_keywords(shape, required="required"),
                "properties": members,
                "additionalProperties": False,
            }
        case "list":
            return {
                "type": "array",
                **_keywords(shape, minItems="min", maxItems="max"),
                "items": _from_shape(shapes, shape["member"]["shape"]),
            }
        case "string":
            return {
                "type": "string",
                **_keywords(shape, enum="enum", minLength="min", maxLength="max"),
                **({"pattern": _anchored(name, shape["pattern"])} if "pattern" in shape else {}),
            }
        case other:
            raise ValueError(f"{name}: botocore's model has a {other} here, which is new")


def _keywords(shape: dict[str, Any], **names: str) -> Schema:
    return {keyword: shape[name] for keyword, name in names.items() if name in shape}


def _anchored(shape_name: str, pattern: str) -> str:
    wrong, right = CORRECTIONS.get(shape_name, (pattern, pattern))
    body = (right if pattern == wrong else pattern).removeprefix("^").removesuffix("$")
    return f"^(?:{body})$" if "|" in body else f"^{body}$"


def _plain(documentation: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", documentation).split())


def _write_all() -> None:
    for operation in API_OPERATIONS:
        text = json.dumps(build(operation), indent=2, ensure_ascii=False)
        schema_file(operation).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write_all()
