"""From the parameters of an order to the variables of a root module."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from workflow_result.engine import expressions, hcl
from workflow_result.engine.configuration import ABSENT, Configuration, Variable
from workflow_result.engine.values import Expression, Kind, Value, kind_of, parse_json, write

_SHOWN = 40
"""Characters of a value, or of a type, that an error quotes."""


class Unsuitable(Exception):
    """A parameter cannot be what the configuration declares; the text is a headline."""


@dataclass(frozen=True)
class Definitions:
    """The text of a variable definitions file, and what has to be known of it.

    `secrets` are the values in it that nobody may read; `undeclared` are the names of parameters
    that are left out; `ephemeral` says whether one is for an ephemeral variable: `apply` of a saved
    plan needs the file again then, and before Terraform 1.10 refuses any.
    """

    text: str
    secrets: tuple[Value, ...]
    undeclared: tuple[str, ...]
    ephemeral: bool


def definitions(parameters: Mapping[str, str], configuration: Configuration) -> Definitions:
    """Return the definitions that give each parameter to the variable of its name.

    Raises `Unsuitable` where the text of one cannot be what its variable is declared as.
    """
    lines: list[str] = []
    secrets: list[Value] = []
    undeclared: list[str] = []
    wrong: list[str] = []
    ephemeral = False
    for name, text in parameters.items():
        variable = configuration.variables.get(name)
        if variable is None and not configuration.complete:
            variable = Variable(name, sensitive=True)  # for all that is known; Terraform will tell
        # https://developer.hashicorp.com/terraform/language/syntax/configuration#identifiers
        if variable is None or not re.fullmatch(r"[^\W\d][\w-]*", name):
            undeclared.append(name)
            continue
        if not text and _says_nothing(variable):
            continue
        try:
            value = _value(variable, text)
            lines.append(f"{name} = {_written(value)}\n")
        except Unsuitable as error:
            wrong.append(f"parameter {name} {error}")
            continue
        if variable.secret:
            secrets.extend((text, value))
            ephemeral |= variable.ephemeral
    if wrong:
        raise Unsuitable("The " + "; the ".join(wrong))
    return Definitions("".join(lines), tuple(secrets), tuple(undeclared), ephemeral)


def _says_nothing(variable: Variable) -> bool:
    """Whether an empty text leaves a variable to its default.

    An empty text is what `parameter_parser` tells of a default that is null, or that is more
    than a literal or arithmetic, and Service Catalog orders what it was told. Where the default is
    null, it may be meant as a string.
    """
    default = variable.default
    if default is None:
        return variable.kind not in (Kind.STRING, Kind.ANY)
    return isinstance(default, Expression) and default is not ABSENT


def _value(variable: Variable, text: str) -> Value:
    """Return what `text` means for `variable`. Raises `Unsuitable`."""
    match variable.kind:
        case Kind.STRING:
            return text
        case Kind.NUMBER:
            # As cty's ParseNumberVal has it, which Terraform converts strings by.
            if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eEpP][+-]?[0-9]+)?", text):
                raise _unsuitable(variable, text)
            return text
        case Kind.BOOL:
            if text not in ("true", "false", "1", "0"):
                raise _unsuitable(variable, text)
            return text
        case Kind.SEQUENCE | Kind.MAPPING:
            value = _structured(text)
            if value is not None and kind_of(value) is not variable.kind:
                raise _unsuitable(variable, text)
            return value
    wanted = kind_of(variable.default)
    if wanted is Kind.STRING:
        return text
    value = _json(text)
    kinds = (Kind.SEQUENCE, Kind.MAPPING) if wanted is Kind.ANY else (wanted,)
    return value if kind_of(value) in kinds else text


def _structured(text: str) -> Value | Expression:
    """Return the value of JSON, or else of a literal in HCL; an Expression where it is neither."""
    value = _json(text)
    if not isinstance(value, Expression):
        return value
    try:
        return expressions.literal(hcl.parse_expression(text))
    except hcl.NotLiteral:
        return value


def _json(text: str) -> Value | Expression:
    """Return the value of JSON text; an Expression where it is none."""
    try:
        return parse_json(text)
    except ValueError:
        return Expression(Kind.ANY)


def _written(value: Value) -> str:
    try:
        return write(value)
    except UnicodeError:
        raise Unsuitable("holds half a character (a lone surrogate)") from None
    except OverflowError:
        raise Unsuitable("holds a number that is too large") from None
    except RecursionError:
        raise Unsuitable("is nested too deeply") from None


def _unsuitable(variable: Variable, text: str) -> Unsuitable:
    shown = "its value" if variable.secret else json.dumps(_cut(text), ensure_ascii=False)
    hint = {
        Kind.SEQUENCE: ': a JSON list is needed, as ["a","b"]',
        Kind.MAPPING: ': a JSON object is needed, as {"a":"b"}',
    }.get(variable.kind, "")
    declared = _cut(" ".join(variable.type.split()))
    return Unsuitable(f"is declared as {declared}, which {shown} is not{hint}")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
