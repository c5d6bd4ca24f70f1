"""WORKFLOW_RESULT_LOG: what is said to people, as JSON for programs."""

import json
import re
from typing import Any

import pytest
from conftest import UUID_TOKEN, Outcome, Program, Sandbox
from engine_cli import MESSAGE, Engine

JSON = {"WORKFLOW_RESULT_LOG": "json"}
REQUEST = {"WorkflowToken": UUID_TOKEN, "RecordId": "rec-demo", "Status": "SUCCEEDED"}


def told(outcome: Outcome) -> list[dict[str, Any]]:
    """Every line of stderr; each is an object with these members, and no others."""
    lines = [json.loads(line) for line in outcome.lines]
    for line in lines:
        assert {"time", "level", "message"} <= set(line)
        assert set(line) <= {"time", "level", "record", "operation", "event", "message"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in ("info", "warning", "error")
    return lines


def brief(outcome: Outcome) -> list[tuple[str, str | None]]:
    return [(line["level"], line.get("event")) for line in told(outcome)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonsense"], [("error", "usage")] * 4),
        (["validate", "--nonsense"], [("error", "usage")] * 4),
        (["forget", "rec-demo", "--journal", "nowhere"], [("error", "setup")]),
        (["pending", "--journal", "ftp://x"], [("error", "setup")]),
    ],
)
def test_what_is_wrong_with_a_command_is_json(
    program: Program, arguments: list[str], expected: list[tuple[str, str]]
) -> None:
    outcome = program(*arguments, **JSON)
    lines = brief(outcome)
    assert lines
    assert set(lines) <= set(expected)


def test_what_is_wrong_with_a_request_is_json(program: Program) -> None:
    outcome = program("validate", stdin=REQUEST | {"Status": "done"}, **JSON)
    (line,) = told(outcome)
    assert (line["level"], line["event"]) == ("error", "invalid")
    assert line["message"] == "Status: must be SUCCEEDED or FAILED"


def test_warning_is_told_by_its_level(program: Program, sandbox: Sandbox) -> None:
    (program.home / "file").write_text("")
    outcome = program(
        *("notify", "--journal", program.home / "file" / "journal"),
        stdin=REQUEST,
        **JSON,
        **sandbox.environment,
    )
    (line,) = told(outcome)
    assert (line["level"], line["record"], line["operation"]) == (
        "warning",
        "rec-demo",
        "provision",
    )
    assert not line["message"].startswith("warning")


def test_what_is_not_delivered_names_its_record(program: Program) -> None:
    settings = {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    keys = {"AWS_REGION": "x", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    outcome = program("notify", stdin=REQUEST, **JSON, **settings, **keys)
    (line,) = told(outcome)
    assert (line["level"], line["event"], line["record"]) == ("error", "not_delivered", "rec-demo")


def test_traceback_is_json(program: Program) -> None:
    outcome = program("forget", "rec-demo", "--debug", "--journal", "nowhere", **JSON)
    lines = told(outcome)
    traceback = [line for line in lines if line.get("event") == "traceback"]
    assert traceback[0]["message"].startswith("Traceback")
    assert traceback[1]["message"].startswith('  File "')
    assert {line["level"] for line in lines} == {"error"}


def test_run_tells_its_steps_and_what_terraform_says(engine: Engine) -> None:
    engine.configure('output "hello" {\n  value = "world"\n}')
    outcome = engine.run(message=MESSAGE, **JSON)
    lines = told(outcome)
    events = [line["event"] for line in lines if "event" in line]
    assert list(dict.fromkeys(events)) == ["step", "terraform", "report"]
    assert {(line["record"], line["operation"]) for line in lines} == {("rec-demo", "provision")}
    assert all(line["message"] for line in lines)
    assert [line["message"] for line in lines if line.get("event") == "step"] == [
        *("terraform init", "terraform plan", "terraform apply")
    ]


@pytest.mark.parametrize("value", ["", "text"])
def test_text_is_text(program: Program, value: str) -> None:
    outcome = program("validate", stdin=REQUEST | {"Status": "done"}, WORKFLOW_RESULT_LOG=value)
    assert outcome.stderr == "Status: must be SUCCEEDED or FAILED\n"


def test_form_that_is_none_is_text_with_a_warning(program: Program) -> None:
    outcome = program("validate", stdin=REQUEST, WORKFLOW_RESULT_LOG="yaml")
    assert (outcome.code, outcome.stderr) == (
        0,
        "warning: WORKFLOW_RESULT_LOG is yaml: text is meant, or json\n",
    )


def test_resend_tells_metrics_that_cloudwatch_understands(
    program: Program, sandbox: Sandbox
) -> None:
    away = {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    program("notify", stdin=REQUEST, **(sandbox.environment | away))
    outcome = program("resend", **JSON, **sandbox.environment)
    summary, metrics = map(json.loads, outcome.lines)
    assert summary["event"] == "resend"
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "WorkflowResult"
    assert directive["Dimensions"] == [[]]
    told = {metric["Name"]: metrics[metric["Name"]] for metric in directive["Metrics"]}
    assert (told["Reported"], told["Owed"], told["OldestOwed"]) == (1, 0, 0.0)


def test_log_of_a_build_has_metrics_between_its_lines_for_people(
    program: Program, sandbox: Sandbox
) -> None:
    build = {"CODEBUILD_BUILD_ID": "engine:8745a7a9"}
    program("notify", stdin=REQUEST, **sandbox.environment)
    summary, metrics = program("resend", **build, **sandbox.environment).lines
    assert summary == "0 reported, 0 refused, 0 still owed"
    assert json.loads(metrics)["Reported"] == 0


def test_line_about_a_record_that_is_struck_off_names_it(
    program: Program, sandbox: Sandbox
) -> None:
    away = {"AWS_ENDPOINT_URL_SERVICE_CATALOG": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    program("notify", stdin=REQUEST, **(sandbox.environment | away))
    told = json.loads(program("forget", REQUEST["RecordId"], **JSON, **sandbox.environment).stderr)
    assert told["record"] == REQUEST["RecordId"]


def test_text_has_no_metrics(program: Program, sandbox: Sandbox) -> None:
    program("notify", stdin=REQUEST, **sandbox.environment)
    outcome = program("resend", **sandbox.environment)
    assert outcome.stderr == "0 reported, 0 refused, 0 still owed\n"
