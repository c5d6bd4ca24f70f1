"""Has machines vanish for some minutes, and counts: `make torture JOURNAL=dynamodb`.

`torture_shared.py 0.1` does less. Each machine has a home and, where that is allowed, a PID
namespace of its own; all share a table on ministack, with leases of ten seconds. Three rounds:
* sixteen at a time, killed at a named step or at any moment, the whole machine with all it runs;
* workers that are frozen past their lease, and go on then;
* a table and a Service Catalog that throttle, fail, drop, answer by half or late, killed besides.

Afterwards, with the leases over, messages come again and `resend` has to bring it to an end. What
counts is said in `torture`. Exits with 1 where a result is lost or doubled, or where a body is left
in the table.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torture
from conftest import CREDENTIALS, sandboxes
from gate import KINDS, PASS, gate
from journal_cli import JOURNAL, SEND, Desk, hold_run
from ministack_server import ministack_server
from tables import new_table
from torture import Figures, in_charge, kill_somewhere, settle_up

LEASE = 10
MACHINES = 6

STEPS = [
    *(f"{JOURNAL}.{name}" for name in ("begin", "owe", "settle", "refuse", "keep", "claim")),
    *(f"{JOURNAL}.{name}" for name in ("applying", "close")),
    *(f"workflow_result.journal.table:Table.call:{n}" for n in (1, 2, 3, 4)),
    SEND,
    f"{SEND}:2",
    "workflow_result.engine.program:Program.step:2",
]
# Process 1 of a namespace cannot be killed from inside: a shell is that.
NAMESPACE = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
INSIDE = ["sh", "-c", '"$@" 2>&2; exit $?', "sh"]

chance = random.Random()  # noqa: S311


def pick(machines: Sequence[Desk]) -> Desk:
    return machines[chance.randrange(len(machines))]


def sixteen_at_a_time(machines: Sequence[Desk], records: Sequence[str], figures: Figures) -> None:
    def try_out(record: str) -> None:
        desk = pick(machines)
        kill_somewhere(desk, figures, lambda **more: torture.start(desk, record, **more), STEPS)

    def one(record: str) -> None:
        try_out(record)
        if chance.random() < 0.3:  # a queue delivers a message more than once
            try_out(record)
        if chance.random() < 0.3:
            desk = pick(machines)
            kill_somewhere(desk, figures, lambda **more: desk.start("resend", **more), STEPS)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, records))
    end(machines, records, figures)


def frozen(machines: Sequence[Desk], records: Sequence[str], figures: Figures) -> None:
    def one(record: str) -> None:
        desk = pick(machines)
        process = hold_run(desk, record)
        time.sleep(chance.uniform(0, 2))
        process.send_signal(signal.SIGSTOP)
        time.sleep(chance.uniform(0.5, 1.8) * LEASE)
        pick(machines).main("resend")
        process.send_signal(signal.SIGCONT)
        time.sleep(chance.uniform(0, 1))
        process.send_signal(signal.SIGTERM)
        figures.killed(process)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, records))
    for desk in machines:
        (desk.artifact / "hold").unlink(missing_ok=True)
    end(machines, records, figures)


def end(machines: Sequence[Desk], records: Sequence[str], figures: Figures) -> None:
    desk = machines[0]
    desk.environment = {}
    time.sleep(1.2 * LEASE + 2)
    settle_up(desk, records, in_charge(desk, records), figures)
    assert desk.shared
    bodies = [i["record"] for i in desk.shared.items() if "body" in i and i["state"] == "reported"]
    figures.found("token left", bodies)


@contextmanager
def machines_for(
    name: str, records: Sequence[str], figures: Figures, *options: str, namespaces: bool = True
) -> Iterator[list[Desk]]:
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    began = time.monotonic()
    prefix = [*NAMESPACE, *INSIDE] if namespaces else []
    try:
        with ministack_server(folder) as server, sandboxes(folder) as start_sandbox:
            sandbox = start_sandbox(*(f"--record={r}" for r in records), *options)
            table = new_table(server)
            yield [
                Desk(folder / f"machine-{n}", sandbox, shared=table, lease=LEASE, prefix=prefix)
                for n in range(MACHINES)
            ]
            figures.requests += len(sandbox.calls())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{name}, {time.monotonic() - began:.0f} s; so far {figures.line()}", flush=True)


def main() -> int:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1
    os.environ.update(CREDENTIALS)
    figures = Figures()
    namespaces = subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0
    if not namespaces:
        print("unshare is missing or not allowed: the machines share their process IDs")

    records = [f"rec-{n}" for n in range(int(300 * share))]
    name = "machines that vanish"
    with machines_for(name, records, figures, namespaces=namespaces) as machines:
        sixteen_at_a_time(machines, records, figures)

    records = [f"rec-{n}" for n in range(max(2, int(24 * share)))]
    with machines_for("frozen", records, figures, namespaces=False) as machines:
        frozen(machines, records, figures)

    records = [f"rec-{n}" for n in range(int(150 * share))]
    misbehaviours = [f"--misbehave={kind}:4" for kind in torture.KINDS] * max(1, int(3 * share))
    name = "misbehaving"
    with machines_for(name, records, figures, *misbehaviours, namespaces=namespaces) as machines:
        assert machines[0].shared
        with gate(machines[0].shared.server.url) as opened:
            kinds = sorted(KINDS)
            opened.decide = lambda *_: chance.choice(kinds) if chance.random() < 0.15 else PASS
            for desk in machines:
                desk.environment |= opened.environment
            sixteen_at_a_time(machines, records, figures)
    return torture.verdict(figures)


if __name__ == "__main__":
    sys.exit(main())
