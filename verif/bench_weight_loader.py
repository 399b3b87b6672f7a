"""Bench of `WeightLoader` with its `ReadChannels`: packed blocks, repeats, malformed regions."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.dma_harness import BurstReads
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import wake
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

MEMORY_WORDS = 1 << 14


class Bench:
    """The loader, its memory, and the beats that must come."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.dut = dut
        self.config = bench_config()
        self.layouts = Layouts(self.config)
        self.longest = self.config.weight_data_depth + self.config.weight_addr_depth
        self.rng = random.Random(f"{cocotb.RANDOM_SEED} {stall}")
        self.words = [self.rng.getrandbits(64) for _ in range(MEMORY_WORDS)]
        self.free = self.rng.randrange(8)
        self.memory = BurstReads(dut, self.config, self.words, stall)
        self.desc = StreamDriver(dut, "desc", stall_probability=stall)
        self.weight = StreamMonitor(dut, "weight", stall_probability=stall)
        self.board = Scoreboard(self.weight, layout=self.layouts.weight_beat)
        start_clock(dut)
        wake(dut)

    def put(
        self,
        lengths: list[int],
        *,
        dense: bool = False,
        repeats: int = 1,
        slack: int = 0,
        blocks: int | None = None,
    ) -> None:
        """Queue a region of blocks of random words; `slack` words of the region follow them."""
        config, rng = self.config, self.rng
        bits = config.weight_dense_word_bits if dense else config.weight_word_bits
        stream, at = 0, 0
        beats = []
        for length in lengths:
            block = [rng.getrandbits(bits) for _ in range(length)]
            for word in [length, *block]:
                stream |= word << at
                at += bits
            for i, word in enumerate(block):
                beat = {"word": word, "last": int(i == length - 1)}
                beats.append(pack(self.layouts.weight_beat, beat))
        count = -(-at // 64)
        for i in range(count):
            self.words[self.free + i] = stream >> 64 * i & (1 << 64) - 1
        fields = {
            "base": self.free * WORD_BYTES,
            "words": count + slack,
            "blocks": len(lengths) if blocks is None else blocks,
            "repeats": repeats,
            "dense": int(dense),
        }
        self.free += count + slack + rng.randrange(3)
        assert self.free < MEMORY_WORDS
        self.desc.put(pack(self.layouts.weight_loader, fields))
        self.board.expect(*beats * repeats)

    def put_random(self) -> None:
        """Queue a region of a random kind."""
        rng = self.rng
        kinds = [1, 2, 3, self.longest, rng.randrange(1, self.longest + 1)]
        lengths = [rng.choice(kinds) for _ in range(rng.choice([1, 1, 2, 5]))]
        slack = rng.choice([0, 0, 1, 5, 70])
        self.put(lengths, dense=rng.random() < 0.4, repeats=rng.choice([1, 2, 4]), slack=slack)

    def clear(self) -> None:
        """Forget everything, for a reset."""
        self.desc.clear()
        self.memory.beats.clear()
        self.weight.received.clear()
        self.board = Scoreboard(self.weight, layout=self.layouts.weight_beat)


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def sends_blocks(dut: Any, stall: float) -> None:
    """Sparse and dense regions, repeated, with words after the last block."""
    bench = Bench(dut, stall)
    await reset(dut)
    for _ in range(15):
        bench.put_random()
    bench.put([], repeats=3, slack=2)  # no block
    bench.put([3], repeats=0)
    bench.put_random()
    await bench.board.finish()
    assert not int(dut.busy.value) and not int(dut.fault.value)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def streams_a_word_a_cycle(dut: Any) -> None:
    """As fast as DRAM words come or a word a cycle; little is lost between repeats."""
    bench = Bench(dut, 0.0)
    await reset(dut)
    length, repeats = bench.longest, 6
    bench.put([length] * 4, repeats=repeats)
    await bench.weight.wait_for(1)
    start = cocotb.utils.get_sim_time("ns")
    total = 4 * length * repeats
    await bench.weight.wait_for(total)
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 10
    blocks = 4 * repeats
    assert cycles < total + blocks + 5 * repeats, f"{total} words took {cycles} cycles"
    await bench.board.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """A reset at any cycle brings the loader back."""
    bench = Bench(dut, 0.2)
    await reset(dut)
    for _ in range(10):
        for _ in range(3):
            bench.put_random()
        for _ in range(bench.rng.randrange(100)):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        bench.clear()
        await reset(dut)
        bench.put_random()
        await bench.board.finish()
        bench.clear()
        bench.free = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def finds_malformed_regions(dut: Any) -> None:
    """Blocks of no words or too many, regions that end early: a fault, and nothing more is sent."""
    bench = Bench(dut, 0.0)
    longest = bench.longest
    for dense in (False, True):
        for lengths, blocks in [
            ([2, 0, 3], 3),
            ([2, longest + 1], 2),
            ([4, 5], 20),
            ([], 1),
        ]:
            await reset(dut)
            # After the region lies what would be a good block.
            bench.words[:] = [0] * MEMORY_WORDS
            bench.put(lengths, dense=dense, blocks=blocks, repeats=2)
            for _ in range(200):
                await FallingEdge(dut.clk)
            assert int(dut.fault.value) == Fault.WEIGHT_FORMAT, f"{blocks} of blocks {lengths}"
            good = sum(n for n in lengths[:2] if n <= longest)
            assert bench.weight.received == bench.board.expected[:good]
            dut.rst.value = 1
            await FallingEdge(dut.clk)
            bench.clear()
            bench.free = 0
            await reset(dut)
            assert not int(dut.fault.value)
            bench.put([1, longest], dense=dense, repeats=2)
            await bench.board.finish()
            bench.clear()
