"""Who may do what in the module `engine`: what a linter says of it, and what is not listed here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installed_engine import InstalledEngine
from ministack_server import ministack_server
from policy_linter import allowed, findings

pytestmark = pytest.mark.timeout(600)  # the provider waits for AWS to be of one mind

POLICIES = (
    "aws_iam_role_policy.this",
    "aws_s3_bucket_policy.this",
    "aws_sqs_queue_policy.operation",
    "aws_sqs_queue_policy.dead_letters",
)
"""The resources whose policies these are; what they refer to is made, too."""

MORE: dict[str, Any] = {
    "image": "210987654321.dkr.ecr.us-east-1.amazonaws.com/terraform:1",
    "vpc": {"id": "vpc-1", "subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]},
    "secrets": {
        "TF_TOKEN_app_terraform_io": "arn:aws:secretsmanager:us-east-1:000000000000:secret:a-AbCdE",
        "GITHUB_TOKEN": "arn:aws:ssm:us-east-1:000000000000:parameter/engine/github",
    },
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


@pytest.fixture(scope="module")
def engine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstalledEngine]:
    """An engine with all that somebody is let do something for, above what each engine has."""
    home = tmp_path_factory.mktemp("engine")
    with ministack_server(home) as server:
        installed = InstalledEngine(home, server, package)
        key = server.client("kms").create_key()["KeyMetadata"]["Arn"]
        installed.install(*(f"-target={p}" for p in POLICIES), kms_key_arn=key, **MORE)
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
    """Actions exist, and go with their resources and conditions."""
    for where, policy in policies(engine).items():
        assert findings(policy) == [], where


def test_nothing_is_allowed_everywhere_but_what_is_listed(engine: InstalledEngine) -> None:
    found = {pair for policy in policies(engine).values() for pair in allowed(policy)}
    assert {action for action, _ in found if "*" in action} == set()
    assert {pair for pair in found if "*" in pair[1]} <= EVERYWHERE


def test_the_linter_finds_what_it_is_there_for() -> None:
    statement = {"Effect": "Allow", "Action": ["s3:GetObjekt"], "Resource": "arn:aws:s3:::a/*"}
    (found,) = findings({"Version": "2012-10-17", "Statement": [statement]})
    assert "s3:GetObjekt" in found
    statement["Action"] = ["s3:ListBucket"]
    assert findings({"Version": "2012-10-17", "Statement": [statement]}) != []
