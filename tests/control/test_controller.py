"""The controller on both simulators."""

import pytest

from rowmesh.rtl.config import PRESETS
from rowmesh.rtl.control.controller import Controller, settle_cycles
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.cocotb
@pytest.mark.parametrize("preset", ["tiny", "eyeriss_v2"])
def test_controller(sim: Simulator, seed: int, preset: str) -> None:
    config = PRESETS[preset]()
    run_bench(
        Controller(config), "rowmesh.verif.bench_controller", sim=sim, seed=seed, config=config
    )


def test_settle_time() -> None:
    assert settle_cycles(PRESETS["eyeriss_v2"]()) == 18
