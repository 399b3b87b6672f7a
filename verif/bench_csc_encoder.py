"""Bench of `CscEncoder`: segments of every sparsity against the reference of the format.

``BENCH_CSC`` holds "value_bits count_bits word_bytes" of the device.
"""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.rtl.codec.csc_encoder import csc_beat, csc_word
from rowmesh.sim_models.compress import iact_beats
from rowmesh.verif.fields import pack
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

Word = dict[str, int]


class Bench:
    """The agents of the device, its parameters and what is expected of it."""

    def __init__(self, dut: Any, i_stall: float = 0.0, o_stall: float = 0.0) -> None:
        numbers = [int(n) for n in os.environ["BENCH_CSC"].split()]
        self.value_bits, self.count_bits, self.word_bytes = numbers
        self.word = csc_word(self.word_bytes)
        self.beat = csc_beat(self.value_bits, self.count_bits)
        self.dut = dut
        start_clock(dut)
        self.driver = StreamDriver(dut, "i", stall_probability=i_stall)
        self.monitor = StreamMonitor(dut, "o", stall_probability=o_stall)
        self.scoreboard = Scoreboard(self.monitor, layout=self.beat)

    def words(self, values: list[int], dense: bool = False, ragged: bool = False) -> list[Word]:
        """Bytes as the words of a segment, whole ones or of random lengths."""
        words = []
        while values:
            length = random.randint(1, self.word_bytes) if ragged else self.word_bytes
            taken, values = values[:length], values[length:]
            # What lies above the valid bytes does not count.
            rest = bytes(random.randrange(256) for _ in range(self.word_bytes - len(taken)))
            number = int.from_bytes(bytes(taken) + rest, "little")
            words.append({"word": number, "bytes": len(taken), "last": not values, "dense": dense})
        return words

    def send(self, values: list[int], dense: bool = False, ragged: bool = False) -> int:
        """Queue a segment and what must come of it; returns the words."""
        words = self.words(values, dense, ragged)
        self.driver.put(*(pack(self.word, word) for word in words))
        self.scoreboard.expect(*self.beats(values, dense))
        return len(words)

    def beats(self, values: list[int], dense: bool = False) -> list[int]:
        """Reference: the beats of a segment."""
        kept = [value & ((1 << self.value_bits) - 1) for value in values]
        return [
            pack(
                self.beat,
                {
                    "pairs": [{"count": count, "value": value} for count, value in beat[:2]],
                    "last": int(beat[2]),
                },
            )
            for beat in iact_beats(kept, 0 if dense else self.count_bits)
        ]

    async def finish(self) -> None:
        """Everything came, and the device is empty."""
        await self.scoreboard.finish(timeout=2000)
        assert not self.dut.busy.value, "busy, but everything has come out"


def random_values(length: int, density: float) -> list[int]:
    """Bytes of which a share is not zero."""
    return [random.randrange(1, 256) if random.random() < density else 0 for _ in range(length)]


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(
    density=[0.0, 0.05, 0.5, 1.0], stalls=[(0.0, 0.0), (0.5, 0.0), (0.0, 0.6), (0.4, 0.4)]
)
async def random_segments(dut: Any, density: float, stalls: tuple[float, float]) -> None:
    """Segments of one byte to several words, sparse and dense mixed."""
    bench = Bench(dut, *stalls)
    await reset(dut)
    for _ in range(60):
        length = random.choice([1, 2, 3, 8, 9, random.randint(1, 80)])
        share = random.random() if random.random() < 0.2 else density
        dense = random.random() < 0.2
        bench.send(random_values(length, share), dense=dense, ragged=random.random() < 0.5)
    await bench.finish()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def every_run_length(dut: Any) -> None:
    """Runs around each multiple of what a count can say, before, between and after values."""
    bench = Bench(dut)
    await reset(dut)
    step = 1 << bench.count_bits
    runs = sorted(
        {n * step + d for n in range(4) for d in (-1, 0, 1) if n * step + d >= 0} | set(range(20))
    )
    for run in runs:
        bench.send([0] * run + [7], ragged=True)
        bench.send([5] + [0] * run + [9])
        bench.send([0] * run + [1, 2] + [0] * run + [3] + [0] * run, ragged=True)
        if run:
            bench.send([0] * run)
    await bench.finish()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def single_words(dut: Any) -> None:
    """Every pattern of zeros in a word, and every number of valid bytes."""
    bench = Bench(dut)
    await reset(dut)
    for pattern in range(1 << min(8, bench.word_bytes)):
        values = [(k + 1) * (pattern >> k & 1) for k in range(bench.word_bytes)]
        bench.send(values[: random.randint(1, bench.word_bytes)])
        bench.send(values)
    await bench.finish()


async def _cycles(bench: Bench, word: list[int], count: int) -> int:
    """Cycles in which the device takes `count` equal words of one segment."""
    bench.send(word * count)
    start = bench.driver.sent
    while bench.driver.sent == start:
        await FallingEdge(bench.dut.clk)
    cycles = 0
    while bench.driver.sent < start + count:
        await FallingEdge(bench.dut.clk)
        cycles += 1
    await bench.finish()
    return cycles


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """A word takes ``max(1, ceil(entries / 2))`` cycles."""
    bench = Bench(dut)
    await reset(dut)
    size, count = bench.word_bytes, 40
    for entries in range(size + 1):
        # Gaps inside a word that no count can say cost extra: keep the entries together.
        word = [3] * entries + [0] * (size - entries)
        if bench.count_bits and size - entries >= 1 << bench.count_bits and entries:
            continue
        need = max(1, -(-(entries if bench.count_bits else size) // 2))
        cycles = await _cycles(bench, word, count)
        assert cycles <= need * count + 2, f"{entries} entries: {cycles} cycles, {count} words"


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def segments_back_to_back(dut: Any) -> None:
    """Short segments lose no cycle: a beat a cycle."""
    bench = Bench(dut)
    await reset(dut)
    for _ in range(100):
        bench.send([1])
    for _ in range(110):
        await FallingEdge(dut.clk)
    assert len(bench.monitor.received) == 100
    await bench.finish()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """After a reset in any cycle nothing old comes out and no run goes on."""
    bench = Bench(dut)
    await reset(dut)
    for cycles in range(1, 25):
        bench.monitor.stall_probability = random.choice([0.0, 1.0])
        words = bench.words(random_values(100, 0.3))
        bench.driver.put(*(pack(bench.word, word) for word in words))
        for _ in range(cycles):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        bench.driver.clear()
        await reset(dut)
        bench.monitor.stall_probability = 0.0
        bench.monitor.received.clear()
        bench.scoreboard = Scoreboard(bench.monitor, layout=bench.beat)
        bench.send([0, 0, 4])
        bench.send([0])
        await bench.finish()
        bench.monitor.received.clear()
        bench.scoreboard = Scoreboard(bench.monitor, layout=bench.beat)
