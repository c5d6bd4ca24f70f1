"""A record that is written as an item is read as the same record."""

from contextlib import suppress
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import given
from hypothesis import strategies as st
from tables import PROJECTED

from workflow_result.journal import items
from workflow_result.journal.items import Item
from workflow_result.journal.record import (
    DESTINATIONS,
    RETURN_SECONDS,
    Key,
    Phase,
    Record,
    Reported,
    State,
    Work,
    Worker,
)

NOW, LEASE, MARGIN = 1_800_000_000.0, 300.0, 60.0

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
SECONDS = st.integers(0, 2 * 10**9).map(float)
TRIES = st.integers(0, 10**6)

REPORTED = st.builds(Reported, TEXT, TEXT, TEXT, TEXT, SECONDS, TRIES)
KEYS = st.builds(Key, st.from_regex(r"[\w-]{1,100}", fullmatch=True), st.sampled_from(DESTINATIONS))
WORKERS = st.sampled_from([None, *Worker])


@st.composite
def works(draw: st.DrawFn) -> Work:
    state = draw(st.sampled_from([State.RUNNING, State.OWED, State.REFUSED]))
    worker = draw(WORKERS) if state != State.REFUSED else None
    phase = draw(st.sampled_from([None, Phase.PREPARING, Phase.APPLYING]))
    gone = state == State.RUNNING and not worker
    if state == State.RUNNING:
        phase = draw(st.sampled_from(list(Phase)))
        # No build was asked for.
        gone = gone and not (phase == Phase.WAITING and draw(st.booleans()))
    return Work(
        digest=draw(TEXT),
        state=state,
        operation=draw(TEXT),
        status=draw(TEXT),
        idempotency_token=draw(TEXT),
        region=draw(st.none() | TEXT),
        since=draw(SECONDS),
        tries=draw(TRIES),
        last_error=draw(st.none() | TEXT),
        phase=phase,
        content=draw(st.none() | TEXT),
        worker=worker,
        gone_since=NOW - draw(st.integers(0, 10**6)) if gone else None,
    )


RECORDS = st.builds(Record, KEYS, st.none() | works(), st.none() | REPORTED)


def item_of(record: Record) -> Item:
    work = record.work
    if work and work.worker:
        owner = "me" if work.worker == Worker.OWN else "other"
        return Item(record, 7, "me/3", owner, NOW + LEASE)
    return Item(record, 7, "me/3", None, (work and work.gone_since) or 0)


def attributes(item: Item) -> dict[str, Any]:
    work = item.record.work
    body = items.compressed(work.content) if work and work.content is not None else None
    return items.item_key(item.record.key) | items.written(item, NOW, MARGIN, body)


@given(RECORDS)
def test_round_trip(record: Record) -> None:
    item = item_of(record)
    assert items.read(attributes(item), "me", NOW, MARGIN) == item


@given(RECORDS)
def test_index_has_everything_but_the_request(record: Record) -> None:
    shown = {*PROJECTED, "record", "destination", "due_at"}
    assert {*attributes(item_of(record))} - shown <= {"by", "body", "expires"}


@given(RECORDS)
def test_what_is_reported_or_struck_off_expires_and_nothing_else(record: Record) -> None:
    written = attributes(item_of(record))
    assert ("expires" in written) == (record.work is None)
    assert ("due_at" in written) == ("destination" in written) == (record.work is not None)


@pytest.mark.parametrize(
    ("state", "phase", "worker", "due"),
    [
        (State.RUNNING, Phase.APPLYING, Worker.OTHER, NOW + LEASE + MARGIN),
        (State.RUNNING, Phase.PREPARING, Worker.OTHER, NOW + LEASE + MARGIN + RETURN_SECONDS),
        (State.RUNNING, Phase.WAITING, None, items.NEVER),
        (State.RUNNING, Phase.WAITING, Worker.OTHER, items.NEVER),
        (State.OWED, None, Worker.OTHER, NOW + LEASE + MARGIN),
        (State.OWED, None, None, 5.0),
        (State.REFUSED, None, None, items.NEVER),
    ],
)
def test_when_it_is_due(
    state: State, phase: Phase | None, worker: Worker | None, due: float
) -> None:
    work = Work("d", state, "update", "FAILED", "t", None, 5.0, phase=phase, worker=worker)
    written = attributes(item_of(Record(Key("rec-1", "aws"), work)))
    assert float(written["due_at"]["N"]) == due


@pytest.mark.parametrize(
    ("now", "seen"), [(NOW + LEASE + MARGIN - 1, Worker.OTHER), (NOW + LEASE + MARGIN, None)]
)
def test_another_is_alive_until_the_margin_after_its_lease_is_over(
    now: float, seen: Worker | None
) -> None:
    work = Work(
        "d",
        State.RUNNING,
        "update",
        "FAILED",
        "t",
        None,
        5.0,
        phase=Phase.APPLYING,
        worker=Worker.OTHER,
    )
    written = attributes(item_of(Record(Key("rec-1", "aws"), work)))
    found = items.read(written, "me", now, MARGIN).record.work
    assert found
    assert found.worker == seen


@pytest.mark.parametrize(("owner", "since"), [("other", NOW + MARGIN), (None, NOW)])
def test_run_is_known_to_be_dead_since_the_margin_after_its_lease_or_since_it_was_given_up(
    owner: str | None, since: float
) -> None:
    work = Work("d", State.RUNNING, "update", "FAILED", "t", None, 5.0, phase=Phase.PREPARING)
    item = Item(Record(Key("rec-1", "aws"), work), 7, "me/3", owner, NOW)
    found = items.read(attributes(item), "me", NOW + LEASE, MARGIN).record.work
    assert found
    assert found.gone_since == since


def test_build_that_nobody_noted_for_an_order_was_not_asked_for() -> None:
    """Whoever saw to it is dead."""
    work = Work("d", State.RUNNING, "update", "FAILED", "t", None, 5.0, phase=Phase.WAITING)
    item = Item(Record(Key("rec-1", "aws"), work), 7, "me/3", "other", NOW)
    found = items.read(attributes(item), "me", NOW + LEASE, MARGIN).record.work
    assert found == work


# DynamoDB has numbers of 38 digits.
NUMBERS = st.integers(-(10**37), 10**37)


@given(st.dictionaries(st.sampled_from(items.ATTRIBUTES), NUMBERS | TEXT | st.binary()))
def test_what_is_no_item_raises_what_is_expected(values: dict[str, Any]) -> None:
    serialize = TypeSerializer().serialize
    item = {name: serialize(value) for name, value in values.items()}
    with suppress(ValueError, TypeError, KeyError):
        items.read(item | items.item_key(Key("rec-1", "aws")), "me", NOW, MARGIN)
