"""main.py as an external data source of the real Terraform."""

from pathlib import Path

import pytest
from conftest import UUID_TOKEN, Sandbox
from terraform_cli import PROGRAM, TerraformWithExternal, words

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


@pytest.fixture(params=["stand-in", "real"])
def terraform(request: pytest.FixtureRequest, tmp_path: Path) -> TerraformWithExternal:
    return TerraformWithExternal(tmp_path / "work", request.param)


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
