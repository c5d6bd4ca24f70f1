"""The order's tags on their way to the AWS provider, and what keeps them from arriving.

The provider, 5.62 and later, takes default tags from the environment
(https://registry.terraform.io/providers/hashicorp/aws/latest/docs#default_tags). They lose to the
configuration's own, and those to a resource's.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workflow_result.engine.message import TRACER_TAG

VARIABLE = "TF_AWS_DEFAULT_TAGS_"
"""The AWS provider takes what comes after it in a variable's name as the key of a tag."""

FIRST_PROVIDER = (5, 62)
"""Version of the AWS provider from which on it reads these variables."""

DROPPED = "dropped on the way"

_OF_THE_RUN = {"TF_DATA_DIR", "TF_WORKSPACE", "TF_CLI_ARGS", "TF_CLI_ARGS_plan"}


def environment(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables for these tags. Raises ValueError where there is none."""
    for key, value in tags.items():
        if "=" in key:
            raise ValueError(f"The tag {json.dumps(key)} cannot be passed on: its key has a =")
        if "\0" in key + value:
            raise ValueError(f"The tag {json.dumps(key)} cannot be passed on: it has a NUL")
    return {VARIABLE + key: value for key, value in tags.items()}


def aws_provider(directory: Path) -> tuple[int, ...] | None:
    """Return the version of the AWS provider in the lock file of `directory`, None without one."""
    with suppress(OSError):
        text = (directory / ".terraform.lock.hcl").read_text("utf-8", "replace")
        locked = re.search(r'provider "[^"]*/hashicorp/aws" \{\s*version\s*=\s*"([\d.]+)', text)
        if locked:
            return tuple(int(number) for number in locked[1].split(".") if number)
    return None


def is_script(program: str, path: str | None) -> bool:
    """Whether `program`, looked for in the folders of `path`, may drop variables on their way.

    dash, Debian's /bin/sh, drops every one whose name is no shell identifier, as the tracer tag's
    is not.
    """
    with suppress(OSError), open(shutil.which(program, path=path) or program, "rb") as file:
        return file.read(2) == b"#!"
    return False


@contextmanager
def probe(environment: Mapping[str, str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the folder of a configuration whose plan shows `DROPPED` where a variable like those of
    the tags does not arrive, and the environment to plan it in."""
    with tempfile.TemporaryDirectory() as folder:
        variable = f'variable "pro-be" {{ default = "{DROPPED}" }}'
        Path(folder, "probe.tf").write_text(variable + '\noutput "probe" { value = var.pro-be }\n')
        kept = {name: v for name, v in environment.items() if name not in _OF_THE_RUN}
        yield Path(folder), {"TF_VAR_pro-be": "arrived", **kept}


def may_be_changed(directory: Path, environment: Mapping[str, str]) -> bool:
    """Whether a module of the configuration in `directory`, initialised, mentions the tracer tag or
    tags that the provider is to ignore."""
    data = directory / environment.get("TF_DATA_DIR", ".terraform")
    modules = [{"Dir": "."}]
    with suppress(OSError, ValueError, TypeError, KeyError):
        modules += json.loads((data / "modules" / "modules.json").read_bytes())["Modules"]
    for module in modules:
        for file in _files(directory / str(module.get("Dir"))):
            with suppress(OSError):
                text = file.read_bytes()
                if TRACER_TAG.encode() in text or b"ignore_tags" in text:
                    return True
    return False


def _files(folder: Path) -> Iterator[Path]:
    endings = (".tf", ".tf.json", ".tofu", ".tofu.json", ".tfvars", ".tfvars.json")
    with suppress(OSError):
        for file in os.scandir(folder):
            if file.name.endswith(endings) and file.is_file():
                yield Path(file.path)


def changed_by(plan: Any, value: str) -> str | None:
    """Return the address of a resource that would get another tracer tag than `value`, or none.

    `plan` is what `terraform show -json` prints; None where all that it creates or updates is
    right. What is not known before apply counts as right.
    """
    for resource in plan.get("resource_changes", []):
        change = resource["change"]
        tags = (change.get("after") or {}).get("tags_all")
        unknown = (change.get("after_unknown") or {}).get("tags_all")
        if (
            {"create", "update"} & set(change["actions"])
            and isinstance(tags, dict)
            and not (isinstance(unknown, dict) and unknown.get(TRACER_TAG))
            and tags.get(TRACER_TAG) != value
        ):
            return str(resource["address"])
    return None
