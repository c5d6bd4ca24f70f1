"""Measuring: whole processes, in alternating runs."""

import os
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            last = errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            name = " ".join(Path(word).name for word in command[:2])
            raise NotMeasured(f"{name} ended with {child.returncode}: {last}")
    # Linux counts a child's memory from before it becomes another program, when it is a copy
    # of this process: a figure below this process's own would be this process's.
    if usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        return Sample(seconds)
    return Sample(seconds, usage.ru_maxrss)


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
            except NotMeasured as reason:
                reasons[name] = str(reason)
                del samples[name]
            else:
                if turn:
                    samples[name].append(sample)
    return samples, reasons
