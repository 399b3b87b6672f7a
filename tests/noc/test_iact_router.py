"""`IactRouter` on both simulators."""

import pytest

from rowmesh.rtl.config import Config, load_config
from rowmesh.rtl.noc.iact_router import IactRouter
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_iact_router"


@pytest.mark.cocotb
@pytest.mark.parametrize("preset", ["tiny", "demo"])
def test_iact_router(sim: Simulator, seed: int, preset: str) -> None:
    config = load_config(preset)
    run_bench(IactRouter(config), MODULE, sim=sim, seed=seed, config=config)


@pytest.mark.cocotb
def test_iact_router_one_pe_dense(sim: Simulator, seed: int) -> None:
    config = Config(pe_rows=1, pe_cols=1, glb_iact_banks=1, sparse=False)
    run_bench(
        IactRouter(config), MODULE, sim=sim, seed=seed, config=config, tests=["random_circuits"]
    )
