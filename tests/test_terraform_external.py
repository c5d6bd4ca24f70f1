"""main.py as an external data source of the real Terraform: `notify` itself, and `preflight`."""

import shutil
from pathlib import Path

import pytest
from conftest import UUID_TOKEN, Sandbox
from terraform_cli import MODULES, PROGRAM, TerraformWithExternal, words

NOTIFY = f"""
data "external" "notify" {{
  program = concat({PROGRAM}, ["notify"])
  query = {{
    RecordId           = "rec-demo"
    Status             = "SUCCEEDED"
    Outputs            = jsonencode([{{ OutputKey = "url", OutputValue = "https://example.com" }}])
    ResourceIdentifier = null
  }}
}}

output "result" {{
  value = data.external.notify.result
}}
"""

PREFLIGHT = f"""
resource "terraform_data" "product" {{
  input = {{ url = "https://example.com" }}
}}

module "preflight" {{
  source              = "{MODULES / "preflight"}"
  program             = {PROGRAM}
  record_id           = "RECORD"
  outputs             = OUTPUTS
  resource_identifier = {{ key = "KEY", value = "pp-1" }}
}}

output "result" {{
  value = module.preflight.result
}}
"""


@pytest.fixture(params=["stand-in", "real"])
def terraform(request: pytest.FixtureRequest, tmp_path: Path) -> TerraformWithExternal:
    return TerraformWithExternal(tmp_path / "work", request.param)


def write_preflight(
    terraform: TerraformWithExternal,
    record_id: str = "rec-demo",
    key: str = "key",
    outputs: str = "{ url = terraform_data.product.output.url, id = terraform_data.product.id }",
) -> None:
    text = PREFLIGHT.replace("RECORD", record_id).replace("KEY", key)
    terraform.write(text.replace("OUTPUTS", outputs))
    terraform.init()


def test_notify_changes_nothing_however_often_it_is_read(
    terraform: TerraformWithExternal, sandbox: Sandbox
) -> None:
    """The sandbox takes a second report only if it is the first one, IdempotencyToken and all."""
    terraform.environment |= sandbox.environment | {"WORKFLOW_RESULT_TOKEN": UUID_TOKEN}
    terraform.write(NOTIFY)
    terraform.init()
    first = terraform.apply()
    assert first.code == 0, first.stderr
    result = terraform.output("result")
    assert result["reported"] == "true"
    updated = sandbox.record()["RecordDetail"]["UpdatedTime"]
    assert terraform("plan", "-detailed-exitcode").code == 0
    assert terraform.apply().code == 0
    assert terraform.output("result") == result
    assert terraform.apply("-refresh-only").code == 0
    assert terraform.output("result") == result
    assert sandbox.record()["RecordDetail"]["UpdatedTime"] == updated


def test_notify_that_is_refused_stops_the_run_and_says_why(
    terraform: TerraformWithExternal, sandbox: Sandbox
) -> None:
    terraform.write(NOTIFY.replace("rec-demo", "rec-unknown"))
    terraform.init()
    outcome = terraform.apply(**sandbox.environment, WORKFLOW_RESULT_TOKEN=UUID_TOKEN)
    assert outcome.code == 1
    assert "rec-unknown: Service Catalog refused the result for good" in words(outcome.stderr)


def test_preflight_passes_at_plan_while_values_are_unknown(
    terraform: TerraformWithExternal,
) -> None:
    write_preflight(terraform)
    outcome = terraform("plan", "-no-color")
    assert outcome.code == 0, outcome.stderr
    assert 'record_id = "rec-demo"' in words(outcome.stdout)  # known at plan, so it was read


def test_preflight_stops_the_plan_with_every_broken_rule(
    terraform: TerraformWithExternal,
) -> None:
    write_preflight(terraform, record_id="rec 1", key="key!")
    outcome = terraform.apply()
    assert outcome.code == 1
    said = words(outcome.stderr)
    assert "RecordId: character 4 (U+0020) is not allowed" in said
    assert "ResourceIdentifier.UniqueTag.Key: character 4 (U+0021) is not allowed" in said
    assert not (terraform.folder / "terraform.tfstate").exists()  # nothing was created


def test_preflight_checks_the_token_of_the_environment_and_does_not_quote_it(
    terraform: TerraformWithExternal,
) -> None:
    write_preflight(terraform)
    outcome = terraform("plan", "-no-color", WORKFLOW_RESULT_TOKEN=UUID_TOKEN + "~")
    assert outcome.code == 1
    assert "WorkflowToken: character 37 is not allowed" in words(outcome.stderr)
    assert UUID_TOKEN[:6] not in outcome.stdout + outcome.stderr


def test_preflight_does_not_mind_a_request_in_the_environment(
    terraform: TerraformWithExternal,
) -> None:
    write_preflight(terraform)
    assert terraform("plan", WORKFLOW_RESULT_REQUEST="not for preflight").code == 0


def test_preflight_waits_for_apply_where_the_names_are_unknown(
    terraform: TerraformWithExternal,
) -> None:
    write_preflight(terraform, outputs='{ (terraform_data.product.id) = "" }')
    assert "data.external.validate will be read during apply" in words(
        terraform("plan", "-no-color").stdout
    )
    outcome = terraform.apply()
    assert outcome.code == 0, outcome.stderr
    assert terraform("plan", "-detailed-exitcode").code == 0


def test_preflight_is_valid_and_passes_its_own_tests(terraform: TerraformWithExternal) -> None:
    shutil.copytree(MODULES / "preflight", terraform.folder, dirs_exist_ok=True)
    terraform.init()
    assert terraform("validate").code == 0
    tested = terraform("test", "-no-color")
    assert tested.code == 0, tested.stdout + tested.stderr
    assert " 0 passed" not in tested.stdout
