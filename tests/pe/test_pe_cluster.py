"""`PeCluster` on both simulators."""

import pytest

from rowmesh.rtl.config import Config
from rowmesh.rtl.pe.pe_cluster import PeCluster
from rowmesh.verif.simulator import Simulator, run_bench
from rowmesh.verif.soak import SMALL_MACHINES

MODULE = "rowmesh.verif.bench_pe_cluster"


@pytest.mark.cocotb
@pytest.mark.parametrize(
    "config",
    [
        SMALL_MACHINES["small"],
        Config(pe_rows=3, pe_cols=1, glb_iact_banks=1, macs_per_pe=1, deep_pipeline=True),
    ],
    ids=["small", "column"],
)
def test_pe_cluster(sim: Simulator, seed: int, config: Config) -> None:
    run_bench(PeCluster(config), MODULE, sim=sim, seed=seed, config=config)
