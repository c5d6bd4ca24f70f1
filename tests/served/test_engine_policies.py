"""Who may do what in the module `engine`: what a linter says of it, and what is not listed here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import parliament
import pytest
from installed_engine import InstalledEngine
from ministack_server import ministack_server

pytestmark = pytest.mark.timeout(600)  # the provider waits for AWS to be of one mind

POLICIES = (
    "aws_iam_role_policy.this",
    "aws_s3_bucket_policy.this",
    "aws_sqs_queue_policy.operation",
    "aws_sqs_queue_policy.dead_letters",
)
"""The resources whose policies these are; what they refer to is made, too."""

EVERYTHING: dict[str, Any] = {
    "launch_role_arns": ["arn:aws:iam::*:role/launch-*"],
    "image": "210987654321.dkr.ecr.us-east-1.amazonaws.com/terraform:1",
    "vpc": {"id": "vpc-1", "subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]},
    "secrets": {
        "TF_TOKEN_app_terraform_io": "arn:aws:secretsmanager:us-east-1:000000000000:secret:a-AbCdE",
        "GITHUB_TOKEN": "arn:aws:ssm:us-east-1:000000000000:parameter/engine/github",
    },
    "concurrent_builds": 3,
    "alarm_topic_arns": ["arn:aws:sns:us-east-1:000000000000:engine"],
}

EVERYWHERE = {
    # Actions that have no resource, says AWS's service authorization reference.
    ("servicecatalog:NotifyProvisionProductEngineWorkflowResult", "*"),
    ("servicecatalog:NotifyUpdateProvisionedProductEngineWorkflowResult", "*"),
    ("servicecatalog:NotifyTerminateProvisionedProductEngineWorkflowResult", "*"),
    ("ecr:GetAuthorizationToken", "*"),
    ("ec2:DescribeDhcpOptions", "*"),
    ("ec2:DescribeNetworkInterfaces", "*"),
    ("ec2:DescribeSecurityGroups", "*"),
    ("ec2:DescribeSubnets", "*"),
    ("ec2:DescribeVpcs", "*"),
    # What CodeBuild makes for a build in a VPC has no name beforehand.
    ("ec2:CreateNetworkInterface", "arn:aws:ec2:us-east-1:000000000000:network-interface/*"),
    ("ec2:DeleteNetworkInterface", "arn:aws:ec2:us-east-1:000000000000:network-interface/*"),
    (
        "ec2:CreateNetworkInterfacePermission",
        "arn:aws:ec2:us-east-1:000000000000:network-interface/*",
    ),
    # Any role that trusts the engine, unless launch_role_arns says which.
    ("sts:AssumeRole", "arn:aws:iam::*:role/*"),
    ("sts:AssumeRole", "arn:aws:iam::*:role/launch-*"),
    # Artifacts are wherever Service Catalog has them, and have its tag.
    ("s3:GetObject", "arn:aws:s3:::*/*"),
    # What is in a bucket or a log group of the engine's own.
    ("s3:GetObject", "arn:aws:s3:::workflow-result-state-000000000000-us-east-1/*"),
    ("s3:PutObject", "arn:aws:s3:::workflow-result-state-000000000000-us-east-1/*"),
    ("s3:DeleteObject", "arn:aws:s3:::workflow-result-state-000000000000-us-east-1/*"),
    *(
        (f"logs:{action}", f"arn:aws:logs:us-east-1:000000000000:log-group:{group}:*")
        for action in ("CreateLogStream", "PutLogEvents")
        for group in (
            "/aws/codebuild/workflow-result",
            "/aws/lambda/ServiceCatalogExternalParameterParser",
            "/aws/lambda/workflow-result-finish",
            "/aws/lambda/workflow-result-start",
        )
    ),
}
"""The actions that are allowed on more than one thing, and why."""


@pytest.fixture(scope="module", params=["plain", "with everything"])
def engine(
    request: pytest.FixtureRequest, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InstalledEngine]:
    """An engine with no variable given, and one with all that somebody is let do something for."""
    home = tmp_path_factory.mktemp("engine")
    with ministack_server(home) as server:
        installed = InstalledEngine(home, server, package)
        variables = {}
        if request.param != "plain":
            key = server.client("kms").create_key()["KeyMetadata"]["Arn"]
            variables = {"kms_key_arn": key, **EVERYTHING}
        installed.install(*(f"-target={resource}" for resource in POLICIES), **variables)
        yield installed


def policies(engine: InstalledEngine) -> dict[str, Any]:
    """All policy documents of the engine and of its journal, by where they are."""
    found = {}
    for resource in engine.resources():
        values = resource["values"]
        if values.get("policy"):
            found[resource["address"]] = json.loads(values["policy"])
        if values.get("assume_role_policy"):
            trust = json.loads(values["assume_role_policy"])
            for statement in trust["Statement"]:
                statement["Resource"] = values["arn"]  # which the linter wants to see
            found[resource["address"]] = trust
    assert len(found) == 14  # four roles, twice; four queues; two buckets
    return found


def test_the_linter_has_nothing_to_say_of_any_policy(engine: InstalledEngine) -> None:
    """Actions exist, and go with their resources and conditions; nobody is trusted by mistake."""
    for where, policy in policies(engine).items():
        analysed = parliament.analyze_policy_string(json.dumps(policy))
        findings = [
            finding
            for finding in analysed.findings
            # Where no resource exists, or a resource denies everything, * is what there is.
            if finding.issue != "RESOURCE_STAR" or not without_a_resource(policy)
        ]
        assert findings == [], where


def without_a_resource(policy: dict[str, Any]) -> bool:
    """Whether every action that is allowed on * has no resource."""
    return {pair for pair in allowed(policy) if pair[1] == "*"} <= EVERYWHERE


def test_nothing_is_allowed_everywhere_but_what_is_listed(engine: InstalledEngine) -> None:
    found = {pair for policy in policies(engine).values() for pair in allowed(policy)}
    assert {action for action, _ in found if "*" in action} == set()
    assert {pair for pair in found if "*" in pair[1]} <= EVERYWHERE


def allowed(policy: dict[str, Any]) -> set[tuple[str, str]]:
    """Each action that a policy allows, and on what."""
    return {
        (action, resource)
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
