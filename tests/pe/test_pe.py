"""The processing element on both simulators, in many sizes."""

import dataclasses
from typing import Any

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.rtl.pe.pe import Pe
from rowmesh.verif.simulator import Simulator, run_bench

CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "one_mac": {"macs_per_pe": 1, "psum_bits": 20},
    "four_macs": {
        "macs_per_pe": 4,
        "psum_depth": 64,
        "weight_data_depth": 60,
        "deep_pipeline": True,
    },
    "dense": {"sparse": False},
    "dense_four_macs": {
        "sparse": False,
        "macs_per_pe": 4,
        "weight_data_depth": 70,
        "deep_pipeline": True,
    },
    # Depths that are not powers of two, short counts: many explicit zeros.
    "odd_sizes": {
        "iact_data_depth": 10,
        "iact_addr_depth": 5,
        "weight_addr_depth": 13,
        "weight_data_depth": 41,
        "psum_depth": 20,
        "count_bits": 2,
        "iact_bits": 7,
        "psum_bits": 21,
    },
    # One column of weights can fill the SPad, and end where it starts.
    "long_columns": {
        "weight_data_depth": 12,
        "weight_addr_depth": 4,
        "psum_depth": 48,
        "deep_pipeline": True,
    },
    "long_words": {"iact_data_depth": 64, "weight_addr_depth": 64, "count_bits": 1},
}


def config_of(name: str) -> Any:
    """The preset with some changes."""
    return dataclasses.replace(PRESETS["tiny"](), **CONFIGS[name])


@pytest.mark.cocotb
@pytest.mark.parametrize("name", CONFIGS)
def test_pe(sim: Simulator, seed: int, name: str) -> None:
    config = config_of(name)
    run_bench(Pe(config), "rowmesh.verif.bench_pe", sim=sim, seed=seed, config=config)


@pytest.mark.parametrize("name", ["four_macs", "odd_sizes"])
def test_pe_on_fpga(sim: Simulator, seed: int, name: str) -> None:
    """With memories that have one write port each."""
    config = config_of(name)
    run_bench(
        Pe(config), "rowmesh.verif.bench_pe", sim=sim, seed=seed, config=config, platform="fpga"
    )
