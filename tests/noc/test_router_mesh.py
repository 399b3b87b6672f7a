"""`RouterCluster` x 4 with Hops between them, on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.config import load_config
from rowmesh.verif.router_mesh import RouterMesh
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_router_mesh"


@pytest.mark.cocotb
def test_router_mesh(sim: Simulator, seed: int) -> None:
    config = dataclasses.replace(load_config("tiny"), cluster_rows=2, cluster_cols=2)
    run_bench(RouterMesh(config), MODULE, sim=sim, seed=seed, config=config)
