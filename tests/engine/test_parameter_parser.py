"""What Service Catalog is told of the variables of a root module."""

from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, endpoint
from hcl_texts import TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_result.engine import parameter_parser
from workflow_result.engine.artifact import Unfit
from workflow_result.engine.configuration import Variable
from workflow_result.engine.hcl import MAX_SIZE
from workflow_result.engine.parameter_parser import Unparsable, default_text, parameters
from workflow_result.engine.parameters import _structured
from workflow_result.engine.values import Number

MAIN = r"""
variable "nothing" {}
variable "string" {
  type        = string
  default     = "a \"b\" <${"$"}{c}> \u00e9"
  description = "It is \"a\" string"
}
variable "object" {
  description = <<-EOT
    Two
      lines
    EOT
  type = object({
    a = optional(list(string), []) # a comment
    b = number
  })
  default = { b = 1.50, a = ["x < y", "é"] }
}
variable number { default = 1e3 }
variable "pin" {
  type      = string
  sensitive = true
  default   = "0000"
}
variable "once" {
  type      = bool
  ephemeral = true
}
variable "overridden" {
  type        = string
  default     = "no"
  description = "Stays"
}
output "x" {
  value = 1
}
"""


def told(folder: Path, **files: str) -> list[dict[str, Any]]:
    """The parameters of a folder with these files: `main_tf="…"` is main.tf."""
    for name, text in files.items():
        (folder / name.replace("_tf", ".tf").replace("_json", ".json")).write_text(text)
    return parameters(folder, "The artifact s3://b/k")


def parameter(key: str, **members: Any) -> dict[str, Any]:
    plain = {"key": key, "defaultValue": "", "type": "", "description": "", "isNoEcho": False}
    return plain | members


def test_each_variable_is_told_of_as_it_is_declared(tmp_path: Path) -> None:
    override = 'variable "overridden" {\n default = 7\n type = number\n sensitive = true\n}\n'
    in_json = (
        '{"variable": {"json": {"type": "list(string)", "default": ["${a}"], "sensitive": "true",'
        ' "description": "\\ud83d\\ude00 ${a} \\ud800"}}}'
    )
    assert told(tmp_path, main_tf=MAIN, override_tf=override, a_tf_json=in_json) == [
        parameter(
            "json",
            defaultValue='["${a}"]',
            type="list(string)",
            description="\U0001f600 ${a} ?",
            isNoEcho=True,
        ),
        parameter("nothing"),
        parameter("string", type="string", description='It is "a" string'),
        parameter(
            "object",
            defaultValue='{"a":["x < y","é"],"b":1.5}',
            type="object({\n    a = optional(list(string), []) # a comment\n    b = number\n  })",
            description="Two\n  lines\n",
        ),
        parameter("number", defaultValue="1000"),
        parameter("pin", defaultValue="0000", type="string", isNoEcho=True),
        parameter("once", type="bool", isNoEcho=True),
        parameter(
            "overridden", defaultValue="7", type="number", description="Stays", isNoEcho=True
        ),
    ]


DEFAULTS = [
    ('"plain"', "plain"),
    ('"null"', "null"),
    ('"[1]"', "[1]"),
    ('"a\\nb $${c} \\"d\\" <&>"', 'a\nb ${c} "d" <&>'),
    ("<<A\n  text\nA\n", "  text\n"),
    ("5", "5"),
    ("-0.10", "-0.1"),
    ("12345678901234567890123.5", "12345678901234567890123.5"),
    ("1e-3", "0.001"),
    ("1e99999", "1e99999"),
    ("true", "true"),
    ("false", "false"),
    ("null", ""),
    ('""', ""),
    ("[]", "[]"),
    ("{}", "{}"),
    ("[1, null, true, [], {}]", "[1,null,true,[],{}]"),
    ('{ b = "x", "a b" = { c = "1" } }', '{"a b":{"c":"1"},"b":"x"}'),
    ('["\\u2028", "\\\\"]', '["\u2028","\\\\"]'),
    ("60 * 60", "3600"),
    ("0 * -1", "0"),
    ("[60 * 24]", "[1440]"),
    ("10 / 3", ""),
    ('"${"x"}y"', ""),
    ("[var.x]", ""),
]


