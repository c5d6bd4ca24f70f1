"""`rescue` with one order of each kind of hanging, on stand-ins for Step Functions and SQS."""

import json
from collections.abc import Callable, Iterator

import pytest
from conftest import Outcome
from engine_cli import kill_left_over
from journal_cli import MARK, Desk, hold_run
from ministack_server import Ministack
from rescue_cli import HangingEngine, by_record, have_reported, message_of, terminate_of

KINDS = {
    "rec-running": "alive",
    "rec-owed": "owed",
    "rec-reported": "reported",
    "rec-executing": "alive",
    "rec-executing-dead": "alive",
    "rec-failed": "endable",
    "rec-failed-dead": "endable",
    "rec-aborted": "endable",
    "rec-succeeded": "endable",
    "rec-terminate": "endable",
    "rec-dead": "endable",
    "rec-dead-twice": "endable",
    "rec-dead-topic": "endable",
    "rec-dead-wrong": "endable",
    "rec-unread-dead": "endable",
    "rec-unread": "lost",
    "rec-other": "lost",
    "rec-lost": "lost",
}
"""Each order, and how it stands with it."""

ENDABLE = [record for record, state in KINDS.items() if state == "endable"]
LEFT_ALONE = {record: state for record, state in KINDS.items() if state != "endable"}

LOOK = "Some of its resources may have been made or changed all the same."
DEAD = (
    "The engine has not carried out this order: its message lies in the dead-letter queue QUEUE. "
    + LOOK
)
FAILED = (
    "The engine's execution NAME failed (States.TaskFailed) on TIME, and nothing was reported. "
    + LOOK
)
REASONS = {
    "rec-failed": FAILED,
    "rec-failed-dead": FAILED,
    "rec-aborted": FAILED.replace("failed (States.TaskFailed)", "was aborted"),
    "rec-succeeded": "The engine's execution NAME came to its end on TIME, and its result was "
    "lost. What was ordered may be there all the same: nobody knows, so it counts as FAILED.",
    "rec-terminate": FAILED,
    "rec-dead": DEAD,
    "rec-dead-twice": DEAD,
    "rec-dead-topic": DEAD,
    "rec-dead-wrong": f"{DEAD}\nThe order's message to the engine is wrong:\n"
    "parameters: must be a list, not a string",
    "rec-unread-dead": FAILED,
}


@pytest.fixture
def hanging(new_desk: Callable[..., Desk], ministack: Ministack) -> Iterator[HangingEngine]:
    """An engine with an order of each kind, and messages that are of none."""
    desk = new_desk(*(f"--record={record}" for record in KINDS))
    engine = HangingEngine(desk, ministack)
    process = hold_run(desk, "rec-running")
    desk.owe("rec-owed")
    have_reported(desk, "rec-reported")
    for kind, records in {
        "waits": ["rec-executing", "rec-executing-dead"],
        "fails": ["rec-failed", "rec-failed-dead"],
        "succeeds": ["rec-succeeded"],
    }.items():
        for record in records:
            engine.execution(kind, message_of(record))
    engine.sfn.stop_execution(executionArn=engine.execution("waits", message_of("rec-aborted")))
    engine.execution("fails", terminate_of("rec-terminate"))
    engine.execution("fails", {"hello": "world"}, "rec-unread")
    engine.execution("fails", {"hello": "world"}, "rec-unread-dead")
    engine.execution("fails", message_of("rec-elsewhere"), "rec-other")
    dead = ["rec-executing-dead", "rec-failed-dead", "rec-dead", "rec-dead-twice", "rec-dead-twice"]
    for record in [*dead, "rec-unread-dead", "rec-elsewhere"]:
        engine.dead_letter(message_of(record))
    topic = {"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:123456789012:orders"}
    engine.dead_letter(topic | {"Message": json.dumps(message_of("rec-dead-topic"))})
    engine.dead_letter(message_of("rec-dead-wrong", parameters="none"))
    engine.dead_letter("hello")
    yield engine
    process.kill()
    process.communicate()
    kill_left_over(desk.home)


def test_each_kind_is_found_and_ended_rightly_or_left_alone(hanging: HangingEngine) -> None:
    before, calls = hanging.snapshot(), hanging.desk.sandbox.calls()
    looks = [hanging.rescue("--json") for _ in range(2)]
    assert {record: row["state"] for record, row in by_record(looks[0]).items()} == KINDS
    assert looks[0] == looks[1]
    assert looks[0].code == 75
    assert looks[0].lines == [
        f"warning: a message in {hanging.name}-dead tells no order: the message: not JSON: "
        "Expecting value (line 1, column 1)",
        "18 under change, 15 of them hang",
    ]
    assert hanging.snapshot() == before
    assert hanging.desk.sandbox.calls() == calls == []

    applied = hanging.rescue("--json", "--apply")
    states = {record: row["state"] for record, row in by_record(applied).items()}
    assert states == LEFT_ALONE | dict.fromkeys(ENDABLE, "ended")
    assert applied.code == 75
    assert applied.lines[1:] == [
        *(f"{record}: ended FAILED" for record in ENDABLE),
        "18 under change, 5 of them hang, 10 ended FAILED",
    ]
    found = by_record(looks[0])
    assert {r: hanging.reason(r) for r in ENDABLE} == {
        r: text.replace("QUEUE", f"{hanging.name}-dead")
        .replace("NAME", f"pp-{r.removeprefix('rec-')}-{r}")
        .replace("TIME", found[r]["known"].partition(" on ")[2][:25])
        for r, text in REASONS.items()
    }
    assert {hanging.desk.sandbox.status(r) for r in LEFT_ALONE} == {"IN_PROGRESS"}
    record = hanging.desk.sandbox.record("rec-terminate")["RecordDetail"]
    assert record["RecordType"] == "TERMINATE_PROVISIONED_PRODUCT"
    left = [message_of("rec-elsewhere"), message_of("rec-executing-dead")]
    assert hanging.letters() == sorted([*map(json.dumps, left), "hello"])

    again = hanging.rescue("--json", "--apply")
    assert {record: row["state"] for record, row in by_record(again).items()} == LEFT_ALONE
    assert (again.code, again.lines[1:]) == (75, ["8 under change, 5 of them hang"])
    assert len(hanging.desk.sandbox.calls()) == len(ENDABLE)
    assert {e.record_id: e.state for e in hanging.desk.pending().values()} == {
        "rec-running": "running",
        "rec-owed": "owed",
    }
    for outcome in (*looks, applied, again):
        assert shows_no_token(outcome)


def shows_no_token(outcome: Outcome) -> bool:
    return MARK not in outcome.stdout + outcome.stderr
