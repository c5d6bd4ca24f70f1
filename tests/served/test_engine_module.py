"""The module `engine`, applied: functions, builds, queues, and a second plan."""

import hashlib
import json
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import clean_environment
from installed_engine import DRIFT, InstalledEngine
from ministack_server import ministack_server

pytestmark = pytest.mark.timeout(600)  # the provider waits for AWS to be of one mind


@pytest.fixture(scope="module")
def engine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstalledEngine]:
    """An engine that no variable was given to."""
    home = tmp_path_factory.mktemp("engine")
    with ministack_server(home) as server:
        installed = InstalledEngine(home, server, package)
        installed.install()
        yield installed


def test_a_second_plan_changes_nothing_that_is_not_forgotten(engine: InstalledEngine) -> None:
    for address, attributes in engine.changes().items():
        kind = address.partition(".")[0]
        assert attributes <= DRIFT.get(kind, set()), address


def test_functions_are_what_the_package_has(engine: InstalledEngine, package: Path) -> None:
    digest = b64encode(hashlib.sha256(package.read_bytes()).digest()).decode()
    functions = engine.ministack.client("lambda").list_functions()["Functions"]
    assert {function["FunctionName"] for function in functions} == {
        "ServiceCatalogExternalParameterParser",
        "workflow-result-start",
        "workflow-result-finish",
    }
    assert {function["CodeSha256"] for function in functions} == {digest}
    for function in functions:
        assert function["Runtime"] == "python3.13"


def test_a_build_finds_its_commands_in_the_package(engine: InstalledEngine) -> None:
    """The source of a build is the package, and what it starts is in there."""
    codebuild, s3 = engine.ministack.client("codebuild"), engine.ministack.client("s3")
    (project,) = codebuild.batch_get_projects(names=[engine.output("build_project")])["projects"]
    bucket, _, key = project["source"]["location"].partition("/")
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    source = engine.folder / "source.zip"
    source.write_bytes(body)
    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
    phases = yaml.safe_load(project["source"]["buildspec"])["phases"]
    started = [c.split()[1] for c in phases["install"]["commands"] + phases["build"]["commands"]]
    assert {name for name in started if name.endswith((".py", ".sh"))} == {
        "main.py",
        "install-terraform.sh",
    }
    assert {"main.py", "install-terraform.sh"} <= set(names)


def after_install(
    engine: InstalledEngine, package: Path, tmp_path: Path, look: str, **given: str
) -> tuple[list[str], str]:
    """What `look` says behind the buildspec's own commands, in one shell, with the project's
    environment and what is `given` besides; and which Terraform that asks for."""
    codebuild = engine.ministack.client("codebuild")
    (project,) = codebuild.batch_get_projects(names=["workflow-result"])["projects"]
    variables = {v["name"]: v["value"] for v in project["environment"]["environmentVariables"]}
    image = tmp_path / "image"
    image.mkdir()
    (image / "python").symlink_to(sys.executable)
    (image / "terraform").write_text(
        f"#!/bin/sh\necho Terraform v{variables['TERRAFORM_VERSION']}\n"
    )
    (image / "terraform").chmod(0o755)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "src")
    phases = yaml.safe_load(project["source"]["buildspec"])["phases"]
    done = subprocess.run(
        ["bash", "-ec", "\n".join([*phases["install"]["commands"], look])],
        capture_output=True,
        text=True,
        cwd=tmp_path / "src",
        env=clean_environment(tmp_path, **(variables | given)) | {"PATH": f"{image}:/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), variables["TERRAFORM_VERSION"]


def test_a_build_comes_to_its_program_with_the_terraform_that_was_asked_for(
    engine: InstalledEngine, package: Path, tmp_path: Path
) -> None:
    look = 'test -d "$TF_PLUGIN_CACHE_DIR" && python main.py --version && terraform version'
    (program, terraform), version = after_install(engine, package, tmp_path, look)
    assert program.startswith("workflow-result ")
    assert terraform == f"Terraform v{version}"


def test_a_build_uses_the_provider_cache_that_its_environment_names(
    engine: InstalledEngine, package: Path, tmp_path: Path
) -> None:
    """That of an image, which lies in a network without a way out."""
    given = {"TF_PLUGIN_CACHE_DIR": "/srv/providers"}
    said, _ = after_install(engine, package, tmp_path, "echo $TF_PLUGIN_CACHE_DIR", **given)
    assert said == ["/srv/providers"]


def test_queues_pass_on_what_is_not_handled(engine: InstalledEngine) -> None:
    """After five tries a message of each operation lies in the dead-letter queue."""
    sqs = engine.ministack.client("sqs")
    dead_letters = engine.output("dead_letter_queue_url")
    for operation, url in engine.output("queue_urls").items():
        assert url.endswith(f"/ServiceCatalogExternal{operation}OperationQueue")
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        redrive = json.loads(attributes["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"].endswith(":" + dead_letters.rpartition("/")[2])
        assert int(redrive["maxReceiveCount"]) == 5
        assert attributes["VisibilityTimeout"] == "360"
    mappings = engine.ministack.client("lambda").list_event_source_mappings()
    sources = {
        (m["FunctionArn"].rpartition(":")[2], m["EventSourceArn"].rpartition(":")[2])
        for m in mappings["EventSourceMappings"]
    }
    assert sources == {
        ("workflow-result-start", "ServiceCatalogExternalProvisionOperationQueue"),
        ("workflow-result-start", "ServiceCatalogExternalUpdateOperationQueue"),
        ("workflow-result-start", "ServiceCatalogExternalTerminateOperationQueue"),
        ("workflow-result-finish", "workflow-result-dead-letters"),
    }