@pytest.mark.parametrize(("written", "expected"), DEFAULTS)
def test_default_is_told_as_a_text(written: str, expected: str, tmp_path: Path) -> None:
    (only,) = told(tmp_path, main_tf=f"variable a {{\n  default = {written}\n}}\n")
    assert only["defaultValue"] == expected


NUMBERS = st.from_regex(r"0|-?[1-9][0-9]{0,20}", fullmatch=True).map(Number)
JSON = st.recursive(
    st.none() | st.booleans() | TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(JSON.filter(lambda value: isinstance(value, list | dict)))
def test_default_that_is_told_is_read_back_as_it_was(value: Any) -> None:
    assert _structured(default_text(Variable("a", default=value))) == value


def test_no_half_of_a_character_is_told() -> None:
    assert default_text(Variable("a", default="a\ud800")) == "a\ufffd"
    assert default_text(Variable("a", default=["\udfff"])) == '["\ufffd"]'


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("main.tf", 'variable "a" {\n\n  default = =\n}\n', "main.tf, line 3: NOT"),
        ("main.tf", 'variable "a" {\n', "main.tf, line 2: NOT"),
        ("a.tf", "\n\n}\n", "a.tf, line 3: NOT"),
        ("a.tf", 'resource "a" "b" {\n  c = [1,\n}\n', "a.tf, line 2: NOT"),
        ("a.tf", "#" * (MAX_SIZE + 1), "a.tf, it has more than 1 MiB"),
        (
            "a.tf.json",
            '{"variable":\n  {,}}',
            "a.tf.json, line 2: Expecting property name enclosed in double quotes",
        ),
        ("a.tf.json", '{"variable": NaN}', "a.tf.json, NaN is no JSON"),
        ("a.tf.json", "[" * 100_000, "a.tf.json, it is nested too deeply"),
    ],
)
def test_configuration_that_cannot_be_read(
    file: str, text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "good.tf").write_text("variable a {}\n")
    (tmp_path / file).write_text(text)
    with pytest.raises(Unparsable) as error:
        parameters(tmp_path, "The artifact s3://b/k")
    reason = reason.replace("NOT", "this is not in Terraform's language")
    assert str(error.value) == f"The artifact s3://b/k cannot be read: {reason}."


def test_default_that_is_nested_too_deeply(tmp_path: Path) -> None:
    with pytest.raises(Unparsable, match=r"^The default of variable a is nested too deeply\.$"):
        told(tmp_path, main_tf=f"variable a {{\n default = {'[' * 3000}{']' * 3000}\n}}\n")


def test_opentofus_files_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    assert told(tmp_path, **{"main.tofu": "variable a {}"}) == [parameter("a")]
    assert told(tmp_path, main_tf="variable b {}") == [parameter("b")]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({}, "The request has no artifact.path."),
        ({"artifact": "s3://b/k"}, "The request has no artifact.path."),
        ({"artifact": {"path": "", "type": "AWS_S3"}}, "The request has no artifact.path."),
        ({"artifact": {"path": 5, "type": "AWS_S3"}}, "The request has no artifact.path."),
        ({"artifact": {"path": "s3://b/k"}}, "The artifact is not of the type AWS_S3, but None."),
        (
            {"artifact": {"path": "s3://b/k", "type": "GIT"}},
            "The artifact is not of the type AWS_S3, but GIT.",
        ),
    ],
)
def test_request_that_is_none(request_: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unparsable) as error:
        parameter_parser.answer(request_)
    assert str(error.value) == reason


def test_web_page_is_no_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(lambda *_: (200, b"<html>"), request_id=None) as url:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL_S3": url}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Unfit, match=r"with the parser's own role: what answered is not AWS$"):
            parameter_parser.answer({"artifact": {"path": "s3://b/k", "type": "AWS_S3"}})
