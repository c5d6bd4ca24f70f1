"""What the program asks of AWS, held against the roles that the module `engine` gives it."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from conftest import CREDENTIALS, sandboxes
from ministack_server import ministack_server
from policy_linter import allowed
from running_engine import RunningEngine, running_engine
from served_cli import ACCOUNT, HELLO, order, packed
from watched_calls import Call, watched

pytestmark = pytest.mark.timeout(600)  # installing takes a minute or two

RECORDS = ("rec-made", "rec-changed", "rec-ended", "rec-wrong", "rec-stopped")


@pytest.fixture(scope="module")
def calls(
    package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, set[Call]]]:
    """What builds and functions ask of AWS for orders of each kind, by role."""
    home = tmp_path_factory.mktemp("engine")
    with (
        ministack_server(home) as ministack,
        sandboxes(home) as start,
        ExitStack() as stack,
    ):
        sandbox = start(*[f"--record={record}" for record in RECORDS])
        with running_engine(home, ministack, sandbox, package) as engine:
            ways = {}
            for role in ("build", "start", "finish"):
                # A build has the launch role's credentials, too; a function has its own alone.
                key = CREDENTIALS["AWS_ACCESS_KEY_ID"] if role == "build" else None
                upstreams = {"": ministack.url, "_CODEBUILD": engine.codebuild.url}
                upstreams["_SERVICE_CATALOG"] = sandbox.url
                ways[role] = {
                    f"AWS_ENDPOINT_URL{name}": stack.enter_context(watched(url, key))
                    for name, url in upstreams.items()
                }
                settings = {name: way.url for name, way in ways[role].items()}
                if role == "build":
                    engine.elsewhere |= settings
                else:
                    configure(engine, f"workflow-result-{role}", settings)
            carry_out_orders(engine)
            yield {
                role: set().union(*(way.calls for way in its.values()))
                for role, its in ways.items()
            } | {"policies": policies(engine)}


def configure(engine: RunningEngine, function: str, settings: dict[str, str]) -> None:
    before = engine.functions.get_function_configuration(FunctionName=function)
    variables = before["Environment"]["Variables"] | settings
    engine.functions.update_function_configuration(
        FunctionName=function, Environment={"Variables": variables}
    )


def policies(engine: RunningEngine) -> set[Call]:
    """What each role is allowed, as calls with the role in front of the action."""
    return {
        (f"{resource['index']} {action}", on)
        for resource in engine.module.resources()
        if resource["type"] == "aws_iam_role_policy"
        for action, on in allowed(json.loads(resource["values"]["policy"]))
    }


def carry_out_orders(engine: RunningEngine) -> None:
    """A product is made, changed and ended; a message is wrong; a machine vanishes."""
    engine.s3.put_object(Bucket="artifacts", Key="hello", Body=packed(main_tf=HELLO))
    engine.order(order(record="rec-made", artifact="s3://artifacts/hello", product="pp-1"))
    engine.until_ended("rec-made")
    kinds = {
        "rec-changed": "UPDATE_PROVISIONED_PRODUCT",
        "rec-ended": "TERMINATE_PROVISIONED_PRODUCT",
    }
    for record, kind in kinds.items():
        engine.order(order(kind, record, "s3://artifacts/hello", "pp-1"))
        engine.until_ended(record)
    wrong = order(record="rec-wrong", artifact="s3://artifacts/hello", product="pp-2")
    engine.order(wrong | {"parameters": "none"})
    engine.until_ended("rec-wrong")
    slow = (
        'resource "terraform_data" "a" {\n  provisioner "local-exec" { command = "sleep 600" }\n}\n'
    )
    engine.s3.put_object(Bucket="artifacts", Key="slow", Body=packed(main_tf=slow))
    engine.order(order(record="rec-stopped", artifact="s3://artifacts/slow", product="pp-3"))
    deadline = time.monotonic() + 90
    while not engine.holds_lock(f"{ACCOUNT}/pp-3") and time.monotonic() < deadline:
        time.sleep(0.1)
    engine.kill_machine("rec-stopped")
    engine.until_ended("rec-stopped")
    engine.finish({})


@pytest.mark.parametrize("role", ["build", "start", "finish"])
def test_role_allows_what_is_asked(calls: dict[str, set[Call]], role: str) -> None:
    prefix = f"{role} "
    mine = {(a.removeprefix(prefix), on) for a, on in calls["policies"] if a.startswith(prefix)}
    refused = {
        (action, on)
        for action, on in calls[role]
        if not any(action == given and fnmatchcase(on, pattern) for given, pattern in mine)
    }
    assert refused <= {("sts:GetCallerIdentity", "*")}, "which everybody may ask"


def test_the_calls_are_seen(calls: dict[str, set[Call]]) -> None:
    """Otherwise nothing is held against the roles."""
    assert {action for action, _ in calls["build"]} >= {
        "dynamodb:UpdateItem",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:PutObject",
        "servicecatalog:NotifyProvisionProductEngineWorkflowResult",
        "servicecatalog:NotifyTerminateProvisionedProductEngineWorkflowResult",
        "sts:AssumeRole",
    }
    assert {action for action, _ in calls["start"]} >= {
        "codebuild:StartBuild",
        "dynamodb:Query",
        "servicecatalog:NotifyProvisionProductEngineWorkflowResult",
    }
    assert {action for action, _ in calls["finish"]} >= {"dynamodb:Query", "dynamodb:UpdateItem"}
