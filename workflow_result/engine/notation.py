"""The notations in which Terraform, its providers and what they start may show a value."""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from workflow_result.secret import PIECE, SENSITIVE_VALUE, keep_secrets

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_MAX_EXPONENT = 300
"""More is beyond a double, and its digits would fill the memory."""

_LONG = 2**16
"""Characters of a text whose nested notations would take seconds."""

_NAME = re.compile(r"[^\W\d]+([_-][^\W\d]+)*")

_HCL = re.compile(
    r'"(?P<text>(?:[^"\\]|\\.)*+)"?(?P<key>\s*+[=:])?|(?P<number>(?<![\w.])-?\d[\w.+-]*)', re.S
)
"""A string, or a number, in an HCL expression. Each match ends where the next may begin."""


def keep_value(value: object, stand_in: str = SENSITIVE_VALUE) -> None:
    """Have `hide` look for every leaf of `value`, in each notation in which Terraform may show it.

    `value` is what a JSON document can hold, or a text that holds such a value. true, false and
    null stay: which of the words is replaced would tell the value.
    """
    keep_secrets(*leaves_and_keys(value), stand_in)


def leaves_and_keys(value: object) -> tuple[set[str], set[str]]:
    """Return the texts that leaves, and keys, of `value` may be shown as.

    `value` is what a JSON document can hold. A text may hold such a value, too, as JSON or HCL.

    A key that is a name (`password`, `db-user`) is left out: it is in the configuration, and in
    many another word. Another one (`alice@example.com`, `AKIA2…`) may be as secret as a value.
    """
    leaves: set[str] = set()
    keys: set[str] = set()
    unseen = [value]
    while unseen:
        match unseen.pop():
            case None | bool() | "true" | "false" | "null":
                pass
            case str() as text:
                leaves.update(*map(_notations, _parts(text)))
                unseen.extend(_held(text, keys))
            case Mapping() as members:
                keys.update(*(_notations(str(k)) for k in members if not _NAME.fullmatch(str(k))))
                unseen.extend(members.values())
            case list() | tuple() as items:
                unseen.extend(items)
            case int() as number:
                unseen.append(str(Decimal(number)))  # str() refuses more than 4,300 digits
            case other:
                unseen.append(str(other))
    return leaves, keys


def _tells(text: str) -> bool:
    """Whether hiding `text` hides anything: a single mark or white space is in every sentence."""
    return not text.isspace() and (len(text) > 1 or text.isalnum())


def _parts(text: str) -> Iterator[str]:
    """Yield `text`, the ways to write it where it is a number, and its lines where these are too
    short to have a piece of their own."""
    yield text
    if _NUMBER.fullmatch(text):
        yield from _numbers(text)
    for line in {text, *text.splitlines()}:
        line = line.strip()
        if len(line) < PIECE and any(map(str.isalnum, line)):
            yield line


def _numbers(text: str) -> Iterator[str]:
    """Yield how a number may be written: with all its digits, those of a double, or the ten that
    Terraform's diagnostics show (compactValueStr in internal/command/views/json/diagnostic.go);
    plain, or with an exponent, as Terraform's `format("%v")` does."""
    exact = Decimal(text)
    if abs(exact.adjusted()) > _MAX_EXPONENT:
        return
    double = float(text)
    for number in (exact, Decimal(repr(double)), Decimal(f"{double:.9e}")):
        sign, digits, _ = number.as_tuple()
        plain = f"{number:f}"
        yield plain.rstrip("0").rstrip(".") if "." in plain else plain
        if not -5 < number.adjusted() < PIECE - 1:
            written = "".join(map(str, digits)).rstrip("0") or "0"
            mantissa = f"{written[0]}.{written[1:]}".rstrip(".")
            yield f"{'-' * sign}{mantissa}e{number.adjusted():+03}"
    if len(exact.as_tuple().digits) >= PIECE - 1:
        yield f"{double:e}"


def _held(text: str, keys: set[str]) -> Iterator[object]:
    """Yield what a text holds that is JSON, or else HCL. Its keys go to `keys`."""
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return
    try:
        yield json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        for found in _HCL.finditer(text):
            if found["number"]:
                yield found["number"]
            elif (string := _unquoted(found["text"])) and not found["key"]:
                yield string
            elif string and not _NAME.fullmatch(string):
                keys.update(_notations(string))


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False)).replace("$${", "${").replace("%%{", "%{")
    except ValueError:
        return text


def _notations(text: str) -> set[str]:
    """Return `text` as it is, and in each notation; JSON is quoted in others, too, more than once:
    a policy in a message in a line of Terraform's log."""
    if not _tells(text):
        return set()
    if text.isascii() and text.isalnum():
        return {text}
    found: set[str] = set()
    nested = {_json(text), _go_json(text), _go_json(_go_json(text))} if len(text) < _LONG else set()
    for plain in {text, _template(text)} | nested:
        found |= {plain, *(write(plain) for write in (_json, _go_json, _hcl, _go_quoted, _yaml))}
    found.add(json.dumps(text)[1:-1])
    # As `problem.printable` and `failure_reason.clean` leave it.
    for plain in (text, _template(text)):
        found.add("".join(c if c.isprintable() else " " for c in plain))
        plain = re.sub(r"[\ud800-\udfff\ufffe-\U0010ffff]", "\ufffd", plain)
        found.add(re.sub(r"[^\t\n -~\xa0-\U0010ffff]", "", re.sub(r"\r\n?", "\n", plain)))
    return set(filter(_tells, found))


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _go_json(text: str) -> str:
    """As Go's encoding/json writes it (https://pkg.go.dev/encoding/json#Marshal)."""
    return re.sub(r"[<>&\u2028\u2029]", lambda c: f"\\u{ord(c[0]):04x}", _json(text))


def _template(text: str) -> str:
    """As it stands in a heredoc
    (https://developer.hashicorp.com/terraform/language/expressions/strings)."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _hcl(text: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
    return _escaped(_template(text), named, "u{:04x}")


def _go_quoted(text: str) -> str:
    """As Go's `%q` writes it (https://pkg.go.dev/strconv#Quote)."""
    return _escaped(text, _named('\a\b\f\n\r\t\v\\"', 'abfnrtv\\"'), "x{:02x}")


def _yaml(text: str) -> str:
    """As it stands in double quotes (https://yaml.org/spec/1.2.2/#57-escaped-characters)."""
    marks = '\0\a\b\t\n\v\f\r\x1b"\\\x85\xa0\u2028\u2029'
    return _escaped(text, _named(marks, '0abtnvfre"\\N_LP'), "x{:02X}")


def _named(characters: str, names: str) -> dict[str, str]:
    return {c: f"\\{name}" for c, name in zip(characters, names, strict=True)}


def _escaped(text: str, named: Mapping[str, str], as_byte: str) -> str:
    def escape(found: re.Match[str]) -> str:
        c = found[0]
        if c.isprintable() and c not in named:
            return c
        number = as_byte if c < "\x80" else "u{:04x}" if c <= "\uffff" else "U{:08x}"
        return named.get(c, "\\" + number.format(ord(c)))

    return re.sub(r'[^ -~]|["\\]', escape, text)
