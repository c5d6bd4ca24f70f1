"""What is said of an order that is under change."""

import json
from dataclasses import replace

import pytest
from engine_cli import MESSAGE
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_result.account import Account
from workflow_result.engine.catalog import Order
from workflow_result.engine.dead_letters import DeadLetterQueue, Letter
from workflow_result.engine.executions import Execution
from workflow_result.engine.findings import hanging, in_journal
from workflow_result.engine.message import read
from workflow_result.journal.record import Entry, State

ORDER = Order("rec-demo", "update", "pp-1", "a-product", "EXTERNAL", "", 0.0)
ENTRY = Entry(
    digest="",
    destination="aws",
    state=State.OWED,
    operation="update",
    record_id="rec-demo",
    status="FAILED",
    idempotency_token="",
    region=None,
    since=0.0,
    tries=1,
    last_error="no route",
)
SINCE = "1970-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            ENTRY,
            ("owed", f"its result is owed since {SINCE}, FAILED: no route", "`resend` sends it"),
        ),
        (
            replace(ENTRY, state=State.DIED),
            (
                "owed",
                f"its run of {SINCE} died before it changed anything",
                "its message comes again, or `resend` reports it FAILED",
            ),
        ),
        (replace(ENTRY, state=State.RUNNING), ("alive", "the journal has it as running", "")),
        (replace(ENTRY, state=State.REFUSED), None),
        (
            replace(ENTRY, state=State.REFUSED, presumed=True),
            (
                "lost",
                "the FAILED of a run that died was refused: no route",
                "if Service Catalog has no result of it, `forget rec-demo`, and again",
            ),
        ),
        (
            replace(ENTRY, state=State.REPORTED),
            (
                "reported",
                f"FAILED was reported on {SINCE}",
                "Service Catalog has its result, and has not gone on: ask AWS Support",
            ),
        ),
        (
            replace(ENTRY, state=State.REPORTED, since=1e9),
            ("young", "FAILED was reported on 2001-09-09T01:46:40+00:00", ""),
        ),
    ],
    ids=lambda value: value.state if isinstance(value, Entry) else "",
)
def test_journal_tells(entry: Entry, said: tuple[str, str, str] | None) -> None:
    finding = in_journal(ORDER, entry, lambda since: since > 0)
    assert (finding and (finding.state, finding.known, finding.to_do)) == said


@settings(max_examples=30)
@given(st.text(), st.text(), st.sampled_from(["FAILED", "TIMED_OUT", "ABORTED", "SUCCEEDED", "?"]))
def test_whatever_is_left_of_an_order_there_is_something_to_say(
    source: str, queue: str, status: str
) -> None:
    execution = Execution("pp-1-rec-demo", "engine", status, 1e9, "", source)
    assert hanging(ORDER, [execution], [], seen=True).state == "lost"
    dead = DeadLetterQueue(
        f"https://sqs.us-east-1.amazonaws.com/123456789012/{queue}", Account(None, None)
    )
    letter = Letter("1", "1", read(json.dumps(MESSAGE).encode()))
    finding = hanging(ORDER, [execution], [(dead, letter)], seen=True)
    assert finding.content
    request = finding.content.failed(finding.reason)
    assert (request.members["Status"], request.operation) == ("FAILED", "provision")
