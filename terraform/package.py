"""`make package`: this program in a zip file, for Lambda and CodeBuild, as terraform/engine has it.

At the file's top are main.py, the package with its schemas inside, as the wheel has it, what it
depends on, in the pinned versions, and the script with which a build gets its Terraform. The same
checkout gives the same bytes each time.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOP = ("main.py", "terraform/engine/install-terraform.sh")
REQUIREMENTS = ROOT / "requirements-package.txt"
SERVICES = {"codebuild", "dynamodb", "s3", "servicecatalog", "sqs", "stepfunctions", "sts"}
"""The services of AWS's that the program calls. botocore has models of 400 more: 15 of 20 MB."""

SIGN_IN = {"signin", "sso", "sso-oidc"}
"""What botocore may ask for credentials."""

WITHOUT = ("__pycache__", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "examples-1.json")
"""Names that are left out: what differs from one installation to the next, and documentation."""

GLIBCS = (17, 26, 28, 31, 34)
"""The glibc versions, 2.x, whose wheels run on Amazon Linux 2023, which has 2.34: it is what Lambda
and CodeBuild's standard image have (https://peps.python.org/pep-0600/)."""

EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip file has no earlier time


def main() -> None:
    """Make the file that the command line names, for the Python that it names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--python", default="3.13", help="version of the target's Python")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="package-") as name:
        folder = Path(name)
        try:
            install(folder, arguments.python)
        except subprocess.CalledProcessError:
            sys.exit(f"there is no package for Python {arguments.python}: pip says why above")
        for unused in unused_files(folder):
            shutil.rmtree(unused) if unused.is_dir() else unused.unlink()
        add_program(folder)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write(folder, arguments.output)


def install(folder: Path, python: str) -> None:
    """Have pip put the pinned dependencies into `folder`, as for Linux on x86_64.

    Raises `subprocess.CalledProcessError`, after pip has said on stderr what is wrong.
    """
    platforms = [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in reversed(GLIBCS)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile"),
            *(f"--target={folder}", f"--python-version={python}", "--implementation=cp"),
            *platforms,
            "--platform=manylinux2014_x86_64",
            f"--requirement={REQUIREMENTS}",
        ],
        check=True,
    )


def unused_files(folder: Path) -> Iterator[Path]:
    """Yield the files and folders of an installation that the engine has no use for."""
    yield folder / "bin"  # scripts with the path of the Python that has installed them
    for name in WITHOUT:
        yield from folder.rglob(name)
    for service in (folder / "botocore" / "data").iterdir():
        if service.is_dir() and service.name not in SERVICES | SIGN_IN:
            yield service


def add_program(folder: Path) -> None:
    """Copy the program beside its dependencies, the package as the wheel has it."""
    ignored = shutil.ignore_patterns(*WITHOUT)
    for name in TOP:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "workflow_result", folder / "workflow_result", ignore=ignored)
    shutil.copytree(ROOT / "schemas", folder / "workflow_result" / "schemas")


def write(folder: Path, output: Path) -> None:
    """Write a zip file of all files in `folder`: in one order, with one time and one mode.

    Nothing in it is started but through Python or bash, so that no mode has to say so.
    """
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    with zipfile.ZipFile(output, "w") as package:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, whose mode this is
            info.external_attr = 0o644 << 16
            package.writestr(info, files[name].read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main()
