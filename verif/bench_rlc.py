"""Benches of `RlcEncoder` and `RlcDecoder` at all sparsities, with malformed chunks."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from rowmesh.rtl.codes import Fault
from rowmesh.sim_models.compress import rlc_encode
from rowmesh.verif.noc_agents import wake
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

LAST = 1 << 64


def random_chunks(rng: random.Random, count: int) -> list[bytes]:
    """Chunks from all zeros to none, with runs, of one word to many."""
    chunks = []
    for _ in range(count):
        words = rng.choice([1, 1, 2, 3, 5, 10, rng.randrange(1, 40)])
        density = rng.choice([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
        content = np.frombuffer(rng.randbytes(8 * words), np.uint8) | 1
        mask = np.array([rng.random() < density for _ in content])
        if rng.random() < 0.3:
            mask[-1] = True  # a pair says the last byte
        chunks.append((content * mask).astype(np.uint8).tobytes())
    return chunks


def plain_words(chunk: bytes) -> list[int]:
    """The chunk as 64-bit words."""
    return [int(word) for word in np.frombuffer(chunk, "<u8")]


def make_word(pairs: list[tuple[int, int]], valid: int | None = None) -> int:
    """An RLC word from (count, value) pairs."""
    word = (len(pairs) if valid is None else valid) << 60
    for i, (count, value) in enumerate(pairs):
        word |= (count << 8 | value) << 12 * i
    return word


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("i_stall", "o_stall"), [(0.0, 0.0), (0.5, 0.0), (0.2, 0.6)]))
async def encodes(dut: Any, i_stall: float, o_stall: float) -> None:
    """The words are those of the reference, `last` is right, and no chunk exceeds its slot."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {i_stall}")
    start_clock(dut)
    wake(dut)
    driver = StreamDriver(dut, "i", stall_probability=i_stall)
    monitor = StreamMonitor(dut, "o", stall_probability=o_stall)
    await reset(dut)
    board = Scoreboard(monitor)
    for chunk in random_chunks(rng, 60):
        words = plain_words(chunk)
        driver.put(*words[:-1], words[-1] | LAST)
        coded = rlc_encode(list(chunk))
        assert len(coded) <= -(-8 * len(words) // 5)
        board.expect(*coded[:-1], coded[-1] | LAST)
    await board.finish()
    assert not int(dut.busy.value)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def encodes_after_reset(dut: Any) -> None:
    """A reset in the middle of a chunk leaves nothing behind."""
    rng = random.Random(cocotb.RANDOM_SEED)
    start_clock(dut)
    wake(dut)
    driver = StreamDriver(dut, "i")
    monitor = StreamMonitor(dut, "o")
    for _ in range(5):
        await reset(dut)
        driver.put(*(rng.getrandbits(64) for _ in range(10)))
        for _ in range(rng.randrange(3, 50)):
            await FallingEdge(dut.clk)
        driver.clear()
        await reset(dut)
        monitor.received.clear()
        chunk = random_chunks(rng, 1)[0]
        words, coded = plain_words(chunk), rlc_encode(list(chunk))
        driver.put(*words[:-1], words[-1] | LAST)
        await Scoreboard(monitor, [*coded[:-1], coded[-1] | LAST]).finish()


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("i_stall", "o_stall"), [(0.0, 0.0), (0.5, 0.0), (0.2, 0.6)]))
async def decodes(dut: Any, i_stall: float, o_stall: float) -> None:
    """Every byte comes back; each chunk takes exactly its words and is drained once."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {i_stall}")
    start_clock(dut)
    wake(dut)
    driver = StreamDriver(dut, "i", stall_probability=i_stall)
    chunks = StreamDriver(dut, "chunk", stall_probability=i_stall)
    monitor = StreamMonitor(dut, "o", stall_probability=o_stall)
    await reset(dut)
    board = Scoreboard(monitor)
    drained = []

    async def count() -> None:
        while True:
            await RisingEdge(dut.clk)
            if int(dut.drained.value):
                drained.append(driver.sent)

    cocotb.start_soon(count())
    ends: list[int] = []
    pairs = 0
    for chunk in random_chunks(rng, 60):
        words, coded = plain_words(chunk), rlc_encode(list(chunk))
        chunks.put(len(words))
        driver.put(*coded)
        ends.append((ends[-1] if ends else 0) + len(coded))
        pairs += sum(word >> 60 for word in coded)
        board.expect(*words)
    start = cocotb.utils.get_sim_time("ns")
    await board.finish(idle=0)
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 10
    if i_stall == o_stall == 0:
        # A pair or a word a cycle, a few cycles a chunk.
        assert cycles < pairs + len(board.expected) + 5 * len(ends), f"{cycles} cycles"
    for _ in range(5):
        await FallingEdge(dut.clk)
    assert drained == ends
    assert not int(dut.busy.value) and not int(dut.fault.value)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def finds_malformed_chunks(dut: Any) -> None:
    """A fault, and never a word too many; after a reset all is well."""
    start_clock(dut)
    wake(dut)
    driver, chunks = StreamDriver(dut, "i"), StreamDriver(dut, "chunk")
    monitor = StreamMonitor(dut, "o")
    full = [(0, 1)] * 5
    cases = [
        (1, [make_word([(8, 1)])]),  # one past the end
        (2, [make_word([(15, 1), (0, 1)])]),  # a pair after the last byte
        (2, [make_word([(0, 1), (15, 2)])]),
        (1, [make_word(full), make_word(full)]),
        (4, [make_word([], valid=6)]),
        (4, [make_word(full), make_word(full, valid=15)]),
    ]
    for words, coded in cases:
        await reset(dut)
        assert not int(dut.fault.value)
        monitor.received.clear()
        chunks.put(words)
        driver.put(*coded)
        for _ in range(60):
            await FallingEdge(dut.clk)
        assert int(dut.fault.value) == Fault.RLC_FORMAT, f"{words} words of {coded}"
        assert len(monitor.received) <= words
        driver.clear()
        chunks.clear()
        await reset(dut)
        monitor.received.clear()
        chunks.put(2)
        driver.put(make_word([(15, 7)]))
        await Scoreboard(monitor, [0, 7 << 56]).finish()
