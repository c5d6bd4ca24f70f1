"""What HCL expressions are worth: the values of literals and of arithmetic, the kinds of others.

Every walk here is a loop: nesting is the artifact's to choose.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from tree_sitter import Node

from workflow_result.engine.hcl import NotLiteral, Source, bare, string, without_comments
from workflow_result.engine.values import Expression, Kind, Number, Value, plain_number

_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder"}
"""Operators, and the methods of a decimal context that do the same."""

_OPERATIONS = ("binary_operation", "unary_operation")

_MOST_OPERATIONS = 50
"""Operations within each other that are worked out."""

_DIGITS = 150
"""Digits that are worked out: Terraform has 512 bits of a number."""


def evaluate(source: Source) -> Value | Expression:
    """Return the value of an expression where it is a literal, or one with arithmetic in it."""
    try:
        return literal(source, arithmetic=True)
    except NotLiteral:
        return Expression(_kind(source), tuple(_literals(source)))


def literal(source: Source, *, arithmetic: bool = False) -> Value:
    """Return the value of a literal expression, with `arithmetic` in it if wanted.

    Raises `NotLiteral`.
    """
    result: list[Value] = [None]
    todo: list[tuple[Node, Callable[[Value], None]]] = [
        (source.node, partial(result.__setitem__, 0))
    ]
    while todo:
        node, put = todo.pop()
        node = bare(source.of(node)).node
        if node.type == "tuple":
            items = [child for child in node.named_children if child.type == "expression"]
            values: list[Value] = [None] * len(items)
            put(values)
            todo.extend((item, partial(values.__setitem__, i)) for i, item in enumerate(items))
        elif node.type == "object":
            members: dict[str, Value] = {}
            put(members)
            # The last one of a name counts, so it has to be the last one that is set.
            todo.extend(
                (value, partial(members.__setitem__, _key(source.of(key))))
                for key, value in reversed(_elements(node))
            )
        elif arithmetic and node.type in _OPERATIONS:
            put(_calculated(source.of(node)))
        else:
            put(_scalar(source.of(node)))
    return result[0]


def _elements(node: Node) -> list[tuple[Node, Node]]:
    elements = []
    for child in node.named_children:
        if child.type == "object_elem":
            key, value = child.child_by_field_name("key"), child.child_by_field_name("val")
            if key is None or value is None:
                raise NotLiteral
            elements.append((key, value))
    return elements


def _key(source: Source) -> str:
    """Return the key of an object's element; a bare word is one."""
    node = bare(source).node
    word = node.type in ("variable_expr", "bool_lit", "null_lit")
    if word and "(" not in source.read():
        return source.read(node)
    key = _scalar(source.of(node))
    if isinstance(key, Number):
        try:
            return plain_number(key)
        except ValueError as error:
            raise NotLiteral from error
    if isinstance(key, bool):
        return "true" if key else "false"
    if key is None:
        raise NotLiteral
    return str(key)


def _scalar(source: Source) -> Value:
    node = source.node
    match node.type:
        case "null_lit":
            return None
        case "bool_lit":
            return source.read() == "true"
        case "numeric_lit":
            return _number(source.read())
        case "unary_operation" if node.children[0].type == "-":
            return _number("-" + source.read(without_comments(node)[-1]))
        case "string_lit" | "quoted_template" | "heredoc_template":
            return string(source)
    raise NotLiteral


