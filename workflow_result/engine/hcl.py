"""HCL's native syntax: blocks, attributes, and the values of expressions that are literals.

The grammar is tree-sitter's. Every walk here is a loop: nesting is the artifact's to choose.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial

from tree_sitter import Language, Node, Parser
from tree_sitter_hcl import language

from workflow_result.engine.values import Expression, Kind, Number, Value, plain_number

MAX_SIZE = 2**20
"""Bytes that are parsed at the most. A megabyte takes half a second, and 180 MB while it lasts."""


@dataclass(frozen=True)
class Source:
    """A node of the tree, and the bytes that it was made from."""

    node: Node
    text: bytes

    def read(self, node: Node | None = None) -> str:
        """Return the text of `node`."""
        node = node or self.node
        return self.text[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def of(self, node: Node) -> "Source":
        return Source(node, self.text)


class NotLiteral(ValueError):
    """An expression has to be evaluated, or is none."""


def parse(text: bytes) -> Source:
    """Return the tree of a file. Where the grammar knows something in it not, `has_error` of the
    node says so; what is around that is there.

    Raises `ValueError` where it has more than `MAX_SIZE` bytes.
    """
    if len(text) > MAX_SIZE:
        raise ValueError("too large")
    return Source(_parser().parse(_plainer(text)).root_node, text)


def parse_expression(text: str) -> Source:
    """Return the tree of one expression. Raises `NotLiteral` where `text` is anything else."""
    try:
        file = parse(b"x = " + text.encode())
    except ValueError as error:
        raise NotLiteral from error
    found = list(_children(file.node))
    if file.node.has_error or len(found) != 1 or found[0].type != "attribute":
        raise NotLiteral
    return file.of(found[0].named_children[-1])


@cache
def _parser() -> Parser:
    return Parser(Language(language()))


def _plainer(text: bytes) -> bytes:
    """Return `text`, each byte in its place, without what tree-sitter-hcl 1.2.0 takes for something
    else: an escaped template behind another `$`, and an exponent behind digits without a point."""
    text = text.replace(b"$${", b"$$(").replace(b"%%{", b"%%(")
    return re.sub(rb"(?<=[0-9])[eE][+-]?(?=[0-9])", lambda found: b"0" * len(found[0]), text)


def _children(node: Node) -> Iterator[Node]:
    """Yield the blocks and attributes of a file, or of a body."""
    todo = [node]
    while todo:
        for child in todo.pop().named_children:
            if child.type in ("attribute", "block"):
                yield child
            elif child.type in ("body", "ERROR"):
                todo.append(child)


def attributes(source: Source) -> Iterator[tuple[str, Source]]:
    """Yield name and expression of each attribute of a file or a block."""
    for node in _children(source.node):
        if node.type == "attribute" and (parts := _without_comments(node))[-1].type == "expression":
            yield source.read(parts[0]), source.of(parts[-1])


def blocks(source: Source) -> Iterator[tuple[str, list[str], Source]]:
    """Yield type, labels and content of each block of a file or a block."""
    for node in _children(source.node):
        if node.type == "block":
            header = [n for n in node.named_children if n.type in ("identifier", "string_lit")]
            kind, *labels = (
                _string(source.of(n)) if n.type == "string_lit" else source.read(n) for n in header
            )
            yield kind, labels, source.of(node)


def _without_comments(node: Node) -> list[Node]:
    return [child for child in node.named_children if child.type != "comment"]


def bare(source: Source) -> Source:
    """Return an expression without what only wraps it, parentheses too."""
    node = source.node
    wrappers = ("expression", "literal_value", "collection_value", "template_expr", "for_expr")
    while node.type in (*wrappers, "operation") and len(inner := _without_comments(node)) == 1:
        node = inner[0]
    return source.of(node)


# --- values -----------------------------------------------------------------------------


def evaluate(source: Source) -> Value | Expression:
    """Return the value of an expression where it is a literal."""
    try:
        return literal(source)
    except NotLiteral:
        return Expression(_kind(source), tuple(_literals(source)))


def literal(source: Source) -> Value:
    """Return the value of a literal expression. Raises `NotLiteral`."""
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
            return _number("-" + source.read(_without_comments(node)[-1]))
        case "string_lit" | "quoted_template" | "heredoc_template":
            return _string(source)
    raise NotLiteral


def _number(text: str) -> Number:
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", text):
        raise NotLiteral  # 0x1F, which is the grammar's own
    return Number(text)


def _string(source: Source) -> str:
    """Return the text of a string without templates in it."""
    node = source.node
    parts = node.named_children
    if any(part.type in ("template_interpolation", "template_directive") for part in parts):
        raise NotLiteral
    if node.type != "heredoc_template":
        # What is between: a literal's node leaves out the spaces around it.
        text = source.text[parts[0].end_byte : parts[-1].start_byte].decode("utf-8", "replace")
        if "\n" in text:
            raise NotLiteral
        return _unescape(text, quoted=True)
    start = source.text.find(b"\n", parts[1].end_byte) + 1
    end = source.text.rfind(b"\n", 0, parts[-1].start_byte) + 1
    text = source.text[start:end].decode("utf-8", "replace")
    return _unescape(_flush(text) if source.read(parts[0]) == "<<-" else text, quoted=False)


def _flush(text: str) -> str:
    """Return the text of a <<- heredoc without what all its lines are indented by.

    flushHeredocTemplateParts in
    https://github.com/hashicorp/hcl/blob/main/hclsyntax/parser_template.go
    """
    lines = re.findall(r"[^\n]*\n", text)
    indents = [len(_SPACES.match(line)[0]) for line in lines]  # type: ignore[index]  # it may be ""
    blank = [indent == len(line) for indent, line in zip(indents, lines, strict=True)]
    common = min((i for i, empty in zip(indents, blank, strict=True) if not empty), default=0)
    return "".join(
        line if empty else line[common:] for line, empty in zip(lines, blank, strict=True)
    )


_SPACES = re.compile(r"[^\S\x1c-\x1f]*")  # what Go's unicode.IsSpace knows


def _unescape(text: str, *, quoted: bool) -> str:
    def character(found: re.Match[str]) -> str:
        if found["template"]:
            return found["template"][1:]
        if not quoted:
            return found[0]
        code = found["short"] or found["long"]
        if code is None:
            if (selector := found["selector"]) not in _ESCAPES:
                raise NotLiteral
            return _ESCAPES[selector]
        number = int(code, 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise NotLiteral
        return chr(number)

    return _ESCAPE.sub(character, text)


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(
    r"(?P<template>\$\$\{|%%\{)"
    r"|\\(?:u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<selector>.))"
)


def _kind(source: Source) -> Kind:
    """Return what will come of an expression, as far as it can be seen."""
    while True:
        node = bare(source).node
        parts = _without_comments(node)
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
            todo.extend(_without_comments(node)[1:])
        elif node.type == "function_call" and source.read(node.named_children[0]) == "merge":
            arguments = [n for n in node.named_children if n.type == "function_arguments"]
            todo.extend(argument for n in arguments for argument in n.named_children)
        elif local := re.fullmatch(r"local\s*\.\s*([\w-]+)", source.read(node)):
            names.add(local[1])
    return found, names
