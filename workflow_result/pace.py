"""How many results are sent at the same time: as many as the other side takes."""

import random

AT_MOST = 64
"""Results that are sent at the same time, whatever the other side would take."""

START = 8
"""Few enough for whatever takes anything."""

ROUNDS = 8
"""How often in a row, without a success in between, what is sent may be throttled."""

# In seconds: all of them, ROUNDS in a row, last some five.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


class Pace:
    """Finds out how many results may be under way: one more for each that went well, until the
    other side throttles; then half as many, and from there one more a round.

    That is TCP's slow start and congestion avoidance (RFC 5681, section 3.1). Whoever sends tells
    what happens; there is no clock in here. What was under way when the other side throttled
    counts no further: it was sent at the old pace.
    """

    def __init__(self) -> None:
        self._limit = float(START)
        self._doubling = True
        self._begun = 0
        self._slowed = 0
        self._in_a_row = 0

    @property
    def limit(self) -> int:
        """How many results may be under way, from 1 to `AT_MOST`."""
        return int(self._limit)

    @property
    def is_hopeless(self) -> bool:
        """Whether the other side throttles everything, however slowly it comes."""
        return self._in_a_row >= ROUNDS

    def begin(self) -> int:
        """Return a number for what is sent now, which tells it from what is sent later."""
        self._begun += 1
        return self._begun

    def went_well(self, number: int) -> None:
        """Note that what got this number was taken."""
        if number > self._slowed:
            self._in_a_row = 0
            self._limit = min(AT_MOST, self._limit + (1 if self._doubling else 1 / self._limit))

    def was_throttled(self, number: int) -> float:
        """Note that what got this number was throttled.

        Returns the seconds for which nothing is to be sent: some tenths at first, twice as many
        each time in a row, up to `LONGEST_PAUSE`, less a random part, since others may have been
        throttled at the same moment
        (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
        """
        if number <= self._slowed:
            return 0.0
        self._slowed = self._begun
        self._doubling = False
        self._limit = max(1.0, self._limit / 2)
        pause = min(FIRST_PAUSE * 2.0**self._in_a_row, LONGEST_PAUSE)
        self._in_a_row += 1
        return pause * random.uniform(0.5, 1.0)  # noqa: S311, no secret is made of it
