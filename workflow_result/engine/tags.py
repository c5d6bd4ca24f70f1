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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from workflow_result.engine.message import TRACER_TAG
from workflow_result.engine.program import Failed, Program
from workflow_result.problem import Style, say

VARIABLE = "TF_AWS_DEFAULT_TAGS_"
"""The AWS provider takes what comes after it in a variable's name as the key of a tag."""

FIRST_PROVIDER = (5, 62)
"""Version of the AWS provider from which on it reads these variables."""

_NOT_FOUND = ", by which Service Catalog would not find the product"

_IGNORED = "TF_AWS_IGNORE_TAGS_"
"""So begin the variables from which it takes KEYS and KEY_PREFIXES of tags to be ignored."""

_IGNORED_BY = ("keys", "key_prefixes")

_DROPPED = "dropped on the way"

_OF_THE_RUN = {"TF_DATA_DIR", "TF_WORKSPACE", "TF_CLI_ARGS", "TF_CLI_ARGS_plan"}


def environment(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables for these tags. Raises `Failed` where there are none."""
    for key, value in tags.items():
        if "=" in key:
            raise Failed(f"The tag {json.dumps(key)} cannot be passed on: its key has a =")
        if "\0" in key + value:
            raise Failed(f"The tag {json.dumps(key)} cannot be passed on: it has a NUL")
    return {VARIABLE + key: value for key, value in tags.items()}


def check_arrival(program: Program) -> None:
    """Raise `Failed` where the AWS provider that `init` has installed would not get the tags."""
    version = _aws_provider(program.directory)
    if version is None:
        return
    if version < FIRST_PROVIDER:
        found, wanted = (".".join(map(str, numbers)) for numbers in (version, FIRST_PROVIDER))
        raise Failed(
            f"The AWS provider {found} takes no tags from the engine: the artifact needs version "
            f"{wanted} or later"
        )
    if drops_tags(program):
        raise Failed(
            f"{program.name} is a script that does not pass the order's tags on to Terraform: its "
            "shell drops variables with hyphens in their names; have bash run it"
        )


def drops_tags(program: Program) -> bool:
    """Whether `program` is a script that does not pass tags on to Terraform."""
    return _is_script(program) and _drops_variables(program)


def check_declared(keys: Collection[str], order: Collection[str]) -> None:
    """Raise `Failed` where the artifact sets the tracer tag among these `keys` of tags.

    Warns of those of the `order`: they keep the artifact's values.
    """
    if TRACER_TAG in keys:
        raise Failed(f"The artifact sets the tag {TRACER_TAG} itself{_NOT_FOUND}")
    if kept := sorted(set(keys) & set(order)):
        names = ", ".join(kept)
        say(f"warning: the artifact sets tags of the order itself: {names}", Style.YELLOW)


def check_plan(program: Program, plan: str, value: str, definitions: str) -> None:
    """Raise `Failed` where something that the file `plan` creates or updates would not get the
    tracer tag with this `value`.

    Terraform itself has to show the plan, which takes seconds, since each provider is started. It
    is asked only where the `definitions` of variables mention the tag, or a module of the
    configuration does, or mentions tags to be ignored.
    """
    if not (TRACER_TAG in definitions or _may_be_changed(program)):
        return
    try:
        _, shown = program.ask("show", "-json", plan)
        address = changed_by(json.loads(shown), value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Failed("The plan could not be searched for the tracer tag") from None
    if address:
        tag = f"the tag {TRACER_TAG} of {address}"
        if TRACER_TAG in definitions:
            raise Failed(f"The order's parameters set {tag}{_NOT_FOUND}")
        raise Failed(f"The artifact sets {tag} itself{_NOT_FOUND}")


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


def check_ignored(ignored: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> None:
    """Raise `Failed` where the AWS provider is to ignore the tracer tag.

    `ignored` has the "keys" and "key_prefixes" that the artifact has it ignore; the environment may
    have others (https://registry.terraform.io/providers/hashicorp/aws/latest/docs#ignore_tags).
    """
    given = {
        name: [text.strip() for text in environment.get(_IGNORED + name.upper(), "").split(",")]
        for name in _IGNORED_BY
    }
    for who, names in (("artifact", ignored), ("engine's environment", given)):
        prefixes = [prefix for prefix in names.get("key_prefixes", ()) if prefix]
        if TRACER_TAG in names.get("keys", ()) or TRACER_TAG.startswith(tuple(prefixes)):
            raise Failed(f"The {who} has the tag {TRACER_TAG} ignored{_NOT_FOUND}")


def _aws_provider(directory: Path) -> tuple[int, ...] | None:
    """The version of the AWS provider in the lock file of `directory`, None without one."""
    with suppress(OSError):
        text = (directory / ".terraform.lock.hcl").read_text("utf-8", "replace")
        locked = re.search(r'provider "[^"]*/hashicorp/aws" \{\s*version\s*=\s*"([\d.]+)', text)
        if locked:
            return tuple(int(number) for number in locked[1].split(".") if number)
    return None


def _is_script(program: Program) -> bool:
    path = shutil.which(program.path, path=program.environment.get("PATH"))
    with suppress(OSError), open(path or program.path, "rb") as file:
        return file.read(2) == b"#!"
    return False


def _drops_variables(program: Program) -> bool:
    """Whether variables like those of the tags are lost on their way to Terraform.

    dash, Debian's /bin/sh, drops every one whose name is no shell identifier, as the tracer tag's
    is not. A plan of a configuration of its own shows it.
    """
    environment = {name: v for name, v in program.environment.items() if name not in _OF_THE_RUN}
    with tempfile.TemporaryDirectory() as folder:
        variable = f'variable "pro-be" {{ default = "{_DROPPED}" }}'
        Path(folder, "probe.tf").write_text(variable + '\noutput "probe" { value = var.pro-be }\n')
        code, said = program.ask(
            "plan",
            "-input=false",
            "-no-color",
            directory=Path(folder),
            environment={"TF_VAR_pro-be": "arrived", **environment},
        )
    return code == 0 and _DROPPED.encode() in said


def _may_be_changed(program: Program) -> bool:
    data = program.directory / program.environment.get("TF_DATA_DIR", ".terraform")
    modules = [{"Dir": "."}]
    with suppress(OSError, ValueError, TypeError, KeyError):
        modules += json.loads((data / "modules" / "modules.json").read_bytes())["Modules"]
    for module in modules:
        for file in _files(program.directory / str(module.get("Dir"))):
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
