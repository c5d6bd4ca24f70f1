"""How many results are sent at the same time."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workflow_result.pace import AT_MOST, LONGEST_PAUSE, ROUNDS, START, Pace


class Sending(RuleBasedStateMachine):
    """Whoever sends, whatever comes back, in whichever order."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace()
        self.under_way: list[int] = []
        self.sent_before: set[int] = set()
        """What was under way when it was last slowed down."""
        self.in_a_row = 0

    def one(self, data: st.DataObject) -> int:
        return self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))

    @precondition(lambda self: len(self.under_way) < self.pace.limit)
    @rule()
    def begin(self) -> None:
        self.under_way.append(self.pace.begin())

    @precondition(lambda self: len(self.under_way) < self.pace.limit)
    @rule()
    def begin_all(self) -> None:
        while len(self.under_way) < self.pace.limit:
            self.begin()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def is_taken(self, data: st.DataObject) -> None:
        number, before = self.one(data), self.pace.limit
        self.pace.went_well(number)
        assert self.pace.limit - before in (0, 1)
        if number in self.sent_before:
            assert self.pace.limit == before
        else:
            self.in_a_row = 0

    @precondition(lambda self: self.under_way)
    @rule()
    def all_are_taken(self) -> None:
        for number in self.under_way:
            self.pace.went_well(number)
            if number not in self.sent_before:
                self.in_a_row = 0
        self.under_way = []

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def is_throttled(self, data: st.DataObject) -> None:
        number, before = self.one(data), self.pace.limit
        pause = self.pace.was_throttled(number)
        if number in self.sent_before:
            assert (pause, self.pace.limit) == (0, before)
        else:
            assert 0 < pause <= LONGEST_PAUSE
            assert self.pace.limit == max(1, before // 2)
            self.sent_before = set(self.under_way)
            self.in_a_row += 1

    @invariant()
    def limit_is_kept(self) -> None:
        assert 1 <= self.pace.limit <= AT_MOST

    @invariant()
    def hopeless_is_what_takes_nothing(self) -> None:
        assert self.pace.is_hopeless == (self.in_a_row >= ROUNDS)


TestSending = Sending.TestCase


def a_round(pace: Pace) -> list[int]:
    return [pace.begin() for _ in range(pace.limit)]


def test_twice_as_many_each_round_up_to_the_most() -> None:
    pace, limits = Pace(), [START]
    while pace.limit < AT_MOST:
        for number in a_round(pace):
            pace.went_well(number)
        limits.append(pace.limit)
    assert limits == [8, 16, 32, 64]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_once_throttled_it_is_one_more_each_round(times: int) -> None:
    pace = Pace()
    for _ in range(times):
        pace.was_throttled(pace.begin())
    slowed = pace.limit
    for rounds in range(1, 20):
        for number in a_round(pace):
            pace.went_well(number)
        assert slowed + rounds - 2 <= pace.limit <= slowed + rounds


def test_round_of_which_all_is_throttled_counts_once() -> None:
    pace = Pace()
    pauses = [pace.was_throttled(number) for number in a_round(pace)]
    assert pace.limit == START / 2
    assert [pause > 0 for pause in pauses] == [True] + [False] * (START - 1)


def test_pauses_become_longer_up_to_the_longest() -> None:
    pace = Pace()
    pauses = [pace.was_throttled(pace.begin()) for _ in range(ROUNDS)]
    for pause, longest in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2], strict=True):
        assert longest / 2 <= pause <= longest
    assert pace.is_hopeless
