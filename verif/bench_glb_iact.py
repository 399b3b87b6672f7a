"""Bench of the iact half of `GlbCluster`: bank and reader, all banks of the cluster at once."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.glb.iact_bank import iact_write
from rowmesh.rtl.layouts import IACT_LOOPS, SEGMENT_LOOPS, Layouts
from rowmesh.rtl.packing import stored_values
from rowmesh.sim_models.compress import iact_beats
from rowmesh.verif.fields import pack
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

Fields = dict[str, Any]


class Pulses:
    """One-cycle pulses on the bits of one port."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self._bits = 0
        port.value = 0

    def set(self, bit: int, value: bool) -> None:
        """Drive one bit; the others stay."""
        self._bits = self._bits & ~(1 << bit) | int(value) << bit
        self._port.value = self._bits


class Bank:
    """Agents of one bank: a loader that fills tiles as credits allow, and a reader's streams."""

    def __init__(self, dut: Any, number: int, written: Pulses, slots: int, stalls: float) -> None:
        self.dut, self.number, self.slots, self.stalls = dut, number, slots, stalls
        self.config = bench_config()
        self.layouts = Layouts(self.config)
        self.span = self.config.glb_iact_words // slots  # words of a slot
        self.rng = random.Random(random.getrandbits(64))
        self.write = StreamDriver(dut, f"write__{number}", stall_probability=stalls)
        self.desc = StreamDriver(dut, f"iact_desc__{number}", stall_probability=stalls)
        self.iact = StreamMonitor(dut, f"iact__{number}", stall_probability=stalls)
        self.scoreboard = Scoreboard(self.iact, layout=self.layouts.iact_beat)
        self.tiles: list[np.ndarray[Any, Any]] = []
        self._written = written

    def add_tile(self, density: float) -> int:
        """A tile for the loader to write; returns its number."""
        values = [
            self.rng.randrange(1, 256) if self.rng.random() < density else 0
            for _ in range(self.span * WORD_BYTES)
        ]
        self.tiles.append(np.array(values, dtype=np.uint8))
        return len(self.tiles) - 1

    async def load(self) -> None:
        """Write the tiles in order; at most `slots` of them are in the bank."""
        credits = getattr(self.dut, f"tiles__{self.number}")
        for number, tile in enumerate(self.tiles):
            while int(credits.value) >= self.slots:
                await FallingEdge(self.dut.clk)
            start = number % self.slots * self.span
            words = tile.view("<u8")
            await self.write.send_all(
                pack(iact_write(self.config), {"address": start + k, "data": int(word)})
                for k, word in enumerate(words)
            )
            await FallingEdge(self.dut.clk)
            self._written.set(self.number, True)
            await FallingEdge(self.dut.clk)
            self._written.set(self.number, False)
            # What the reader does with a tile that is there must not need the next one.
            while self.rng.random() < self.stalls:
                await FallingEdge(self.dut.clk)

    def send(self, tile: int, fields: Fields) -> None:
        """Queue a descriptor, and the segments that must come of it."""
        base = tile % self.slots * self.span * WORD_BYTES
        loops = fields["loops"]
        layout = self.layouts.iact_reader
        moved = {**fields, "base": base + fields["base"]}
        self.desc.put(pack(layout, stored_values(layout, moved)))
        counts = [loop["count"] for loop in loops]
        segment: list[int] = []
        for index in np.ndindex(*reversed(counts)):
            at = fields["base"] + sum(
                i * loop["stride"] for i, loop in zip(reversed(index), loops, strict=True)
            )
            values = self.tiles[tile][at : at + fields["bytes"]]
            segment += [int(v) & ((1 << self.config.iact_bits) - 1) for v in values]
            inner = list(reversed(index))[:SEGMENT_LOOPS]
            if all(i == n - 1 for i, n in zip(inner, counts, strict=False)):
                self._expect(segment, bool(fields["dense"]))
                segment = []

    def _expect(self, segment: list[int], dense: bool) -> None:
        for first, second, last in iact_beats(segment, 0 if dense else self.config.csc_count_bits):
            pairs = [{"count": count, "value": value} for count, value in (first, second)]
            fields = {"pairs": pairs, "last": int(last)}
            self.scoreboard.expect(pack(self.layouts.iact_beat, fields))

    def random_nest(self, limit: int = 60) -> Fields:
        """A nest that stays within a tile and never crosses a word."""
        rng, size = self.rng, self.span * WORD_BYTES
        count = rng.randint(1, WORD_BYTES)
        # All addresses are equal modulo the grain, which the bytes do not cross.
        grain = rng.choice([g for g in (1, 2, 4, 8) if g >= count])
        offset = rng.randint(0, grain - count)
        while True:
            counts = [rng.choice([1, 1, 2, 3, rng.randint(1, 9)]) for _ in range(IACT_LOOPS)]
            strides = [grain * rng.choice([0, 1, 1, 2, -1, rng.randint(-9, 9)]) for _ in counts]
            ends = [(n - 1) * stride for n, stride in zip(counts, strides, strict=True)]
            low = sum(end for end in ends if end < 0)
            high = sum(end for end in ends if end > 0)
            if int(np.prod(counts)) <= limit and high - low + grain <= size:
                break
        base = rng.randrange((size - (high - low)) // grain) * grain - low + offset
        loops = [{"count": n, "stride": s} for n, s in zip(counts, strides, strict=True)]
        dense = int(rng.random() < 0.2)
        return {"base": base, "bytes": count, "dense": dense, "release": 1, "loops": loops}

    async def finish(self) -> None:
        """All segments came, all tiles are released."""
        await self.scoreboard.finish(timeout=3000)
        assert int(getattr(self.dut, f"tiles__{self.number}").value) == 0, "a tile is left"


def nest(counts: list[int], strides: list[int], **fields: int) -> Fields:
    """A descriptor whose outer loops are single rounds."""
    rest = IACT_LOOPS - len(counts)
    loops = [
        {"count": n, "stride": s}
        for n, s in zip([*counts, *[1] * rest], [*strides, *[0] * rest], strict=True)
    ]
    return {"base": 0, "bytes": 8, "dense": 0, "release": 1, "loops": loops, **fields}


async def begin(dut: Any, slots: int = 2, stalls: float = 0.0) -> list[Bank]:
    """Clock, reset, and agents for every bank; the psum half rests."""
    start_clock(dut)
    written = Pulses(dut.tile_written)
    dut.release.value = 0
    config = bench_config()
    for k in range(config.pe_cols):
        StreamDriver(dut, f"psum_desc__{k}")
        StreamDriver(dut, f"psum__{k}")
        StreamDriver(dut, f"read_address__{k}")
    banks = [Bank(dut, k, written, slots, stalls) for k in range(config.glb_iact_banks)]
    await reset(dut)
    return banks


async def run(dut: Any, banks: list[Bank]) -> None:
    """Load all tiles and wait for all segments."""
    loads = [cocotb.start_soon(bank.load()) for bank in banks]
    for bank in banks:
        await bank.finish()
    for load in loads:
        await load
    assert not dut.busy.value, "busy, but all has come out"
    assert dut.fault.value == 0


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(density=[0.0, 0.3, 1.0], stalls=[0.0, 0.5])
async def random_tiles(dut: Any, density: float, stalls: float) -> None:
    """Tiles written while others are read, several descriptors a tile, random nests."""
    banks = await begin(dut, slots=random.choice([1, 2, 3, 4]), stalls=stalls)
    for bank in banks:
        for _ in range(6):
            tile = bank.add_tile(density)
            for left in reversed(range(random.choice([1, 1, 2, 3]))):
                bank.send(tile, {**bank.random_nest(), "release": int(left == 0)})
    await run(dut, banks)


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def all_bytes(dut: Any) -> None:
    """Every number of bytes from every place in a word, in segments of several words."""
    banks = await begin(dut)
    for bank in banks:
        tile = bank.add_tile(0.6)
        for count in range(1, WORD_BYTES + 1):
            for offset in range(WORD_BYTES - count + 1):
                ends = count == WORD_BYTES
                fields = nest([2, 3, 2], [8, 16, -8], base=offset + 8, bytes=count)
                bank.send(tile, {**fields, "release": int(ends)})
    await run(dut, banks)


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def empty_nests(dut: Any) -> None:
    """A nest of no rounds sends nothing, waits for its tile, and releases it."""
    banks = await begin(dut)
    for bank in banks:
        for counts in ([0], [2, 0, 1], [2] * (IACT_LOOPS - 1) + [0], [3]):
            tile = bank.add_tile(0.5)
            bank.send(tile, nest(counts, [8] * len(counts)))
    await run(dut, banks)


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """A word a cycle, and a cycle between descriptors, while entries are few."""
    banks = await begin(dut, slots=1)
    bank = banks[0]
    words = bank.span
    # Two entries a word, whatever the width of a count.
    tile = bank.add_tile(1.0)
    for left in reversed(range(4)):
        fields = nest([1, 2, words // 2], [0, 8, 16], base=3, bytes=2, release=int(left == 0))
        bank.send(tile, fields)
    loading = cocotb.start_soon(bank.load())
    while not bank.iact.received:
        await FallingEdge(dut.clk)
    cycles = 0
    while len(bank.iact.received) < len(bank.scoreboard.expected):
        await FallingEdge(dut.clk)
        cycles += 1
    assert cycles <= 4 * words + 3 + 2, f"{cycles} cycles for {4 * words} words"
    await bank.finish()
    await loading


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def waits_for_tile(dut: Any) -> None:
    """Nothing is read before the tile is there."""
    banks = await begin(dut)
    for bank in banks:
        bank.send(bank.add_tile(0.5), nest([4], [8]))
    for _ in range(50):
        await FallingEdge(dut.clk)
        assert dut.busy.value
        assert not any(bank.iact.received for bank in banks)
    await run(dut, banks)


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """After a reset in any cycle there is no tile, and the next run is right."""
    banks = await begin(dut)
    for cycles in range(1, 40, 3):
        stalled = random.random() < 0.5
        for bank in banks:
            bank.iact.stall_probability = float(stalled)
            bank.tiles.clear()
            bank.send(bank.add_tile(0.5), nest([8, 4], [8, 16]))
        loads = [cocotb.start_soon(bank.load()) for bank in banks]
        for bank in banks:
            await loads[bank.number]
        for _ in range(cycles):
            await FallingEdge(dut.clk)
        for bank in banks:
            bank.desc.clear()
        await reset(dut)
        assert not dut.busy.value
        for bank in banks:
            bank.iact.received.clear()
            bank.scoreboard = Scoreboard(bank.iact, layout=bank.layouts.iact_beat)
            bank.iact.stall_probability = 0.0
            bank.tiles.clear()
            bank.send(bank.add_tile(0.5), nest([8, 2], [8, 64]))
        await run(dut, banks)
        for bank in banks:
            bank.iact.received.clear()
            bank.scoreboard = Scoreboard(bank.iact, layout=bank.layouts.iact_beat)
