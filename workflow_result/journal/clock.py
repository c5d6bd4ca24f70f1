"""One clock for all machines that share a table: that of the table's own answers."""

import time
from email.utils import parsedate_to_datetime

ROUNDING = 1.0
"""Seconds that a `Date` header may be off, since it has no fractions."""


def steady() -> float:
    """Return seconds that nobody sets, and that count on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Clock:
    """This machine's clock, until an answer says otherwise; from then on that one's.

    https://www.rfc-editor.org/rfc/rfc9110#name-date
    """

    def __init__(self) -> None:
        self._offset = time.time() - steady()

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return steady() + self._offset

    def hear(self, date: str | None) -> float:
        """Take the time from the `Date` header of an answer; return by how many seconds it moved.

        A header that is no date changes nothing.
        """
        try:
            told = parsedate_to_datetime(date or "").timestamp() + ROUNDING / 2
        except ValueError:
            return 0.0
        moved = told - self.now()
        if abs(moved) <= ROUNDING:
            return 0.0
        self._offset += moved
        return moved
