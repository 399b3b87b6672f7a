"""`PeCluster` on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.config import Config, load_config
from rowmesh.rtl.pe.pe_cluster import PeCluster
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_pe_cluster"


@pytest.mark.cocotb
@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(load_config("tiny"), pe_rows=2, glb_iact_banks=2),
        Config(pe_rows=3, pe_cols=1, glb_iact_banks=1, macs_per_pe=1, deep_pipeline=True),
    ],
    ids=["small", "column"],
)
def test_pe_cluster(sim: Simulator, seed: int, config: Config) -> None:
    run_bench(PeCluster(config), MODULE, sim=sim, seed=seed, config=config)
