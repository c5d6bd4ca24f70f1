"""A small simulation of a shared journal; `make simulation` runs the large one."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from simulation import Order, Simulation
from virtual_time import Process


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_goes_wrong_each_record_gets_one_result_and_no_entry_is_stuck(seed: int) -> None:
    simulation = Simulation(250, 40, seed)
    simulation.run()
    assert simulation.faults == []
    assert len(simulation.catalog.taken) == 250


def test_order_without_faults_makes_four_calls_and_the_renewals() -> None:
    simulation = Simulation(50, 20, 1, trouble=0)
    simulation.run()
    calls = simulation.table.calls["update_item"] - simulation.writes["renewed"]
    never_applied = 50 - simulation.writes["running applying"]
    assert calls == 4 * 50 - never_applied
    assert simulation.table.calls["get_item"] == 0


def test_run_that_is_frozen_as_it_tells_that_it_applies_does_not_apply_afterwards() -> None:
    simulation = Simulation(1, 3, 1, trouble=0)

    def doom(process: Process) -> list[Callable[[], None]]:
        run, machine = process.about, process.machine

        def freeze(_: str) -> None:
            if simulation.state_of(run) == "applying" and machine.frozen_until < 0:
                machine.freeze(1000, clock=False)

        process.at_call = freeze
        return []

    with patch.object(simulation, "doom", doom):
        simulation.run()
    assert simulation.catalog.taken["rec-0"].status == "FAILED"
    assert not any(run.applied for run in simulation.orders["rec-0"].runs)
    assert simulation.faults == []


def test_order_whose_run_was_stopped_before_it_applied_and_whose_message_is_lost_is_failed() -> (
    None
):
    simulation = Simulation(1, 3, 1, trouble=0)
    deliver = simulation.deliver

    def doom(process: Process) -> list[Callable[[], None]]:
        simulation.later(5, lambda: process.machine.freeze(200, clock=False))
        return []

    def deliver_once(order: Order, since: float, is_duplicate: bool) -> None:
        if order.runs:
            simulation.messages -= 1
        else:
            deliver(order, since, is_duplicate)

    with patch.object(simulation, "doom", doom), patch.object(simulation, "deliver", deliver_once):
        simulation.run()
    assert [run.exit_code for run in simulation.orders["rec-0"].runs] == [75]
    assert simulation.catalog.taken["rec-0"].status == "FAILED"
    assert simulation.faults == []


def test_same_seed_makes_the_same_figures() -> None:
    first, second = (Simulation(100, 20, 3) for _ in range(2))
    for simulation in (first, second):
        simulation.run()
    assert (first.table.calls, first.world.now) == (second.table.calls, second.world.now)
