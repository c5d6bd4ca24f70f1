"""A thousand machines and twenty thousand orders on virtual time, with a shared journal and faults.

    python simulation.py [ORDERS [MACHINES [SEED]]]

Twice: with faults, then without. The same numbers make the same figures.

`run`, `notify` and `resend` are the program's own code, from `carry_out` to the calls of boto3's
client. Terraform, SQS, DynamoDB and Service Catalog are models. See docs/performance.md.
"""

import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import virtual_time
from simulated_aws import ClientTable, Delivery, Faults, Item, Network, ServiceCatalog, Table
from virtual_time import Event, Machine, Process, World, here

from workflow_result import pace, reporting, resending
from workflow_result.account import Account
from workflow_result.engine import order as orders
from workflow_result.engine.message import Message
from workflow_result.engine.terraform import Ending, Settings
from workflow_result.journal import Journal, clock, dynamodb
from workflow_result.journal.dynamodb import DynamoDBStore
from workflow_result.journal.store import JournalProblem
from workflow_result.problem import ExitCode, Problem
from workflow_result.reporting import Reporter

TOKEN = "token-of-all-orders"
LEASE, MARGIN, EVERY = 300, 60, 300
"""Seconds: the default lease, its margin, and how often `resend` is started."""

HOUR = 3600.0
ORDERS_COME = 4 * HOUR
DELETED = (ExitCode.DONE, ExitCode.FAILED, ExitCode.INVALID, ExitCode.REFUSED)
"""After these the queue's message is deleted."""

THREADS = SimpleNamespace(
    Thread=virtual_time.Thread, Lock=virtual_time.Lock, Event=virtual_time.Event
)


@dataclass(eq=False)
class Run:
    """What became of one process. The simulation sees it all, the program none of it."""

    order: "Order"
    calls: Counter[str] = field(default_factory=Counter)
    owner: str = ""
    applied: bool = False
    stopped: bool = False
    ended_as: str = ""
    """How Terraform came to its end by itself."""
    exit_code: ExitCode | None = None
    taken_over_at: float = 0.0
    frozen_until: float = 0.0
    stood_still: bool = False
    """Whether its machine's clock stood still, too, as that of a virtual machine may."""
    vanished_at: float = 0.0
    vanished_in: str = ""
    """What the table had of the record when the machine vanished."""
    alone: bool = False
    """Whether it sent what it could not enter."""


@dataclass(eq=False)
class Order:
    message: Message
    comes_at: float
    runs: list[Run] = field(default_factory=list)
    by_hand: bool = False
    applying: list[Run] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    @property
    def record(self) -> str:
        return self.message.record_id


class StopRequests(orders.StopRequests):
    """What asks a run to end, and wakes the model of Terraform."""

    def __init__(self) -> None:
        super().__init__()
        self.come = Event()

    def append(self, reason: str) -> None:
        super().append(reason)
        self.come.set()


