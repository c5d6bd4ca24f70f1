"""The module `report`, applied by the real Terraform against a sandbox."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MAIN, UUID_TOKEN, Sandbox
from terraform_cli import MODULES, NOWHERE, PROGRAM, Terraform, words

MODULE = MODULES / "report"
MAX_BYTES = 131_046

CONFIGURATION = f"""
variable "record_id" {{ default = "rec-demo" }}
variable "operation" {{ default = "provision" }}
variable "program" {{
  type    = list(string)
  default = {PROGRAM}
}}
variable "workflow_token" {{
  default   = null
  ephemeral = true
}}

resource "terraform_data" "product" {{
  input = "https://example.com"
}}

module "report" {{
  source              = "{MODULE}"
  record_id           = var.record_id
  operation           = var.operation
  workflow_token      = var.workflow_token
  program             = var.program
  resource_identifier = {{ value = "pp-1" }}
  outputs             = OUTPUTS
}}
"""
MIXED_OUTPUTS = """{
    url    = terraform_data.product.output
    empty  = ""
    json   = "{\\"a\\": 1}"
    number = 1.5
    large  = 12345678901234567890
    truth  = true
    list   = [1, "a", null]
    object = { b = [true], a = "ü" }
    none   = null
    secret = sensitive("s3cret")
    partly = { user = "me", password = sensitive("s3cret") }
  }
  output_descriptions = {
    url    = "Where it answers"
    secret = "Not to be seen"
  }"""

FROM_ENVIRONMENT = "WORKFLOW_RESULT_TOKEN"
FROM_VARIABLE = "TF_VAR_workflow_token"
both_ways = pytest.mark.parametrize("way", [FROM_ENVIRONMENT, FROM_VARIABLE])


def new_terraform(
    folder: Path, outputs: str = "{ a = terraform_data.product.output }"
) -> Terraform:
    terraform = Terraform(folder / "work")
    terraform.write(CONFIGURATION.replace("OUTPUTS", outputs))
    terraform.init()
    return terraform


@pytest.fixture
def terraform(tmp_path: Path, sandbox: Sandbox) -> Terraform:
    """Terraform with a sandbox and the token in its environment."""
    terraform = new_terraform(tmp_path)
    terraform.environment |= sandbox.environment | {FROM_ENVIRONMENT: UUID_TOKEN}
    return terraform


def test_outputs_of_every_type_reach_the_record(tmp_path: Path, sandbox: Sandbox) -> None:
    """Strings as they are, other values as JSON, sensitive ones not at all, nulls left out."""
    terraform = new_terraform(tmp_path, MIXED_OUTPUTS)
    outcome = terraform.apply(**sandbox.environment, WORKFLOW_RESULT_TOKEN=UUID_TOKEN)
    assert outcome.code == 0, outcome.stderr
    assert sandbox.status() == "SUCCEEDED"
    assert sandbox.record()["RecordOutputs"] == [
        {"OutputKey": "empty", "OutputValue": ""},
        {"OutputKey": "json", "OutputValue": '{"a": 1}'},
        {"OutputKey": "large", "OutputValue": "12345678901234567890"},
        {"OutputKey": "list", "OutputValue": '[1,"a",null]'},
        {"OutputKey": "number", "OutputValue": "1.5"},
        {"OutputKey": "object", "OutputValue": '{"a":"ü","b":[true]}'},
        {"OutputKey": "partly", "OutputValue": "(sensitive value)"},
        {
            "OutputKey": "secret",
            "OutputValue": "(sensitive value)",
            "Description": "Not to be seen",
        },
        {"OutputKey": "truth", "OutputValue": "true"},
        {
            "OutputKey": "url",
            "OutputValue": "https://example.com",
            "Description": "Where it answers",
        },
    ]
    assert '"reported":"true"' in outcome.stdout


@pytest.mark.parametrize("operation", ["provision", "update", "terminate"])
def test_each_operation_is_reported_with_what_it_takes(
    terraform: Terraform, sandbox: Sandbox, operation: str
) -> None:
    outcome = terraform.apply(f"-var=operation={operation}")
    assert outcome.code == 0, outcome.stderr
    detail = sandbox.record()["RecordDetail"]
    assert detail["Status"] == "SUCCEEDED"
    assert detail["RecordType"].partition("_")[0].lower() == operation
    assert bool(sandbox.record()["RecordOutputs"]) == (operation != "terminate")


def test_second_apply_reports_nothing(terraform: Terraform) -> None:
    assert terraform.apply().code == 0
    again = terraform.apply(**NOWHERE)
    assert again.code == 0, again.stderr
    assert "0 added, 0 changed, 0 destroyed" in again.stdout


def test_new_record_is_reported_by_the_same_configuration(
    terraform: Terraform, start_sandbox: Callable[..., Sandbox]
) -> None:
    sandbox = start_sandbox("--record", "rec-demo", "--record", "rec-2")
    terraform.environment |= sandbox.environment
    assert terraform.apply().code == 0
    assert sandbox.status("rec-2") == "IN_PROGRESS"
    assert terraform.apply("-var=record_id=rec-2").code == 0
    assert sandbox.status("rec-2") == "SUCCEEDED"


def test_destroy_reports_nothing(terraform: Terraform) -> None:
    assert terraform.apply().code == 0
    destroyed = terraform("destroy", "-auto-approve", "-no-color", **NOWHERE)
    assert destroyed.code == 0, destroyed.stderr
    assert "2 destroyed" in destroyed.stdout


def test_nothing_is_reported_where_another_resource_fails(tmp_path: Path, sandbox: Sandbox) -> None:
    terraform = new_terraform(tmp_path, "{}\n  depends_on = [terraform_data.fails]")
    (terraform.folder / "fails.tf").write_text("""
