"""What is read from a configuration, held against what Terraform reads from it."""

import json
import os
import subprocess
import unicodedata
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import clean_environment
from hcl_texts import VALUES, Written, heredocs, strings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from workflow_result.engine import configuration
from workflow_result.engine.configuration import ABSENT, Configuration
from workflow_result.engine.hcl import MAX_SIZE
from workflow_result.engine.values import Expression, Kind, Number

TRICKY = r"""
# output "comment" { description = "no" }
// output "comment" { description = "no" }
/* output "comment" {
  description = "no"
} */
variable "plain" {
  type    = object({ description = string, sensitive = bool })
  default = { description = "no", sensitive = true }
}
variable "secret" {
  type      = string
  default   = "} output \"in_string\" { description = \"no\" }"
  sensitive = true
}
variable "one_line" { sensitive = false }
variable number {
  default     = 54321 // then a name: the description's
  description = "Its pin"
  sensitive   = (true) /* not "false" */
}
variable "größe" { default = 1e3 }
variable "list_of_heredocs" {
  default = [<<A
one
A
  , <<-B
      two
        three $$${x}
    B
  , "four" # , "five"
  ]
  validation {
    condition     = var.list_of_heredocs != []
    error_message = "sensitive = true"
  }
  nullable = false
}
variable "keys" {
  default = { true = 1, 2.50 : 3, ("p") = 4, 1e2 = 5, null = 6, for = 7, -1 = 8
    q = { "r" = null, "$${s}" = "\u00e9" }
  }
}
variable "constant" {
  default   = "${"hunter"}-${[1 + 1, "inner pin"][0]}"
  sensitive = !false
}
locals {
  description = "no"
  first       = { description = "no" }
  template    = "${join(",", ["{", "}"])} ${"${"nested }"}"} $${not} %%{not}"
  heredoc     = <<EOT
EOT=1; echo "it's not the end
output "in_heredoc" {
  description = "no"
}
EOT
  other = [for k, v in { a = 1 } : k if v > 0 && !(v == 2)]
  more = { for k, v in { a = 1 } : k => v... }
  index = local.other[0] != "" ? local.other.0 : join(",", local.other[*])
  directive = "%{for x in ["a"] ~} ${x} %{endfor}%{if true}a%{else}b%{endif}"
}
output "escapes" {
  description = "It \"is\"\ta \\ $${x} %%{y} é \u00e9 \U0001F600 {"
  value       = local.template
}
output "first" {
  value       = 1 == 1 ? "a" : "b" # description = "no"
  description = "After the value"
  depends_on  = []
}
output "compared" {
  description = "Compared"
  value       = local.first.description != "no" ? local.first.description == "no" : false
}
output "heredoc" {
  description = <<-EOT
    Two
      lines, $${one} "quoted" \n
    EOT
  value = { description = "no", "sensitive" = { description = "no" } }
}
output "flush" {
  description = <<EOT
  Indented
EOT
  value = [for d in ["description"] : d if d != "="]
}
output "none" {
  value = "description = \"no\""
  precondition {
    condition     = local.template != ""
    error_message = "no"
  }
}
output one_line { value = 1 }
output "empty" {
  description = ""
  value       = 1
}
output "overridden" {
  description = "no"
  value       = 1
}
"""
OVERRIDE = """
output "overridden" {
  description = "yes"
}
variable "plain" {
  sensitive = true
}
variable "keys" {
  default = 7
}
"""
IN_JSON = """[
  {"output": {"json": {"description": "In ${JSON} \\ud83d\\ude00", "value": 1}}},
  {
    "variable": [
      {"json_secret": [{"sensitive": true, "default": "x"}], "nobody": null},
      {"json_plain": {"default": 1.50, "type": "number"}}
    ],
    "variable": {"json_ephemeral": {"ephemeral": "true", "default": "w"}},
    "//": {"output": "no"},
    "locals": {"a": null}
  }
]"""


def configure(folder: Path) -> None:
    (folder / "main.tf").write_text(TRICKY)
    (folder / "crlf.tf").write_bytes(
        b'\xef\xbb\xbfvariable "crlf" {\r\n  default = <<-A\r\n    a\r\n      b\r\n  A\r\n}\r\n'
    )
    (folder / "override.tf").write_text(OVERRIDE)
    (folder / "more.tf.json").write_text(IN_JSON)