def _calculated(source: Source, depth: int = 0) -> Value:
    """Return the value of a scalar, or of arithmetic whose result has an end. Raises `NotLiteral`.

    https://developer.hashicorp.com/terraform/language/expressions/operators#arithmetic-operators
    """
    node = bare(source).node
    try:
        return _scalar(source.of(node))
    except NotLiteral:
        signs = [_ARITHMETIC[child.type] for child in node.children if child.type in _ARITHMETIC]
        if node.type not in _OPERATIONS or not signs or depth > _MOST_OPERATIONS:
            raise
    from decimal import Context, DivisionByZero, Inexact, InvalidOperation

    operands = [_calculated(source.of(child), depth + 1) for child in without_comments(node)]
    if not all(isinstance(operand, Number) for operand in operands):
        raise NotLiteral
    faults = [DivisionByZero, Inexact, InvalidOperation]
    exact = Context(_DIGITS, Emin=-_DIGITS, Emax=_DIGITS, traps=faults)
    method = signs[0] if len(operands) == 2 else "minus"
    try:
        result = getattr(exact, method)(*map(exact.create_decimal, operands))
    except ArithmeticError as error:
        raise NotLiteral from error
    return Number(format(result, "f"))


def _number(text: str) -> Number:
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", text):
        raise NotLiteral  # 0x1F, which is the grammar's own
    return Number(text)


def _kind(source: Source) -> Kind:
    """Return what will come of an expression, as far as it can be seen."""
    while True:
        node = bare(source).node
        parts = without_comments(node)
        match node.type:
            case "tuple" | "for_tuple_expr":
                return Kind.SEQUENCE
            case "object" | "for_object_expr":
                return Kind.MAPPING
            case "quoted_template" if [p.type for p in parts[1:-1]] == ["template_interpolation"]:
                whole = parts[0].end_byte, parts[-1].start_byte
                inner = [p for p in parts[1].named_children if p.type == "expression"]
                if whole != (parts[1].start_byte, parts[1].end_byte) or not inner:
                    return Kind.STRING
                source = source.of(inner[0])  # "${x}" is x
            case "quoted_template" | "heredoc_template":
                return Kind.STRING
            case "unary_operation":
                return Kind.NUMBER if node.children[0].type == "-" else Kind.BOOL
            case "binary_operation":
                arithmetic = any(child.type in ("+", "-", "*", "/", "%") for child in node.children)
                return Kind.NUMBER if arithmetic else Kind.BOOL
            case "conditional" if len(parts) == 3:
                source = source.of(parts[1])
            case _:
                return Kind.ANY


_TRANSPARENT = {
    *("expression", "collection_value", "tuple", "object", "object_elem", "conditional"),
    *("template_expr", "quoted_template", "heredoc_template", "template_interpolation"),
    *("template_directive", "template_if", "for_expr", "for_tuple_expr", "for_object_expr"),
    *("for_intro", "literal_value", "operation"),
}


def _literals(source: Source) -> Iterator[Value]:
    """Yield the literals in an expression, and the pieces of its templates, that may come to be a
    part of its value: not the arguments of functions."""
    todo = [source.node]
    while todo:
        node = todo.pop()
        if node.type == "template_literal":
            yield source.read(node)
        elif node.type == "object_elem":
            todo.extend(node.named_children[1:])
        elif node.type in _TRANSPARENT:
            try:
                yield _scalar(source.of(node))
            except NotLiteral:
                todo.extend(node.named_children)
        else:
            try:
                yield _scalar(source.of(node))
            except NotLiteral:
                continue


def keys(source: Source) -> tuple[set[str], set[str]]:
    """Return the keys of the object that an expression is, or merges, and the names of the local
    values that it takes further ones from."""
    found: set[str] = set()
    names: set[str] = set()
    todo = [source.node]
    while todo:
        node = bare(source.of(todo.pop())).node
        if node.type == "object":
            for child in node.named_children:
                if child.type == "object_elem" and (key := child.child_by_field_name("key")):
                    with suppress(NotLiteral):
                        found.add(_key(source.of(key)))
        elif node.type == "conditional":
            todo.extend(without_comments(node)[1:])
        elif node.type == "function_call" and source.read(node.named_children[0]) == "merge":
            arguments = [n for n in node.named_children if n.type == "function_arguments"]
            todo.extend(argument for n in arguments for argument in n.named_children)
        elif local := re.fullmatch(r"local\s*\.\s*([\w-]+)", source.read(node)):
            names.add(local[1])
    return found, names
