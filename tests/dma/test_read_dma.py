"""Read master and read channels on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.verif.dma_harness import ReadDut
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.cocotb
@pytest.mark.parametrize(
    ("data_bits", "channels", "deep"),
    [(64, 1, True), (128, 3, False), (512, 2, True)],
)
def test_read_dma(sim: Simulator, seed: int, data_bits: int, channels: int, deep: bool) -> None:
    config = dataclasses.replace(PRESETS["tiny"](), axi_data_bits=data_bits, deep_pipeline=deep)
    run_bench(
        ReadDut(config, channels), "rowmesh.verif.bench_read_dma", sim=sim, seed=seed, config=config
    )
