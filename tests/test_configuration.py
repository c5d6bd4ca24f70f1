"""What is read from a configuration, held against what Terraform reads from it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import clean_environment
from hypothesis import given
from hypothesis import strategies as st

from workflow_result.engine import configuration

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
output "one_line" { value = 1 }
output "empty" {
  description = ""
  value       = 1
}
output "overridden" {
  description = "no"
  value       = 1
}
"""
OVERRIDE = 'output "overridden" {\n  description = "yes"\n}\n'
IN_JSON = {
    "output": {"json": {"description": "In JSON", "value": 1}},
    "variable": [
        {"json_secret": [{"sensitive": True, "default": "x"}]},
        {"json_plain": {"default": 1}, "json_ephemeral": {"ephemeral": True, "default": "w"}},
    ],
}


def configure(folder: Path) -> None:
    (folder / "main.tf").write_text(TRICKY)
    (folder / "override.tf").write_text(OVERRIDE)
    (folder / "more.tf.json").write_text(json.dumps(IN_JSON))


def shown_by_terraform(folder: Path) -> dict[str, dict[str, dict[str, object]]]:
    variables = clean_environment(folder, CHECKPOINT_DISABLE="1", TF_VAR_one_line="x")
    for command in (["init"], ["plan", "-out=plan"], ["show", "-json", "plan"]):
        done = subprocess.run(
            ["terraform", *command], cwd=folder, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    module: dict[str, dict[str, dict[str, object]]] = json.loads(done.stdout)["configuration"][
        "root_module"
    ]
    return module


def test_what_is_read_is_what_terraform_reads(tmp_path: Path) -> None:
    configure(tmp_path)
    module = shown_by_terraform(tmp_path)
    declared = configuration.read(tmp_path)
    descriptions = {n: o["description"] for n, o in module["outputs"].items() if "description" in o}
    assert {n: d for n, d in declared.descriptions.items() if d} == descriptions
    assert len(descriptions) == 7
    sensitive = {name for name, v in module["variables"].items() if v.get("sensitive")}
    assert sensitive == {"secret", "json_secret"}
    assert declared.sensitive_variables == sensitive | {"json_ephemeral"}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "}",
            'output "a" {',
            'output "a',
            "output a {\n description = <<",
            '"${"',
            "/*",
            '"\\',
        ),
        '"${' * 5_000,
        '{"variable": {"a": {"default": ' + "[" * 50_000,
    ],
)
def test_what_cannot_be_read_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "main.tf").write_text(text)
    (tmp_path / "bytes.tf").write_bytes(b"\xff")
    (tmp_path / "wrong.tf.json").write_text(text or "[]")
    (tmp_path / "folder.tf").mkdir()
    (tmp_path / ".hidden.tf").write_text('output "a" { description = "no" }')
    os.mkfifo(tmp_path / "pipe.tf")
    assert configuration.read(tmp_path) == configuration.Declarations()


def test_values_of_variables_are_those_that_stand_in_the_folder(tmp_path: Path) -> None:
    configure(tmp_path)
    definitions = (
        'plain = { a = "no" } # b = "no"\nsecret = "x \\"y\\""\nother = <<EOT\nlong\nEOT\n'
    )
    (tmp_path / "terraform.tfvars").write_text(definitions)
    (tmp_path / "a.auto.tfvars.json").write_text('{"json_secret": "z", "json_plain": 1}')
    (tmp_path / "b.auto.tfvars").write_bytes(b"\xff")
    (tmp_path / "not_read.tfvars").write_text('secret = "no"')
    assert sorted(configuration.read(tmp_path).values) == [
        ("json_ephemeral", "w"),
        ("json_plain", "1"),
        ("json_secret", "x"),
        ("json_secret", "z"),
        ("other", "long\n"),
        ("secret", 'x "y"'),
        ("secret", '} output "in_string" { description = "no" }'),
    ]


def test_character_that_is_none_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('variable "a" {\n  default = "\\UFFFFFFFF"\n}\n')
    assert configuration.read(tmp_path).values == [("a", "\ufffd")]


@given(st.text() | st.text('output "a" {}=<-E\n\\${%/*#'))
def test_no_text_makes_it_crash(text: str) -> None:
    list(configuration._attributes(text))
