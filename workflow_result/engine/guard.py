"""A process that clears up after one that is killed: no Terraform goes on without its run."""

import fcntl
import os
import subprocess
from contextlib import suppress
from pathlib import Path

_SCRIPT = """
trap '' HUP INT TERM
child=0
while read -r line; do child=$line; done
wait_for() { i=0; while kill -0 "$child" && [ "$i" -lt "$1" ]; do sleep 1; i=$((i + 1)); done; }
if [ "$child" -gt 0 ]; then
  kill -INT "$child"; wait_for "$2"
  kill -INT "$child"; wait_for "$2"
  kill -KILL "-$child"
fi 2>/dev/null
rm -rf "$1"
"""
"""It hears which child runs, 0 for none. The end of what it hears is the end of who started it."""


class Guard:
    """Watches over the Terraform of this process, and over what it has in `folder`.

    Should this process die, Terraform is stopped: gently, after `grace` seconds harder, after as
    many killed with all that it has started. Then `folder` goes. Meanwhile it `is_guarded`.
    """

    def __init__(self, folder: Path, grace: int) -> None:
        held = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "sh", str(folder), str(grace)],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[held],
                start_new_session=True,
            )
        finally:
            os.close(held)  # from here on the guard alone has the lock

    def watch(self, child: int) -> None:
        """The process `child` runs from now on; 0 for none."""
        assert self._process.stdin
        with suppress(OSError):  # somebody has killed the guard
            self._process.stdin.write(f"{child}\n".encode())
            self._process.stdin.flush()

    def close(self) -> None:
        """Remove the folder, and wait for the guard's end."""
        assert self._process.stdin
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


def is_guarded(folder: str) -> bool:
    """Whether a guard of this machine lives that watches over `folder`.

    The kernel knows: the guard's process ID is another's after a restart of the machine, or of
    the container.
    """
    try:
        found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return False
    try:
        fcntl.flock(found, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(found)
    return False
