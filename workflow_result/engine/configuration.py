"""What a root module's folder says that Terraform does not tell while it runs.

`terraform show -json` would tell most of it, but of a finished plan alone, and starts every
provider for it: 2.7 s and 600 MB with the AWS provider. The configuration has it in plain sight.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from workflow_result.engine import expressions, hcl
from workflow_result.engine.blocks import Block, value_of
from workflow_result.engine.blocks import blocks as blocks_of
from workflow_result.engine.hcl import Source
from workflow_result.engine.values import Expression, Kind, Value, parse_json

ABSENT = Expression(Kind.ANY)
"""The default of a variable that has none."""


@dataclass(frozen=True)
class Variable:
    """A declared variable. `type` is its text as it stands there, empty where there is none; `kind`
    is what a value of that type is; `default` is ABSENT, or an Expression where it is no literal.
    """

    name: str
    kind: Kind = Kind.ANY
    type: str = ""
    default: Value | Expression = field(default=ABSENT, repr=False)
    sensitive: bool = False
    ephemeral: bool = False
    nullable: bool = True
    description: str = ""

    @property
    def secret(self) -> bool:
        """Whether nobody may read its value."""
        return self.sensitive or self.ephemeral


@dataclass(frozen=True)
class Configuration:
    """The root module in a folder.

    `files` are the names of those that Terraform reads, overrides last; `complete` says whether all
    of them were understood; `has_content` whether there is anything to run: a block other than
    terraform, provider, variable and locals in a file that is no override.
    `values` are those of variables that are sensitive or ephemeral, as they stand in the folder: in
    defaults, files of definitions, and what local modules are called with. `tag_keys` are those of
    tags that the module sets itself, `ignored` has the "keys" and "key_prefixes" of those that it
    has the AWS provider ignore; `required_versions` what it wants of Terraform.
    """

    files: tuple[str, ...] = ()
    complete: bool = True
    has_content: bool = False
    variables: Mapping[str, Variable] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    values: tuple[Value, ...] = field(default=(), repr=False)
    tag_keys: frozenset[str] = frozenset()
    ignored: Mapping[str, list[str]] = field(default_factory=dict)
    required_versions: tuple[str, ...] = ()


def read(directory: Path, *, opentofu: bool = False) -> Configuration:
    """Read the root module in `directory`, as OpenTofu does it where that is meant.

    What cannot be read is left out: Terraform will say what is wrong with it.
    """
    root = _Module(directory, opentofu)
    values = [*root.definitions(), *_module_values(root, opentofu)]
    return Configuration(
        files=tuple(file.name for file in root.files),
        complete=root.complete,
        has_content=root.has_content,
        variables=root.variables,
        descriptions=root.descriptions(),
        values=tuple(
            leaf
            for value in values
            for leaf in (value.literals if isinstance(value, Expression) else (value,))
        ),
        tag_keys=root.tags.keys(),
        ignored=root.ignored,
        required_versions=tuple(root.required_versions),
    )


def _module_values(root: "_Module", opentofu: bool) -> Iterator[Value | Expression]:
    """Yield defaults and arguments of secret variables, of the root module and of local ones."""
    modules = {_real(root.directory): root}
    todo = [root]
    while todo:
        module = todo.pop()
        yield from (v.default for v in module.variables.values() if v.secret)
        for call in module.calls:
            # https://developer.hashicorp.com/terraform/language/modules/sources#local-paths
            source = call.get("source")
            if not isinstance(source, str) or not source.startswith(("./", "../")):
                continue
            folder = _real(module.directory / source)
            if folder not in modules:
                modules[folder] = _Module(Path(folder), opentofu)
                todo.append(modules[folder])
            called = modules[folder].variables
            yield from (v for name, v in call.items() if name in called and called[name].secret)


def _real(path: Path) -> str:
    return os.path.realpath(path)


# --- files --------------------------------------------------------------------------------------


def _files(directory: Path, opentofu: bool) -> list[Path]:
    """Return the files of the module in `directory`, in the order in which they count."""
    names = {file.name: file for file in _glob(directory, ".tf", ".tf.json")}
    if opentofu:  # https://opentofu.org/docs/language/files/#opentofu-file-extension
        for file in _glob(directory, ".tofu", ".tofu.json"):
            names.pop(re.sub(r"\.tofu(?=(\.json)?$)", ".tf", file.name), None)
            names[file.name] = file
    # https://developer.hashicorp.com/terraform/language/files/override: last, and they win.
    return sorted(names.values(), key=lambda file: (_is_override(file), file.name))


def _glob(directory: Path, *endings: str) -> list[Path]:
    # Terraform leaves out hidden files. What is no file, a pipe say, would have us wait for ever.
    found: list[Path] = []
    with suppress(OSError):
        for entry in os.scandir(directory):
            if entry.name.endswith(endings) and not entry.name.startswith("."):
                with suppress(OSError):
                    if entry.is_file():
                        found.append(directory / entry.name)
    return found


def _is_override(file: Path) -> bool:
    return re.search(r"(^|_)override\.(tf|tofu)(\.json)?$", file.name) is not None


class _Module:
    """What the files of one folder declare."""

    def __init__(self, directory: Path, opentofu: bool) -> None:
        self.directory = directory
        self.files = _files(directory, opentofu)
        self.complete = True
        self.has_content = False
        self.calls: list[dict[str, Value | Expression]] = []
        self.required_versions: list[str] = []
        self.tags = _Tags()
        self.ignored: dict[str, list[str]] = {}
        self._variables: dict[str, dict[str, Value | Expression]] = {}
        self._types: dict[str, tuple[Kind, str]] = {}
        self._outputs: dict[str, dict[str, Value | Expression]] = {}
        for file in self.files:
            blocks, understood = blocks_of(file)
            self.complete &= understood
            own = not _is_override(file)
            self.has_content |= own and not understood
            for block in blocks:
                settings = block.kind in ("terraform", "provider", "variable", "locals")
                self.has_content |= own and not settings and block.kind != "//"
                self._take(block)

    def _take(self, block: Block) -> None:
        match block.kind, block.labels:
            case "variable", [name]:
                given = dict(block.attributes())
                if "type" in given:
                    self._types[name] = _type(given.pop("type"))
                values = {key: value_of(value) for key, value in given.items()}
                self._variables[name] = self._variables.get(name, {}) | values
            case "output", [name]:
                description = block.attributes().get("description")
                values = {} if description is None else {"description": value_of(description)}
                self._outputs[name] = self._outputs.get(name, {}) | values
            case "module", [_]:
                self.calls.append(block.values())
            case "terraform", []:
                version = value_of(block.attributes().get("required_version"))
                if isinstance(version, str):
                    self.required_versions.append(version)
            case "locals", []:
                self.tags.take_locals(block.attributes())
            case "provider", ["aws"]:
                for default_tags in block.inner("default_tags"):
                    self.tags.take(default_tags.attributes().get("tags"))
                for ignore_tags in block.inner("ignore_tags"):
                    for name, value in ignore_tags.values().items():
                        texts = value.literals if isinstance(value, Expression) else value
                        if isinstance(texts, list | tuple):  # all else Terraform refuses
                            self.ignored.setdefault(name, []).extend(map(str, texts))
            case "resource", [_, _]:
                self.tags.take(block.attributes().get("tags"))

    @cached_property
    def variables(self) -> dict[str, Variable]:
        return {
            name: Variable(
                name,
                *self._types.get(name, (Kind.ANY, "")),
                default=values.get("default", ABSENT),
                sensitive=_may_be(values.get("sensitive")),
                ephemeral=_may_be(values.get("ephemeral")),
                nullable=_may_be(values.get("nullable", True)),
                description=_text(values.get("description")) or "",
            )
            for name, values in self._variables.items()
        }

    def descriptions(self) -> dict[str, str]:
        given = {name: _text(values.get("description")) for name, values in self._outputs.items()}
        return {name: text for name, text in given.items() if text is not None}

    def definitions(self) -> Iterator[Value | Expression]:
        """Yield what files of definitions in the folder have for secret variables."""
        # https://developer.hashicorp.com/terraform/language/values/variables#variable-definitions-tfvars-files
        for file in _glob(self.directory, ".tfvars", ".tfvars.json"):
            if not re.search(r"^terraform\.tfvars(\.json)?$|\.auto\.tfvars(\.json)?$", file.name):
                continue
            with suppress(OSError, ValueError, AttributeError):
                text = file.read_bytes()
                pairs = (
                    parse_json(text.decode("utf-8-sig", "replace")).pairs
                    if file.suffix == ".json"
                    else list(hcl.attributes(hcl.parse(text)))
                )
                yield from (
                    value_of(given)
                    for name, given in pairs
                    if name in self.variables and self.variables[name].secret
                )


def _text(value: Value | Expression) -> str | None:
    """Return a value that is a text. JSON can hold half a character, and Terraform replaces it."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _may_be(value: Value | Expression) -> bool:
    """Whether an attribute may be true. Terraform takes strings, too."""
    return value not in (None, False, "false", "0")


