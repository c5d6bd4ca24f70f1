"""`make bench`: measure, print one table, and write it to `results/`.

`python -m benchmarks RUNS`: how often each short measure is taken; the long ones less often.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from benchmarks.measure import NotMeasured, Sample, alternate
from benchmarks.scenes import CLI_RUNS, DELAY, HERE, OWED, ROOT, Scenes

RESULTS = HERE / "results"


@dataclass(frozen=True)
class Row:
    """One line of the table: a measure, another or a number of seconds, and the goal."""

    what: str
    against: str
    goal: float | None
    ours: str
    theirs: str | float
    memory: bool = False


ROWS = [
    Row("cold `validate`", "AWS CLI v1, one call", 0.30, "validate", "aws_cli"),
    Row("cold `notify`, journal and all", "AWS CLI v1, one call", 0.75, "notify", "aws_cli"),
    Row(
        "cold `notify`, journal and all",
        "bare boto3 script, no checks, no journal",
        1.15,
        "notify",
        "boto3_script",
    ),
    Row(
        "cold `notify`, shared journal and all",
        "bare boto3 script that makes the same three calls",
        1.10,
        "notify_shared",
        "boto3_shared_script",
    ),
    Row("peak memory of `notify`", "bare boto3 script", 1.15, "notify", "boto3_script", True),
    Row(
        f"`resend` of {OWED:,} owed results, endpoint answering after {DELAY * 1000:.0f} ms",
        f"{OWED:,} / 8 workers × {DELAY * 1000:.0f} ms",
        0.30,
        "resend",
        OWED / 8 * DELAY,
    ),
    Row(
        "the same",
        f"one AWS CLI process a result, 8 at a time ({CLI_RUNS} of them, scaled)",
        0.05,
        "resend",
        "aws_cli_each",
    ),
    Row(
        "`notify` already reported, answered from the journal",
        "cold `validate`",
        1.15,
        "notify_again",
        "validate",
    ),
    Row("checking 10,000 outputs", "checking 1,000", 10.5, "check 10,000", "check 1,000"),
    Row(
        "`notify` with a journal of 100,000 old entries",
        "with a new one",
        1.10,
        "notify_old_journal",
        "notify",
    ),
    Row("`run` of an S3 bucket", "init, plan, apply by hand", 1.05, "run_bucket", "by_hand_bucket"),
    Row(
        "`run` of `terraform_data` alone",
        "init, plan, apply by hand",
        None,
        "run_smallest",
        "by_hand_smallest",
    ),
    Row("an order in a running `worker`, Terraform a script", "0.4 s", 1.0, "order_warm", 0.4),
    Row(
        "the same in a build: `worker --record`, from its start to its end",
        "1.5 s",
        1.0,
        "order_cold",
        1.5,
    ),
    Row(
        "memory of a `worker` with nothing to do",
        "a process with the same boto3 clients",
        1.25,
        "worker_idle",
        "boto3_idle",
        True,
    ),
]

NOTES = f"""\
Each ratio is of the medians of alternating runs; ± is half the interquartile range, where there are
four runs or more. Processes are measured whole, from start to end, each with a request of its own
and the journal on the disk of this checkout. Where AWS would be is a stub on loopback that takes
everything and answers at once, or after {DELAY * 1000:.0f} ms: the sandbox would be what is
measured. Moto's S3 is there for the bucket. Checking is measured without Python's start and the
imports. Terraform by hand reports nothing."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Measure everything and tell."""
    runs = " ".join(sys.argv[1:])
    if not runs.isdecimal() or int(runs) < 1:
        sys.stderr.write("RUNS must be a whole number of at least 1\n")
        sys.exit(2)
    for kind in STOP_SIGNALS:
        if signal.getsignal(kind) != signal.SIG_IGN:  # as under nohup
            signal.signal(kind, stop)
    load = os.getloadavg()[0]
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS) as folder, ExitStack() as at_end:
        samples, reasons = measure(Scenes(Path(folder), at_end), int(runs))
    say("")
    text = f"{table(samples, reasons)}\n\n{machine(load)}\n\n{NOTES}\n"
    print(text, flush=True)
    keep(samples)
    (RESULTS / "table.md").write_text(text, encoding="utf-8")
    runs_too = "; every run is in samples.json" if samples else ""
    print(f"Written to {(RESULTS / 'table.md').relative_to(ROOT)}{runs_too}.")


def stop(number: int, _: object) -> None:
    """End, and with it what was started; another signal shall not stop that half-way."""
    for kind in STOP_SIGNALS:
        signal.signal(kind, signal.SIG_IGN)
    sys.exit(128 + number)


