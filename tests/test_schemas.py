"""The committed schemas, held against botocore and against the API reference."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from workflow_result import schemas
from workflow_result.problem import Problem
from workflow_result.request import Draft, check_partial

OPERATIONS = list(schemas.API_OPERATIONS)

# Written down by hand from AWS's API reference of the three operations, not from botocore:
# member, type, minimum and maximum length, pattern as it is printed there.
COMMON = {
    "FailureReason": ("string", 1, 2048, r"[\u0009\u000a\u000d\u0020-\uD7FF\uE000-\uFFFD]*"),
    "IdempotencyToken": ("string", 1, 128, r"[a-zA-Z0-9][a-zA-Z0-9_-]*"),
    "RecordId": ("string", 1, 100, r"^[a-zA-Z0-9_\-]*"),
    "Status": ("string", None, None, None),
    # The printed pattern has no hyphen, the tokens that Service Catalog sends do.
    "WorkflowToken": ("string", 1, 20000, r"[0-9A-Za-z+\/\-=]+"),
}
OUTPUTS = {"Outputs": ("array", None, None, None)}
MEMBERS = {
    "provision": COMMON | OUTPUTS | {"ResourceIdentifier": ("object", None, None, None)},
    "update": COMMON | OUTPUTS,
    "terminate": COMMON,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_committed_schema_is_what_the_installed_botocore_gives(operation: str) -> None:
    assert schemas.load(operation) == schemas.build(operation), "run `make schemas`"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_committed_file_is_written_the_way_make_schemas_writes_it(operation: str) -> None:
    text = json.dumps(schemas.build(operation), indent=2, ensure_ascii=False) + "\n"
    assert schemas.schema_file(operation).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("operation", OPERATIONS)
def test_schema_is_a_valid_draft_2020_12_schema(operation: str) -> None:
    schema = schemas.load(operation)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    # Not the patterns: jsonschema would read them as Python's `re`, which has no \\p{L}.
    Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=[]))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_schema_states_where_it_comes_from(operation: str) -> None:
    schema = schemas.load(operation)
    assert schemas.API_OPERATIONS[operation] in schema["title"]
    assert "botocore" in schema["$comment"]
    assert "docs.aws.amazon.com" in schema["description"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_schema_has_the_figures_of_the_api_reference(operation: str) -> None:
    def figures(schema: dict[str, Any]) -> tuple[Any, ...]:
        pattern = schema.get("pattern")
        return schema["type"], schema.get("minLength"), schema.get("maxLength"), pattern

    def anchored(pattern: str | None) -> str | None:
        return pattern and "^" + pattern.removeprefix("^") + "$"

    expected = {name: (*rest, anchored(p)) for name, (*rest, p) in MEMBERS[operation].items()}
    schema = schemas.load(operation)
    assert {name: figures(rule) for name, rule in schema["properties"].items()} == expected
    assert schema["properties"]["Status"]["enum"] == ["SUCCEEDED", "FAILED"]
    assert set(schema["required"]) == {"IdempotencyToken", "RecordId", "Status", "WorkflowToken"}
    assert schema["additionalProperties"] is False


def test_nested_members_are_those_of_the_api_reference() -> None:
    properties = schemas.load("provision")["properties"]
    output = properties["Outputs"]["items"]
    tag = properties["ResourceIdentifier"]["properties"]["UniqueTag"]
    assert set(output["properties"]) == {"Description", "OutputKey", "OutputValue"}
    assert set(properties["ResourceIdentifier"]["properties"]) == {"UniqueTag"}
    assert set(tag["properties"]) == {"Key", "Value"}


def test_corrections_still_correct_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction that botocore has made itself is to be removed here."""
    corrected = schemas.build("provision")
    monkeypatch.setattr(schemas, "CORRECTIONS", {})
    assert schemas.build("provision") != corrected


PATTERN_CASES = [
    ("RecordId", "rec-1", True),
    ("RecordId", "rec-1\n", False),
    ("RecordId", "!rec-1", False),
    ("RecordId", "rec-é", False),
    ("WorkflowToken", "965d4597-3088-41ae-87dc-3498daf1d69d", True),
    ("WorkflowToken", "ab+/=", True),
    ("WorkflowToken", "ab_cd", False),
    ("WorkflowToken", "ab cd", False),
    ("WorkflowToken", "abcd\n", False),
    ("IdempotencyToken", "a-_9", True),
    ("IdempotencyToken", "-a", False),
    ("IdempotencyToken", "_a", False),
    ("IdempotencyToken", "a\n", False),
    ("FailureReason", "tab\tline\nreturn\r\ud7ff\ue000\ufffd", True),
    ("FailureReason", "bell\a", False),
    ("FailureReason", "\ufffe", False),
    ("FailureReason", "\U0001f600", False),
]
TAG_CASES = [
    ("SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE", True),
    ("Ünïcode 123 ٣ 中文 _.:/=+-@", True),
    ("\U0001d538", True),  # a letter beyond U+FFFF
    ("no!", False),
    ("no\n", False),
    ("😀", False),
]


def _accepts(members: dict[str, Any]) -> bool:
    try:
        check_partial(Draft(members), "provision")
    except Problem:
        return False
    return True


@pytest.mark.parametrize(("member", "value", "good"), PATTERN_CASES)
def test_pattern_is_ecma_262_over_the_whole_value(member: str, value: str, good: bool) -> None:
    assert _accepts({member: value}) is good


@pytest.mark.parametrize("part", ["Key", "Value"])
@pytest.mark.parametrize(("value", "good"), TAG_CASES)
def test_tag_pattern_knows_unicode_classes(part: str, value: str, good: bool) -> None:
    assert _accepts({"ResourceIdentifier": {"UniqueTag": {part: value}}}) is good
