"""What the variables of the module `engine` refuse, and what they say then. Needs no provider."""

import json
import shutil
from typing import Any

import pytest
from terraform_cli import MODULES, Terraform, words

KEY = "The key must be given as the ARN of a KMS key, arn:aws:kms:REGION:ACCOUNT:key/ID, not as"
BUCKET_KEY = "The bucket's key must be given as the ARN of a KMS key,"
BUCKET = "A bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens."
ROLE = "Each launch role must be given as the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME;"
BOUNDARY = "The boundary must be given as the ARN of a policy, arn:aws:iam::ACCOUNT:policy/NAME."
CHECKSUM = "terraform_checksums has no checksum of this version: add the one of"
SUMS = "Each version, as 1.11.4, must have a SHA-256: 64 hexadecimal digits in lower case."
OLD = "The engine needs Terraform 1.9 or later."
URL = "The URL must begin with https:// or file://, and must not end with a slash."
IMAGE = "The image must be given as CodeBuild takes it: aws/codebuild/NAME:TAG, or"
LINUX = "The image must be one for Linux on x86_64, which the program's package and Terraform are"
COMPUTE = "The compute type must be BUILD_GENERAL1_SMALL, _MEDIUM, _LARGE, _XLARGE or _2XLARGE."
TIMEOUT = "The timeout must be 5 to 2,130 minutes: CodeBuild ends a build after 36 hours,"
BUILDS = "The number of concurrent builds must be 1 or more."
VPC = "A VPC needs its ID, vpc-…, one subnet or more, subnet-…, and one security group or more,"
NAME = "A variable's name has letters, digits and underscores, and begins neither with a digit nor"
SECRET = "Each secret must be given as the ARN of a secret,"
TWICE = "These are in environment, too: A_TOKEN."
DAYS = "CloudWatch Logs keeps logs for 1, 3, 5, 7, 14, 30,"
TOPIC = "Give at most five ARNs, arn:aws:sns:REGION:ACCOUNT:TOPIC."
PACKAGE = "There is no package at this path: `make package` makes it."

SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:a-AbCdEf"
KEY_ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SUM = 64 * "0"

