"""Block RAM and the merging of masters, on both simulators."""

import pytest

from rowmesh.rtl.shell.axi_merge import AxiMerge
from rowmesh.rtl.shell.block_ram import BlockRam
from rowmesh.rtl.shell.ram_chain import BANK_BYTES
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.parametrize("bank_bytes", [BANK_BYTES, 8192, 1024])
def test_block_ram(sim: Simulator, seed: int, bank_bytes: int) -> None:
    """In one bank, in one and a half, in twelve."""
    data_bits, size = 64, 12288
    banks = -(-size // bank_bytes)
    env = {"BEAT_BYTES": str(data_bits // 8), "SIZE": str(size), "BANKS": str(banks)}
    ram = BlockRam(data_bits, size, bank_bytes)
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
