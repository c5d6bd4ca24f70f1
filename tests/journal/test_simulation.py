"""A small simulation of a shared journal; `make simulation` runs the large one."""

import pytest
from simulation import Simulation


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
