"""Measuring: whole processes, in alternating runs."""

import os
import random
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GRACE = 15
"""Seconds that what is measured gets to end when this process is stopped."""


@dataclass(frozen=True)
class Sample:
    """What one run took: seconds, and the most memory in KiB."""

    seconds: float
    peak: int = 0


class NotMeasured(Exception):
    """It cannot be measured on this machine; the text says why."""


def process(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    stdin: bytes = b"",
    folder: Path | None = None,
) -> Sample:
    """Run a process to its end. Raises `NotMeasured` where it fails."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        begin = time.perf_counter()
        child = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            process_group=0,  # so that all of it can be ended, and by this process alone
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            _end(child)
            raise
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()
            error = re.search(r"\bError: .*", said)  # Terraform draws a frame around it
            why = error[0] if error else said.rpartition("\n")[2]
            name = " ".join(Path(word).name for word in command[:2])
            raise NotMeasured(f"{name} ended with {child.returncode}: {why}")
    # Linux counts a child's memory from before it becomes another program, when it is a copy
    # of this process: a figure below this process's own would be this process's.
    if usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        return Sample(seconds)
    return Sample(seconds, usage.ru_maxrss)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process and its group: ask first, as Terraform needs it, and kill it in the end."""
    with suppress(ProcessLookupError, PermissionError):  # none is left; macOS says it like that
        os.killpg(child.pid, signal.SIGTERM)
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            child.poll()
            os.killpg(child.pid, 0)
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def alternate(
    measures: Mapping[str, Callable[[], Sample]],
    runs: int,
    say: Callable[[str], None],
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Take each measure `runs` times, in turns, so that what else the machine does hits all.

    The order changes from turn to turn, so that none always comes after the same. Returns the
    samples, and for those that cannot be measured the reason.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in measures}
    reasons: dict[str, str] = {}
    shuffle = random.Random(0).shuffle  # noqa: S311, no secret is made of it
    for turn in range(runs + 1):
        names = [name for name in measures if name not in reasons]
        shuffle(names)
        for name in names:
            say(f"{name}, {turn} of {runs}" if turn else f"{name}, to warm up")
            try:
                sample = measures[name]()
            except Exception as reason:  # whatever it is, the other measures go on
                reasons[name] = str(reason) if isinstance(reason, NotMeasured) else repr(reason)
                del samples[name]
            else:
                if turn:
                    samples[name].append(sample)
    return samples, reasons
