"""The clock that machines share: it agrees with every answer, and is left alone where it does."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_result.journal.clock import ROUNDING, Clock, steady

HOURS = st.floats(-48, 48)
TOOK = st.floats(0, 60)


def told(written: float) -> str:
    return formatdate(written, usegmt=True)


@given(hours=HOURS, took=TOOK)
def test_clock_that_is_wrong_is_right_after_an_answer(hours: float, took: float) -> None:
    clock = Clock()
    there = clock.now() + hours * 3600
    clock.hear(told(there - took / 2), took)
    assert abs(clock.now() - there) <= took + ROUNDING + 1


@given(took=TOOK, share=st.floats(0, 1))
def test_clock_that_is_right_is_left_alone(took: float, share: float) -> None:
    """However late the answer is."""
    clock = Clock()
    before = clock._offset
    clock.hear(told(clock.now() - took * share), took)
    assert clock._offset == before


@given(st.one_of(st.none(), st.text()))
def test_header_that_is_no_date_changes_nothing(header: str | None) -> None:
    clock = Clock()
    before = clock._offset
    clock.hear(header, 1)
    assert clock._offset == before


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no CLOCK_BOOTTIME on this machine")
def test_steady_clock_counts_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://man7.org/linux/man-pages/man2/clock_gettime.2.html (CLOCK_BOOTTIME)"""
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 77.0}.get)
    assert steady() == 77.0
