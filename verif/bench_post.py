"""Bench of `Post`: random loop nests over several banks, parameters in turns, both roundings."""

import random
from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.packing import stored_values
from rowmesh.rtl.post.param_memory import param_entry
from rowmesh.rtl.post.post import Post
from rowmesh.verif.fields import pack
from rowmesh.verif.post_work import Maker, Pair, Param, Work
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []


# -- the world around the unit ------------------------------------------------------------------


class World:
    """Drivers of all ports, the psum banks and the parameter loader."""

    def __init__(self, dut: Any, config: Config, rng: random.Random, stall: float) -> None:
        self.dut, self.config, self.rng, self.stall = dut, config, rng, stall
        self.layouts = Layouts(config)
        banks = range(config.pe_cols)
        self.desc = StreamDriver(dut, "desc", stall_probability=stall)
        self.word = StreamMonitor(dut, "word", stall_probability=stall)
        self.reads = [
            StreamMonitor(
                dut,
                f"read_address__{bank}",
                stall_probability=stall,
                callback=lambda address, bank=bank: self._read(bank, address),  # type: ignore[misc]
            )
            for bank in banks
        ]
        self.data = [getattr(dut, f"read_data__{bank}") for bank in banks]
        self.answers: dict[int, int] = {}  # words of the reads of this cycle
        self.tiles: list[deque[list[Pair]]] = [deque() for _ in banks]
        self.loads: deque[list[Param]] = deque()
        self.full = 0
        self.reads_done = 0
        for signal in (dut.full, dut.loaded, dut.param__valid, dut.param__payload):
            signal.value = 0
        cocotb.start_soon(self._answer())
        cocotb.start_soon(self._banks())
        cocotb.start_soon(self._loader())

    def put(self, work: Work) -> None:
        """Queue a descriptor and all that it meets."""
        self.desc.put(pack(self.layouts.post, stored_values(self.layouts.post, work.fields)))
        for tile in work.tiles:
            for bank, words in tile.items():
                self.tiles[bank].append(words)
        if work.params is not None:
            self.loads.append(work.params)

    def clear(self) -> None:
        """Forget everything, for a reset."""
        self.desc.clear()
        self.answers.clear()
        for tiles in self.tiles:
            tiles.clear()
        self.loads.clear()
        self.full = 0

    def _read(self, bank: int, address: int) -> None:
        assert self.full >> bank & 1, f"bank {bank} was read before it was full"
        self.reads_done += 1
        self.answers[bank] = pack(self.layouts.psum_beat, self.tiles[bank][0][address])

    async def _answer(self) -> None:
        """The word of a read in the cycle after it, anything in other cycles."""
        while True:
            await FallingEdge(self.dut.clk)
            for bank, port in enumerate(self.data):
                port.value = self.answers.pop(bank, self.rng.getrandbits(len(port)))

    async def _banks(self) -> None:
        """`full` when a tile is there, after a while; the next cycle after `release` it is not."""
        while True:
            await FallingEdge(self.dut.clk)
            for bank, tiles in enumerate(self.tiles):
                if tiles and self.rng.random() >= self.stall:
                    self.full |= 1 << bank
            self.dut.full.value = self.full
            await ReadOnly()
            if self.dut.rst.value:
                continue
            released = int(self.dut.release.value)
            if released:
                await RisingEdge(self.dut.clk)
            for bank, tiles in enumerate(self.tiles):
                if released >> bank & 1:
                    assert self.full >> bank & 1, f"bank {bank} was released but is not full"
                    assert bank not in self.answers, f"bank {bank}: released with reads to come"
                    tiles.popleft()
                    self.full &= ~(1 << bank)

    async def _loader(self) -> None:
        """Parameters in random order; `loaded` with the last one or after it."""
        dut, rng, entry = self.dut, self.rng, param_entry(self.config)
        while True:
            await FallingEdge(dut.clk)
            if not self.loads or not dut.half_free.value or dut.rst.value:
                continue
            params = list(enumerate(self.loads.popleft()))
            rng.shuffle(params)
            together = rng.random() < 0.5
            for n, (index, param) in enumerate(params):
                while rng.random() < self.stall:
                    await FallingEdge(dut.clk)
                dut.param__payload.value = pack(entry, {"index": index, "param": param})
                dut.param__valid.value = 1
                dut.loaded.value = int(together and n == len(params) - 1)
                await ReadOnly()
                assert dut.param__ready.value or dut.rst.value, "half_free without param.ready"
                await FallingEdge(dut.clk)
                dut.param__valid.value = 0
            dut.loaded.value = int(not together)
            await FallingEdge(dut.clk)
            dut.loaded.value = 0


