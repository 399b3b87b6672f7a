"""The iact loader on both simulators."""

import dataclasses

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.rtl.dma.iact_loader import IactLoader
from rowmesh.verif.dma_harness import LoaderDut
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.cocotb
@pytest.mark.parametrize(("data_bits", "bank_bytes"), [(64, 1024), (256, 1536)])
def test_iact_loader(sim: Simulator, seed: int, data_bits: int, bank_bytes: int) -> None:
    config = dataclasses.replace(
        PRESETS["tiny"](), axi_data_bits=data_bits, glb_iact_bytes=bank_bytes
    )
    dut = LoaderDut(IactLoader(config), config)
    run_bench(dut, "rowmesh.verif.bench_iact_loader", sim=sim, seed=seed, config=config)
