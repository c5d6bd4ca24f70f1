"""HCL's native syntax as a tree: files, blocks, attributes, expressions.

The grammar is tree-sitter's. Every walk here is a loop: nesting is the artifact's to choose.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tree_sitter import Language, Node, Parser
from tree_sitter_hcl import language

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
        raise ValueError(f"it has more than {MAX_SIZE >> 20} MiB")
    return Source(_parser().parse(_plainer(text)).root_node, text)


def first_error(source: Source) -> int | None:
    """Return the line of what the grammar does not know, or misses; None where there is no such."""
    todo = [source.node]
    while todo:
        node = todo.pop()
        if node.is_missing or (node.is_error and not any(c.has_error for c in node.children)):
            return int(node.start_point[0]) + 1
        todo.extend(child for child in reversed(node.children) if child.has_error)
    return None


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
        if node.type == "attribute" and (parts := without_comments(node))[-1].type == "expression":
            yield source.read(parts[0]), source.of(parts[-1])


def blocks(source: Source) -> Iterator[tuple[str, list[str], Source]]:
    """Yield type, labels and content of each block of a file or a block."""
    for node in _children(source.node):
        if node.type == "block":
            header = [n for n in node.named_children if n.type in ("identifier", "string_lit")]
            kind, *labels = (
                string(source.of(n)) if n.type == "string_lit" else source.read(n) for n in header
            )
            yield kind, labels, source.of(node)


def without_comments(node: Node) -> list[Node]:
    """Return the named children of a node, comments aside."""
    return [child for child in node.named_children if child.type != "comment"]


def bare(source: Source) -> Source:
    """Return an expression without what only wraps it, parentheses too."""
    node = source.node
    wrappers = ("expression", "literal_value", "collection_value", "template_expr", "for_expr")
    while node.type in (*wrappers, "operation") and len(inner := without_comments(node)) == 1:
        node = inner[0]
    return source.of(node)


def string(source: Source) -> str:
    """Return the text of a string. Raises `NotLiteral` where it has templates in it."""
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
