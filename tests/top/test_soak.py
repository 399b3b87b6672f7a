"""The random regression on the RTL: 200 networks on four machines; `make soak` runs thousands."""

import pytest

from rowmesh.verif.soak import SMALL_MACHINES, Tally, run_cases

CASES = 50


@pytest.mark.parametrize("name", SMALL_MACHINES)
def test_random_networks_on_rtl(name: str, seed: int) -> None:
    tally = Tally()
    run_cases(SMALL_MACHINES[name], CASES, seed, tally)
    # hypothesis may draw a network twice; most must have run, and nearly all on the accelerator.
    assert tally.cases > CASES // 2, tally
    assert tally.layers > CASES // 2, tally