def shown_by_terraform(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The root module as `terraform show -json` has it, numbers as `Decimal`."""
    variables = clean_environment(folder, CHECKPOINT_DISABLE="1", TF_VAR_one_line="x")
    for command in (["init"], ["plan", "-out=plan"], ["show", "-json", "plan"]):
        done = subprocess.run(
            ["terraform", *command], cwd=folder, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout, parse_int=Decimal, parse_float=Decimal)
    module: dict[str, dict[str, dict[str, Any]]] = shown["configuration"]["root_module"]
    return module


def comparable(value: Any) -> Any:
    """A value as Terraform shows it: numbers as such, strings normalized."""
    match value:
        case Number() | Decimal():
            return Context(prec=200).create_decimal(value)
        case str():
            return unicodedata.normalize("NFC", value)
        case list():
            return [comparable(item) for item in value]
        case dict():
            return {comparable(key): comparable(item) for key, item in value.items()}
    return value


def read(folder: Path, text: str) -> Configuration:
    (folder / "main.tf").write_text(text)
    return configuration.read(folder)


class TestAgainstTerraform:
    def test_what_is_read_is_what_terraform_reads(self, tmp_path: Path) -> None:
        configure(tmp_path)
        module = shown_by_terraform(tmp_path)
        declared = configuration.read(tmp_path)
        assert declared.complete
        descriptions = {
            n: o["description"] for n, o in module["outputs"].items() if "description" in o
        }
        assert {n: d for n, d in declared.descriptions.items() if d} == descriptions
        assert len(descriptions) == 7
        shown = module["variables"]
        assert set(declared.variables) == set(shown)
        sensitive = {name for name, v in declared.variables.items() if v.sensitive}
        assert sensitive == {name for name, v in shown.items() if v.get("sensitive")}
        assert sensitive == {"plain", "secret", "number", "constant", "json_secret"}
        assert [n for n, v in declared.variables.items() if v.ephemeral] == ["json_ephemeral"]
        assert [n for n, v in declared.variables.items() if not v.nullable] == ["list_of_heredocs"]
        for name, variable in declared.variables.items():
            if name == "one_line":
                assert variable.default is ABSENT
            elif name == "constant":
                assert variable.default == Expression(Kind.STRING, ("inner pin", "-", "hunter"))
            else:
                assert comparable(variable.default) == comparable(shown[name].get("default"))

    @settings(
        max_examples=4,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each costs a second: no shrinking
        suppress_health_check=list(HealthCheck),
    )
    @given(
        defaults=st.lists(VALUES, min_size=20, max_size=40),
        descriptions=st.lists(strings() | heredocs(), min_size=5, max_size=10),
    )
    def test_any_value_is_what_terraform_reads(
        self, tmp_path: Path, defaults: list[Written], descriptions: list[Written]
    ) -> None:
        (tmp_path / "main.tf").write_text(
            "".join(
                [
                    *(
                        f'variable "v{i}" {{\n default = {t}\n}}\n'
                        for i, (t, _) in enumerate(defaults)
                    ),
                    *(
                        f"output o{i} {{\n value = 1\n description = {text}\n}}\n"
                        for i, (text, _) in enumerate(descriptions)
                    ),
                ]
            )
        )
        module = shown_by_terraform(tmp_path)
        declared = configuration.read(tmp_path)
        assert declared.complete
        for i, (text, value) in enumerate(defaults):
            default = comparable(declared.variables[f"v{i}"].default)
            assert default == comparable(module["variables"][f"v{i}"].get("default")), text
            assert default == comparable(value), text
        for i, (text, _) in enumerate(descriptions):
            shown = module["outputs"][f"o{i}"].get("description", "")
            assert comparable(declared.descriptions[f"o{i}"]) == shown, text


class TestTypes:
    @pytest.mark.parametrize(
        ("type_", "kind"),
        [
            ("string", Kind.STRING),
            ("(number)", Kind.NUMBER),
            ("bool # list", Kind.BOOL),
            ("any", Kind.ANY),
            ("list", Kind.SEQUENCE),
            ("list(any)", Kind.SEQUENCE),
            ("set(string)", Kind.SEQUENCE),
            ("tuple([string, bool])", Kind.SEQUENCE),
            ("map(number)", Kind.MAPPING),
            ("object({\n a = optional(list(string), [])\n})", Kind.MAPPING),
        ],
    )
    def test_type_in_either_syntax(self, tmp_path: Path, type_: str, kind: Kind) -> None:
        variable = read(tmp_path, f"variable a {{\n type = {type_}\n}}").variables["a"]
        assert variable.kind is kind
        in_json = {"variable": {"b": {"type": type_}}}
        (tmp_path / "more.tf.json").write_text(json.dumps(in_json))
        assert configuration.read(tmp_path).variables["b"].kind is kind

    @pytest.mark.parametrize(
        ("default", "kind"),
        [
            ('"${[]}"', Kind.SEQUENCE),
            ('"${1}${2}"', Kind.STRING),
            ("10 / 3", Kind.NUMBER),
            ("-(1 / 3)", Kind.NUMBER),
            ("1 < 2", Kind.BOOL),
            ("!true", Kind.BOOL),
            ("true ? {} : null", Kind.MAPPING),
            ("[for x in [1] : x]", Kind.SEQUENCE),
            ("{ for x in [1] : x => x }", Kind.MAPPING),
            ("[1][0]", Kind.ANY),
        ],
    )
    def test_kind_of_a_default_that_has_to_be_worked_out(
        self, tmp_path: Path, default: str, kind: Kind
    ) -> None:
        variable = read(tmp_path, f"variable a {{\n default = {default}\n}}").variables["a"]
        assert isinstance(variable.default, Expression)
        assert variable.default.kind is kind

    @pytest.mark.parametrize(
        ("default", "value"),
        [
            ("60 * 60", "3600"),
            ("7 - 2 * -(3 + 4) % 5 / 8", "7.5"),
            ("1 - 2 /* less */ - 3", "-4"),
            ("- -2", "2"),
            ("-7 % 3", "-1"),
            ("7.5 % -2", "1.5"),
            ("1.5e3 + 0", "1500"),
            ("0.1 + 0.2", "0.3"),
            ("1 / 1024 / 1024", "0.00000095367431640625"),
            ("[24 * 7]", ["168"]),
            ("{ a = 24 * 7 }", {"a": "168"}),
        ],
    )
    def test_arithmetic_is_done(self, tmp_path: Path, default: str, value: object) -> None:
        variable = read(tmp_path, f"variable a {{\n default = {default}\n}}").variables["a"]
        assert variable.default == value

    @pytest.mark.parametrize(
        "default",
        [
            *("1 / 0", "0 / 0", "5 % 0", "1 / 3 * 3", '"5" * 2', "1 + true", "-null", "-var.x"),
            *("1 + 2 == 3", "1e999 + 1", "1e-999 * 1", "*".join(["9e99"] * 5)),
            *("+".join(["1"] * 9999), "-" * 9999 + "1"),
        ],
    )
    def test_arithmetic_that_is_not_done(self, tmp_path: Path, default: str) -> None:
        variable = read(tmp_path, f"variable a {{\n default = {default}\n}}").variables["a"]
        assert isinstance(variable.default, Expression)


class TestFiles:
    @pytest.mark.parametrize(
        "text",
        [
            "}",
            'output "a" {',
            'output "a',
            "output a {\n description = <<",
            '"${"',
            "/*",
            '"\\',
            "\0",
            "variable a {\n default = ${}\n}",
            '"${' * 5_000,
            '{"variable": {"a": {"default": ' + "[" * 50_000,
        ],
    )
    def test_what_cannot_be_read_is_left_out(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "main.tf").write_text(text)
        (tmp_path / "bytes.tf").write_bytes(b"\xff")
        (tmp_path / "good.tf").write_bytes(b'output "a" {\n description = "yes \xff"\n}\n')
        (tmp_path / "wrong.tf.json").write_text(text or "[]")
        (tmp_path / "large.tf").write_bytes(b"#" * (MAX_SIZE + 1))
        (tmp_path / "folder.tf").mkdir()
        (tmp_path / "nowhere.tf").symlink_to("nothing")
        (tmp_path / ".hidden.tf").write_text('output "a" { description = "no" }')
        os.mkfifo(tmp_path / "pipe.tf")
        os.mkfifo(tmp_path / "pipe.auto.tfvars")
        declared = configuration.read(tmp_path)
        assert declared.descriptions == {"a": "yes \ufffd"}
        assert declared.files == ("bytes.tf", "good.tf", "large.tf", "main.tf", "wrong.tf.json")
        assert not declared.complete
        assert declared.has_content

    def test_folder_that_is_not_there_has_nothing(self, tmp_path: Path) -> None:
        assert configuration.read(tmp_path / "none") == Configuration()

    def test_opentofu_reads_its_own_files_in_place_of_terraforms(self, tmp_path: Path) -> None:
        for name in ("a.tf", "a.tofu", "b.tf.json", "b.tofu.json", "c.tofu", "d.tf"):
            (tmp_path / name).write_text("{}" if name.endswith(".json") else "")
        assert configuration.read(tmp_path).files == ("a.tf", "b.tf.json", "d.tf")
        tofu = configuration.read(tmp_path, opentofu=True)
        assert tofu.files == ("a.tofu", "b.tofu.json", "c.tofu", "d.tf")

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({}, False),
            ({"main.tf": "# nothing\n"}, False),
            ({"main.tf": "terraform {}\nprovider x {}\nvariable y {}\nlocals {}\n"}, False),
            ({"override.tf": "resource a b {}"}, False),
            ({"x_override.tf.json": '{"resource": {"a": {"b": {}}}}'}, False),
            ({"override.tf": "{", "main.tf": "variable a {}"}, False),
            ({"main.tf.json": '{"resource": {}, "output": null, "//": {}}'}, False),
            ({"main.tf.json": '{"resource": {"a": {"b": {}}}}'}, True),
            ({"main.tf": "output a { value = 1 }"}, True),
            ({"main.tf": "check a {}"}, True),
            ({"main.tf": "removed {}"}, True),
            ({"override_x.tf": "module a {}"}, True),
            ({"main.tf": "variable a {"}, True),
            ({"main.tf.json": "{"}, True),
        ],
    )
    def test_content_is_what_there_is_to_run(
        self, tmp_path: Path, files: dict[str, str], expected: bool
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        assert configuration.read(tmp_path).has_content is expected

    def test_required_versions_are_all_that_stand_there(self, tmp_path: Path) -> None:
        (tmp_path / "a.tf.json").write_text('{"terraform": {"required_version": "< 2"}}')
        declared = read(tmp_path, 'terraform {\n  required_version = ">= 1.9"\n}\n')
        assert declared.required_versions == ("< 2", ">= 1.9")


class TestValues:
    def test_values_are_those_of_secret_variables_wherever_they_stand(self, tmp_path: Path) -> None:
        configure(tmp_path)
        (tmp_path / "terraform.tfvars").write_text(
            'plain = { a = "no" } # b = "no"\nsecret = "x \\"y\\""\nother = <<EOT\nlong\nEOT\n'
        )
        (tmp_path / "a.auto.tfvars.json").write_text('{"json_secret": ["z"], "json_plain": 1}')
        (tmp_path / "b.auto.tfvars").write_bytes(b"\xff")
        (tmp_path / "not_read.tfvars").write_text('secret = "no"')
        values = [json.dumps(value) for value in configuration.read(tmp_path).values]
        assert sorted(values) == sorted(
            json.dumps(value)
            for value in (
                *("w", "x", ["z"], 'x "y"', {"a": "no"}, "54321", "hunter", "inner pin", "-"),
                '} output "in_string" { description = "no" }',
                {"description": "no", "sensitive": True},
            )
        )

    def test_local_modules_are_looked_into(self, tmp_path: Path) -> None:
        inner = tmp_path / "modules" / "a" / "b"
        inner.mkdir(parents=True)
        (inner.parent / "main.tf.json").write_text(
            '{"variable": {"pin": {"sensitive": true, "default": "default pin"}},'
            ' "module": {"b": {"source": "./b", "key": "given key", "other": "no"}}}'
        )
        (inner / "main.tf").write_text(
            "variable key { ephemeral = true }\nvariable other {}\n"
            'module again {\n source = "../../../modules/a"\n pin = { x = "again", y = var.z }\n}\n'
        )
        values = read(
            tmp_path,
            """
            module "a" {
              source = "./modules/a"
              pin    = "${var.user}:root pin"
            }
            module "far" {
              source = "registry/far/away"
              pin    = "no"
            }
            """,
        ).values
        assert sorted(values) == [":root pin", "again", "default pin", "given key"]


class TestTags:
    def test_tag_keys_are_those_that_the_module_sets_itself(self, tmp_path: Path) -> None:
        (tmp_path / "more.tf.json").write_text(
            json.dumps(
                {
                    "provider": {"aws": [{"default_tags": {"tags": {"json_default": "a"}}}]},
                    "resource": {"aws_x": {"y": {"tags": "${merge(local.l, {json_merged = 1})}"}}},
                    "locals": {"l": {"json_local": "${x}"}},
                }
            )
        )
        declared = read(
            tmp_path,
            """
            provider "aws" {
              alias = "b"
              default_tags {
                tags = merge(local.common, { "default:quoted" = var.x }, var.more)
              }
            }
            provider "other" {
              default_tags {
                tags = { no = 1 }
              }
            }
            locals {
              common = merge({ common = "a" }, local.deeper)
              deeper = { deeper = "b" }
              unused = { no = "c" }
              circle = merge(local.circle, { circle = "d" })
            }
            resource "aws_s3_bucket" "a" {
              tags = var.x ? { Name = "x", (var.key) = "y" } : local.circle
            }
            resource "aws_s3_bucket" "b" {
              tags = { for k, v in { no = 1 } : k => v }
            }
            """,
        )
        assert declared.tag_keys == {
            *("common", "deeper", "default:quoted", "Name", "circle"),
            *("json_default", "json_local", "json_merged"),
        }

    @pytest.mark.parametrize("keys", ["true", "5", '"abc"', "{ abc = 1 }", "null", "var.keys"])
    def test_to_be_ignored_that_are_no_list_are_for_terraform_to_refuse(
        self, tmp_path: Path, keys: str
    ) -> None:
        text = f'provider "aws" {{\n  ignore_tags {{\n    keys = {keys}\n  }}\n}}\n'
        assert not any(read(tmp_path, text).ignored.values())


class TestSize:
    """None of these takes more than seconds; the test's own time-out would be minutes."""

    @pytest.mark.parametrize(
        "text",
        [
            "<<A\n" * 15_000,
            "x = <<A\n${<<A\n" * 5_000,
            "[" * 10_000,
            "x = " + "(" * 10_000 + "1" + ")" * 10_000,
            '"${' * 10_000,
            "a {" * 10_000,
            "{" * 100_000,
            '"' * 60_000,
            "/*" * 60_000,
            "variable a {\n}\n" * 30_000,
        ],
    )
    def test_text_that_is_made_to_take_long(self, tmp_path: Path, text: str) -> None:
        read(tmp_path, text)

    def test_default_that_is_nested_deeply(self, tmp_path: Path) -> None:
        nested = "[" * 10_000 + '"deep"' + "]" * 10_000
        declared = read(tmp_path, f"variable a {{\n default = {nested}\n}}\n")
        value: Any = declared.variables["a"].default
        for _ in range(10_000):
            (value,) = value
        assert value == "deep"

    def test_megabyte_of_text(self, tmp_path: Path) -> None:
        text = "x" * (MAX_SIZE - 100)
        declared = read(tmp_path, f'variable a {{\n default = "{text}"\n}}\n')
        assert declared.variables["a"].default == text


@given(st.text() | st.text(st.sampled_from('output "a" {}=<-E\n\\${%/*#()[],:')))
def test_no_text_makes_it_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "main.tf").write_bytes(text.encode("utf-8", "surrogatepass"))
    (folder / "a.auto.tfvars").write_bytes(text.encode("utf-8", "surrogatepass"))
    configuration.read(folder)
    (folder / "main.tf").write_text(
        f'variable "a" {{\n sensitive = true\n default = [{text!r}]\n}}'
    )
    configuration.read(folder)
