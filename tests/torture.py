"""Kills main.py for some minutes, and counts: `make torture`; `torture.py 0.1` does less.

For a journal that machines share, see `torture_shared`. Three rounds, each on journals that many
processes share, with real processes and real kills:
* sixteen at a time, killed at a named step or at any moment;
* killed at every system call that touches the journal's files (needs strace);
* an endpoint that throttles, fails, drops, answers by half, rubbish or never, killed besides.

Afterwards `resend` has to bring it to an end. A result counts once `notify` or `run` took charge
of it: it is in the journal, or Service Catalog has seen it. Such a result is lost when its record
has not ended, and doubled when it was asked for under two IdempotencyTokens. Exits with 1 where
one is lost or doubled, or a piece of a token is left in a file.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "engine"))

from conftest import CREDENTIALS, MAIN, Sandbox, sandboxes
from journal_cli import JOURNAL, SEND, STORE, Desk, a_message, a_request

from workflow_result import reporting
from workflow_result.delivery import Delivery
from workflow_result.journal.place import open_journal
from workflow_result.journal.record import State
from workflow_result.journal.store import JournalProblem
from workflow_result.pace import AT_MOST
from workflow_result.resending import resend

STEPS = [
    *(f"{JOURNAL}.{name}" for name in ("__init__", "begin", "owe", "settle", "refuse", "keep")),
    *(f"{JOURNAL}.{name}" for name in ("claim", "close", "applying")),
    *(f"{STORE}.{name}" for name in ("__init__", "change", "change:2", "_enter", "_enter:2")),
    *(
        "sqlite3:connect",
        SEND,
        f"{SEND}:2",
        "workflow_result.engine.program:Program.step:2",
    ),
]
SYSTEM_CALLS = ["openat", "pwrite64", "fdatasync", "unlink", "ftruncate"]
KINDS = ["throttle", "unavailable", "broken", "drop", "drop-after", "half", "rubbish"]

chance = random.Random()  # noqa: S311


class Figures:
    """What happened. Safe for use from many threads."""

    def __init__(self) -> None:
        self.kills = 0
        self.requests = 0
        self.results = 0
        self.faults: dict[str, set[str]] = {"lost": set(), "doubled": set(), "token left": set()}
        self._lock = threading.Lock()

    def killed(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the end of `process`; whether a kill was its end."""
        process.communicate()
        killed = process.returncode in (-9, 128 + 9)  # the latter through a shell
        with self._lock:
            self.kills += killed
        return killed

    def found(self, fault: str, names: Sequence[str]) -> None:
        with self._lock:
            self.faults[fault].update(names)

    def line(self) -> str:
        faults = ", ".join(f"{len(names)} {fault}" for fault, names in self.faults.items())
        return f"{self.kills} kills, {self.requests} requests, {self.results} results: {faults}"


def start(desk: Desk, record: str, **settings: Any) -> subprocess.Popen[bytes]:
    """A `notify` of a small or a large result, or a `run`, told by the record."""
    kind = int(record.rpartition("-")[2]) % 4
    if kind == 3:
        return desk.start(*desk.run_options, stdin=a_message(record), **settings)
    large: dict[str, Any] = (
        {"Outputs": [{"OutputKey": "k", "OutputValue": "x" * 30_000}]} if kind == 2 else {}
    )
    return desk.start("notify", stdin=a_request(record, **large), **settings)


def kill_somewhere(
    desk: Desk, figures: Figures, starter: Callable[..., Any], steps: Sequence[str] = STEPS
) -> None:
    """Start something and have it killed: at a step, at any moment, or not at all."""
    match chance.randrange(5):
        case 0 | 1:
            settings = desk.killed(chance.choice(["before", "after"]), chance.choice(steps))
            figures.killed(starter(**settings))
        case 2 | 3:
            process = starter()
            time.sleep(chance.uniform(0, 3))
            process.kill()
            figures.killed(process)
        case _:
            figures.killed(starter())


def in_charge(desk: Desk, records: Sequence[str]) -> set[str]:
    """Those of which the journal or Service Catalog knows."""
    seen = {record for record, _, _ in desk.sandbox.calls()} & set(records)
    with suppress(JournalProblem):
        seen |= set(desk.pending())
    return seen


def come_again(desk: Desk) -> None:
    """Have the queue deliver the messages again whose runs died before they applied anything."""
    for record, entry in desk.pending().items():
        if entry.state == State.DIED:
            desk.run(record)