def measure(scenes: Scenes, runs: int) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Take all measures, in groups of those that are compared."""
    long_runs = max(3, runs // 4)
    bucket: dict[str, Callable[[], Sample]] = {
        "run_bucket": scenes.run_bucket,
        "by_hand_bucket": scenes.by_hand_bucket,
    }
    shared: dict[str, Callable[[], Sample]] = {
        "notify_shared": scenes.notify_shared,
        "boto3_shared_script": scenes.boto3_shared_script,
    }
    orders: dict[str, Callable[[], Sample]] = {
        "order_warm": lambda: scenes.orders.warm(),
        "order_cold": lambda: scenes.orders.cold(),
        "worker_idle": lambda: scenes.orders.idle(),
        "boto3_idle": lambda: scenes.orders.boto3_idle(),
    }
    samples: dict[str, list[Sample]] = {}
    reasons: dict[str, str] = {}
    for stand_in, needing in (
        (scenes.use_moto, [bucket]),
        (scenes.use_ministack, [shared, orders]),
    ):
        try:
            stand_in()
        except NotMeasured as reason:
            for measures in needing:
                reasons |= dict.fromkeys(measures, str(reason))
                measures.clear()
    groups: list[tuple[int, dict[str, Callable[[], Sample]]]] = [
        (
            runs,
            {
                "validate": scenes.validate,
                "notify": scenes.notify,
                "notify_old_journal": scenes.notify_old_journal,
                "notify_again": scenes.notify_again,
                "boto3_script": scenes.boto3_script,
                "aws_cli": scenes.aws_cli,
            },
        ),
        (runs, shared),
        (runs, orders),
        (long_runs, {"resend": scenes.resend, "aws_cli_each": scenes.aws_cli_each}),
        (
            runs,
            {
                "check 1,000": partial(scenes.check, 1000),
                "check 10,000": partial(scenes.check, 10_000),
            },
        ),
        (long_runs, bucket),
        (
            long_runs,
            {"run_smallest": scenes.run_smallest, "by_hand_smallest": scenes.by_hand_smallest},
        ),
    ]
    for times, measures in groups:
        taken, missing = alternate(measures, times, say)
        samples |= taken
        reasons |= missing
    return samples, reasons


def table(samples: Mapping[str, list[Sample]], reasons: Mapping[str, str]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| what | against | this | that | ratio | goal | holds |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for row in ROWS:
        goal = f"{row.goal:.2f}" if row.goal else "–"
        start = f"| {row.what} | {row.against} |"
        needed = [name for name in (row.ours, row.theirs) if isinstance(name, str)]
        missing = [reasons[name] for name in needed if name in reasons]
        if row.memory and not all(s.peak for name in needed for s in samples.get(name, [])):
            missing.append("the measuring process itself took more memory")
        if missing:
            lines.append(f"{start} | | | {goal} | not measured: {missing[0]} |")
            continue
        sides = [
            [s.peak if row.memory else s.seconds for s in samples[side]]
            if isinstance(side, str)
            else [side]
            for side in (row.ours, row.theirs)
        ]
        ours, theirs = (median(side) for side in sides)
        holds = "–" if row.goal is None else "yes" if ours / theirs <= row.goal else "**no**"
        shown = [_amount(side, row.memory) for side in sides]
        lines.append(f"{start} {' | '.join(shown)} | {ours / theirs:.3f} | {goal} | {holds} |")
    return "\n".join(lines)


def _amount(values: Sequence[float], memory: bool) -> str:
    """Show the median, and how far the values spread."""
    middle = median(values)
    if memory:
        text = f"{middle / 1024:.1f} MiB"
    else:
        text = f"{middle:,.2f} s" if middle >= 10 else f"{middle * 1000:,.0f} ms"
    if len(values) < 4:
        return text
    lower, _, upper = quantiles(values, n=4)
    return f"{text} ± {(upper - lower) / 2 / middle * 100:.0f} %"


def machine(load: float) -> str:
    """Say what the table was made on."""
    import pyperf

    known = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    terraform = "no Terraform"
    if shutil.which("terraform"):
        command = ["terraform", "version"]
        done = subprocess.run(command, capture_output=True, text=True)
        terraform = done.stdout.partition("\n")[0]
    parts = [
        f"{os.cpu_count()} × {known.get('cpu_model_name', platform.machine())}",
        platform.platform(aliased=True, terse=True),
        f"Python {platform.python_version()}",
        f"boto3 {version('boto3')}",
        f"AWS CLI {version('awscli')}",
        terraform,
        f"load average {load:.1f} at the start",
    ]
    return "Made on " + ", ".join(parts) + "."


def keep(samples: Mapping[str, list[Sample]]) -> None:
    """Write every run for `pyperf stats`, `pyperf hist` and `pyperf compare_to`."""
    import pyperf

    benchmarks = []
    for name, taken in samples.items():
        if all(s.seconds for s in taken):
            about = {"name": name, "unit": "second"}
            benchmarks.append([pyperf.Run([s.seconds], metadata=about) for s in taken])
        if all(s.peak for s in taken):
            about = {"name": f"{name}, peak memory", "unit": "byte"}
            benchmarks.append([pyperf.Run([s.peak * 1024.0], metadata=about) for s in taken])
    file = RESULTS / "samples.json"
    if not benchmarks:  # pyperf has no suite of nothing
        file.unlink(missing_ok=True)
        return
    suite = pyperf.BenchmarkSuite([pyperf.Benchmark(runs) for runs in benchmarks])
    suite.dump(str(file), replace=True)


def say(line: str) -> None:
    """Show, on a terminal, what is being measured."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


if __name__ == "__main__":
    try:
        main()
    except (NotMeasured, OSError) as error:
        sys.exit(str(error))
