"""One clock for all machines that share a table: that of the table's own answers."""

import time
from email.utils import parsedate_to_datetime

ROUNDING = 1.0
"""Seconds by which a `Date` header may be early, since it has no fractions."""


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

    def hear(self, date: str | None, took: float) -> None:
        """Take the time from the `Date` header of an answer that came after `took` seconds.

        It was written within these. As long as this clock agrees with that, it is left alone. A
        header that is no date changes nothing.
        """
        try:
            written = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        now = self.now()
        told = min(max(now, written), written + ROUNDING + took)
        self._offset += told - now
