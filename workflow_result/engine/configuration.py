"""What a root module's folder says that Terraform does not tell while it runs.

Descriptions of outputs are in the plan alone, and `terraform show -json` starts every provider
to read it: 2.7 s and 600 MB with the AWS provider. The configuration has them in plain sight.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Declarations:
    """Descriptions of outputs, names of variables that are sensitive or ephemeral, and strings that
    stand in the folder as the value of a variable: a default, or one in a file of definitions."""

    descriptions: dict[str, str] = field(default_factory=dict)
    sensitive_variables: set[str] = field(default_factory=set)
    values: list[tuple[str, str]] = field(default_factory=list)


_UNREADABLE = (OSError, ValueError, AttributeError, RecursionError)
"""What comes of a file that is none of Terraform's, or of nobody's."""


def read(directory: Path) -> Declarations:
    """Read the declarations of the root module in `directory`.

    What cannot be read is left out: Terraform will say what is wrong with it.
    """
    declarations = Declarations()
    _read_module(directory, declarations)
    _read_definitions(directory, declarations)
    return declarations


def files(directory: Path) -> list[Path]:
    """Return the files of the root module in `directory`, in the order in which they count."""
    found = _glob(directory, "*.tf", "*.tofu", "*.tf.json", "*.tofu.json")
    # https://developer.hashicorp.com/terraform/language/files/override: last, and they win.
    return sorted(found, key=lambda f: (_is_override(f.name), f.name))


def _glob(directory: Path, *patterns: str) -> list[Path]:
    # Terraform leaves out hidden files. What is no file, a pipe say, would have us wait for ever.
    found = [file for pattern in patterns for file in directory.glob(pattern)]
    return [file for file in found if not file.name.startswith(".") and file.is_file()]


def _read_module(directory: Path, declarations: Declarations) -> None:
    for file in files(directory):
        with suppress(*_UNREADABLE):
            text = file.read_text(encoding="utf-8-sig")
            attributes = _json_attributes(text) if file.suffix == ".json" else _attributes(text)
            for kind, label, name, value in attributes:
                if (kind, name) == ("output", "description"):
                    without_halves = value.encode("utf-8", "replace").decode("utf-8")
                    declarations.descriptions[label] = without_halves
                elif (kind, value) == ("variable", "true") and name in ("sensitive", "ephemeral"):
                    declarations.sensitive_variables.add(label)
                elif (kind, name) == ("variable", "default"):
                    declarations.values.append((label, value))


def _read_definitions(directory: Path, declarations: Declarations) -> None:
    # https://developer.hashicorp.com/terraform/language/values/variables#variable-definitions-tfvars-files
    names = ("terraform.tfvars", "*.auto.tfvars", "terraform.tfvars.json", "*.auto.tfvars.json")
    for file in _glob(directory, *names):
        with suppress(*_UNREADABLE):
            text = file.read_text(encoding="utf-8-sig")
            if file.suffix == ".json":
                pairs = [(n, v) for n, v in json.loads(text).items() if isinstance(v, str)]
            else:  # the inside of a block
                pairs = [(n, v) for _, _, n, v in _attributes(f'file "" {{\n{text}\n}}')]
            declarations.values.extend(pairs)


def _is_override(name: str) -> bool:
    return re.search(r"(^|_)override\.(tf|tofu)(\.json)?$", name) is not None


def _json_attributes(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield type and label of each block, name and value of each attribute of it."""
    document: dict[str, Any] = json.loads(text)
    for kind in ("output", "variable"):
        for blocks in _each(document.get(kind, {})):
            for label, bodies in blocks.items():
                for body in _each(bodies):
                    for name, value in body.items():
                        text = value if isinstance(value, str) else json.dumps(value)
                        yield kind, label, name, text


def _each(value: Any) -> list[Any]:
    # https://developer.hashicorp.com/terraform/language/syntax/json: one object, or a list of them
    return value if isinstance(value, list) else [value]


# https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md
_TOKEN = re.compile(
    r"""(?P<comment> \#[^\n]* | //[^\n]* | /\*.*?\*/ )
    | (?P<heredoc> <<-?(?P<tag>[^\W\d][\w-]*)\r?\n (?P<text>.*?) ^[ \t]*(?P=tag)[ \t]*$ )
    | (?P<quote> " )
    | (?P<open> [{[(] )
    | (?P<close> []})] )
    | (?P<name> [^\W\d][\w-]* )
    | (?P<equals> (?<![=!<>])=(?![=>]) )
    | (?P<other> . )""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def _attributes(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Like `_json_attributes`, for the literal attributes of top-level blocks in HCL."""
    depth = position = 0
    header: list[str] = []  # of the block that is open, or about to be
    assigned = name = ""
    while match := _TOKEN.match(text, position):
        position = match.end()
        literal = None
        match match.lastgroup:
            case "open":
                depth += 1
            case "close":
                depth = max(depth - 1, 0)
                if not depth:
                    header = []
            case "name":
                literal = match[0]
            case "quote":
                end = _end_of_string(text, position)
                literal = _unescape(text[position:end])
                position = end + 1
            case "heredoc":
                body = match["text"]
                literal = textwrap.dedent(body) if match[0].startswith("<<-") else body
        if depth == 0 and literal is not None:
            header.append(literal)
        elif depth == 1 and len(header) == 2 and literal is not None and assigned:
            yield header[0], header[1], assigned, literal.replace("$${", "${").replace("%%{", "%{")
        if match.lastgroup not in ("comment", "other"):
            assigned = name if match.lastgroup == "equals" and depth == 1 else ""
            name = match[0] if match.lastgroup == "name" else ""


def _end_of_string(text: str, position: int) -> int:
    """Return where the string that begins at `position` has its closing quote.

    A template in it may hold strings of its own: "${join(",", var.names)}".
    """
    braces = 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == '"':
            if not braces:
                return position
            position = _end_of_string(text, position + 1)
        elif text.startswith(("${", "%{"), position) and text[position - 1] != text[position]:
            braces += 1
            position += 1
        elif braces and text[position] in "{}":
            braces += 1 if text[position] == "{" else -1
        position += 1
    return position


def _unescape(text: str) -> str:
    simple = {"n": "\n", "r": "\r", "t": "\t"}

    def character(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        if code:  # \ufffd where it is none: Terraform will say so
            return chr(int(code, 16)) if int(code, 16) <= sys.maxunicode else "\ufffd"
        return simple.get(match[3], match[3])

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", character, text)
