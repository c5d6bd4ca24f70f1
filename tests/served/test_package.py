"""`make package`: all that a function or a build needs, and the same bytes each time."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment
from served_package import make_package

from workflow_result.loader import ServiceCatalogLoader

PARTITIONS = {
    "us-east-1": "amazonaws.com",
    "cn-north-1": "amazonaws.com.cn",
    "us-gov-west-1": "amazonaws.com",
    "us-iso-east-1": "c2s.ic.gov",
    "us-isob-east-1": "sc2s.sgov.gov",
    "eusc-de-east-1": "amazonaws.eu",
}
SERVICES = ("codebuild", "dynamodb", "s3", "servicecatalog", "sqs", "stepfunctions", "sts")
REQUEST = {"WorkflowToken": "t", "RecordId": "rec-1", "Status": "SUCCEEDED"}


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    return folder


def python(unpacked: Path, *arguments: str, stdin: str = "") -> str:
    """Run the Python that is here with nothing but the package; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-S", *arguments],  # -S: without what is installed
        input=stdin,
        capture_output=True,
        text=True,
        cwd=unpacked,
        env=clean_environment(unpacked, AWS_EC2_METADATA_DISABLED="true"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_runs_without_anything_installed(unpacked: Path) -> None:
    answer = json.loads(python(unpacked, "main.py", "validate", stdin=json.dumps(REQUEST)))
    assert answer["record_id"] == "rec-1"


def test_clients_of_all_services_work_in_all_partitions(unpacked: Path) -> None:
    script = f"""
import boto3, json
session = boto3.session.Session("a", "b")
print(json.dumps([
    [region, session.client(service, region).meta.endpoint_url]
    for region in {list(PARTITIONS)} for service in {SERVICES}
]))"""
    for region, url in json.loads(python(unpacked, "-c", script)):
        assert url.endswith("." + PARTITIONS[region]), (region, url)


def test_powertools_is_there_for_the_functions(unpacked: Path) -> None:
    python(
        unpacked,
        "-c",
        "import aws_lambda_powertools.metrics\nimport aws_lambda_powertools.utilities.batch",
    )


def test_what_a_build_needs_lies_at_the_top(unpacked: Path) -> None:
    assert {path.name for path in unpacked.glob("*.[ps][yh]")} >= {
        "main.py",
        "install-terraform.sh",
    }
    assert (unpacked / "workflow_result" / "schemas" / "message.schema.json").is_file()


def test_nothing_in_it_comes_from_the_machine_that_made_it(package: Path) -> None:
    """No byte code, no record of the installation, one order, one time, one mode."""
    with zipfile.ZipFile(package) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    odd = r"\.pyc$|(^|/)(bin/|__pycache__|RECORD$|INSTALLER$|REQUESTED$|direct_url\.json$)"
    assert [name for name in names if re.search(odd, name)] == []
    assert names == sorted(names)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {stat.S_IMODE(entry.external_attr >> 16) for entry in entries} == {0o644}


def test_botocore_has_the_models_of_the_services_that_are_called_alone(unpacked: Path) -> None:
    data = unpacked / "botocore" / "data"
    services = {path.name for path in data.iterdir() if path.is_dir()}
    assert services == {*SERVICES, "signin", "sso", "sso-oidc"}
    assert services == set(ServiceCatalogLoader([]).list_available_services("service-2"))


def test_the_same_checkout_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also from another folder, with other times and modes, for a Python that is not here."""
    copy = tmp_path / "elsewhere"
    for name in ("main.py", "workflow_result", "schemas", "requirements-package.txt", "terraform"):
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", ".terraform*")
        if source.is_dir():
            shutil.copytree(source, copy / name, copy_function=shutil.copyfile, ignore=ignored)
        else:
            copy.mkdir(exist_ok=True)
            shutil.copyfile(source, copy / name)
    before = os.umask(0o077)
    try:
        make_package(tmp_path / "second.zip", "3.13", copy)
    finally:
        os.umask(before)
    make_package(tmp_path / "first.zip", "3.13")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        compiled = [name for name in archive.namelist() if name.endswith(".so")]
    assert compiled
    for name in compiled:
        assert re.search(r"\.(cpython-313-x86_64-linux-gnu|abi3)\.so$", name), name


def test_what_is_pinned_depends_on_no_machine() -> None:
    """pip looks at markers with its own Python, whatever the target's is."""
    pinned = (ROOT / "requirements-package.txt").read_text(encoding="utf-8")
    assert re.findall(r"^\S+==.*;.*$", pinned, re.MULTILINE) == []
