"""Work that may never end, and is not waited for longer than that."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(threading.Thread, Generic[T]):
    """Does `work` in a thread that ends with the process, whatever it waits for."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._done: list[T] = []
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._done.append(self._work())
        except Exception as error:
            self._error = error

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end, for so many seconds; whether it came."""
        self.join(seconds)
        return not self.is_alive()

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self._error:
            raise self._error
        return self._done[0]
