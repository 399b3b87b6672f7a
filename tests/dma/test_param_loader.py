"""The parameter loader on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.rtl.dma.param_loader import ParamLoader
from rowmesh.verif.dma_harness import LoaderDut
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.cocotb
@pytest.mark.parametrize(("data_bits", "depth"), [(64, 64), (128, 20)])
def test_param_loader(sim: Simulator, seed: int, data_bits: int, depth: int) -> None:
    config = dataclasses.replace(PRESETS["tiny"](), axi_data_bits=data_bits, param_depth=depth)
    dut = LoaderDut(ParamLoader(config), config)
    run_bench(dut, "rowmesh.verif.bench_param_loader", sim=sim, seed=seed, config=config)
