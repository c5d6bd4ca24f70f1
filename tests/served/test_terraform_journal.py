"""The module `journal`: tested as it is, and applied by the real provider against ministack."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from conftest import CREDENTIALS, UUID_TOKEN, Program, Sandbox, endpoint
from ministack_server import Ministack
from tables import new_table
from terraform_cli import MODULES, NOWHERE, Terraform, mirror_settings, words

POLICIES = ("report_policy", "resend_policy", "look_policy")


def installed(tmp_path: Path, **environment: str) -> Terraform:
    """Terraform in a copy of the module, so that a run leaves nothing in the checkout."""
    settings = mirror_settings(tmp_path, "hashicorp/aws")
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    shutil.copytree(MODULES / "journal", tmp_path / "journal", ignore=ignored)
    terraform = Terraform(tmp_path / "journal", **CREDENTIALS, **settings, **environment)
    terraform.init()
    return terraform


@pytest.fixture
def variables(tmp_path: Path) -> Terraform:
    """Terraform in a folder with the module's variables alone, for which no provider is needed."""
    terraform = Terraform(tmp_path / "variables")
    shutil.copy(MODULES / "journal" / "variables.tf", terraform.folder)
    return terraform


def test_terraform_tests_it(tmp_path: Path) -> None:
    terraform = installed(tmp_path)
    tested = terraform("test", "-no-color")
    assert tested.code == 0, tested.stdout + tested.stderr
    assert " 0 passed" not in tested.stdout


@pytest.mark.parametrize(
    "name", ["", "wr", "a/b", "a b", "abc\n", "a-é", "dynamodb://a", 256 * "a"]
)
def test_name_that_is_none_is_refused(variables: Terraform, name: str) -> None:
    refused = variables("plan", "-no-color", f"-var=name={name}")
    assert refused.code == 1
    expected = "A table's name has 3 to 255 letters, digits, hyphens, dots and underscores."
    assert expected in words(refused.stderr)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "alias/aws/dynamodb",
        "arn:aws:kms:eu-central-1:123456789012:alias/journal",
        "arn:aws:kms:eu-central-1:123456789012:key/",
        "arn:aws:kms:eu-central-1:123456789012:key/*",
        "arn:aws:kms:*:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ],
)
def test_key_that_is_no_arn_of_a_key_is_refused(variables: Terraform, key: str) -> None:
    refused = variables("plan", "-no-color", f"-var=kms_key_arn={key}")
    assert refused.code == 1
    expected = (
        "The key must be given as the ARN of a KMS key, arn:aws:kms:REGION:ACCOUNT:key/ID, not as "
        "an ID or an alias."
    )
    assert expected in words(refused.stderr)


def test_table_lives_and_dies(tmp_path: Path, ministack: Ministack) -> None:
    """What is applied is what was asked for, a second plan has no changes, and nothing is left."""
    terraform = installed(tmp_path, AWS_ENDPOINT_URL=ministack.url)
    dynamodb = ministack.client("dynamodb")
    name = "lives-and-dies"

    applied = terraform.apply(f"-var=name={name}")
    assert applied.code == 0, applied.stderr
    assert "Warning" not in applied.stdout
    assert terraform.output("journal") == f"dynamodb://{name}?region=us-east-1"
    table = dynamodb.describe_table(TableName=name)["Table"]
    assert terraform.output("table_arn") == table["TableArn"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"]
    assert table["SSEDescription"]["SSEType"] == "KMS"
    expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "expires")
    assert not keeps_copies(dynamodb, name)
    assert terraform("plan", "-detailed-exitcode", f"-var=name={name}").code == 0

    # Somebody means well, and the next apply undoes it.
    dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    dynamodb.update_table(
        TableName=name,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "OLD_IMAGE"},
    )
    assert keeps_copies(dynamodb, name)
    unprotected = (f"-var=name={name}", "-var=deletion_protection=false")
    applied = terraform.apply(*unprotected)
    assert applied.code == 0, applied.stderr
    assert not keeps_copies(dynamodb, name)

    destroyed = terraform("destroy", "-auto-approve", "-no-color", *unprotected)
    assert destroyed.code == 0, destroyed.stderr
    assert name not in dynamodb.list_tables()["TableNames"]


def keeps_copies(dynamodb: Any, name: str) -> bool:
    """Whether something keeps what the program removes."""
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
    stream = dynamodb.describe_table(TableName=name)["Table"].get("StreamSpecification", {})
    return recovery == "ENABLED" or bool(stream.get("StreamEnabled"))


