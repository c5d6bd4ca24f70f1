"""The module `engine`, applied: functions, builds, queues, and a second plan."""

import hashlib
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
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
