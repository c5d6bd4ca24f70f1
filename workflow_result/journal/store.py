"""What a store of the journal has to do. Whoever adds one implements `Store`, and nothing else.

`record` says what is kept of a record, `moves` what each move makes of it. A store reads and writes
records, tells who is alive, and knows no rules.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from workflow_result.journal.record import Key, Record
from workflow_result.problem import ExitCode, Problem

T = TypeVar("T")

Move = Callable[[Record, float], tuple[Record, T]]
"""What makes another record of one, and tells the caller something: see `moves`."""


class JournalProblem(Problem):
    """The journal cannot be used. Where others can get at it, it must not be used: `exposed`."""

    def __init__(
        self, line: str, exit_code: ExitCode = ExitCode.SETUP, *, exposed: bool = False
    ) -> None:
        super().__init__(exit_code, line)
        self.exposed = exposed


class NoJournal(JournalProblem):
    """There is no journal, so nothing is owed there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no journal {path}: check --journal or WORKFLOW_RESULT_JOURNAL")


class Store(Protocol):
    """Keeps records. Every method raises `JournalProblem` where that is impossible.

    `is_shared`: processes of other machines write there, too. Not for use from several threads at
    once.
    """

    is_shared: bool

    def now(self) -> float:
        """Return the seconds since 1970: the same on all machines, once it was asked something."""

    def change(self, keys: Sequence[Key], move: Move[T]) -> list[tuple[Record, T]]:
        """Have `move` make something else of each of these records.

        Each is read, moved and written as a whole: nobody else changes it in between, and it is
        kept for good when this returns. A record that `move` returns as it was is not written. One
        on which this process works afterwards (`Worker.OWN`) is its own until it gives it up, or is
        dead. Returns what is there then, with its content, and what `move` told.
        """

    def keys_of(self, record_id: str) -> list[Key]:
        """Return where there may be something of a record."""

    def due(self, destination: str) -> list[Key]:
        """Return all for which `moves.claim` may have something to do, oldest first."""

    def unreported(self) -> list[Record]:
        """Return every record that has `work`, without its content."""

    def stay_alive(self, lost: Callable[[str], None]) -> None:
        """See to it that this process counts as alive from now on, while it works on something.

        `lost` is called, from another thread, with the reason where that is not certain any more.
        """

    def bury(self, build: str) -> None:
        """Take the processes of this build of CodeBuild for dead: it has ended."""

    def is_sure_of(self, key: Key) -> bool:
        """Whether what this process has claimed there is its own for a while yet."""

    def is_lost(self) -> bool:
        """Whether others may take this process for dead by now."""

    def wait_no_longer(self) -> None:
        """Do not wait for other processes, or for a network, any more."""

    def close(self) -> None:
        """Give up the ownership of what is still owed."""