def test_program_works_on_it_with_the_policies(
    tmp_path: Path, ministack: Ministack, sandbox: Sandbox, program: Program
) -> None:
    """Each command needs no more than its policy allows; the table has a key of one's own."""
    terraform = installed(tmp_path, AWS_ENDPOINT_URL=ministack.url)
    key: str = ministack.client("kms").create_key()["KeyMetadata"]["Arn"]
    applied = terraform.apply("-var=name=with-a-key", f"-var=kms_key_arn={key}")
    assert applied.code == 0, applied.stderr
    table = ministack.client("dynamodb").describe_table(TableName="with-a-key")["Table"]
    assert table["SSEDescription"]["KMSMasterKeyArn"] == key
    assert shape(table) == shape(
        ministack.client("dynamodb").describe_table(TableName=new_table(ministack).name)["Table"]
    ), "tests/tables.py makes another table than the module"

    policies = {name: terraform.output(name) for name in POLICIES}
    for policy in policies.values():
        check(ministack, policy)
    settings = sandbox.environment | {
        "WORKFLOW_RESULT_JOURNAL": terraform.output("journal"),
        "WORKFLOW_RESULT_TOKEN": UUID_TOKEN,
        "CHECKPOINT_DISABLE": "1",
    }
    request = {"RecordId": "rec-notify", "Status": "FAILED"}
    message = {
        "token": UUID_TOKEN,
        "recordId": "rec-run",
        "operation": "PROVISION_PRODUCT",
        "provisionedProductId": "pp-demo",
        "parameters": [],
    }
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "main.tf").write_text('output "a" { value = 1 }\n')

    with guard(ministack, policies["report_policy"], table["TableArn"]) as (url, refused):
        settings["AWS_ENDPOINT_URL_DYNAMODB"] = url
        owed = program("notify", stdin=request, **settings | NOWHERE)
        assert (owed.code, refused) == (75, []), owed.stderr
        assert program("forget", "rec-notify", **settings).code == 0
        assert program("notify", stdin=request, **settings | NOWHERE).code == 75
        ran = program("run", "--chdir", artifact, stdin=message, **settings)
        assert (ran.code, refused) == (0, []), ran.stderr
    with guard(ministack, policies["look_policy"], table["TableArn"]) as (url, refused):
        settings["AWS_ENDPOINT_URL_DYNAMODB"] = url
        pending = program("pending", **settings)
        assert pending.stdout.startswith("rec-notify ")
        assert refused == []
        assert program("forget", "rec-notify", **settings).code != 0
        assert refused != []
    with guard(ministack, policies["resend_policy"], table["TableArn"]) as (url, refused):
        settings["AWS_ENDPOINT_URL_DYNAMODB"] = url
        assert program("resend", **settings).code == 0
        assert refused == []
    assert sandbox.status("rec-notify") == "FAILED"


def shape(table: dict[str, Any]) -> Any:
    """What the program relies on: keys, their types, indexes and what these have."""
    indexes = [
        (
            index["IndexName"],
            index["KeySchema"],
            index["Projection"]["ProjectionType"],
            sorted(index["Projection"]["NonKeyAttributes"]),
        )
        for index in table["GlobalSecondaryIndexes"]
    ]
    types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    return table["KeySchema"], types, indexes


def check(ministack: Ministack, policy: str) -> None:
    """It names actions that exist and single resources, and no wildcard."""
    assert "*" not in policy
    document = json.loads(policy)
    assert document["Version"] == "2012-10-17"
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert statement["Resource"].startswith("arn:aws:")
        for action in statement["Action"]:
            service, _, operation = action.partition(":")
            assert operation in ministack.client(service).meta.service_model.operation_names


@contextmanager
def guard(ministack: Ministack, policy: str, arn: str) -> Iterator[tuple[str, list[str]]]:
    """Let through to the table what a policy allows; yield the URL, and what was refused."""
    allowed = {
        (action, statement["Resource"])
        for statement in json.loads(policy)["Statement"]
        for action in statement["Action"]
    }
    refused: list[str] = []

    def answer(headers: Message, body: bytes) -> tuple[int, bytes]:
        action = "dynamodb:" + headers["X-Amz-Target"].partition(".")[2]
        index = json.loads(body).get("IndexName")
        if (action, f"{arn}/index/{index}" if index else arn) not in allowed:
            refused.append(action)
            return 400, b'{"__type": "AccessDeniedException", "message": "not in the policy"}'
        request = urllib.request.Request(ministack.url, body, dict(headers))  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answered:  # noqa: S310
                return answered.status, answered.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    with endpoint(answer) as url:
        yield url, refused