class Simulation:
    """`trouble` is a factor for all faults: without one nothing goes wrong."""

    def __init__(self, orders: int, machines: int, seed: int, trouble: float = 1.0) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.trouble = trouble
        self.world = World()
        few = 0.004 * trouble
        outages = [(1.5 * HOUR, 1.5 * HOUR + 200), (2.5 * HOUR, 2.5 * HOUR + 480)]
        faults = Faults(few, few, few, few, few / 2, outages if trouble else [])
        self.table = Table(Network(self.world, self.chance, faults), self.check_write)
        many = 0.02 * trouble
        outages = [(3.2 * HOUR, 3.2 * HOUR + 600)]
        faults = Faults(many, many, many, many, many / 2, outages if trouble else [])
        self.catalog = ServiceCatalog(Network(self.world, self.chance, faults))
        self.catalog.told = lambda record, what: self.note(
            self.orders[record], f"Service Catalog {what}"
        )
        self.machines = [self.new_machine() for _ in range(machines)]
        self.idle = list(self.machines)
        self.orders = {order.record: order for order in map(self.new_order, range(orders))}
        self.owners: dict[str, Run] = {}
        self.messages = 0
        self.waits: list[float] = []
        self.figures: Counter[str] = Counter()
        self.faults: list[tuple[Order, str]] = []
        self.writes: Counter[str] = Counter()
        self.stops_at = 0.0
        self.late: list[Order] = []
        self.after_lease: list[float] = []

    def likely(self, part: float) -> bool:
        return self.chance.random() < part * self.trouble

    def new_machine(self) -> Machine:
        wrong = self.chance.uniform(-HOUR, HOUR) if self.likely(0.2) else 0.0
        drift = self.chance.gauss(0, 5e-5) * self.trouble
        return Machine(self.world, wrong, drift)

    def new_owner(self) -> SimpleNamespace:
        return SimpleNamespace(hex=f"{len(self.owners):x}")

    def new_order(self, number: int) -> Order:
        operation = self.chance.choice(["provision", "update", "terminate"])
        message = Message(operation, f"rec-{number}", f"pp-{number}", {}, {}, TOKEN)
        return Order(message, self.chance.uniform(0, ORDERS_COME))

    # --- what happens -------------------------------------------------------------------------

    def run(self) -> None:
        for order in self.orders.values():
            self.messages += 1
            self.at(order.comes_at, self.deliver, order, order.comes_at, False)
            if self.likely(0.05):  # the queue delivers it twice
                self.messages += 1
                later = order.comes_at + self.chance.choice([0.0, self.chance.expovariate(1 / 300)])
                self.at(later, self.deliver, order, later, True)
            if self.likely(0.01):
                self.at(order.comes_at + self.chance.expovariate(1 / 600), self.notify, order)
        for number in range(3):
            self.at(7.0 * number, self.resend)
        with self.installed():
            self.world.run()
        self.check_end()

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        self.world.at(when, lambda: what(*arguments))

    def later(self, seconds: float, what: Callable[..., None], *arguments: Any) -> None:
        self.at(self.world.now + seconds, what, *arguments)

    def deliver(self, order: Order, since: float, is_duplicate: bool) -> None:
        """The queue gives a message to a machine."""
        if not self.idle:
            self.figures["waited for a machine"] += 1
            self.later(10, self.deliver, order, since, is_duplicate)
            return
        machine = self.idle.pop(self.chance.randrange(len(self.idle)))
        run = Run(order)
        order.runs.append(run)
        process = Process(machine, run)
        gone = self.doom(process)

        def ended() -> None:
            if machine.is_gone:
                self.later(120, self.replace, machine)
            else:
                self.idle.append(machine)
            if run.exit_code in DELETED:
                self.messages -= 1
                if is_duplicate:
                    self.waits.append(self.world.now - since)
            elif machine.is_gone and self.is_known(order) and self.likely(0.3):
                self.figures["messages lost with their machine"] += 1
                self.messages -= 1
            else:
                wait = self.chance.uniform(60, 180)
                self.later(wait, self.deliver, order, since, is_duplicate)

        gone.append(ended)
        process.start(lambda: self.run_one(run, process, ended))

    def replace(self, machine: Machine) -> None:
        self.idle.append(self.new_machine())

    def doom(self, process: Process) -> list[Callable[[], None]]:
        """Choose what befalls the machine of a process; return what to call when it vanishes."""
        gone: list[Callable[[], None]] = []
        machine, chance, run = process.machine, self.chance, process.about

        def vanish() -> None:
            if not process.is_dead:
                self.figures["machines that vanished"] += 1
                run.vanished_at = self.world.now
                run.vanished_in = self.state_of(run)
                self.note(run.order, f"{run.owner} vanishes")
                machine.vanish()
                for call in gone:
                    call()

        def freeze() -> None:
            if not process.is_dead and machine.frozen_until < self.world.now:
                self.figures["machines that froze"] += 1
                clock = chance.random() < 0.3
                run.stood_still |= clock
                machine.freeze(chance.uniform(20, 1500), clock=clock)
                run.frozen_until = machine.frozen_until
                self.note(run.order, f"{run.owner} freezes until {machine.frozen_until:.2f}")

        def cut_off() -> None:
            self.figures["machines that did not reach the table"] += 1
            machine.unreachable = (self.world.now, self.world.now + chance.uniform(20, 900))
            self.note(run.order, f"{run.owner} is cut off until {machine.unreachable[1]:.2f}")

        for part, what in ((0.03, vanish), (0.03, freeze), (0.02, cut_off)):
            if self.likely(part):
                self.later(chance.expovariate(1 / 200), what)
        if self.likely(0.05):
            ends, what = chance.randrange(14), chance.choice([vanish, freeze])

            def at_call(_: str) -> None:
                nonlocal ends
                ends -= 1
                if ends == 0:
                    # After it was sent, before it has arrived; or right here.
                    if chance.random() < 0.5:
                        self.later(0.001, what)
                    else:
                        what()

            process.at_call = at_call
        return gone

    def open(self, run: Run) -> Journal:
        store = DynamoDBStore("journal", LEASE, "us-east-1", Account("us-east-1", None))
        run.owner = store._owner
        self.owners[run.owner] = run
        return Journal(store)

    def run_one(self, run: Run, process: Process, ended: Callable[[], None]) -> None:
        """What `workflow_result.cli.run` does."""
        delivery = self.delivery(process)
        reporter = Reporter(lambda: self.open(run), delivery)  # type: ignore[arg-type]
        settings = Settings(Path(), "terraform", None, 300)
        try:
            _, run.exit_code = orders.carry_out(
                run.order.message, reporter, orders.PreparedFolder(settings)
            )
        except Problem as problem:
            run.exit_code = problem.exit_code
        finally:
            reporter.close()
        self.note(run.order, f"{run.owner} ends, {run.exit_code}")
        ended()

    def delivery(self, process: Process) -> Delivery:
        delivery, run = Delivery(self.catalog, process), process.about

        def sending() -> None:
            if run.taken_over_at and run.applied:
                # Who cannot ask the table, and whose clock stood still, cannot know.
                self.figures["tried to report after a clock that stood still"] += run.stood_still
            if run.taken_over_at and run.applied and not run.stood_still:
                self.fault(run.order, "a run that was taken over reports")
            item = self.table.items.get(f"aws#{run.order.record}", {})
            if item.get("owner", {}).get("S") != run.owner or item["state"]["S"] != "owed":
                run.alone = True
            self.note(run.order, f"{run.owner} sends")

        delivery.sending = sending
        return delivery

    def notify(self, order: Order) -> None:
        """Somebody reports a result by hand."""
        machine = self.new_machine()
        run = Run(order)
        process = Process(machine, run)
        self.doom(process)
        self.figures["results told by hand"] += 1
        order.by_hand = True

        def main() -> None:
            reporter = Reporter(lambda: self.open(run), self.delivery(process))  # type: ignore[arg-type]
            reason = self.chance.choice([None, "By hand."])
            try:
                reporter.report(order.message.result([], reason))
            except Problem as problem:
                run.exit_code = problem.exit_code
            finally:
                reporter.close()

        process.start(main)

    def resend(self) -> None:
        machine = self.new_machine()
        run = Run(Order(Message("provision", "resend", "", {}, {}, TOKEN), 0))
        process = Process(machine, run)
        self.doom(process)
        self.figures["processes of resend"] += 1

        def main() -> None:
            journal = self.open(run)
            delivery: Any = Delivery(self.catalog, process)
            try:
                resending.resend(journal, delivery, None, progress=False)
            except JournalProblem:
                self.figures["resend without the table"] += 1
            finally:
                journal.close()

        process.start(main)
        self.is_calm()
        if not self.stops_at or self.world.now < self.stops_at:
            self.later(EVERY + self.chance.uniform(-3, 3), self.resend)

    def is_calm(self) -> None:
        """In the end nothing goes wrong any more, and `resend` goes on for an hour."""
        if self.stops_at or self.world.now < ORDERS_COME or self.messages:
            return
        self.trouble = 0.0
        self.table.network.is_calm = self.catalog.network.is_calm = True
        self.stops_at = self.world.now + 1.5 * HOUR

    # --- Terraform ----------------------------------------------------------------------------

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have the program's modules use what stands for threads, clocks and Terraform here."""
        simulation = self
        ClientTable.simulated = self.table

        class Terraform:
            def __init__(
                self,
                message: Message,
                settings: Settings,
                stop_requests: StopRequests,
                before_apply: Callable[[], None],
            ) -> None:
                self.stop_requests, self.before_apply = stop_requests, before_apply

            def run(self) -> Ending:
                return simulation.terraform(here().about, self.stop_requests, self.before_apply)

        silent: Callable[..., None] = lambda *_, **__: None  # noqa: E731
        with (
            patch.object(clock, "time", virtual_time.Time),
            patch.object(dynamodb, "threading", THREADS),
            patch.object(dynamodb, "uuid", SimpleNamespace(uuid4=self.new_owner)),
            patch.object(dynamodb, "ThreadPoolExecutor", virtual_time.ThreadPoolExecutor),
            patch.object(dynamodb, "Table", ClientTable),
            patch.object(resending, "Thread", virtual_time.Thread),
            patch.object(resending, "SimpleQueue", virtual_time.SimpleQueue),
            patch.object(resending, "time", virtual_time.Time),
            patch.object(resending, "say", silent),
            patch.object(pace, "random", self.chance),
            patch.object(reporting, "say", silent),
            patch.object(orders, "say", silent),
            patch.object(orders, "saying_aside", nullcontext),
            patch.object(orders, "_signals_kept", lambda _: nullcontext(StopRequests())),
            patch.object(orders, "TerraformRun", Terraform),
        ):
            yield

    def terraform(
        self, run: Run, stop_requests: StopRequests, before_apply: Callable[[], None]
    ) -> Ending:
        chance = self.chance
        if stop_requests.come.wait(chance.lognormvariate(3.4, 0.8)):  # a median of 30 s
            run.stopped = True
            self.world.wait(chance.expovariate(1 / 2))
            return Ending(failure_reason=stop_requests[0], exit_code=ExitCode.FAILED)
        if chance.random() < 0.03:
            run.ended_as = "FAILED"
            return Ending(failure_reason="No plan.", exit_code=ExitCode.FAILED)
        before_apply()
        if run.order.applying:
            self.figures["applied at the same time as another"] += 1
        if run.order.record in self.catalog.taken:
            self.late.append(run.order)
            # Somebody may tell a result while the table is out of reach.
            if not (run.order.by_hand or run.stood_still):
                self.fault(run.order, "begins to apply after a result")
        self.note(run.order, f"{run.owner} applies")
        run.applied = True
        run.order.applying.append(run)
        if stop_requests.come.wait(chance.lognormvariate(5.5, 1.0)):  # a median of 4 minutes
            run.stopped = True
            self.note(run.order, f"{run.owner} stops: {stop_requests[0]}")
            self.world.wait(chance.expovariate(1 / 20))
            if run.taken_over_at:
                self.after_lease.append(self.world.now - max(run.taken_over_at, run.frozen_until))
        run.order.applying.remove(run)
        if run.stopped:
            return Ending(failure_reason=stop_requests[0], exit_code=ExitCode.FAILED)
        if chance.random() < 0.08:
            run.ended_as = "FAILED"
            return Ending(failure_reason="Error: no.", exit_code=ExitCode.FAILED)
        run.ended_as = "SUCCEEDED"
        outputs: Any = [{"OutputKey": "id", "OutputValue": run.order.record}]
        return Ending(outputs)

    # --- what must hold -----------------------------------------------------------------------

    def fault(self, order: Order, what: str) -> None:
        self.faults.append((order, what))

    def note(self, order: Order, what: str) -> None:
        order.trace.append(f"{self.world.now:9.2f} {what}")

    def state_of(self, run: Run) -> str:
        item = self.table.items.get(f"aws#{run.order.record}", {})
        if item.get("owner", {}).get("S") != run.owner:
            return ""
        name = "phase" if item["state"]["S"] == "running" else "state"
        return str(item[name]["S"])

    def is_known(self, order: Order) -> bool:
        """Whether the journal brings it to an end by itself."""
        item = self.table.items.get(f"aws#{order.record}", {"state": {"S": "reported"}})
        return item["state"]["S"] != "reported" or "reported" in item

    def check_write(self, old: Item, new: Item) -> None:
        """What holds of every item in the table, whoever has written it."""
        record = new["record"]["S"].partition("#")[2]
        order = self.orders[record]
        state, owner = new["state"]["S"], new.get("owner", {}).get("S")
        phase = new.get("phase", {}).get("S", "")
        kind = (
            f"{state} {phase}".strip() if "reported" in new or state != "reported" else "struck off"
        )
        if all(old.get(name) == new.get(name) for name in ("state", "phase", "owner")):
            kind = "renewed"
        else:
            status = new.get("status", {}).get("S")
            self.note(order, f"{kind} {status or ''}, by {new['by']['S']}, owner {owner}")
        self.writes[kind] += 1
        if int(new["version"]["N"]) != int(old.get("version", {"N": 0})["N"]) + 1:
            self.fault(order, "a version was left out")
        if state == "reported" and {"body", "owner", "lease", "destination", "due_at"} & set(new):
            self.fault(order, f"a reported item has {set(new)}")
        if ("expires" in new) != (state == "reported" and "reported" in new):
            self.fault(order, f"a {state} item expires, or never does")
        if state in ("running", "owed") and "body" not in new:
            self.fault(order, f"a {state} item has no body")
        if "reported" in new and record not in self.catalog.taken:
            self.fault(order, "reported, says the journal, but Service Catalog has nothing")
        was = old.get("owner", {}).get("S")
        if was and was != owner and old["state"]["S"] == "running":
            by = self.owners[new["by"]["S"].partition("/")[0]]
            run = self.owners[was]
            if by is not run and not run.taken_over_at:
                run.taken_over_at = self.world.now
                over = EPOCH_1000 + self.world.now - float(old["lease"]["N"])
                if over < MARGIN - 2:
                    self.fault(order, f"taken over {over:.1f} s after its lease")

    def check_end(self) -> None:
        for order in self.orders.values():
            taken = self.catalog.taken.get(order.record)
            item = self.table.items.get(f"aws#{order.record}", {})
            state = item.get("state", {}).get("S", "nothing")
            if taken is None:
                self.fault(order, f"has no result; the journal has {state}")
                continue
            if state != "reported":
                if state != "refused":
                    self.fault(order, f"ended, but the journal has {state}")
                elif not any(run.alone for run in order.runs) and not order.by_hand:
                    self.fault(order, "refused")
            elif item["reported"]["M"]["idempotency_token"]["S"] != taken.token:
                self.fault(order, "the journal has another result than Service Catalog")
            for run in order.runs:
                if run.ended_as and not run.vanished_at and not run.taken_over_at:
                    self.check_run(order, run, taken.status)

    def check_run(self, order: Order, run: Run, status: str) -> None:
        """A run that came to its end: that is the result."""
        if run.ended_as != status and not order.by_hand:
            self.fault(order, f"was {run.ended_as} ({run.exit_code}), but is {status}")

    # --- figures ------------------------------------------------------------------------------

    def print_figures(self) -> None:
        runs = [run for order in self.orders.values() for run in order.runs]
        taken = self.catalog.taken
        results = Counter(result.status for result in taken.values())
        count = len(self.orders)
        print(f"orders: {count}, on {len(self.machines)} machines; processes of run: {len(runs)}")
        for name, number in sorted(self.figures.items()):
            print(f"{name}: {number}")
        codes = Counter(int(run.exit_code) for run in runs if run.exit_code is not None)
        print(f"exit codes: {dict(codes)}")
        presumed = sum(not t.sender.about.order.runs for t in taken.values())
        print(f"results: {dict(results)}, of which {presumed} sent by resend")
        calls = {name: round(number / count, 2) for name, number in self.table.calls.items()}
        print(f"calls an order: {calls}; {self.table.requests / count:.1f} with the repetitions")
        writes = {name: round(number / count, 2) for name, number in self.writes.items()}
        print(f"writes that were done, an order: {writes}")
        print(f"runs that were taken over: {sum(bool(run.taken_over_at) for run in runs)}")
        for state in ("preparing", "applying", "owed"):
            times = [
                max(0.0, taken[run.order.record].at - run.vanished_at)
                for run in runs
                if run.vanished_in == state and run.order.record in taken
            ]
            print(f"from vanishing while {state} to a result: {summary(times)}")
        print(f"a duplicate waited: {summary(self.waits)}")
        print(f"Terraform went on after it was taken over: {summary(self.after_lease)}")
        left = Counter(item["state"]["S"] for item in self.table.items.values())
        print(f"left in the table: {dict(left)}, {self.struck_off()} struck off for good")
        print(f"different results refused by Service Catalog: {len(self.catalog.refused)}")
        print(f"began to apply after a result: {len(self.late)}")
        print(f"faults: {len(self.faults)}")
        for order, what in self.faults[:3]:
            print(f"{order.record}: {what}", *order.trace, sep="\n    ")

    def struck_off(self) -> int:
        items = self.table.items.values()
        return sum(i["state"]["S"] == "reported" and "reported" not in i for i in items)


EPOCH_1000 = virtual_time.EPOCH + 1000


def summary(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return f"{len(seconds)} times"
    parts = statistics.quantiles(seconds, n=20)
    median, most = statistics.median(seconds), max(seconds)
    return f"{len(seconds)} times, median {median:.0f} s, 95 % {parts[-1]:.0f} s, most {most:.0f} s"


def main() -> int:
    numbers = [int(argument) for argument in sys.argv[1:]]
    orders_, machines, seed = numbers + [20_000, 1_000, 1][len(numbers) :]
    found = False
    for trouble in (1.0, 0.0):
        began = time.monotonic()
        simulation = Simulation(orders_, machines, seed, trouble)
        simulation.run()
        print(f"--- seed {seed}, {'with' if trouble else 'without'} faults")
        simulation.print_figures()
        hours = simulation.world.now / HOUR
        print(f"{hours:.1f} hours in {time.monotonic() - began:.0f} s", flush=True)
        found |= bool(simulation.faults)
    return found


if __name__ == "__main__":
    sys.exit(main())
