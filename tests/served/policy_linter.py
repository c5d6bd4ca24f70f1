"""A linter for IAM policies: `parliament`, which knows AWS's service authorization reference."""

import json
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of its own source
    import parliament


def findings(policy: dict[str, Any]) -> list[str]:
    """What is wrong: actions that do not exist, or do not go with their resources or conditions.

    That an action is allowed on everything is not among it.
    """
    analysed = parliament.analyze_policy_string(json.dumps(policy))
    return [str(finding) for finding in analysed.findings if finding.issue != "RESOURCE_STAR"]


def allowed(policy: dict[str, Any]) -> set[tuple[str, str]]:
    """Each action that a policy allows, and on what."""
    return {
        (action, resource)
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
