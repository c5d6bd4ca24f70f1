"""Where a journal is: a file or a table, and what is neither."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_result.journal.place import Table, parse
from workflow_result.problem import ExitCode, Problem

NAME = "after dynamodb:// comes the table's name: 3 to 255 letters, digits, _, . and -"
LEASE = "lease is a number of seconds, from 10 to 43200"
REGION = "region is the name of an AWS region"
OTHER = "name a file, or dynamodb://TABLE"


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ("journal.sqlite3", Path("journal.sqlite3")),
        ("/var/lib/journal", Path("/var/lib/journal")),
        ("a:b", Path("a:b")),
        ("dynamodb://workflow-result", Table("workflow-result", 300, None)),
        ("dynamodb://a.B_c-9/", Table("a.B_c-9", 300, None)),
        ("DynamoDB://Journal", Table("Journal", 300, None)),
        ("dynamodb://journal?lease=60", Table("journal", 60, None)),
        (
            "dynamodb://journal?region=eu-west-1&lease=43200",
            Table("journal", 43200, "eu-west-1"),
        ),
    ],
)
def test_place(named: str, place: Path | Table) -> None:
    assert parse(named) == place


@pytest.mark.parametrize(
    ("named", "rule"),
    [
        ("s3://bucket/key", OTHER),
        ("https://example.com/journal", OTHER),
        ("file:///tmp/journal", OTHER),
        ("dynamo://table", OTHER),
        ("dynamodb:/journal", "for a table, name dynamodb://TABLE"),
        ("dynamodb//journal", "for a table, name dynamodb://TABLE"),
        ("DynamoDB:journal", "for a table, name dynamodb://TABLE"),
        ("dynamodb://", NAME),
        ("dynamodb://ab", NAME),
        ("dynamodb://" + "a" * 256, NAME),
        ("dynamodb://a b c", NAME),
        ("dynamodb://journal/index", NAME),
        ("dynamodb://journal#due", NAME),
        ("dynamodb://key:secret@journal", NAME),
        ("dynamodb://arn:aws:dynamodb:eu-west-1:123456789012:table/journal", NAME),
        ("dynamodb://journal?leese=60", "after ? come lease and region, not leese"),
        ("dynamodb://journal?lease=60&endpoint=x", "after ? come lease and region, not endpoint"),
        ("dynamodb://journal?lease=9", LEASE),
        ("dynamodb://journal?lease=43201", LEASE),
        ("dynamodb://journal?lease=", LEASE),
        ("dynamodb://journal?lease=1e3", LEASE),
        ("dynamodb://journal?lease=-60", LEASE),
        ("dynamodb://journal?lease=٣٠٠", LEASE),
        ("dynamodb://journal?region=", REGION),
        ("dynamodb://journal?region=eu west", REGION),
    ],
)
def test_what_is_no_place(named: str, rule: str) -> None:
    with pytest.raises(Problem) as raised:
        parse(named)
    assert raised.value.exit_code == ExitCode.SETUP
    assert raised.value.lines == (f"the journal {named} cannot be used: {rule}",)


@given(st.text())
def test_any_text_is_a_place_or_a_problem(text: str) -> None:
    for named in (text, f"dynamodb://{text}", f"dynamodb://journal?{text}"):
        with suppress(Problem):
            assert isinstance(parse(named), Path | Table)
