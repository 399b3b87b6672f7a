"""Bench of `IactLoader` with its `ReadChannels`: tiles with borders, plain and RLC coded."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.packing import stored_values
from rowmesh.sim_models.compress import rlc_encode
from rowmesh.verif.dma_harness import BurstReads
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import wake
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

MEMORY_WORDS = 1 << 14


class Bench:
    """The loader, its memory, and a bank that lets tiles go at random."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.dut = dut
        self.config = bench_config()
        self.layout = Layouts(self.config).iact_loader
        self.rng = random.Random(f"{cocotb.RANDOM_SEED} {stall}")
        self.words = [self.rng.getrandbits(64) for _ in range(MEMORY_WORDS)]
        self.free = self.rng.randrange(8)  # next word of the memory without content
        self.memory = BurstReads(dut, self.config, self.words, stall)
        self.desc = StreamDriver(dut, "desc", stall_probability=stall)
        self.write = StreamMonitor(dut, "write", stall_probability=stall, callback=self._check)
        self.stall = stall
        self.slots: list[int] = []  # of the tiles put
        self.ends: list[int] = []  # writes after which a tile is complete
        self.expected: list[int] = []
        self.held = 0  # tiles in the bank
        self.written = 0
        self.releases = True
        dut.tiles.value = 0
        start_clock(dut)
        wake(dut)
        cocotb.start_soon(self._bank())

    def clear(self) -> None:
        """Forget all tiles, for a reset."""
        self.desc.clear()
        self.memory.beats.clear()
        for items in (self.slots, self.ends, self.expected, self.write.received):
            items.clear()
        self.held = self.written = 0

    def _check(self, payload: int) -> None:
        index = len(self.write.received) - 1
        expected = self.expected[index]
        assert payload == expected, f"write {index}: 0x{payload:x}, not 0x{expected:x}"
        assert self.held < self.slots[self.written], "a tile before there was room"

    async def _bank(self) -> None:
        await FallingEdge(self.dut.clk)
        while True:
            await RisingEdge(self.dut.clk)
            if int(self.dut.rst.value):
                self.held = 0
            elif int(self.dut.tile_written.value):
                assert len(self.write.received) == self.ends[self.written]
                self.written += 1
                self.held += 1
            if self.releases and self.held and self.rng.random() < 0.03:
                self.held -= 1
            self.dut.tiles.value = self.held

    def _place(self, rows: np.ndarray, compressed: bool) -> dict[str, int]:
        """Put planes of rows of words into the memory; the descriptor's fields for them."""
        planes, count, words = rows.shape
        slot = -(-words * WORD_BYTES // 5) if compressed else words
        row_stride = slot + self.rng.choice([0, 0, 1, 3])
        plane_stride = row_stride * count + self.rng.choice([0, 2])
        base = self.free
        for p in range(planes):
            for r in range(count):
                at = base + p * plane_stride + r * row_stride
                row = [int(word) for word in rows[p, r]]
                if compressed:
                    row = rlc_encode(list(rows[p, r].tobytes()))
                self.words[at : at + len(row)] = row
        self.free = base + planes * plane_stride + self.rng.randrange(3)
        assert self.free < MEMORY_WORDS
        return {
            "base": base * WORD_BYTES,
            "row_stride": row_stride * WORD_BYTES,
            "plane_stride": plane_stride * WORD_BYTES,
        }

    def put_tile(self, compressed: bool | None = None, **sizes: int) -> None:
        """Queue a tile of random sizes that fit the bank; expect its words."""
        rng, depth = self.rng, self.config.glb_iact_words
        while True:
            s = {
                "planes": rng.choice([1, 1, 2, 3]),
                "rows": rng.choice([0, 1, 2, 4]),
                "words": rng.choice([0, 1, 2, 5, 9, 20]),
                **{side: rng.choice([0, 0, 1, 2]) for side in ("top", "bottom", "left", "right")},
                **sizes,
            }
            width = s["left"] + s["words"] + s["right"]
            height = s["top"] + s["rows"] + s["bottom"]
            total = s["planes"] * width * height
            if total <= depth or sizes:
                break
        if compressed is None:
            compressed = rng.random() < 0.5
        density = rng.choice([0.0, 0.1, 0.5, 1.0])
        shape = (s["planes"], s["rows"], s["words"])
        content = np.array(
            [
                rng.randrange(1, 256) if rng.random() < density else 0
                for _ in range(WORD_BYTES * int(np.prod(shape)))
            ],
            np.uint8,
        )
        rows = content.view("<u8").reshape(shape)
        pad = rng.randrange(256)
        padding = ((0, 0), (s["top"], s["bottom"]), (s["left"], s["right"]))
        tile = np.pad(rows, padding, constant_values=int.from_bytes(bytes([pad] * WORD_BYTES)))
        assert tile.size == total
        dest = rng.randrange(depth - total + 1)
        slots = rng.choice([1, 2, 3])
        fields = {**s, **self._place(rows, compressed), "pad": pad, "dest": dest, "slots": slots}
        fields = {**fields, "compressed": int(compressed)}
        self.desc.put(pack(self.layout, stored_values(self.layout, fields)))
        bits = Layouts(self.config).iact_loader["dest"].width
        self.expected += [(dest + i) | int(word) << bits for i, word in enumerate(tile.flat)]
        self.slots.append(slots)
        self.ends.append(len(self.expected))

    async def finish(self) -> None:
        """Wait until all tiles are written."""
        idle = 0
        while self.written < len(self.slots):
            before = len(self.write.received) + self.written
            await FallingEdge(self.dut.clk)
            idle = 0 if len(self.write.received) + self.written > before else idle + 1
            assert idle < 3000, f"tile {self.written} of {len(self.slots)} does not come"
        for _ in range(30):
            await FallingEdge(self.dut.clk)
        assert not int(self.dut.busy.value)
        assert not int(self.dut.fault.value)


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def writes_tiles(dut: Any, stall: float) -> None:
    """Plain and coded tiles, with and without borders, empty ones among them."""
    bench = Bench(dut, stall)
    await reset(dut)
    for _ in range(40):
        bench.put_tile()
    bench.put_tile(planes=0)
    bench.put_tile(rows=0, top=0, bottom=0)
    bench.put_tile()
    await bench.finish()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def streams_across_rows(dut: Any) -> None:
    """Plain rows come a word a cycle, without a gap for a row."""
    bench = Bench(dut, 0.0)
    await reset(dut)
    bench.put_tile(compressed=False, planes=1, rows=10, words=8, top=0, bottom=0, left=1, right=1)
    await bench.write.wait_for(10)
    start = cocotb.utils.get_sim_time("ns")
    await bench.write.wait_for(100)
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 10
    assert cycles <= 95, f"90 words took {cycles} cycles"
    await bench.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """A reset at any cycle brings the loader back."""
    bench = Bench(dut, 0.2)
    await reset(dut)
    for _ in range(12):
        for _ in range(3):
            bench.put_tile()
        for _ in range(bench.rng.randrange(120)):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        bench.clear()
        await reset(dut)
        bench.put_tile()
        await bench.finish()
        bench.clear()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def finds_malformed_chunks(dut: Any) -> None:
    """A fault that stays until the reset, and no tile."""
    bench = Bench(dut, 0.0)
    await reset(dut)
    bench.put_tile(compressed=True, planes=1, rows=1, words=4, top=0, bottom=0, left=0, right=0)
    for i in range(MEMORY_WORDS):
        bench.words[i] = 0x6 << 60
    for _ in range(150):
        await FallingEdge(dut.clk)
    await ReadOnly()
    assert int(dut.fault.value) == Fault.RLC_FORMAT
    assert bench.written == 0
    await FallingEdge(dut.clk)
    bench.clear()
    await reset(dut)
    bench.free = 0
    bench.put_tile(compressed=True, planes=1, rows=2, words=4)
    await bench.finish()
