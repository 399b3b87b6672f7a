"""Bench of the psum half of `GlbCluster`: all psum banks of the cluster at once."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import PSUM_LANES
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.bench_glb_iact import Pulses
from rowmesh.verif.fields import pack, unpack
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

Tile = np.ndarray[Any, Any]


class Words:
    """The words of the reads of a bank, each in the cycle after its read was taken."""

    def __init__(self, dut: Any, number: int) -> None:
        self._clk, self._rst = dut.clk, dut.rst
        self._valid = getattr(dut, f"read_address__{number}__valid")
        self._ready = getattr(dut, f"read_address__{number}__ready")
        self._data = getattr(dut, f"read_data__{number}")
        self.received: list[int] = []
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        taken = False
        while True:
            await FallingEdge(self._clk)
            await ReadOnly()
            if self._rst.value:
                taken = False
                continue
            if taken:
                self.received.append(int(self._data.value))
            taken = bool(self._valid.value and self._ready.value)

    async def wait_for(self, count: int, timeout: int = 5000) -> list[int]:
        """All words, when there are so many."""
        for _ in range(timeout):
            if len(self.received) >= count:
                return self.received
            await FallingEdge(self._clk)
        raise AssertionError(f"{len(self.received)} words of {count} within {timeout} cycles")


class Bank:
    """Agents of one bank, and the tiles that must be found in it."""

    def __init__(self, dut: Any, number: int, release: Pulses, stalls: float) -> None:
        self.dut, self.number, self.stalls = dut, number, stalls
        self.config = bench_config()
        self.layouts = Layouts(self.config)
        self.words = self.config.glb_psum_words
        self.rng = random.Random(random.getrandbits(64))
        self.numpy = np.random.default_rng(self.rng.getrandbits(64))
        self.desc = StreamDriver(dut, f"psum_desc__{number}", stall_probability=stalls)
        self.psum = StreamDriver(dut, f"psum__{number}", stall_probability=stalls)
        self.address = StreamDriver(dut, f"read_address__{number}", stall_probability=stalls)
        self.data = Words(dut, number)
        self.tiles: list[Tile] = []
        self._release = release

    @property
    def full(self) -> bool:
        """The device says that the oldest tile is complete."""
        return bool(int(self.dut.full.value) >> self.number & 1)

    def beat(self, pair: Any) -> int:
        """Two psums as a payload."""
        return pack(self.layouts.psum_beat, [int(value) for value in pair])

    def send(self, words: int, passes: int, tiles: int, single: bool = False) -> None:
        """Queue a descriptor with random beats, whose sums just fit, and the tiles of it."""
        fields = {"words": words, "passes": passes, "tiles": tiles, "single": int(single)}
        self.desc.put(pack(self.layouts.psum_bank, fields))
        if not words * passes * tiles:
            return
        top = 1 << (self.config.psum_bits - 1)
        for _ in range(tiles):
            # From partial sums, anywhere in the range, to what each pass adds.
            sums = self.numpy.integers(
                -top // 2, top // 2, (passes, words, PSUM_LANES), dtype=np.int64
            )
            extreme = self.numpy.random(sums.shape[1:])
            sums[-1][extreme < 0.1] = top // 2 - 1
            sums[-1][extreme > 0.9] = -top // 2
            parts = np.diff(sums, axis=0, prepend=0)
            if passes == 1:
                parts *= 2
            elif self.rng.random() < 0.5:
                # The ends of the range, by sums that grow to them.
                parts = np.zeros_like(sums)
                parts[0] = np.where(extreme < 0.5, top - 1, -top)
                parts[1] = -parts[0] // 2
                parts[-1] += np.where(parts.sum(axis=0) > 0, 1, 0)
            for part in parts:
                self.psum.put(*(self.beat(pair) for pair in part))
            self.tiles.append(parts.sum(axis=0))

    async def wait_full(self, timeout: int = 5000) -> None:
        """Wait until the oldest tile is complete."""
        for _ in range(timeout):
            if self.full:
                return
            await FallingEdge(self.dut.clk)
        raise AssertionError(f"bank {self.number}: no tile within {timeout} cycles")

    async def read(self, addresses: list[int], tile: Tile) -> None:
        """Read words of the oldest tile and compare."""
        start = len(self.data.received)
        self.address.put(*addresses)
        received = await self.data.wait_for(start + len(addresses))
        for address, payload in zip(addresses, received[start:], strict=True):
            pair = unpack(self.layouts.psum_beat, payload)
            expected = tile[address].tolist()
            assert pair == expected, (
                f"bank {self.number}: word {address} is {pair}, expected {expected}"
            )

    async def release(self) -> None:
        """Give the oldest tile back."""
        await FallingEdge(self.dut.clk)
        self._release.set(self.number, True)
        await FallingEdge(self.dut.clk)
        self._release.set(self.number, False)

    async def post(self) -> None:
        """Take all tiles: every word once in some order, and some again."""
        for tile in self.tiles:
            await self.wait_full()
            while self.rng.random() < self.stalls:
                await FallingEdge(self.dut.clk)
            order = list(range(len(tile)))
            if self.rng.random() < 0.5:
                self.rng.shuffle(order)
            again = [self.rng.randrange(len(tile)) for _ in range(self.rng.randint(0, 4))]
            await self.read(order + again, tile)
            await self.release()
        self.tiles = []


async def begin(dut: Any, stalls: float = 0.0) -> list[Bank]:
    """Clock, reset, and agents for every bank; the iact half rests."""
    start_clock(dut)
    dut.tile_written.value = 0
    config = bench_config()
    for k in range(config.glb_iact_banks):
        StreamDriver(dut, f"write__{k}")
        StreamDriver(dut, f"iact_desc__{k}")
        StreamMonitor(dut, f"iact__{k}")
    release = Pulses(dut.release)
    banks = [Bank(dut, k, release, stalls) for k in range(config.pe_cols)]
    await reset(dut)
    return banks


async def run(dut: Any, banks: list[Bank]) -> None:
    """Take and compare all tiles; then the cluster must be at rest."""
    posts = [cocotb.start_soon(bank.post()) for bank in banks]
    for post in posts:
        await post
    for _ in range(10):
        await FallingEdge(dut.clk)
    assert not dut.busy.value, "busy, but all tiles are released"
    assert dut.full.value == 0, "a tile too many"
    assert dut.fault.value == Fault.NONE


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stalls=[0.0, 0.3, 0.7])
async def random_tiles(dut: Any, stalls: float) -> None:
    """Descriptors of all kinds in a row; tiles are read while the next ones are added up."""
    banks = await begin(dut, stalls)
    for bank in banks:
        half = bank.words // 2
        for _ in range(14):
            single = bank.rng.random() < 0.3
            most = bank.words if single else half
            words = bank.rng.choice([0, 1, 2, 3, 4, most, bank.rng.randint(1, most)])
            passes = bank.rng.choice([0, 1, 1, 2, 3, 4])
            bank.send(words, passes, bank.rng.choice([0, 1, 2, 3]), single)
    await run(dut, banks)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def smallest_tiles(dut: Any) -> None:
    """Words come back for the next pass before the sum has been written."""
    banks = await begin(dut)
    for bank in banks:
        for words in range(1, 6):
            bank.send(words, 5, 3)
    await run(dut, banks)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def slots_wait(dut: Any) -> None:
    """Two tiles are taken without a release, no third; a single one waits for both slots."""
    banks = await begin(dut)
    for bank in banks:
        half = bank.words // 2
        for words, tiles, single in ((half, 3, False), (bank.words, 1, True), (half, 2, False)):
            bank.send(words, 1, tiles, single)
    for _ in range(6 * banks[0].words + 50):
        await FallingEdge(dut.clk)
    for bank in banks:
        assert bank.psum.sent == 2 * (bank.words // 2)
    assert dut.busy.value
    for bank in banks:
        for released in (1, 2, 3):
            await bank.wait_full()
            tile = bank.tiles.pop(0)
            await bank.read(list(range(len(tile))), tile)
            await bank.release()
            for _ in range(2 * bank.words + 20):
                await FallingEdge(dut.clk)
            expected = 3 * (bank.words // 2) + (bank.words if released == 3 else 0)
            assert bank.psum.sent == expected, f"{bank.psum.sent} beats after {released} releases"
    await run(dut, banks)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """A beat a cycle for sums, two cycles between tiles; a read a cycle."""
    bank = (await begin(dut))[0]
    words, passes = bank.words // 2, 4
    bank.send(words, passes, 2)
    while not bank.psum.sent:
        await FallingEdge(dut.clk)
    cycles, beats = 0, 2 * words * passes
    while bank.psum.sent < beats:
        await FallingEdge(dut.clk)
        cycles += 1
    assert cycles <= beats + 2, f"{cycles} cycles for {beats} beats"
    for _ in range(4):
        await FallingEdge(dut.clk)
    reading = cocotb.start_soon(bank.read(list(range(words)), bank.tiles[0]))
    while not bank.data.received:
        await FallingEdge(dut.clk)
    cycles = 0
    while len(bank.data.received) < words:
        await FallingEdge(dut.clk)
        cycles += 1
    assert cycles <= words, f"{cycles} cycles for {words} reads"
    await reading
    await bank.release()
    bank.tiles.pop(0)
    await run(dut, [bank])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def overflow(dut: Any) -> None:
    """A sum one beyond the range is a fault, the range itself is not; a reset clears it."""
    banks = await begin(dut)
    top = 1 << (banks[0].config.psum_bits - 1)
    for bank in banks:
        for lane in range(PSUM_LANES):
            for first, good, bad in (
                (top - 1, 0, 1),
                (-top, 0, -1),
                (top - 5, 4, 5),
                (-1, 0, -top),
            ):
                for last, fault in ((good, Fault.NONE), (bad, Fault.PSUM_OVERFLOW)):
                    fields = {"words": 3, "passes": 2, "tiles": 1, "single": 0}
                    bank.desc.put(pack(bank.layouts.psum_bank, fields))
                    beats = np.zeros((6, PSUM_LANES), dtype=np.int64)
                    beats[[1, 4], lane] = first, last
                    start = len(bank.psum._queue) + bank.psum.sent
                    await bank.psum.send_all(bank.beat(pair) for pair in beats)
                    assert bank.psum.sent == start + len(beats)
                    for _ in range(5):
                        await FallingEdge(dut.clk)
                    assert dut.fault.value == fault, f"{first} + {last}: {dut.fault.value}"
                    for _ in range(10):
                        await FallingEdge(dut.clk)
                    assert dut.fault.value == fault, "the fault did not stay"
                    await reset(dut)
                    assert dut.fault.value == Fault.NONE


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """After a reset in any cycle both slots are free and the next run is right."""
    banks = await begin(dut)
    for cycles in range(1, 60, 4):
        for bank in banks:
            bank.send(bank.words // 2, 2, 2)
            bank.send(bank.words, 1, 1, True)
            bank.address.put(*range(bank.words // 2))
        for _ in range(cycles * random.randint(1, 4)):
            await FallingEdge(dut.clk)
        for bank in banks:
            for driver in (bank.desc, bank.psum, bank.address):
                driver.clear()
            bank.tiles.clear()
        await reset(dut)
        assert not dut.busy.value
        for bank in banks:
            bank.data.received.clear()
            bank.send(5, 2, 3)
        await run(dut, banks)
