"""Every leaf of a sensitive value, in each notation."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import clean_environment
from hypothesis import assume, given
from hypothesis import strategies as st

from workflow_result.engine.notation import keep_value
from workflow_result.problem import printable
from workflow_result.secret import PIECE, SENSITIVE_VALUE, hide

HIDDEN = SENSITIVE_VALUE


def go_json(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)[1:-1]
    for c in "<>&\u2028\u2029":
        quoted = quoted.replace(c, f"\\u{ord(c):04x}")
    return quoted


def plain_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def heredoc(text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{")


def twice(text: str) -> str:
    return go_json(go_json(text))


NOTATIONS = [str, go_json, plain_json, heredoc, twice, printable]


def no_piece_is_left(shown: str, of: str) -> bool:
    rest = shown.split(HIDDEN)
    pieces = (of[i : i + PIECE] for i in range(len(of) - PIECE + 1))
    return not any(piece in part for piece in pieces if not piece.isspace() for part in rest)


@pytest.mark.parametrize("write", NOTATIONS)
@given(value=st.text('aä1"\\\n\t <&>${%\u2028😀', min_size=PIECE), data=st.data())
def test_no_piece_of_a_text_is_left(
    write: Callable[[str], str], value: str, data: st.DataObject
) -> None:
    assume(value.strip())
    keep_value(value)
    written = write(value)
    start = data.draw(st.integers(0, len(written)))
    end = data.draw(st.integers(start, len(written)))
    assert no_piece_is_left(hide(f"<{written[start:end]}>"), written)


def leaves_of(value: object) -> list[str]:
    match value:
        case dict():
            return [leaf for member in value.values() for leaf in leaves_of(member)]
        case list():
            return [leaf for item in value for leaf in leaves_of(item)]
    return [str(value)]


@given(
    value=st.recursive(
        st.text("xyz012", min_size=1, max_size=9) | st.integers(0, 10**12),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
    ),
    as_json=st.booleans(),
)
def test_every_leaf_is_hidden(value: object, as_json: bool) -> None:
    keep_value(json.dumps(value) if as_json else value)
    for leaf in leaves_of(value):
        assert set(hide(f'"{leaf}"').replace(HIDDEN, "")) <= {'"'}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('a"b', r"a\"b"),
        ("a<b", r"a\u003cb"),
        ("a\nbcdefg", r"a\nbcdefg"),
        ("abc${d}", "abc$${d}"),
        ("abc%{d}", "abc%%{d}"),
        ("ab\x07cdef", r"ab\acdef"),
        ("ab\x01cdef", r"ab\x01cdef"),
        ("ab\x01cdef", r"ab\u0001cdef"),
        ("ab\u200bcd", r"ab\u200bcd"),
        ("ab\U000e0001cd", r"ab\U000e0001cd"),
        ("abé", r"ab\u00e9"),
        ("ab😀", r"ab\ud83d\ude00"),
        ("ab😀", "ab\ufffd"),
        ("ab\r\ncd", "ab\ncd"),
        ("ab\ncd", "ab cd"),
        ("ab\x01cd", "abcd"),
        (" ab ", "ab"),
        ("ab\x7fcdef", r"ab\x7fcdef"),
        ('{"a": "x\\"y"}', r"x\"y"),
        ('a"b<c', r"a\\\"b\\u003cc"),
        ("ab\u2028cdef", r"ab\Lcdef"),
    ],
)
def test_notation(value: str, shown: str) -> None:
    keep_value(value)
    assert hide(f"({shown})") == f"({HIDDEN})"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (54321, "54321"),
        (12.5, "12.5"),
        (-7, "-7"),
        (0, "0"),
        (5432100000, "5.4321e+09"),
        ("5432100000", "5.4321e+09"),
        ("5.4321e9", "5432100000"),
        ("5.43210E+9", "5432100000"),
        (1e21, "1000000000000000000000"),
        (100000, "1e+05"),
        ("123456789012345.678", "1.23456789012345678e+14"),
        ("123456789012345.678", "1.23456789e+14"),
        ("123456789012345678901234567890", "1.2345678901234568e+29"),
        ("123456789012345678901234567890", "123456789012345680000000000000"),
        (0.0000012, "1.2e-06"),
        ("0.0000012", "0.0000012"),
        ("1.50", "1.5"),
        (54321, "5.432100e+04"),
        ("1e999999999", "1e999999999"),
        ("-0", "-0"),
    ],
)
def test_number_is_hidden_however_it_is_written(value: object, shown: str) -> None:
    keep_value(value)
    assert hide(f"is {shown}, no") == f"is {HIDDEN}, no"


def test_number_of_thousands_of_digits_is_hidden() -> None:
    keep_value([10**5000 + 1])
    assert hide("1" + "0" * 4999 + "1") == HIDDEN


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        "true",
        "null",
        "",
        " ",
        "\n",
        ".",
        '"',
        [],
        {},
        {"password": None},
        "\x00",
    ],
)
def test_value_that_tells_nothing_is_left_alone(value: object) -> None:
    keep_value({"member": [value]})
    text = 'true false null: . " "" \\n  \n member password'
    assert hide(text) == text


@pytest.mark.parametrize("key", ["password", "db_password", "db-user", "größe"])
def test_key_that_is_a_name_is_shown(key: str) -> None:
    keep_value({key: "s3cret-value"})
    assert hide(f"{key} = s3cret-value") == f"{key} = {HIDDEN}"


@pytest.mark.parametrize("key", ["alice@example.net", "AKIA2EXAMPLE", "user 1", "a.b", "s3"])
@pytest.mark.parametrize(
    "form", [dict, json.dumps, lambda value: f'{{"{next(iter(value))}" = "x"}}']
)
def test_other_key_is_hidden_as_a_whole(key: str, form: Callable[[object], object]) -> None:
    keep_value(form({key: "s3cret-value"}))
    assert hide(f"{key} in another net for user AKIA2") == (
        f"{HIDDEN} in another net for user AKIA2"
    )


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ('["ab", 12, "c$${d}",]', ["ab", "12", "c${d}"]),
        ('{ a = "x\\"y", "b" = -1.5 }', ['x"y', "-1.5"]),
        ('{ a = ["ab", 12] ', ["ab", "12"]),
        ('["unfinished', ["unfinished"]),
        ('["\\q ab"]', ["\\q ab"]),
        ('"[\\"ab\\"]"', ["ab"]),
    ],
)
def test_leaves_of_a_text_that_holds_json_or_hcl_are_hidden(text: str, leaves: list[str]) -> None:
    keep_value(text)
    for leaf in leaves:
        assert hide(f"<{leaf}>") == f"<{HIDDEN}>"


PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"
    "Zq4=\n"
    "-----END PRIVATE KEY-----\n"
)


@pytest.mark.parametrize("indentation", ["", "  ", "\t", "    │ "])
def test_lines_of_a_value_are_hidden_one_by_one_and_together(indentation: str) -> None:
    keep_value(PEM)
    lines = [indentation + line for line in PEM.splitlines()]
    for shown in ("\n".join(map(hide, lines)), hide("\n".join(lines)), hide(" ".join(lines))):
        assert not re.search("MIIE|cKj|Zq4|BEGIN|KEY", shown)


def test_marks_on_a_line_of_their_own_are_left_alone() -> None:
    keep_value("{\n  long-enough\n}\n---\n")
    assert hide("--- }\n{ () }") == "--- }\n{ () }"


@pytest.mark.parametrize(
    "value",
    [
        '"' * 2**16,
        '["' + '\\"' * 2**15,
        "[" * 2**16,
        "[1" + " 1" * 2**16,
        '["a"' + " " * 2**16,
        "x\n" * 2**16,
        "-" * 2**16,
        "1" * 2**16,
    ],
)
def test_long_value_takes_no_time_worth_waiting_for(value: str) -> None:
    """Were it quadratic in anything, this would not end."""
    keep_value(value)
    assert value[:1000].isspace() or hide(value[:1000]) != value[:1000]


def test_nesting_has_no_limit() -> None:
    value: object = "s3cret-value"
    for _ in range(50_000):
        value = [value]
    keep_value(value)
    assert hide("s3cret-value") == HIDDEN
    keep_value("[" * 50_000 + '"another-value"')
    assert hide("another-value") == HIDDEN


# Three characters between any two that some notation escapes: none of these is left.
ODD = 'Zq7<Kx9&Lm2"Wp4\nRt8${Bv3}Nc6%{Hd1}\\Jf5\u2028Ys0\u0007Gé5\tTu6>'
CONFIGURATION = """
variable "odd" {}
variable "number" {}
resource "terraform_data" "it" {
  lifecycle {
    precondition {
      condition     = var.odd == "" || var.number == ""
      error_message = join("\\n", [
        var.odd, jsonencode([var.odd]), jsonencode({ a = jsonencode([var.odd]) }),
        format("%q %#v", var.odd, var.odd), "<<-EOT\\n  ${indent(2, var.odd)}\\nEOT",
        format("%v %s %e %g", var.number, var.number, var.number, var.number), yamlencode([var.odd])
      ])
    }
  }
}
"""


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on the PATH")
def test_nothing_is_left_of_what_terraform_says(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(
        CONFIGURATION.replace('"number" {}', '"number" { type = number }')
    )
    values = {"odd": ODD, "number": 71234500000}
    (tmp_path / "terraform.tfvars.json").write_text(json.dumps(values))
    environment = clean_environment(tmp_path, CHECKPOINT_DISABLE="1")

    def terraform(*arguments: str) -> str:
        done = subprocess.run(
            ["terraform", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    terraform("init")
    said = terraform("plan", "-json")
    told = [json.loads(line)["diagnostic"] for line in said.splitlines() if '"error"' in line]
    detail = told[0]["detail"]
    assert all(text in detail for text in ("Zq7<Kx9", "712345", r"\\u003c"))
    keep_value(values)
    shown = [hide(said), hide(detail), *map(hide, detail.splitlines()), hide(printable(detail))]
    secrets = [*re.findall(r"\w{3}", ODD), "7123", "7.123"]
    assert [part for part in secrets for text in shown if part in text] == []
