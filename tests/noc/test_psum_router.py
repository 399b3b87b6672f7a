"""`PsumRouter` on both simulators."""

import pytest

from rowmesh.rtl.config import load_config
from rowmesh.rtl.noc.psum_router import PsumRouter
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_psum_router"


@pytest.mark.cocotb
@pytest.mark.parametrize("preset", ["tiny", "eyeriss_v2"])
def test_psum_router(sim: Simulator, seed: int, preset: str) -> None:
    config = load_config(preset)
    run_bench(PsumRouter(config), MODULE, sim=sim, seed=seed, config=config)
