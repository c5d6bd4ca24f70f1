"""What stands between Terraform and `run`: it outlives both the signals and `run` itself."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from engine_cli import SLOW, Engine, read_until, running

TALKS = SLOW.replace(
    "exec sleep 60", "until [ -e gate ]; do sleep 0.1; done; seq 1 20000; touch created"
)
"""Terraform says more than any pipe can hold, once there is a gate."""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE])
def test_terraform_goes_on_where_run_is_killed_and_a_signal_reaches_the_rest(
    engine: Engine, number: signal.Signals
) -> None:
    """As where a control group is cleared: the engine is dead, what it has started is told to end.

    Terraform itself is spared here: it comes to its end, instead of dying in the middle because
    nobody takes what it says."""
    engine.configure(TALKS)
    process = engine.start()
    read_until(process, "begun")
    relays = relays_of(process.pid)
    process.kill()
    process.communicate()
    for relay in relays:
        with suppress(ProcessLookupError):  # one of an earlier step
            os.kill(relay, number)
    (engine.directory / "gate").touch()
    while running(engine.home):
        time.sleep(0.05)
    state = json.loads((engine.directory / "terraform.tfstate").read_text())
    assert [len(resource["instances"]) for resource in state["resources"]] == [1]
    assert (engine.directory / "created").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_every_process_stops_terraform_cleanly(
    engine: Engine, number: signal.Signals
) -> None:
    engine.configure(SLOW)
    process = engine.start()
    read_until(process, "begun")
    everyone = [process.pid, *relays_of(process.pid), *terraform_of(process.pid)]
    for pid in everyone:
        os.kill(pid, number)
    outcome = engine.end(process)
    assert outcome.code == 1
    assert "Gracefully shutting down" in outcome.stderr
    assert engine.reason().startswith(
        f"Terraform was stopped during apply: {number.name} received:\n"
    )
    assert not (engine.directory / ".terraform.tfstate.lock.info").exists()


def relays_of(pid: int) -> list[int]:
    """The two shells between Terraform and this process, and what runs in them."""
    shells = [child for child in children(pid) if b"cat >/dev/null" in command(child)]
    assert len(shells) == 2
    return shells + [cat for shell in shells for cat in children(shell)]


def terraform_of(pid: int) -> list[int]:
    return [child for child in children(pid) if b"apply" in command(child)]


def children(pid: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # Behind the name, which may hold anything: state, parent.
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == pid:
            found.append(int(process.name))
    return found


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
