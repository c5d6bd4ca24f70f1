"""Configurations and their values, for hypothesis: each form that the language has for them."""

from typing import Any

from hypothesis import strategies as st

from workflow_result.engine.values import Number

Written = tuple[str, Any]
"""An expression, and its value as JSON has it."""

# Terraform normalizes strings (NFC), so nothing here that it would change.
CHARACTERS = st.sampled_from("abz09 \t\n\"'\\/#*{}[]()$%<>=,:;~_-é日\U0001f600\x01\x7f\u2028")
TEXTS = st.text(CHARACTERS, max_size=12)
NAMES = st.from_regex(r"[a-zé日_][a-z0-9é日_-]{0,8}", fullmatch=True).filter(
    lambda n: n not in ("for", "if", "in", "null", "true", "false")
)
NUMBERS = st.from_regex(
    r"(0|[1-9][0-9]{0,30})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)
SPACES = st.sampled_from([" ", "  ", "\t", ' /* ] } " */ '])
BREAKS = st.sampled_from(["\n", ' # } ] "\n', " // <<A\n", "\n\n\t"])


@st.composite
def quoted(draw: st.DrawFn, text: str) -> str:
    pieces = []
    for character in text:
        code = ord(character)
        long = f"\\U{code:08x}"
        short = f"\\u{code:04X}" if code < 0x10000 else long
        simple = {"\n": r"\n", "\t": r"\t", '"': r"\"", "\\": r"\\"}.get(character)
        pieces.append(draw(st.sampled_from([simple or character] * 5 + [long, short])))
    # Where an escape begins depends on what stands around it.
    joined = "".join(pieces)
    return '"' + joined.replace("${", "$${").replace("%{", "%%{") + '"'


@st.composite
def heredocs(draw: st.DrawFn) -> Written:
    lines = draw(st.lists(st.text(CHARACTERS.filter(lambda c: c != "\n"), max_size=10), max_size=4))
    lines = [line for line in lines if line.strip() != "EOT"]
    spelled = [line.replace("${", "$${").replace("%{", "%%{") + "\n" for line in lines]
    text = "".join(f"{line}\n" for line in lines)
    if draw(st.booleans()):
        return f"<<EOT\n{''.join(spelled)}EOT\n", text
    indent = draw(st.sampled_from(["", "  ", "\t"]))
    spelled = ["x\n", *spelled]  # so that this is all that they have in common
    return f"<<-EOT\n{''.join(indent + s for s in spelled)}  EOT\n", "x\n" + "".join(
        (indent if not line.strip() else "") + line + "\n" for line in lines
    )


@st.composite
def strings(draw: st.DrawFn) -> Written:
    text = draw(TEXTS)
    return draw(quoted(text)), text


@st.composite
def lists(draw: st.DrawFn, items: st.SearchStrategy[Written]) -> Written:
    drawn = draw(st.lists(items, max_size=4))
    gap = draw(st.one_of(SPACES, BREAKS, st.just("")))
    end = draw(st.sampled_from(["", ","])) if drawn else ""
    return f"[{gap}{f',{gap}'.join(t for t, _ in drawn)}{end}{gap}]", [v for _, v in drawn]


@st.composite
def objects(draw: st.DrawFn, items: st.SearchStrategy[Written]) -> Written:
    keys = draw(st.lists(st.one_of(NAMES, TEXTS, NUMBERS), max_size=4, unique=True))
    text, value = "{" + draw(st.sampled_from(["", " ", "\n"])), {}
    for key in keys:
        spelled = draw(quoted(key))
        if (
            key.replace("-", "").replace("_", "").isalnum()
            and not key[0].isdigit()
            and key[0] != "-"
        ):
            spelled = draw(st.sampled_from([key, spelled]))
        spelled = draw(st.sampled_from([spelled, spelled, f"({draw(quoted(key))})"]))
        item, value[key] = draw(items)
        text += f"{spelled} {draw(st.sampled_from('=:'))}{draw(SPACES)}{item}"
        if not item.endswith("\n"):  # as a heredoc does, which no comma may follow here
            text += draw(st.one_of(BREAKS, st.just(", "), st.just(",\n")))
    return text + "}", value


def _wrapped(inner: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    return st.one_of(inner, inner, inner.map(lambda w: (f"({w[0]})", w[1])))


SCALARS: st.SearchStrategy[Written] = st.one_of(
    strings(),
    NUMBERS.map(lambda n: (n, Number(n))),
    NUMBERS.map(lambda n: (f"-{n}", Number(f"-{n}"))),
    st.sampled_from([("true", True), ("false", False), ("null", None)]),
)
VALUES: st.SearchStrategy[Written] = st.recursive(
    _wrapped(st.one_of(SCALARS, SCALARS, heredocs())),
    lambda inner: _wrapped(st.one_of(lists(inner), objects(inner))),
    max_leaves=8,
)
