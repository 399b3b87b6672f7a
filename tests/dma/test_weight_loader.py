"""The weight loader on both simulators."""

import dataclasses
from typing import Any

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.rtl.dma.weight_loader import WeightLoader
from rowmesh.verif.dma_harness import LoaderDut
from rowmesh.verif.simulator import Simulator, run_bench

CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},  # words of 24 and 16 bits
    "widest": {
        "macs_per_pe": 4,
        "count_bits": 8,
        "axi_data_bits": 128,
        "deep_pipeline": True,
    },  # 64, 32
    "odd": {  # 7 and 5
        "macs_per_pe": 1,
        "weight_bits": 5,
        "count_bits": 2,
        "weight_data_depth": 12,
        "weight_addr_depth": 4,
    },
    "dense": {"sparse": False},
}


@pytest.mark.cocotb
@pytest.mark.parametrize("name", CONFIGS)
def test_weight_loader(sim: Simulator, seed: int, name: str) -> None:
    config = dataclasses.replace(PRESETS["tiny"](), **CONFIGS[name])
    dut = LoaderDut(WeightLoader(config), config)
    run_bench(dut, "rowmesh.verif.bench_weight_loader", sim=sim, seed=seed, config=config)