resource "terraform_data" "fails" {
  provisioner "local-exec" {
    interpreter = ["false"]
    command     = ""
  }
}
""")
    outcome = terraform.apply(**sandbox.environment, WORKFLOW_RESULT_TOKEN=UUID_TOKEN)
    assert "with terraform_data.fails" in outcome.stderr
    assert sandbox.status() == "IN_PROGRESS"


@both_ways
def test_refused_report_fails_the_apply_and_says_why(
    tmp_path: Path, sandbox: Sandbox, way: str
) -> None:
    """Even where Terraform hides what main.py prints: its error has it all the same."""
    terraform = new_terraform(tmp_path)
    outcome = terraform.apply(
        "-var=record_id=rec-unknown", **sandbox.environment, **{way: UUID_TOKEN}
    )
    assert outcome.code == 1
    assert "rec-unknown: Service Catalog refused the result for good" in words(outcome.stderr)
    assert "Record rec-unknown not found" in words(outcome.stderr)


def test_report_that_failed_is_made_by_the_next_apply(
    terraform: Terraform, start_sandbox: Callable[..., Sandbox]
) -> None:
    sandbox = start_sandbox("--misbehave", "access-denied:1")
    terraform.environment |= sandbox.environment
    assert terraform.apply().code == 1
    assert sandbox.status() == "IN_PROGRESS"
    assert terraform.apply().code == 0
    assert sandbox.status() == "SUCCEEDED"


def test_terraform_hides_what_main_py_prints_only_where_it_has_the_token(
    terraform: Terraform,
) -> None:
    assert '"reported":"true"' in terraform.apply().stdout
    terraform("destroy", "-auto-approve")
    hidden = terraform.apply(**{FROM_ENVIRONMENT: "", FROM_VARIABLE: UUID_TOKEN})
    assert hidden.code == 0, hidden.stderr
    assert '"reported"' not in hidden.stdout
    assert "output suppressed due to ephemeral value in config" in hidden.stdout


# --- what is too long ---------------------------------------------------------------------


def value_for(request_bytes: int) -> str:
    """A value with which the request has just this many bytes; half as many characters."""
    request = {
        "Outputs": [{"Description": None, "OutputKey": "a", "OutputValue": ""}],
        "RecordId": "rec-demo",
        "ResourceIdentifier": {
            "UniqueTag": {
                "Key": "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE",
                "Value": "pp-1",
            }
        },
        "Status": "SUCCEEDED",
    }
    left = request_bytes - len(json.dumps(request, separators=(",", ":")))
    return "é" * (left // 2) + "x" * (left % 2)


def test_longest_request_is_reported(tmp_path: Path, sandbox: Sandbox) -> None:
    terraform = new_terraform(tmp_path, f'{{ a = "{value_for(MAX_BYTES)}" }}')
    outcome = terraform.apply(**sandbox.environment, WORKFLOW_RESULT_TOKEN=UUID_TOKEN)
    assert outcome.code == 0, outcome.stderr
    assert sandbox.record()["RecordOutputs"][0]["OutputValue"] == value_for(MAX_BYTES)


def test_request_that_is_too_long_stops_the_plan(tmp_path: Path) -> None:
    terraform = new_terraform(tmp_path, f'{{ a = "{value_for(MAX_BYTES + 1)}" }}')
    outcome = terraform("plan", "-no-color", **NOWHERE)
    assert outcome.code == 1
    assert "The outputs are too long" in words(outcome.stderr)
    assert "131,046 bytes" in words(outcome.stderr)


def test_request_that_turns_out_too_long_at_apply_is_stopped_before_main_py(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    outputs = '{ a = join("", [for i in range(200) : terraform_data.product.id], ["MORE"]) }'
    terraform = new_terraform(tmp_path, outputs.replace("MORE", "x" * 130_000))
    outcome = terraform.apply(**sandbox.environment, WORKFLOW_RESULT_TOKEN=UUID_TOKEN)
    assert outcome.code == 1
    assert "The outputs are too long" in words(outcome.stderr)
    assert "argument list too long" not in words(outcome.stderr)
    assert sandbox.status() == "IN_PROGRESS"


# --- the token ----------------------------------------------------------------------------

SECRET_TOKEN = "c7b1f0aa-5a0e-4f55-9a53-2f1f6f1c9d3e"

SPY = f"""
import os, sys
from pathlib import Path
with open("arguments", "wb") as file:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            file.write((process / "cmdline").read_bytes() + b"\\n")
        except OSError:
            continue
