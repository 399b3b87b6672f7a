"""The output writer on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.rtl.dma.out_writer import OutWriter
from rowmesh.verif.dma_harness import WriterDut
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.cocotb
@pytest.mark.parametrize(("data_bits", "deep"), [(64, False), (64, True), (256, False)])
def test_out_writer(sim: Simulator, seed: int, data_bits: int, deep: bool) -> None:
    config = dataclasses.replace(PRESETS["tiny"](), axi_data_bits=data_bits, deep_pipeline=deep)
    dut = WriterDut(OutWriter(config), config)
    run_bench(dut, "rowmesh.verif.bench_out_writer", sim=sim, seed=seed, config=config)
