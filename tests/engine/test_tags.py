"""Tags reach the AWS provider, or the order fails before anything is applied."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import provider_mirror
from engine_cli import MESSAGE, ONE_RESOURCE, TRACER, Engine

from workflow_result.engine.tags import changed_by

AWS = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
data "aws_region" "this" {}
"""
OFFLINE = """
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}
"""


def cli_config(engine: Engine, mirror: Path) -> dict[str, str]:
    config = engine.home / "terraform.rc"
    config.write_text(
        f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n'
    )
    return {"TF_CLI_CONFIG_FILE": str(config)}


def provider_of_version(engine: Engine, version: str) -> dict[str, str]:
    """Settings for a mirror with an AWS provider of this version that `init` can install, and that
    nothing else could start."""
    asked = subprocess.check_output(["terraform", "version", "-json"])
    mirror = engine.home / "mirror"
    folder = mirror / "registry.terraform.io" / "hashicorp" / "aws" / version
    folder = folder / json.loads(asked)["platform"]
    folder.mkdir(parents=True)
    program = folder / f"terraform-provider-aws_v{version}"
    program.write_text("no program")
    program.chmod(0o755)
    return cli_config(engine, mirror)


def sh_wrapper(engine: Engine, interpreter: str) -> str:
    wrapper = engine.home / "wrapper"
    wrapper.write_text(f'#!{interpreter}\nexec terraform "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.mark.parametrize("version", ["5.61.9", "4.67.0"])
def test_provider_that_takes_no_tags_from_the_environment_is_failed(
    engine: Engine, version: str
) -> None:
    engine.configure(AWS)
    assert engine.run(**provider_of_version(engine, version)).code == 1
    assert engine.reason() == (
        f"The AWS provider {version} takes no tags from the engine: the artifact needs version "
        "5.62 or later."
    )


def test_script_whose_shell_drops_the_tags_is_failed(engine: Engine) -> None:
    drops = subprocess.run(
        ["/bin/sh", "-c", "env"], env={"a-b": "1"}, capture_output=True, check=True
    )
    if b"a-b" in drops.stdout:
        pytest.skip("a shell that drops variables is missing: /bin/sh is not dash")
    engine.configure(AWS)
    outcome = engine.run(
        "--terraform", sh_wrapper(engine, "/bin/sh"), **provider_of_version(engine, "5.100.0")
    )
    assert outcome.code == 1
    assert engine.reason() == (
        "wrapper is a script that does not pass the order's tags on to Terraform: its shell drops "
        "variables with hyphens in their names; have bash run it."
    )
    assert "wrapper plan" not in outcome.lines


def test_script_whose_shell_passes_the_tags_on_is_run(engine: Engine) -> None:
    """It comes to the plan, which that provider cannot make."""
    engine.configure(AWS)
    outcome = engine.run(
        "--terraform",
        sh_wrapper(engine, "/usr/bin/env bash"),
        TF_WORKSPACE="default",
        **provider_of_version(engine, "5.100.0"),
    )
    assert "wrapper plan" in outcome.lines
    assert engine.reason().startswith("wrapper plan failed:\n")


def test_script_is_of_no_concern_where_no_tags_are_needed(engine: Engine) -> None:
    engine.configure('output "a" { value = 1 }')
    assert engine.run("--terraform", sh_wrapper(engine, "/bin/sh")).code == 0


def test_tag_with_a_nul_character_is_failed(engine: Engine) -> None:
    engine.configure('output "a" { value = 1 }')
    assert engine.run(message=MESSAGE | {"tags": [{"key": "a", "value": "x\0y"}]}).code == 1
    assert engine.reason() == 'The tag "a" cannot be passed on: it has a NUL.'


def test_tracer_tag_that_a_module_sets_is_seen_in_the_plan(engine: Engine) -> None:
    module = engine.directory / "module"
    module.mkdir()
    (module / "main.tf").write_text(
        f"""
        locals {{
          name = "{TRACER["Key"]}"
        }}
        resource "aws_s3_bucket" "this" {{
          bucket = "b"
          tags   = {{ (local.name) = "forged" }}
        }}
        """
    )
    engine.configure(AWS + OFFLINE + 'module "m" { source = "./module" }')
    outcome = engine.run(**cli_config(engine, provider_mirror("hashicorp/aws")))
    assert outcome.code == 1
    assert engine.reason() == (
        f"The artifact sets the tag {TRACER['Key']} of module.m.aws_s3_bucket.this itself, by "
        "which Service Catalog would not find the product."
    )
    assert "terraform apply" not in outcome.lines


@pytest.mark.parametrize(
    "where",
    [
        'resource "aws_s3_bucket" "b" {\n  tags = { KEY = "forged" }\n}',
        'provider "aws" {\n  default_tags {\n    tags = { "KEY" = timestamp() }\n  }\n}',
    ],
)
def test_tracer_tag_that_the_artifact_sets_is_failed(engine: Engine, where: str) -> None:
    engine.configure(ONE_RESOURCE + where.replace("KEY", TRACER["Key"]))
    assert engine.run().code == 1
    assert engine.reason() == (
        f"The artifact sets the tag {TRACER['Key']} itself, by which Service Catalog would not "
        "find the product."
    )


def test_tracer_tag_that_a_parameter_sets_is_seen_in_the_plan(engine: Engine) -> None:
    variable = 'variable "tags" {\n  type = map(string)\n}\n'
    resource = 'resource "aws_s3_bucket" "b" {\n  tags = var.tags\n}\n'
    engine.configure(AWS + OFFLINE + variable + resource)
    parameters = [{"key": "tags", "value": json.dumps({TRACER["Key"]: "forged"})}]
    settings = cli_config(engine, provider_mirror("hashicorp/aws"))
    outcome = engine.run(message=MESSAGE | {"parameters": parameters}, **settings)
    assert outcome.code == 1
    assert engine.reason() == (
        f"The order's parameters set the tag {TRACER['Key']} of aws_s3_bucket.b, by which Service "
        "Catalog would not find the product."
    )
    assert "terraform apply" not in outcome.lines


@pytest.mark.parametrize(
    "ignored",
    [
        'keys = ["a", "KEY"]',
        'key_prefixes = ["aws:", "SERVICE_CATALOG_"]',
    ],
)
@pytest.mark.parametrize("form", ["HCL", "JSON"])
def test_tracer_tag_that_the_artifact_has_ignored_is_failed(
    engine: Engine, ignored: str, form: str
) -> None:
    """The provider leaves it out then, and its plan may not tell."""
    ignored = ignored.replace("KEY", TRACER["Key"])
    engine.configure(ONE_RESOURCE)
    if form == "HCL":
        engine.configure(f'{ONE_RESOURCE}provider "aws" {{\n  ignore_tags {{\n{ignored}\n}}\n}}\n')
    else:
        name, _, value = ignored.partition(" = ")
        provider = {"provider": {"aws": {"ignore_tags": {name: json.loads(value)}}}}
        (engine.directory / "aws.tf.json").write_text(json.dumps(provider))
    assert engine.run().code == 1
    assert engine.reason() == (
        f"The artifact has the tag {TRACER['Key']} ignored, by which Service Catalog would not "
        "find the product."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("KEYS", f"a, {TRACER['Key']}"), ("KEY_PREFIXES", "aws:,SERVICE_CATALOG ,,")],
)
def test_tracer_tag_that_the_environment_has_ignored_is_failed(
    engine: Engine, name: str, value: str
) -> None:
    engine.configure(ONE_RESOURCE)
    assert engine.run(**{f"TF_AWS_IGNORE_TAGS_{name}": value}).code == 1
    assert engine.reason() == (
        f"The engine's environment has the tag {TRACER['Key']} ignored, by which Service Catalog "
        "would not find the product."
    )