def settle_up(desk: Desk, records: Sequence[str], taken: set[str], figures: Figures) -> None:
    """Have the queue and `resend` bring it to an end; then count."""
    for _ in range(30):
        come_again(desk)
        if desk.main("resend").code == 0:
            break
    ended = {r for r in records if desk.sandbox.status(r) != "IN_PROGRESS"}
    figures.results += len(taken)
    figures.found("lost", sorted(taken - ended | set(desk.pending()) & taken))
    figures.found("doubled", [r for r in records if len(desk.tokens(r)) > 1])
    figures.found("token left", [str(file) for file in desk.leftovers()])


def sixteen_at_a_time(desk: Desk, records: Sequence[str], figures: Figures) -> None:
    def one(record: str) -> None:
        kill_somewhere(desk, figures, lambda **settings: start(desk, record, **settings))
        if chance.random() < 0.3:
            kill_somewhere(desk, figures, lambda **settings: desk.start("resend", **settings))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, records))
    settle_up(desk, records, in_charge(desk, records), figures)


def every_system_call(what: str, desk: Desk, records: Iterator[str], figures: Figures) -> None:
    """At the first call, the second, … of a small or large `notify`, a `run` or a `resend`."""
    used: list[str] = []
    taken: set[str] = set()
    delivery = Delivery("us-east-1", None, desk.sandbox.url, AT_MOST)

    def next_record() -> str:
        kind = {"notify": 0, "large notify": 2, "run": 3, "resend": 1}[what]
        used.append(next(r for r in records if int(r.rpartition("-")[2]) % 4 == kind))
        return used[-1]

    def kill_at(call: str, number: int) -> bool:
        through = through_strace(desk, call, number)
        if what == "resend":
            owed = [next_record(), next_record()]
            desk.owe(*owed)
            taken.update(owed)
            process = desk.start("resend", through=through)
        else:
            process = start(desk, next_record(), through=through)
        killed = figures.killed(process)
        taken.update(in_charge(desk, used))
        # The next command clears away what a killed one leaves, and brings it to an end.
        journal = open_journal(desk.journal)
        resend(journal, delivery, None, progress=False)
        journal.close()
        come_again(desk)
        figures.found("token left", [str(file) for file in desk.leftovers()])
        return killed

    for call in SYSTEM_CALLS:
        number = 1
        while kill_at(call, number):
            number += 1
    settle_up(desk, used, taken, figures)


def through_strace(desk: Desk, call: str, number: int) -> list[str | Path]:
    files = [desk.folder, desk.journal, *(f"{desk.journal}{end}" for end in ("-journal", ".lock"))]
    paths = [part for file in files for part in ("-P", str(file))]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    script = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", *paths, *inject]
    return ["-c", script, *command, sys.executable, MAIN]


@contextmanager
def a_desk(name: str, records: Sequence[str], figures: Figures, *options: str) -> Iterator[Desk]:
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    began = time.monotonic()
    try:
        with sandboxes(folder) as start_sandbox:
            sandbox: Sandbox = start_sandbox(*(f"--record={r}" for r in records), *options)
            desk = Desk(folder / "desk", sandbox)
            yield desk
            figures.requests += len(sandbox.calls())
    finally:
        shutil.rmtree(folder)
    print(f"{name}, {time.monotonic() - began:.0f} s; so far {figures.line()}", flush=True)


def verdict(figures: Figures) -> int:
    """Tell what was lost, doubled or left; return the exit code."""
    for fault, names in figures.faults.items():
        print(f"{fault}: {', '.join(sorted(names)) or 'none'}")
    return any(figures.faults.values())


def main() -> int:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1
    os.environ.update(CREDENTIALS)
    setattr(reporting, "say", lambda *_, **__: None)  # noqa: B010  # of what `resend` does in this process
    figures = Figures()
    records = [f"rec-{n}" for n in range(int(400 * share))]
    with a_desk("sixteen at a time", records, figures) as desk:
        sixteen_at_a_time(desk, records, figures)
    misbehaviours = [f"--misbehave={kind}:4" for kind in KINDS] * max(1, int(3 * share))
    records = [f"rec-{n}" for n in range(int(150 * share))]
    with a_desk("misbehaving", records, figures, *misbehaviours, "--misbehave=silent:3") as desk:
        desk.environment["AWS_MAX_ATTEMPTS"] = "1"
        sixteen_at_a_time(desk, records, figures)
    if shutil.which("strace"):
        records = [f"rec-{n}" for n in range(2000)]

        def one(what: str) -> None:
            with a_desk(f"{what}, at every system call", records, figures) as desk:
                every_system_call(what, desk, iter(records), figures)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, ["notify", "run", "resend", "large notify"][: int(4 * share) or 1]))
    else:
        print("strace is missing: not killed at every system call")
    return verdict(figures)


if __name__ == "__main__":
    sys.exit(main())
