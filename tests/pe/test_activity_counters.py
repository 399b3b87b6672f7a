"""`ActivityCounters` on both simulators."""

import pytest

from rowmesh.rtl.config import Config
from rowmesh.rtl.pe.activity_counters import ActivityCounters
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_activity_counters"


@pytest.mark.cocotb
@pytest.mark.parametrize("macs", [1, 2, 4])
def test_activity_counters(sim: Simulator, seed: int, macs: int) -> None:
    config = Config(macs_per_pe=macs)
    run_bench(ActivityCounters(config), MODULE, sim=sim, seed=seed, config=config)
