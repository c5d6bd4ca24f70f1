"""`examples/engine`, with the real provider's schema and validation, and mocks for AWS."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import CREDENTIALS
from ministack_server import Ministack
from policy_linter import allowed, findings
from terraform_cli import MODULES, Terraform, mirror_settings

MOCKED = """
mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:mocked" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:mocked" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/mocked" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:mocked" }
  }
}

run "applied" {
  variables {
    principal_arn = "arn:aws:iam::123456789012:role/Admin"
  }
  assert {
    condition     = aws_servicecatalog_product.bucket.type == "EXTERNAL"
    error_message = "The product must be the engine's."
  }
  assert {
    condition = (
      jsondecode(aws_servicecatalog_constraint.launch.parameters).RoleArn == aws_iam_role.launch.arn
    )
    error_message = "The product must have its launch role."
  }
}
"""


@pytest.fixture
def example(package: Path, tmp_path: Path) -> Terraform:
    """The example as its page has it made, in a copy of the checkout."""
    settings = mirror_settings(tmp_path, "hashicorp/aws")
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tar.gz")
    shutil.copytree(MODULES, tmp_path / "terraform", ignore=ignored)
    (tmp_path / "dist").mkdir()
    shutil.copy(package, tmp_path / "dist")
    page = (MODULES / "examples" / "engine" / "README.md").read_text(encoding="utf-8")
    command = page.partition("make package\n")[2].partition("```")[0]
    assert command.startswith("tar ")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    folder = tmp_path / "terraform" / "examples" / "engine"
    terraform = Terraform(folder, **CREDENTIALS, **settings)
    terraform.init()
    return terraform


def test_example_is_applied(example: Terraform) -> None:
    """The provider takes it, where AWS says yes to everything."""
    (example.folder / "applied.tftest.hcl").write_text(MOCKED)
    tested = example("test", "-no-color")
    assert tested.code == 0, tested.stdout + tested.stderr
    assert "1 passed" in tested.stdout


def test_launch_role_trusts_the_engine_and_makes_the_product(
    example: Terraform, ministack: Ministack
) -> None:
    made = "-target=aws_iam_role_policy.launch"
    example.environment["AWS_ENDPOINT_URL"] = ministack.url
    example.environment["TF_VAR_principal_arn"] = "arn:aws:iam::000000000000:role/Admin"
    applied = example.apply(made)
    assert applied.code == 0, applied.stderr
    iam = ministack.client("iam")
    name = "engine-example-launch"
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    assert [statement["Principal"] for statement in trust["Statement"]] == [
        {"Service": "servicecatalog.amazonaws.com"},
        {"AWS": "arn:aws:iam::000000000000:root"},
    ]
    engine = trust["Statement"][1]["Condition"]["StringLike"]["aws:PrincipalArn"]
    assert [arn.rpartition("/")[2] for arn in engine] == [
        "TerraformExecutionRole*",
        "ServiceCatalogExternalParameterParserRole*",
    ]
    policy = iam.get_role_policy(RoleName=name, PolicyName="product")["PolicyDocument"]
    assert findings(policy) == []
    assert {action for action, _ in allowed(policy) if "*" in action} == set()
