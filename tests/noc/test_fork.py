"""`Fork` on both simulators."""

import pytest

from rowmesh.rtl.noc.fork import Fork
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_fork"


@pytest.mark.cocotb
@pytest.mark.parametrize("n", [1, 2, 7])
def test_fork(sim: Simulator, seed: int, n: int) -> None:
    run_bench(Fork(16, n), MODULE, sim=sim, seed=seed, name=f"fork_{n}")
