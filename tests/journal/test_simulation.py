"""A small simulation of a shared journal; `make simulation` runs the large one."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from simulation import Simulation
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
