"""Two hundred orders for one worker, eight at a time: `make load` prints the figures.

Terraform is a script that takes a second; queues, bucket and STS are ministack's, Service Catalog
is the sandbox. Exits with 1 where an order has not ended, or not once, or a message is left.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "served"))

from conftest import sandboxes
from ministack_server import ministack_server
from served_cli import HELLO, Station, order, packed

ORDERS = int(os.environ.get("ORDERS", "200"))
AT_ONCE = 8
TAKES = 1.0

TERRAFORM = f"""
for word in "$@"; do case $word in -out=*) printf '{{}}' >"${{word#-out=}}" ;; esac; done
[ "$1" != apply ] || sleep {TAKES}
"""


def memory(pid: int) -> float:
    """The memory of a process and of all that it has begun, shared pages once, in MiB."""
    total, processes = 0, [pid]
    while processes:
        process = processes.pop()
        try:
            smaps = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in smaps.splitlines() if "Pss:" in line)
            children = Path(f"/proc/{process}/task/{process}/children").read_text()
        except (OSError, StopIteration):  # it has ended
            continue
        processes += map(int, children.split())
    return total / 1024


def orders_of(pid: int) -> int:
    """How many orders a worker has under way: its children, but for the one with the queues."""
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) - 1


def main() -> int:
    home = Path(tempfile.mkdtemp(prefix="load-"))
    records = [f"rec-{number}" for number in range(ORDERS)]
    with ministack_server(home) as ministack, sandboxes(home) as start:
        sandbox = start(*[option for record in records for option in ("--record", record)])
        station = Station(home, ministack, sandbox)
        station.upload("v1", packed(main_tf=HELLO))
        for number, record in enumerate(records):
            station.send(order(record=record, product=f"pp-{number}"))
        began = time.monotonic()
        process = station.start(
            *("--at-once", str(AT_ONCE), "--terraform", station.program(TERRAFORM)),
            output=str(home / "output"),
        )
        memories, taken = [], []
        while (ended_now := len(sandbox.calls())) < ORDERS and process.poll() is None:
            time.sleep(0.5)
            memories.append(memory(process.pid))
            if AT_ONCE <= ended_now <= ORDERS - 2 * AT_ONCE:
                taken.append(orders_of(process.pid))
        took = time.monotonic() - began
        time.sleep(3)
        idle = memory(process.pid)
        ticks = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().split()[13:17]))
        time.sleep(10)
        ticks = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().split()[13:17])) - ticks
        process.terminate()
        process.wait()
        left = sum(station.left(queue) for queue in station.queues.values())
        calls = [record for record, _, _ in sandbox.calls()]
        ended = [record for record in records if sandbox.status(record) == "SUCCEEDED"]
    third = len(memories) // 3
    print(f"{ORDERS} orders, {AT_ONCE} at once, Terraform takes {TAKES:.0f} s:")
    print(f"  {took:.0f} s, {ORDERS * TAKES / AT_ONCE:.0f} s of that Terraform's own")
    print(f"  {sum(taken) / len(taken) / AT_ONCE:.0%} of the places taken while orders waited")
    print(f"  {len(ended)} ended SUCCEEDED, {len(calls)} reports, {left} messages left")
    print(f"  memory {max(memories[:third]):.0f} MiB at the most in the first third, ", end="")
    print(f"{max(memories[-third:]):.0f} MiB in the last, {idle:.0f} MiB with nothing to do")
    print(f"  {ticks / os.sysconf('SC_CLK_TCK') / 10:.1%} of a processor with nothing to do")
    return 0 if len(ended) == len(calls) == ORDERS and left == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
