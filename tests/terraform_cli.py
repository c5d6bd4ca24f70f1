"""The real Terraform, run in a folder of its own by the tests of `terraform/`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import MAIN, ROOT, Outcome, clean_environment, provider_mirror

MODULES = ROOT / "terraform"
PROGRAM = json.dumps([sys.executable, str(MAIN)])
NOWHERE = {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
"""Settings with which no report can succeed: a run that succeeds all the same made none."""


class Terraform:
    """Runs terraform in `folder`, with nothing of the person's who runs the tests."""

    def __init__(self, folder: Path, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.environment = (
            clean_environment(folder.parent, CHECKPOINT_DISABLE="1", TF_IN_AUTOMATION="1")
            | environment
        )

    def __call__(self, *arguments: str, **environment: str) -> Outcome:
        done = subprocess.run(
            ["terraform", *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment | environment,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def apply(self, *arguments: str, **environment: str) -> Outcome:
        return self("apply", "-auto-approve", "-no-color", *arguments, **environment)

    def output(self, name: str) -> Any:
        return json.loads(self("output", "-json", name).stdout)

    def write(self, configuration: str) -> None:
        (self.folder / "main.tf").write_text(configuration)

    def init(self) -> None:
        """Install what the configuration needs. Nothing is downloaded."""
        done = self("init", "-input=false", "-no-color")
        assert done.code == 0, done.stderr


class TerraformWithExternal(Terraform):
    """The same, with the provider hashicorp/external: the real one, or the stand-in."""

    def __init__(self, folder: Path, kind: str, **environment: str) -> None:
        super().__init__(folder, **environment)
        self._kind = kind
        mirror = real_provider_mirror() if kind == "real" else stand_in_folder(folder.parent)
        settings = (
            f'filesystem_mirror {{ path = "{mirror}" }}'
            if kind == "real"
            else f'dev_overrides {{ "hashicorp/external" = "{mirror}" }}'
        )
        cli_config = folder.parent / "terraform.rc"
        cli_config.write_text(f"provider_installation {{\n  {settings}\n}}\n")
        self.environment |= {"TF_CLI_CONFIG_FILE": str(cli_config)}

    def init(self) -> None:
        if self._kind == "real":
            super().init()
        else:  # `init` would look for the provider that is overridden; `get` takes modules alone
            assert self("get").code == 0


def mirror_settings(home: Path, *providers: str) -> dict[str, str]:
    """Environment variables with which `init` installs these providers from the mirror.

    The test is skipped where they are not in it.
    """
    mirror = provider_mirror(*providers)
    cli_config = home / "terraform.rc"
    cli_config.write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n'
    )
    return {"TF_CLI_CONFIG_FILE": str(cli_config)}


def person_settings() -> dict[str, str]:
    """Environment variables with which `init` installs providers as for whoever runs this."""
    named = os.environ.get("TF_CLI_CONFIG_FILE") or Path.home() / ".terraformrc"
    return {"TF_CLI_CONFIG_FILE": str(named)} if Path(named).exists() else {}


def real_provider_mirror() -> Path:
    """Where hashicorp/external lies on this machine; skips the test where it does not."""
    mirror = os.environ.get("TEST_PROVIDER_MIRROR")
    if not mirror or not list(Path(mirror).glob("*/hashicorp/external")):
        pytest.skip("the provider hashicorp/external is missing in TEST_PROVIDER_MIRROR")
    return Path(mirror)


def stand_in_mirror(parent: Path) -> Path:
    """A filesystem mirror with the stand-in in it, from which `init` installs it."""
    version = json.loads(subprocess.check_output(["terraform", "version", "-json"]))
    mirror = parent / "mirror"
    provider = mirror / "registry.terraform.io" / "hashicorp" / "external" / "2.0.0"
    provider.mkdir(parents=True)
    stand_in_folder(parent).rename(provider / version["platform"])
    return mirror


def stand_in_folder(parent: Path) -> Path:
    """A folder with the stand-in, under the name that Terraform looks for."""
    folder = parent / "stand-in"
    folder.mkdir()
    script = Path(__file__).with_name("external_provider.py")
    executable = folder / "terraform-provider-external"
    executable.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}' \"$@\"\n")
    executable.chmod(0o755)
    return folder


def words(text: str) -> str:
    """The text on one line: Terraform breaks lines wherever it likes."""
    return " ".join(text.split())
