"""`WeightRouter` on both simulators."""

import pytest

from rowmesh.rtl.config import load_config
from rowmesh.rtl.noc.weight_router import WeightRouter
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_weight_router"


@pytest.mark.cocotb
@pytest.mark.parametrize("preset", ["tiny", "eyeriss_v2"])
def test_weight_router(sim: Simulator, seed: int, preset: str) -> None:
    config = load_config(preset)
    run_bench(WeightRouter(config), MODULE, sim=sim, seed=seed, config=config)
