"""UARTBone on both simulators."""

import pytest

from rowmesh.rtl.shell.bridge import Bridge
from rowmesh.verif.simulator import Simulator, run_bench

TIMEOUT = 60


def test_bridge(sim: Simulator, seed: int) -> None:
    env = {"TIMEOUT": str(TIMEOUT)}
    run_bench(Bridge(TIMEOUT), "rowmesh.verif.bench_bridge", sim=sim, seed=seed, env=env)


def test_bad_timeout() -> None:
    with pytest.raises(ValueError, match="timeout = 0: must be at least 1 cycle"):
        Bridge(0)
