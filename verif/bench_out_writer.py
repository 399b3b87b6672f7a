"""Bench of `OutWriter` with its `WriteChannel`: loop nests of runs, plain and RLC coded."""

import itertools
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import WRITER_LOOPS, Layouts
from rowmesh.rtl.packing import stored_values
from rowmesh.sim_models.compress import rlc_encode
from rowmesh.verif.dma_harness import BurstWrites
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import wake
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import StreamDriver, reset, start_clock

__all__: list[str] = []


class Bench:
    """The writer, the memory behind it, and what must be there."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.dut = dut
        self.config = bench_config()
        self.layout = Layouts(self.config).out_writer
        self.rng = random.Random(f"{cocotb.RANDOM_SEED} {stall}")
        self.desc = StreamDriver(dut, "desc", stall_probability=stall)
        self.word = StreamDriver(dut, "word", stall_probability=stall)
        self.memory = BurstWrites(dut, self.config, self.rng, stall)
        self.free = 0x1000 // WORD_BYTES - self.rng.randrange(100)
        self.expected: dict[int, int] = {}
        start_clock(dut)
        wake(dut)

    def put(self, compressed: bool, words: int, counts: list[int]) -> None:
        """Queue runs of `words` at a nest of `counts` addresses, the innermost count first."""
        rng = self.rng
        slot = -(-words * WORD_BYTES // 5) if compressed else words
        # Levels in any order of size, some backwards, never overlapping.
        extents, strides = slot, [0] * WRITER_LOOPS
        for level in rng.sample(range(WRITER_LOOPS), WRITER_LOOPS):
            strides[level] = extents + rng.choice([0, 0, 1, 5])
            extents = strides[level] * max(counts[level], 1)
        base = self.free
        for level in range(WRITER_LOOPS):
            if rng.random() < 0.3 and counts[level]:
                base += strides[level] * (counts[level] - 1)
                strides[level] = -strides[level]
        self.free += extents + rng.randrange(4)
        fields = {
            "base": base * WORD_BYTES,
            "words": words,
            "compressed": int(compressed),
            "loops": [
                {"count": count, "stride": stride * WORD_BYTES}
                for count, stride in zip(counts, strides, strict=True)
            ],
        }
        self.desc.put(pack(self.layout, stored_values(self.layout, fields)))
        density = rng.choice([0.0, 0.2, 0.8, 1.0])
        for index in itertools.product(*(range(count) for count in reversed(counts))):
            at = base + sum(i * s for i, s in zip(reversed(index), strides, strict=True))
            content = [
                rng.randrange(1, 256) if rng.random() < density else 0
                for _ in range(WORD_BYTES * words)
            ]
            plain = [
                int.from_bytes(bytes(content[i : i + WORD_BYTES]), "little")
                for i in range(0, len(content), WORD_BYTES)
            ]
            self.word.put(*plain)
            for i, word in enumerate(rlc_encode(content) if compressed else plain):
                assert at + i not in self.expected
                self.expected[at + i] = word

    def put_random(self) -> None:
        """Queue a descriptor of a random kind."""
        rng = self.rng
        counts = [rng.choice([1, 1, 2, 3]) for _ in range(WRITER_LOOPS)]
        self.put(rng.random() < 0.5, rng.choice([1, 2, 3, 7, 20]), counts)

    async def finish(self) -> None:
        """Wait until the writer is idle, and compare the memory."""
        for driver in (self.desc, self.word):
            await driver.drain()
        for _ in range(5000):
            await FallingEdge(self.dut.clk)
            if not int(self.dut.busy.value):
                break
        else:
            raise AssertionError("the writer stays busy")
        # Not busy means that every response has come, so every word has.
        assert not self.memory.twice
        assert self.memory.words == self.expected


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def writes_runs(dut: Any, stall: float) -> None:
    """Nests of plain and coded runs, empty ones among them; each word once, nothing else."""
    bench = Bench(dut, stall)
    await reset(dut)
    for _ in range(12):
        bench.put_random()
    bench.put(False, 5, [2, 0, 1, 1])
    bench.put(True, 0, [2, 1, 1, 1])
    bench.put_random()
    await bench.finish()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def streams_a_word_a_cycle(dut: Any) -> None:
    """Plain runs take a word a cycle and a little for each run."""
    bench = Bench(dut, 0.0)
    await reset(dut)
    bench.put(False, 30, [10, 1, 1, 1])
    start = cocotb.utils.get_sim_time("ns")
    await bench.word.drain()
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 10
    assert cycles < 300 + 3 * 10 + 10, f"300 words took {cycles} cycles"
    await bench.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """A reset at any cycle brings the writer back."""
    bench = Bench(dut, 0.2)
    await reset(dut)
    for _ in range(8):
        for _ in range(3):
            bench.put_random()
        for _ in range(bench.rng.randrange(150)):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        bench.desc.clear()
        bench.word.clear()
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        bench.memory.clear()
        bench.expected.clear()
        await reset(dut)
        bench.put_random()
        await bench.finish()
