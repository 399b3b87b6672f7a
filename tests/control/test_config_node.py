"""The node of the configuration tree on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.control.config_node import ConfigNode
from rowmesh.verif.simulator import Simulator, run_bench
from rowmesh.verif.soak import SMALL_MACHINES

SMALL = SMALL_MACHINES["small"]
CONFIGS = {
    "small": SMALL,
    "deep": dataclasses.replace(SMALL, pe_rows=3, deep_pipeline=True),
    "tall": dataclasses.replace(SMALL, cluster_rows=5, cluster_cols=3, pe_rows=3),
}


@pytest.mark.cocotb
@pytest.mark.parametrize("name", CONFIGS)
def test_config_node(sim: Simulator, seed: int, name: str) -> None:
    config = CONFIGS[name]
    module = "rowmesh.verif.bench_config_node"
    run_bench(ConfigNode(config), module, sim=sim, seed=seed, config=config)
