"""The module `engine`, applied by the real provider against a ministack server of its own."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import CREDENTIALS, Outcome
from ministack_server import Ministack
from terraform_cli import MODULES, Terraform, mirror_settings

DRIFT = {
    "aws_cloudwatch_metric_alarm": {
        "actions_enabled",
        "alarm_actions",
        "alarm_description",
        "dimensions",
        "ok_actions",
        "period",
        "statistic",
        "treat_missing_data",
    },
    "aws_codebuild_project": {
        "cache",
        "concurrent_build_limit",
        "logs_config",
        "queued_timeout",
        "vpc_config",
    },
}
"""What ministack forgets of a resource, so that each plan has it again."""


class InstalledEngine(Terraform):
    """Terraform in a copy of the modules, in the folder of the module `engine`."""

    def __init__(
        self,
        home: Path,
        ministack: Ministack,
        package: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` say where providers come from, else they are those of the tests."""
        self.ministack = ministack
        if settings is None:
            settings = mirror_settings(home, "hashicorp/aws")
        ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
        shutil.copytree(MODULES, home / "terraform", ignore=ignored)
        super().__init__(
            home / "terraform" / "engine",
            AWS_ENDPOINT_URL=ministack.url,
            TF_VAR_package=str(package),
            **CREDENTIALS,
            **settings,
        )
        self.init()

    def install(self, *arguments: str, **variables: Any) -> None:
        """Apply the module with these variables; those given before stay."""
        self.environment |= {
            f"TF_VAR_{name}": value if isinstance(value, str) else json.dumps(value)
            for name, value in variables.items()
        }
        applied = self.apply(*arguments)
        assert applied.code == 0, applied.stderr

    def resources(self) -> list[dict[str, Any]]:
        """All resources of the state, those of the journal, too: `address`, `type`, `values`."""
        module = json.loads(self("show", "-json").stdout)["values"]["root_module"]
        inner = [r for child in module["child_modules"] for r in child["resources"]]
        return [r for r in module["resources"] + inner if r["mode"] == "managed"]

    def changes(self) -> dict[str, set[str]]:
        """What a plan has to change: the addresses of resources, and their attributes."""
        planned = self("plan", "-out=again.plan")
        assert planned.code == 0, planned.stderr
        plan = json.loads(self("show", "-json", "again.plan").stdout)
        changes = {}
        for resource in plan["resource_changes"]:
            change = resource["change"]
            if change["actions"] not in (["no-op"], ["read"]):
                before, after = change["before"] or {}, change["after"] or {}
                changes[resource["address"]] = {
                    name
                    for name in before | after
                    if before.get(name) != after.get(name) and not change["after_unknown"].get(name)
                }
        return changes

    def destroy(self, *arguments: str) -> Outcome:
        return self("destroy", "-auto-approve", "-no-color", *arguments)

    def forget_project(self) -> None:
        """Take the project out of the state: ministack deletes one by its name alone, and the
        provider names its ARN.
        """
        self.ministack.client("codebuild").delete_project(name=self.output("build_project"))
        assert self("state", "rm", "aws_codebuild_project.this").code == 0
