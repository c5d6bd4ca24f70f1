"""A FailureReason made of what Terraform says of its errors."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_result import schemas
from workflow_result.engine.diagnostics import TerraformError, failure_reason
from workflow_result.failure_reason import MAX_LENGTH, clean
from workflow_result.request import Draft, check_partial

ONE = TerraformError(
    "creating S3 Bucket (b): BucketAlreadyExists",
    "The requested bucket name is not available.",
    "aws_s3_bucket.b",
    "main.tf line 3",
)


def error(number: int, detail: str = "") -> TerraformError:
    return TerraformError(
        f"Problem {number}", detail, f"terraform_data.a[{number}]", "main.tf line 1"
    )


def test_one_error_has_its_summary_address_place_and_detail() -> None:
    assert failure_reason("terraform apply failed", [ONE], []) == (
        "terraform apply failed:\n"
        "creating S3 Bucket (b): BucketAlreadyExists (aws_s3_bucket.b)\n"
        "on main.tf line 3\n"
        "The requested bucket name is not available."
    )


def test_summary_is_whole_where_there_is_room_for_it() -> None:
    """The AWS provider puts all it knows into the summary."""
    summary = "operation error S3: CreateBucket, " + "is not authorized to perform: x, " * 25
    one, other = (TerraformError(summary, "Detail.", a, "main.tf line 1") for a in ("a.b", "c.d"))
    alone = failure_reason("terraform apply failed", [one], [])
    assert f"{summary.strip()} (a.b)\non main.tf line 1\nDetail." in alone
    both = failure_reason("terraform apply failed", [one, other], [])
    assert f"1. {summary.strip()} (a.b)\n2. {summary.strip()} (c.d)" in both


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        (
            'The root module input variable "x" is not set, and has no default value. Use a -var '
            "or -var-file command line argument to provide a value for this variable.",
            'The root module input variable "x" is not set, and has no default value.',
        ),
        (
            "Please resolve the issue above and try\nagain. For most commands, you can disable "
            'locking with the "-lock=false"\nflag, but this is not recommended.',
            "Please resolve the issue above and try\nagain.",
        ),
    ],
)
def test_advice_on_a_command_line_is_left_out(detail: str, told: str) -> None:
    assert TerraformError.from_diagnostic({"summary": "S", "detail": detail}).detail == told


def test_many_errors_have_every_summary_and_address_before_any_detail() -> None:
    assert failure_reason(
        "terraform plan failed", [error(1, "First."), error(2, "Second.")], []
    ) == (
        "terraform plan failed:\n"
        "1. Problem 1 (terraform_data.a[1])\n"
        "2. Problem 2 (terraform_data.a[2])\n"
        "\n1. on main.tf line 1\nFirst.\n"
        "\n2. on main.tf line 1\nSecond."
    )


def test_long_address_does_not_push_out_an_error() -> None:
    many = [TerraformError(f"Problem {i}", "", "a" * 3000) for i in range(3)]
    assert "3. Problem 2 (aaa" in failure_reason("failed", many, [])


def test_same_error_twice_is_told_once() -> None:
    once = failure_reason("failed", [ONE], [])
    assert failure_reason("failed", [ONE, ONE], []) == once


def test_long_detail_is_cut_after_a_sentence() -> None:
    detail = "This is a sentence of some length. " * 100
    reason = failure_reason("failed", [TerraformError("Summary", detail)], [])
    assert MAX_LENGTH - 60 < len(reason) <= MAX_LENGTH
    assert reason.endswith("of some length. …")


def test_long_detail_is_cut_after_a_line_where_there_are_lines() -> None:
    detail = "\n".join(f"line {i} of the detail" for i in range(500))
    reason = failure_reason("failed", [TerraformError("Summary", detail)], [])
    assert len(reason) <= MAX_LENGTH
    assert re.search(r"\nline \d+ of the detail …$", reason)


def test_number_of_errors_left_out_is_named() -> None:
    reason = failure_reason("failed", [error(i, "Detail.") for i in range(500)], [])
    assert len(reason) <= MAX_LENGTH
    last = re.search(r"\n… and (\d+) more errors$", reason)
    assert last
    shown = len(re.findall(r"^\d+\. Problem", reason, flags=re.MULTILINE))
    assert shown + int(last[1]) == 500
    assert "Detail" not in reason


def test_details_that_do_not_fit_do_not_push_out_a_summary() -> None:
    reason = failure_reason("failed", [error(i, "word " * 300) for i in range(20)], [])
    assert len(reason) <= MAX_LENGTH
    assert all(f"Problem {i} (" in reason for i in range(20))
    assert "\n1. on main.tf line 1\nword" in reason


def test_without_an_error_the_last_lines_are_told() -> None:
    said = [f"line {i} {'x' * 50}" for i in range(100)]
    reason = failure_reason("terraform plan was killed by SIGKILL", [], said)
    assert reason.startswith("terraform plan was killed by SIGKILL:\nline ")
    assert reason.endswith(said[-1])
    assert len(reason) <= MAX_LENGTH


def test_headline_that_is_all_there_is_has_all_the_room() -> None:
    """What to do stands at its end."""
    headline = "The artifact could not be fetched: AccessDenied: " + "word " * 300 + "What to do"
    assert failure_reason(headline, [], ["\x1b"]) == f"{headline}."


def test_nothing_said_is_the_headline_alone() -> None:
    assert failure_reason("terraform was not found", [], []) == "terraform was not found."


def test_colours_links_and_control_characters_are_removed() -> None:
    text = (
        "\x1b[31m\x1b[1mError\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 bell\x07 del\x7f c1\x9b"
    )
    assert clean(text) == "Error link bell del c1"


def test_carriage_returns_become_lines() -> None:
    assert clean("a\r\nb\rc") == "a\nb\nc"


def test_characters_that_aws_does_not_allow_are_replaced() -> None:
    assert clean("no \U0001f600 \ud800 \ufffe ok") == "no \ufffd \ufffd \ufffd ok"


texts = st.text(max_size=4000) | st.text("ab \n.\x1b[31m\U0001f600", max_size=4000)
errors = st.builds(TerraformError, texts, texts, st.text(max_size=200), st.text(max_size=50))


@given(st.text(max_size=600), st.lists(errors, max_size=30), st.lists(texts, max_size=5))
def test_every_reason_is_one_that_aws_takes(headline: str, errors: Any, said: list[str]) -> None:
    reason = failure_reason("failed" + headline, errors, said)
    check_partial(Draft({"FailureReason": reason}), "provision")


def test_limit_is_that_of_the_schema() -> None:
    assert schemas.load("provision")["properties"]["FailureReason"]["maxLength"] == MAX_LENGTH