os.execv(sys.executable, [sys.executable, {str(MAIN)!r}, *sys.argv[1:]])
"""
"""Writes down the arguments of every process on the machine, then becomes main.py."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, and what is in it; of archives, the files that are in them."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found |= {f"{path.name}/{n}": archive.read(n) for n in archive.namelist()}
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found


@both_ways
def test_token_is_nowhere_to_be_found_afterwards(
    tmp_path: Path, sandbox: Sandbox, way: str
) -> None:
    """Not in the state, the plan, an argument, the output, or Terraform's log at TRACE."""
    terraform = new_terraform(tmp_path)
    terraform.environment |= sandbox.environment | {
        way: SECRET_TOKEN,
        "TF_VAR_program": json.dumps([sys.executable, str(tmp_path / "spy.py")]),
        "TF_LOG": "TRACE",
        "TF_LOG_PATH": str(terraform.folder / "log"),
    }
    (tmp_path / "spy.py").write_text(SPY)
    planned = terraform("plan", "-no-color", "-out=saved")
    applied = terraform("apply", "-no-color", "saved")
    assert applied.code == 0, applied.stderr
    assert sandbox.status() == "SUCCEEDED"

    found = contents(terraform.folder)
    assert {"terraform.tfstate", "saved/tfplan", "log"} <= found.keys()
    assert b"--operation=provision" in found["arguments"]
    said = planned.stdout + planned.stderr + applied.stdout + applied.stderr
    found["said"] = said.encode()
    assert [name for name, content in found.items() if SECRET_TOKEN.encode() in content] == []


@both_ways
def test_token_that_is_invalid_is_not_quoted(tmp_path: Path, sandbox: Sandbox, way: str) -> None:
    terraform = new_terraform(tmp_path)
    outcome = terraform.apply(**sandbox.environment, **{way: SECRET_TOKEN + "~"})
    assert outcome.code == 1
    assert SECRET_TOKEN[:6] not in outcome.stdout + outcome.stderr


# --- the files ----------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder `terraform/`, so that a run leaves nothing in the checkout."""
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    shutil.copytree(MODULES, tmp_path / "terraform", ignore=ignored)
    return tmp_path / "terraform"


def test_every_file_is_formatted() -> None:
    assert Terraform(MODULES)("fmt", "-check", "-recursive").stdout == ""


def test_terraform_validates_and_tests_it(copy: Path) -> None:
    terraform = Terraform(copy / "report")
    terraform.init()
    assert terraform("validate").code == 0
    tested = terraform("test", "-no-color")
    assert tested.code == 0, tested.stdout + tested.stderr
    assert " 0 passed" not in tested.stdout


def test_example_reports(copy: Path, sandbox: Sandbox) -> None:
    terraform = Terraform(copy / "examples" / "report")
    terraform.init()
    outcome = terraform.apply(
        "-var=record_id=rec-demo",
        f"-var=program={PROGRAM}",
        **sandbox.environment,
        WORKFLOW_RESULT_TOKEN=UUID_TOKEN,
    )
    assert outcome.code == 0, outcome.stderr
    assert {o["OutputKey"]: o["OutputValue"] for o in sandbox.record()["RecordOutputs"]} == {
        "url": "https://demo.example.com",
        "zones": '["us-east-1a","us-east-1b"]',
    }
