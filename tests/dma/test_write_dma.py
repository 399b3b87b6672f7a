"""Write master and write channels on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.verif.dma_harness import WriteDut
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.cocotb
@pytest.mark.parametrize(("data_bits", "channels"), [(64, 1), (128, 3), (512, 2)])
def test_write_dma(sim: Simulator, seed: int, data_bits: int, channels: int) -> None:
    config = dataclasses.replace(PRESETS["tiny"](), axi_data_bits=data_bits)
    dut = WriteDut(config, channels)
    run_bench(dut, "rowmesh.verif.bench_write_dma", sim=sim, seed=seed, config=config)