async def _start(dut: Any, stall: float) -> tuple[Maker, World]:
    config = bench_config()
    rng = random.Random(f"{cocotb.RANDOM_SEED} post {stall}")
    start_clock(dut)
    # Icarus looks at `always @*` only after a change of its inputs: the reset must change a state.
    dut.rst.value = 0
    dut.desc__valid.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    world = World(dut, config, rng, stall)
    await reset(dut)
    return Maker(config, rng), world


async def _idle(dut: Any) -> None:
    for _ in range(200):
        await FallingEdge(dut.clk)
        if not dut.busy.value:
            return
    raise AssertionError("busy stays high")


# -- tests --------------------------------------------------------------------------------------


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def makes_words(dut: Any, stall: float) -> None:
    """Random descriptors, back to back."""
    maker, world = await _start(dut, stall)
    works = [maker.work() for _ in range(15)]
    scoreboard = Scoreboard(world.word)
    for work in works:
        world.put(work)
        scoreboard.expect(*work.words)
    await scoreboard.finish()
    await _idle(dut)
    assert not any(world.tiles), "not every tile was released"
    assert not world.loads
    assert len(scoreboard.expected) > 50


@cocotb.test(timeout_time=200, timeout_unit="us")
async def full_throughput(dut: Any) -> None:
    """One psum word a cycle without stalls, and the latency that the unit states."""
    maker, world = await _start(dut, 0.0)
    work = maker.work(big=True)
    scoreboard = Scoreboard(world.word, work.words)
    world.put(work)
    while not world.reads_done:
        await FallingEdge(dut.clk)
    cycles = 0
    while len(world.word.received) < len(work.words):
        await FallingEdge(dut.clk)
        cycles += 1
    # The first read has just been done; one cycle each for the bank and the last transfer.
    assert cycles == 4 * len(work.words) + Post(maker.config).latency
    await scoreboard.finish()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def waits_for_parameters(dut: Any) -> None:
    """No word is read before a half is loaded; two halves fit, not three."""
    maker, world = await _start(dut, 0.0)
    works = [maker.work(big=True) for _ in range(1)]
    params = works[0].params
    works[0].params = None
    world.put(works[0])
    for _ in range(50):
        await FallingEdge(dut.clk)
    assert not world.reads_done
    assert dut.half_free.value
    assert params is not None
    world.loads.extend([params, params])
    scoreboard = Scoreboard(world.word, works[0].words)
    if works[0].fields["release"]:
        await scoreboard.finish()
        await _idle(dut)
        for _ in range(3 * len(params)):
            await FallingEdge(dut.clk)
        assert dut.half_free.value
    else:
        await scoreboard.finish()
        for _ in range(3 * len(params)):
            await FallingEdge(dut.clk)
        assert not dut.half_free.value


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """After a reset at any cycle new work is done right."""
    maker, world = await _start(dut, 0.2)
    for _ in range(3):
        for _ in range(3):
            world.put(maker.work())
        for _ in range(world.rng.randint(40, 300)):
            await FallingEdge(dut.clk)
        world.stall = 0.0
        dut.rst.value = 1
        world.clear()
        # The loader ends the load that it is in, without effect.
        for _ in range(maker.config.param_depth + 10):
            await FallingEdge(dut.clk)
            world.clear()
        await reset(dut)
        world.word.received.clear()
        world.stall, maker.params = 0.2, None
        scoreboard = Scoreboard(world.word)
        for _ in range(3):
            work = maker.work()
            world.put(work)
            scoreboard.expect(*work.words)
        await scoreboard.finish()
        await _idle(dut)
        maker.params = None
        dut.rst.value = 1
        for _ in range(maker.config.param_depth + 10):
            await FallingEdge(dut.clk)
            world.clear()
        await reset(dut)
        world.word.received.clear()
