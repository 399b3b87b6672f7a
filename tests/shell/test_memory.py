"""Block RAM and the merging of masters, on both simulators."""

import pytest

from rowmesh.rtl.shell.axi_merge import AxiMerge
from rowmesh.rtl.shell.block_ram import BlockRam
from rowmesh.verif.simulator import Simulator, run_bench


def test_block_ram(sim: Simulator, seed: int) -> None:
    data_bits, size = 64, 12288
    env = {"BEAT_BYTES": str(data_bits // 8), "SIZE": str(size)}
    ram = BlockRam(data_bits, size)
    run_bench(ram, "rowmesh.verif.bench_block_ram", sim=sim, seed=seed, env=env)


@pytest.mark.parametrize("size", [0, 4095, 4097, -4096])
def test_bad_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"size = {size}: must be a multiple of 4096 bytes"):
        BlockRam(64, size)


def test_merge(sim: Simulator, seed: int) -> None:
    count = 3
    env = {"COUNT": str(count)}
    merge = AxiMerge(64, count)
    run_bench(merge, "rowmesh.verif.bench_axi_merge", sim=sim, seed=seed, env=env)
