"""A child process that is listened to and stopped, whatever it is."""

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO

from workflow_result.problem import Event, Style, say

GRACE = 60.0
"""Seconds that a child gets after each signal to stop, before the next, harder one."""

ECHO = 1.0
"""Seconds in which a child tells of a signal that it has got from elsewhere."""

LINGER = 2.0
"""Seconds after a child's end in which its streams may still say something. What it leaves running
may hold them open, and write, for ever."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGINT, signal.SIGKILL)
"""Terraform stops cleanly at the first interrupt and at once at the second
(https://developer.hashicorp.com/terraform/cli/commands/apply)."""

MAX_LINE = 32 * 1024 * 1024
"""Bytes of a line that are kept. What comes after them is left out."""

_CHUNK = 64 * 1024  # what a pipe holds
_RELAY = "trap '' HUP INT TERM PIPE; cat; exec cat >/dev/null"
"""A shell's script between the child and this process. Should this process be killed, it goes on to
take what the child says: that comes to its end, instead of waiting for somebody to listen, or dying
by SIGPIPE before its state is written."""


class Stopper:
    """When the children of a run are asked to stop, each time harder.

    That is after `timeout` seconds, and at each reason that the caller adds to `requests`: a
    signal, most of the time. `by` says why, once they are; `grace` is the time between two
    signals, in seconds.
    """

    def __init__(self, requests: deque[str], timeout: int | None) -> None:
        self.by: str | None = None
        self._requests = requests
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout if timeout else None
        self.grace = min(GRACE, timeout or GRACE)
        self._signals_sent = 0
        self._next_signal_at: float | None = None

    def is_due(self) -> bool:
        """Whether nothing is to be started any more."""
        if self._requests and not self.by:
            self.by = self._requests.popleft()
        elif self._is_over() and not self.by:
            self.by = self._over()
        return self.by is not None

    def heard(self) -> None:
        """The child says that it stops: a second signal would stop it without mercy."""
        if not self._signals_sent:
            self._signals_sent = 1
            self._next_signal_at = time.monotonic() + self.grace

    def attend(self, child: "Child") -> None:
        """Send the child the next signal, if one is due."""
        now = time.monotonic()
        if self._is_over() and not self.by:
            self.stop(child, self._over())
        elif self._requests:
            reason = self._requests.popleft()
            if self.by:
                if not self._signals_sent:
                    self.stop(child, self.by)
                self.stop(child, reason)
            else:  # the signal may have been for a whole control group: the child has it, too
                self.by = reason
                if not self._signals_sent:
                    self._next_signal_at = now + ECHO
        elif self._next_signal_at and now > self._next_signal_at:
            self.stop(child, "it goes on" if self._signals_sent else self.by or "")

    def stop(self, child: "Child", reason: str) -> None:
        """Send the child a signal, each harder than the one before."""
        self.by = self.by or reason
        number = STOP_SIGNALS[min(self._signals_sent, len(STOP_SIGNALS) - 1)]
        self._signals_sent += 1
        self._next_signal_at = time.monotonic() + self.grace
        line = f"stopping {child.name} with {number.name}: {reason}"
        say(line, Style.YELLOW, event=Event.STOP)
        child.signal(number)

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _over(self) -> str:
        return f"it did not end within {self._timeout} second{'s'[: self._timeout != 1]}"


class Child:
    """A running process of `command` in `directory`, which inherits the file descriptors `passed`.

    Raises OSError where it cannot be started. `pid` is its process ID, and that of its group.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        passed: Sequence[int],
        stopper: Stopper,
    ) -> None:
        self.name = Path(command[0]).name
        self._stopper = stopper
        relays = [_start_relay() for _ in range(2)]
        self._streams = [_pipe(relay.stdout) for relay in relays]
        self._relays = relays
        try:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=relays[0].stdin,
                stderr=relays[1].stdin,
                pass_fds=passed,
                # A group of its own: an interrupt at the terminal reaches the child through
                # this process alone, once, and not a second time that would kill it.
                start_new_session=True,
            )
        except OSError:
            for stream in self._streams:
                stream.close()
            raise
        finally:
            for relay in relays:
                _pipe(relay.stdin).close()
        self.pid = self._process.pid

    def lines(self) -> Iterator[tuple[bool, bytes]]:
        """Yield each line without its end, and whether it is of stdout, until the child has ended.

        It is stopped meanwhile where that is due. Of a line, `MAX_LINE` bytes are kept.
        """
        buffers = {stream.fileno(): _Lines() for stream in self._streams}
        stdout = self._streams[0].fileno()
        with selectors.DefaultSelector() as selector:
            for descriptor in buffers:
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            ended_at = None
            while selector.get_map():
                self._stopper.attend(self)
                if ended_at is None and self._process.poll() is not None:
                    ended_at = time.monotonic()
                left_running = ended_at is not None and time.monotonic() - ended_at > LINGER
                for key, _ in selector.select(0 if left_running else 0.2):
                    # In the end all that the relay may hold, and no more.
                    for chunk in islice(_chunks(key.fd), 16 if left_running else 1):
                        for line in buffers[key.fd].add(chunk):
                            yield key.fd == stdout, line
                        if not chunk:
                            selector.unregister(key.fd)
                if left_running:
                    break
        for stream in self._streams:
            for line in buffers[stream.fileno()].add(b""):
                yield stream.fileno() == stdout, line
            stream.close()
        while self._process.poll() is None:
            self._stopper.attend(self)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)

    def wait(self) -> int:
        """Return the child's exit code, negative where a signal ended it.

        Where it still runs, nobody listens any more: it is stopped. So is what it has started,
        where it was asked to stop, or killed.
        """
        while self._process.poll() is None:
            self._stopper.stop(self, "nobody listens to it")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stopper.grace)
        code = self._process.wait()
        if self._stopper.by or code < 0:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGTERM)
        for relay in self._relays:
            relay.poll()  # one that has ended is no zombie from here on
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGKILL goes to all that it has started, too."""
        with suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:  # the child alone: Terraform stops its provisioners and providers by itself
                os.kill(self._process.pid, number)


def signal_name(number: int) -> str:
    """The name of a signal, of a real-time signal too."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Lines:
    """Makes lines of chunks, in memory for one line."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self._length = 0

    def add(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that this chunk ends; an empty one ends the last."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._keep(end)
            yield self._take()
        self._keep(rest)
        if not chunk and self._begun:
            yield self._take()

    def _keep(self, part: bytes) -> None:
        part = part[: MAX_LINE - self._length]
        if part:
            self._begun.append(part)
            self._length += len(part)

    def _take(self) -> bytes:
        line = b"".join(self._begun)
        self._begun.clear()
        self._length = 0
        return line


def _chunks(descriptor: int) -> Iterator[bytes]:
    """Yield what is in the pipe now, an empty chunk where its other end is closed."""
    chunk = b"more"
    while chunk:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        yield chunk


def _start_relay() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _RELAY],
        env={"PATH": os.environ.get("PATH", os.defpath)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # away from what is done to the child's group and to ours
    )


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # it was asked for
    return stream
