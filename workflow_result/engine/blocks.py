"""The blocks in a file of Terraform's language, in either syntax of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path

from workflow_result.engine import hcl
from workflow_result.engine.expressions import evaluate
from workflow_result.engine.hcl import Source
from workflow_result.engine.values import Expression, Object, Value, parse_json


@dataclass(frozen=True)
class Block:
    """A block of one file: HCL's source, or what JSON has in its place."""

    kind: str
    labels: list[str]
    body: "Source | Object"

    def attributes(self) -> Mapping[str, "Source | Value"]:
        return self.body if isinstance(self.body, dict) else dict(hcl.attributes(self.body))

    def values(self) -> dict[str, Value | Expression]:
        """Return the values of its attributes."""
        return {name: value_of(given) for name, given in self.attributes().items()}

    def inner(self, kind: str) -> Iterator["Block"]:
        if isinstance(self.body, dict):
            for name, value in self.body.pairs:
                if name == kind:
                    yield from _json_blocks(kind, [], value, 0)
        else:
            for name, labels, body in hcl.blocks(self.body):
                if name == kind:
                    yield Block(kind, labels, body)


def value_of(given: "Source | Value") -> Value | Expression:
    return evaluate(given) if isinstance(given, Source) else given


_LABELS = {"resource": 2, "data": 2, "ephemeral": 2, "action": 2, "list": 2} | dict.fromkeys(
    ("variable", "output", "provider", "module", "check"), 1
)
"""How many labels a block has, which JSON does not show."""


def _json_blocks(kind: str, labels: list[str], value: Value, count: int) -> Iterator[Block]:
    # https://developer.hashicorp.com/terraform/language/syntax/json: one object, or a list of them
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, Object):
            continue
        if not count:
            yield Block(kind, labels, item)
            continue
        for label, inner in item.pairs:
            yield from _json_blocks(kind, [*labels, label], inner, count - 1)


def blocks(file: Path) -> tuple[list[Block], bool]:
    """Return the blocks of a file, and whether it was understood."""
    try:
        text = file.read_bytes()
        if file.suffix == ".json":
            found = [
                block
                for top in _json_blocks("", [], parse_json(text.decode("utf-8-sig", "replace")), 0)
                if isinstance(top.body, Object)
                for kind, value in top.body.pairs
                for block in _json_blocks(kind, [], value, _LABELS.get(kind, 0))
            ]
            return found, True
        source = hcl.parse(text)
    except (OSError, ValueError):
        return [], False
    return [Block(*block) for block in hcl.blocks(source)], not source.node.has_error


def fault(file: Path) -> str:
    """Return what keeps a file from being understood, and where, for a person; else nothing."""
    try:
        text = file.read_bytes()
        if file.suffix == ".json":
            parse_json(text.decode("utf-8-sig", "replace"))
            return ""
        line = hcl.first_error(hcl.parse(text))
    except JSONDecodeError as error:
        return f"line {error.lineno}: {error.msg}"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return f"line {line}: this is not in Terraform's language" if line else ""