REFUSED: list[tuple[str, Any, str]] = [
    ("package", "/nowhere.zip", PACKAGE),
    ("package", "", PACKAGE),
    ("kms_key_arn", "alias/mine", KEY),
    ("kms_key_arn", "arn:aws:kms:*:123456789012:key/*", KEY),
    ("state_bucket", {"name": "A"}, BUCKET),
    ("state_bucket", {"name": "arn:aws:s3:::states"}, BUCKET),
    ("state_bucket", {"name": "states", "kms_key_arn": "alias/mine"}, BUCKET_KEY),
    ("launch_role_arns", [], ROLE),
    ("launch_role_arns", ["launch"], ROLE),
    ("launch_role_arns", ["*"], ROLE),
    ("launch_role_arns", ["arn:aws:iam::123456789012:user/a"], ROLE),
    ("permissions_boundary", "boundary", BOUNDARY),
    ("terraform_version", "1.0.0", CHECKSUM),
    ("terraform_checksums", {"1.11.4": SUM[1:]}, SUMS),
    ("terraform_checksums", {"1.11.4": SUM, "latest": SUM}, SUMS),
    ("terraform_checksums", {"1.11.4": SUM, "1.8.5": SUM}, OLD),
    ("terraform_checksums", {"1.11.4": SUM, "0.15.5": SUM}, OLD),
    ("terraform_url", "http://releases.example.com", URL),
    ("terraform_url", "https://releases.example.com/", URL),
    ("terraform_url", "https://releases.example.com/$(id)", URL),
    ("image", "", IMAGE),
    ("image", "a b", IMAGE),
    ("image", "aws/codebuild/amazonlinux-aarch64-standard:3.0", LINUX),
    ("image", "aws/codebuild/windows-base:2022-1.0", LINUX),
    ("compute_type", "small", COMPUTE),
    ("timeout", 4, TIMEOUT),
    ("timeout", 2131, TIMEOUT),
    ("timeout", 10.5, TIMEOUT),
    ("concurrent_builds", 0, BUILDS),
    ("concurrent_builds", 1.5, BUILDS),
    ("vpc", {"id": "a", "subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]}, VPC),
    ("vpc", {"id": "vpc-1", "subnet_ids": [], "security_group_ids": ["sg-1"]}, VPC),
    ("vpc", {"id": "vpc-1", "subnet_ids": ["subnet-1"], "security_group_ids": []}, VPC),
    ("environment", {"1A": "a"}, NAME),
    ("environment", {"TF-VAR": "a"}, NAME),
    ("environment", {"WORKFLOW_RESULT_JOURNAL": "a"}, NAME),
    ("environment", {"TERRAFORM_URL": "a"}, NAME),
    ("secrets", {"CODEBUILD_SECRET": SECRET_ARN}, NAME),
    ("secrets", {"A": "hunter2"}, SECRET),
    ("secrets", {"A": KEY_ARN}, SECRET),
    ("secrets", {"A_TOKEN": SECRET_ARN}, TWICE),
    ("log_retention_days", 8, DAYS),
    ("alarm_topic_arns", ["operations"], TOPIC),
    ("alarm_topic_arns", [f"arn:aws:sns:eu-central-1:123456789012:{n}" for n in range(6)], TOPIC),
]


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform in a folder with the module's variables alone."""
    folder = tmp_path_factory.mktemp("engine")
    terraform = Terraform(folder / "variables", TF_VAR_environment='{"A_TOKEN":"a"}')
    shutil.copy(MODULES / "engine" / "variables.tf", terraform.folder)
    (folder / "package.zip").touch()
    terraform.environment["TF_VAR_package"] = str(folder / "package.zip")
    return terraform


@pytest.mark.parametrize(
    ("name", "value", "expected"), REFUSED, ids=[f"{n}={json.dumps(v)}"[:60] for n, v, _ in REFUSED]
)
def test_variable_is_refused(variables: Terraform, name: str, value: Any, expected: str) -> None:
    given = value if isinstance(value, str) else json.dumps(value)
    refused = variables("plan", "-no-color", **{f"TF_VAR_{name}": given})
    assert refused.code == 1
    assert expected in words(refused.stderr.replace("│", ""))
    assert f"var.{name}" in refused.stderr or f'variable "{name}"' in refused.stderr


def test_every_variable_that_can_be_wrong_is_tried() -> None:
    text = (MODULES / "engine" / "variables.tf").read_text(encoding="utf-8")
    blocks = text.split('variable "')[1:]
    validated = {block.partition('"')[0] for block in blocks if "validation {" in block}
    assert validated == {name for name, _, _ in REFUSED}


def test_every_variable_and_output_is_on_the_page() -> None:
    """With its type and its default."""
    engine = MODULES / "engine"
    page = (engine / "README.md").read_text(encoding="utf-8")
    for block in (engine / "variables.tf").read_text(encoding="utf-8").split('variable "')[1:]:
        kind = block.split("  type        = ")[-1] if "  type        = " in block else "object("
        short = kind.split("\n")[0].partition("({")[0] if "object" not in kind else "object"
        assert f"| `{block.partition(chr(34))[0]}` | {short} |" in page
    for block in (engine / "outputs.tf").read_text(encoding="utf-8").split('output "')[1:]:
        assert f"`{block.partition(chr(34))[0]}`" in page


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "aws/codebuild/standard:7.0"),
        ("image", "registry.example.com/team/terraform-lambda-aarch64"),
        ("terraform_checksums", {"1.11.4": SUM, "1.9.0": SUM, "1.10.0-rc1": SUM, "2.0.0": SUM}),
        ("image", "registry.example.com:5000/team/terraform@sha256:" + SUM),
        (
            "launch_role_arns",
            ["arn:aws-us-gov:iam::*:role/a/*", "arn:aws-cn:iam::123456789012:role/b"],
        ),
        ("terraform_url", "file:///srv/terraform"),
        ("environment", {"WORKFLOW_RESULT_LOG": "json"}),
        ("secrets", {"A": SECRET_ARN + ":key", "B": SECRET_ARN + ":key:AWSCURRENT:"}),
        ("secrets", {"A": "arn:aws:ssm:eu-central-1:123456789012:parameter/a/b.c"}),
        ("state_bucket", {"name": "states", "kms_key_arn": KEY_ARN}),
        ("permissions_boundary", "arn:aws:iam::aws:policy/PowerUserAccess"),
    ],
)
def test_variable_is_taken(variables: Terraform, name: str, value: Any) -> None:
    given = value if isinstance(value, str) else json.dumps(value)
    taken = variables("plan", "-no-color", **{f"TF_VAR_{name}": given})
    assert taken.code == 0, taken.stderr