_KINDS = {
    "string": Kind.STRING,
    "number": Kind.NUMBER,
    "bool": Kind.BOOL,
    **dict.fromkeys(("list", "set", "tuple"), Kind.SEQUENCE),
    **dict.fromkeys(("map", "object"), Kind.MAPPING),
}


def _type(given: Source | Value) -> tuple[Kind, str]:
    """Return the kind of a type, and its text."""
    text = given.read() if isinstance(given, Source) else str(given)
    name = re.match(r"[\s(]*(\w*)", text)
    assert name  # it matches anything
    return _KINDS.get(name[1], Kind.ANY), text


class _Tags:
    """Keys of tags, as far as they stand there: in objects, merged ones, and local values."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._used: set[str] = set()
        self._locals: dict[str, tuple[set[str], set[str]]] = {}

    def take(self, given: Source | Value) -> None:
        keys, names = _keys(given)
        self._keys |= keys
        self._used |= names

    def take_locals(self, given: Mapping[str, Source | Value]) -> None:
        self._locals |= {name: _keys(value) for name, value in given.items()}

    def keys(self) -> frozenset[str]:
        found, todo, seen = set(self._keys), list(self._used), set(self._used)
        while todo:
            keys, names = self._locals.get(todo.pop(), (set(), set()))
            found |= keys
            todo.extend(names - seen)
            seen |= names
        return frozenset(found)


def _keys(given: Source | Value) -> tuple[set[str], set[str]]:
    """Return the keys in an object, or in what is merged to one, and the local values in it."""
    if isinstance(given, str):  # JSON
        found = re.fullmatch(r"\$\{(.*)\}", given, re.DOTALL)
        if not found:
            return set(), set()
        with suppress(hcl.NotLiteral):
            return expressions.keys(hcl.parse_expression(found[1]))
        return set(), set()
    if isinstance(given, Source):
        return expressions.keys(given)
    return set(given) if isinstance(given, dict) else set(), set()
