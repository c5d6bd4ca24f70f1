"""What the reference engine leaves is taken over as docs/migrating.md says."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from installed_engine import InstalledEngine
from ministack_server import Ministack, ministack_server

pytestmark = pytest.mark.timeout(600)

ACCOUNT = "000000000000"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["ssm.amazonaws.com", "ec2.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}


def leave(server: Ministack) -> None:
    """What of the reference engine stays when its stack is deleted."""
    for operation in ("Provision", "Update", "Terminate"):
        server.client("sqs").create_queue(
            QueueName=f"ServiceCatalogExternal{operation}OperationQueue",
            Attributes={"VisibilityTimeout": "180"},
        )
    for name in ("TerraformExecutionRole", "ServiceCatalogExternalParameterParserRole"):
        role = server.client("iam").create_role(
            RoleName=f"{name}-us-east-1",
            Path="/TerraformEngine/",
            AssumeRolePolicyDocument=json.dumps(TRUST),
        )
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("bootstrap", "")
    server.client("lambda").create_function(
        FunctionName="ServiceCatalogExternalParameterParser",
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": code.getvalue()},
    )
    server.client("s3").create_bucket(Bucket=f"sc-terraform-engine-state-{ACCOUNT}-us-east-1")


def test_import_blocks_of_the_page_take_over_what_is_there(package: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```hcl\n(module \"engine\".*?)^```", page, re.M | re.S)
    with ministack_server(tmp_path) as server:
        leave(server)
        engine = InstalledEngine(tmp_path, server, package)
        text = (
            text.replace("…/terraform/engine", "../terraform/engine")
            .replace("123456789012", ACCOUNT)
            .replace("https://sqs.us-east-1.amazonaws.com", server.url)
        )
        root = tmp_path / "root"
        root.mkdir()
        package_line = f'\n  package = "{package}"\n'
        (root / "main.tf").write_text(text)
        (root / "package_override.tf").write_text(f'module "engine" {{{package_line}}}\n')
        engine.folder = root
        engine.init()
        planned = engine("plan", "-no-color")
        assert planned.code == 0, planned.stderr
        summary = re.search(
            r"Plan: (\d+) to import, \d+ to add, (\d+) to change, 0 to destroy", planned.stdout
        )
        assert summary, planned.stdout[-2000:]
        assert summary[1] == "6"
        applied = engine.apply()
        assert applied.code == 0, applied.stderr
        (parser,) = [
            function
            for function in server.client("lambda").list_functions()["Functions"]
            if function["FunctionName"] == "ServiceCatalogExternalParameterParser"
        ]
        assert parser["Handler"] == "workflow_result.engine.functions.parse_parameters"
