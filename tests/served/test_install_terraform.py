"""The script with which a build gets its Terraform: never one with another checksum."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment

SCRIPT = ROOT / "terraform" / "engine" / "install-terraform.sh"
VERSION = "9.9.9"
NAME = f"terraform_{VERSION}_linux_amd64.zip"


def stand_in(version: str) -> str:
    """A Terraform that says more than fits into a pipe, where nobody reads it to the end."""
    return f"#!/bin/sh\necho 'Terraform v{version}'\nexec seq 100000\n"


@dataclass
class Build:
    """A build's folder, its PATH, and where its Terraform comes from."""

    home: Path
    checksum: str

    @property
    def folder(self) -> Path:
        return self.home / "src"

    def run(self, checksum: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the script as the buildspec does; then say which Terraform is found."""
        programs = [self.folder / "tools", self.home / "image", "/usr/bin", "/bin"]
        return subprocess.run(
            ["bash", "-c", f"bash {SCRIPT} && terraform version"],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=clean_environment(
                self.home,
                PATH=":".join(map(str, programs)),
                TERRAFORM_VERSION=VERSION,
                TERRAFORM_SHA256=checksum or self.checksum,
                TERRAFORM_URL=f"file://{self.home}/mirror",
            ),
        )

    def install_in_image(self, version: str) -> None:
        terraform = self.home / "image" / "terraform"
        terraform.write_text(stand_in(version))
        terraform.chmod(0o755)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    for name in ("src", "image", f"mirror/{VERSION}"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "image" / "python").symlink_to(sys.executable)
    archive = tmp_path / "mirror" / VERSION / NAME
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("LICENSE.txt", "")
        zipped.writestr("terraform", stand_in(VERSION))
    return Build(tmp_path, hashlib.sha256(archive.read_bytes()).hexdigest())


def test_terraform_is_downloaded_where_there_is_none(build: Build) -> None:
    done = build.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Terraform v{VERSION}\n")


def test_terraform_of_another_version_in_the_image_is_passed_over(build: Build) -> None:
    build.install_in_image("1.0.0")
    assert build.run().stdout.startswith(f"Terraform v{VERSION}\n")


def test_nothing_is_downloaded_where_the_image_has_that_version(build: Build) -> None:
    build.install_in_image(VERSION)
    (build.home / "mirror" / VERSION / NAME).unlink()
    done = build.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert not (build.folder / "tools").exists()


def test_what_an_earlier_build_has_downloaded_is_used_if_it_is_the_same(build: Build) -> None:
    build.run()
    shutil.rmtree(build.folder / "tools")  # no more than the download is kept
    mirrored = build.home / "mirror" / VERSION / NAME
    mirrored.rename(build.home / "away.zip")
    assert build.run().returncode == 0

    shutil.rmtree(build.folder / "tools")
    (build.folder / "downloads" / NAME).write_bytes(b"something else")
    assert build.run().returncode != 0
    (build.home / "away.zip").rename(mirrored)
    assert build.run().returncode == 0


def test_the_program_itself_is_not_kept_for_the_next_build() -> None:
    """What is started without being looked at must not come from an earlier build."""
    text = (SCRIPT.parent / "build.tf").read_text(encoding="utf-8")
    assert 'cached = ["downloads", "providers"]' in text


def test_a_terraform_with_another_checksum_is_not_even_unpacked(build: Build) -> None:
    done = build.run(checksum=64 * "0")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"file://{build.home}/mirror has another Terraform {VERSION}: its SHA-256 is not {64 * '0'}"
    ]
    assert list(build.folder.rglob("*terraform*")) == []


def test_a_mirror_that_has_none_is_named(build: Build) -> None:
    (build.home / "mirror" / VERSION / NAME).unlink()
    done = build.run()
    assert done.returncode != 0
    assert f"{VERSION}/{NAME}" in done.stderr


def test_a_mirror_that_falls_silent_is_not_waited_for_without_end(build: Build) -> None:
    """An order would wait with it, for as long as a build may last."""
    curl = build.home / "image" / "curl"
    curl.write_text('#!/bin/bash\necho "$@" >&2\nexit 28\n')
    curl.chmod(0o755)
    done = build.run()
    assert done.returncode == 28
    for option in ("--connect-timeout 20", "--speed-limit 1000 --speed-time 60"):
        assert option in done.stderr
