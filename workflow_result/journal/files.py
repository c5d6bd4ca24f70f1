"""The journal's files: nobody else gets at them, and locks tell who is at work.

Whoever works on an entry is its owner: a number, and a lock on the byte at this offset of an
empty file beside the journal, which is never removed. The kernel takes the lock back however a
process ends, and gives it to no child; no clock and no process id is asked, both of which come
round again. It works between hosts where the file system has locks, which SQLite needs, too.
"""

import errno
import fcntl
import os
import secrets
import shlex
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workflow_result.journal.store import JournalProblem

_OWNER_BITS = 62
_TURN = 1 << _OWNER_BITS
"""The byte, behind those of all owners, whose lock is the turn to write."""


def make_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it: for the owner alone, and to outlast a crash."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process was faster, or it is no folder
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask has taken away
    above = os.open(folder.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def check_folder(path: Path) -> None:
    """Raise `JournalProblem` where others can make files beside `path`.

    SQLite would take a `-journal` made there for its own, and play it back.
    """
    status = os.stat(path.parent)
    if status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022:
        return
    better = shlex.quote(str(path.parent / "workflow-result" / path.name))
    raise JournalProblem(
        f"the journal {path} lies in a folder where others can make files, and it holds "
        f"WorkflowTokens: name one in a sub-folder, which is made with mode 0700: "
        f"--journal {better}",
        exposed=True,
    )


def open_private(path: Path, *, make: bool) -> int:
    """Open a file of the journal's, without following a link, and make it where it is missing.

    Returns a descriptor. Raises OSError, and `JournalProblem` where others can get at it.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        if not make:
            raise
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(descriptor, 0o600)  # whatever the umask has taken away
        except FileExistsError:  # another process was faster
            descriptor = os.open(path, flags)
    try:
        _check(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_side_file(path: Path) -> None:
    """Raise `JournalProblem` where `path` is not SQLite's own, if it is there at all."""
    with suppress(FileNotFoundError):
        _check(path, os.lstat(path))


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise JournalProblem(f"the journal {path} cannot be used: it is not a file")
    if status.st_nlink > 1:
        raise JournalProblem(
            f"the journal {path} cannot be used: it has another name, a hard link, under which "
            "nobody would see who works on it"
        )
    if status.st_uid != os.geteuid():
        raise JournalProblem(
            f"the journal {path} belongs to another user, and it holds WorkflowTokens: name "
            "another one with --journal",
            exposed=True,
        )
    if status.st_mode & 0o077:
        raise JournalProblem(
            f"the journal {path} is open to others, and it holds WorkflowTokens: "
            f"chmod 600 {shlex.quote(str(path))}",
            exposed=True,
        )


class Locks:
    """The locks on the file beside the journal `path`, which is made where it may be (`make`).

    Its methods raise OSError.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.owner: int | None = None
        self._journal = path
        self._make = make
        self._descriptor: int | None = None

    def own(self) -> int:
        """Return the number under which this process owns entries, and hold its lock.

        To be called in a transaction, so that nobody sees an owner that has no lock yet.
        """
        if self.owner is None:
            owner = secrets.randbits(_OWNER_BITS)
            fcntl.lockf(self._file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, owner)
            self.owner = owner
        return self.owner

    def is_alive(self, owner: int) -> bool:
        """Whether the process is alive that owns entries under this number."""
        if owner == self.owner:
            return True
        try:
            file = self._file()
        except FileNotFoundError:
            if self._make:
                raise
            return False  # nobody has held a lock yet
        try:
            # Shared, so that two that ask at once do not take each other for the owner.
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, owner)
        except (BlockingIOError, PermissionError):
            return True
        fcntl.lockf(file, fcntl.LOCK_UN, 1, owner)
        return False

    @contextmanager
    def turn(self, patience: float) -> Iterator[None]:
        """Wait until no other process writes, and have them wait.

        SQLite's own waiting favours those who have just come, and ends after a fixed time. It is
        left for whoever does not wait here: another program, an older version of this one. Raises
        TimeoutError after `patience` seconds in which nobody has written.
        """
        file = self._file()
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _TURN)
        except (BlockingIOError, PermissionError):
            self._queue(file, patience)
        try:
            yield
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, _TURN)

    def _queue(self, file: int, patience: float) -> None:
        """Wait in the kernel's queue, in a thread: no lock has a time-out."""
        has_turn = threading.Semaphore(0)
        gives_up = threading.Lock()

        def wait() -> None:
            with suppress(OSError):  # closed: nobody waits any more
                fcntl.lockf(file, fcntl.LOCK_EX, 1, _TURN)
                if gives_up.acquire(blocking=False):
                    has_turn.release()
                else:
                    fcntl.lockf(file, fcntl.LOCK_UN, 1, _TURN)

        threading.Thread(target=wait, daemon=True).start()
        written = 0
        try:
            while (now := os.stat(self._journal).st_mtime_ns) != written:
                written = now
                if has_turn.acquire(timeout=patience):
                    return
            raise TimeoutError(errno.ETIMEDOUT, "another process does not let go of it")
        except BaseException:
            if not gives_up.acquire(blocking=False):  # it came in this very moment
                fcntl.lockf(file, fcntl.LOCK_UN, 1, _TURN)
            raise

    def close(self) -> None:
        """Give up all locks."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _file(self) -> int:
        if self._descriptor is None:
            self._descriptor = open_private(Path(f"{self._journal}.lock"), make=self._make)
        return self._descriptor
