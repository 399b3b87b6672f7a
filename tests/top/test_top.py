"""The whole accelerator over AXI on both simulators: networks, bad input, resets."""

import dataclasses
import functools

import pytest

from rowmesh.rtl.config import Config
from rowmesh.rtl.top import Top
from rowmesh.verif.simulator import Simulator, run_bench
from rowmesh.verif.soak import SMALL_MACHINES

SMALL = SMALL_MACHINES["small"]
CONFIGS = {
    # The narrow psums of the published chip, which can overflow.
    "small": dataclasses.replace(SMALL, psum_bits=20),
    # Two masters, links in both directions, one PE a cluster with one MAC.
    "mesh": dataclasses.replace(
        SMALL,
        cluster_rows=2,
        cluster_cols=2,
        pe_rows=1,
        pe_cols=1,
        macs_per_pe=1,
        axi_data_bits=128,
    ),
    # Four MACs, other SPads, one iact bank, gemmlowp's rounding, registers for FPGAs.
    "simd": dataclasses.replace(
        SMALL,
        cluster_cols=2,
        pe_rows=1,
        macs_per_pe=4,
        count_bits=2,
        iact_addr_depth=5,
        iact_data_depth=10,
        weight_addr_depth=11,
        weight_data_depth=77,
        psum_depth=20,
        glb_iact_banks=1,
        rounding="double",
        deep_pipeline=True,
    ),
    # No compression in the PEs; two clusters share a master.
    "dense": dataclasses.replace(
        SMALL, cluster_rows=2, rows_per_axi_master=2, pe_rows=1, sparse=False, psum_bits=32
    ),
}


@functools.cache
def _top(config: Config) -> Top:
    return Top(config)


def _run(name: str, module: str, sim: Simulator, seed: int) -> None:
    config = CONFIGS[name]
    run_bench(
        _top(config),
        f"rowmesh.verif.{module}",
        sim=sim,
        seed=seed,
        config=config,
        quick_build=True,
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_networks(sim: Simulator, seed: int, name: str) -> None:
    _run(name, "bench_top", sim, seed)


def test_bad_input(sim: Simulator, seed: int) -> None:
    _run("small", "bench_top_faults", sim, seed)