def change(actions: list[str], tags: Any, unknown: Any = None) -> dict[str, Any]:
    after = {"tags_all": tags} if tags is not None else {}
    return {
        "address": "aws_x.a",
        "change": {"actions": actions, "after": after, "after_unknown": {"tags_all": unknown}},
    }


RIGHT, WRONG = {TRACER["Key"]: "pp-1"}, {TRACER["Key"]: "pp-2"}


@pytest.mark.parametrize(
    ("resource", "is_changed"),
    [
        (change(["create"], RIGHT), False),
        (change(["create"], WRONG), True),
        (change(["create"], {}), True),
        (change(["update"], WRONG), True),
        (change(["delete", "create"], WRONG), True),
        (change(["delete"], WRONG), False),
        (change(["no-op"], WRONG), False),
        (change(["create"], None), False),  # takes no tags
        (change(["create"], {}, {TRACER["Key"]: True}), False),  # not known yet
        (change(["create"], None, True), False),
        ({"address": "a", "change": {"actions": ["delete"], "after": None}}, False),
    ],
)
def test_plan_tells_whether_the_tracer_tag_is_right(
    resource: dict[str, Any], is_changed: bool
) -> None:
    plan = {"resource_changes": [change(["create"], RIGHT), resource]}
    assert changed_by(plan, "pp-1") == (resource["address"] if is_changed else None)
