"""Bench of `Pe`: random descriptors against a model, throughput, faults and resets."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.rtl.codes import Activity, Fault
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import pack
from rowmesh.verif.pe_work import Maker, Shape, Work, iact_beats
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []


class World:
    """Agents of all ports, and what the status outputs say in every cycle."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.dut = dut
        self.config = bench_config()
        self.layouts = Layouts(self.config)
        self.rng = random.Random(f"{cocotb.RANDOM_SEED} pe {stall}")
        self.maker = Maker(self.config, self.rng)
        self.desc = StreamDriver(dut, "desc")
        self.iact = StreamDriver(dut, "iact", stall_probability=stall)
        self.weight = StreamDriver(dut, "weight", stall_probability=stall)
        self.psum_in = StreamDriver(dut, "psum_in", stall_probability=stall)
        self.psum_out = StreamMonitor(dut, "psum_out", stall_probability=stall)
        self.scoreboard = Scoreboard(self.psum_out, layout=self.layouts.psum_beat)
        self.activity: Counter[Activity] = Counter()
        self.faults: list[Fault] = []
        self.macs = 0
        self.sources: list[int] = []
        cocotb.start_soon(self._status())

    @property
    def drivers(self) -> list[StreamDriver]:
        return [self.desc, self.iact, self.weight, self.psum_in]

    def put(self, work: Work) -> None:
        """Queue a descriptor, all that it meets and what must come out."""
        self.desc.put(pack(self.layouts.pe, work.shape.fields()))
        self.iact.put(*work.iact)
        self.weight.put(*work.weight)
        self.psum_in.put(*work.psum_in)
        self.scoreboard.expect(*work.psum_out)

    async def cycles(self, count: int) -> None:
        for _ in range(count):
            await FallingEdge(self.dut.clk)

    async def finish(self, works: list[Work]) -> None:
        """Everything comes out, everything was taken, the status agrees."""
        await self.scoreboard.finish(timeout=20_000)
        assert not self.dut.busy.value
        for driver in self.drivers:
            assert driver.sent == driver._queued, f"{driver.name}: not everything was taken"
        assert not self.faults, self.faults
        assert self.macs == sum(work.macs for work in works)
        words = sum(work.words for work in works)
        assert self.activity[Activity.COMPUTE] == words, (self.activity, words)

    async def restart(self) -> None:
        """Reset, with nothing left over."""
        self.dut.rst.value = 1
        for driver in self.drivers:
            driver.clear()
        await reset(self.dut)
        self.psum_out.received.clear()
        self.scoreboard = Scoreboard(self.psum_out, layout=self.layouts.psum_beat)
        self.activity.clear()
        self.faults.clear()
        self.sources.clear()
        self.macs = 0

    async def _status(self) -> None:
        dut = self.dut
        while True:
            await FallingEdge(dut.clk)
            await ReadOnly()
            if dut.rst.value:
                continue
            activity = Activity(int(dut.activity.value))
            macs = int(dut.macs.value)
            assert (activity == Activity.IDLE) == (not dut.busy.value)
            assert not macs or activity == Activity.COMPUTE
            assert macs <= self.config.macs_per_pe
            if activity == Activity.IDLE:
                assert not dut.iact__ready.value
                assert not dut.psum_in__ready.value
            if dut.iact__valid.value and dut.iact__ready.value:
                self.sources.append(int(dut.iact_source.value))
            self.activity[activity] += 1
            self.macs += macs
            if fault := int(dut.fault.value):
                self.faults.append(Fault(fault))


async def _start(dut: Any, stall: float = 0.0) -> World:
    start_clock(dut)
    dut.rst.value = 1
    world = World(dut, stall)
    await world.restart()
    return world


# -- tests --------------------------------------------------------------------------------------


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.1, 0.5])
async def computes(dut: Any, stall: float) -> None:
    """Random descriptors, back to back."""
    world = await _start(dut, stall)
    works = [world.maker.work() for _ in range(20)]
    for work in works:
        world.put(work)
    await world.finish(works)
    sources = [work.shape.iact_source for work in works for _ in work.iact]
    assert world.sources == sources


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def all_zero(dut: Any) -> None:
    """Windows and blocks without a single non-zero still give their psums."""
    world = await _start(dut, 0.2)
    works = []
    for iact_density, weight_density in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0)) * 3:
        shape = replace(
            world.maker.work().shape,
            iact_density=iact_density,
            weight_density=weight_density,
            weight_dense=not world.config.sparse,
            zeros_as_values=not world.config.sparse,
            segments=1,
            windows=1,
        )
        shape = replace(shape, cols=2, segment_cols=2, psums=2)
        works.append(world.maker.work(shape))
        world.put(works[-1])
    await world.finish(works)


def _long(world: World, **changes: Any) -> Shape:
    """Twelve columns of sixteen psums, smaller where the SPads are."""
    c = world.config
    psums = min(16, c.psum_depth // 2, c.weight_data_depth * c.macs_per_pe // 12 // 2 * 2)
    cols = min(12, c.weight_addr_depth)
    shape = Shape(
        groups=1,
        blocks=1,
        rows=4,
        windows=12,
        segments=cols // 4,
        segment_cols=4,
        cols=cols,
        psums=psums,
        iact_density=1.0,
        weight_density=1.0,
        zeros_as_values=not c.sparse,
        weight_dense=not c.sparse,
    )
    return replace(shape, **changes)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def dense_throughput(dut: Any) -> None:
    """The multipliers work in at least 95 % of the cycles of a dense layer, drain included."""
    world = await _start(dut)
    for dense in (True, False):
        if not dense and not world.config.sparse:
            continue
        work = world.maker.work(_long(world, weight_dense=dense))
        await world.restart()
        world.put(work)
        await world.finish([work])
        total = sum(world.activity.values()) - world.activity[Activity.IDLE]
        first = work.shape.cols * (work.shape.psums // world.config.macs_per_pe + 1) + 12
        steady = total - first  # the first block has to come in
        assert work.words >= 0.95 * steady, (world.activity, first)
        assert work.words >= 0.8 * total


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(density=[0.2, 0.5, 0.8])
async def sparse_throughput(dut: Any, density: float) -> None:
    """Sparse layers need little more than a cycle a weight word or a cycle a pair."""
    world = await _start(dut)
    shape = _long(world, iact_density=density, weight_density=density, rows=5)
    # The last column of a window is not the last one of its segment.
    work = world.maker.work(replace(shape, cols=shape.cols - 1))
    await world.restart()
    world.put(work)
    await world.finish([work])
    total = sum(world.activity.values()) - world.activity[Activity.IDLE]
    shape = work.shape
    header = shape.cols * (shape.psums // world.config.macs_per_pe + 1) + 12
    windows = shape.rows * shape.windows
    bound = max(work.words, work.pairs, windows * shape.psums // 2)
    dut._log.info("%s cycles, bound %s, words %s, %s", total, bound, work.words, world.activity)
    # A segment without a value takes a cycle, too.
    assert total - header <= 1.15 * bound + windows, (world.activity, bound)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def block_throughput(dut: Any) -> None:
    """Fully connected: every weight is used once, so weights set the pace, and no one else."""
    world = await _start(dut)
    c = world.config
    half = c.weight_data_depth // 2
    cols = min(c.weight_addr_depth // 2, 8)
    psums = max(2, min(16, half * c.macs_per_pe // cols // 2 * 2))
    shape = _long(world, blocks=20, rows=1, windows=1, segments=1, segment_cols=cols, cols=cols)
    shape = replace(shape, psums=psums)
    work = world.maker.work(shape)
    await world.restart()
    world.put(work)
    await world.finish([work])
    total = sum(world.activity.values()) - world.activity[Activity.IDLE]
    load = len(work.weight) + (cols * shape.blocks if c.sparse else 0)
    dut._log.info("%s cycles, %s words, %s", total, len(work.weight), world.activity)
    assert total <= load + 3 * shape.blocks + psums + 40, (world.activity, load)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_in_between(dut: Any) -> None:
    """After a reset at any cycle new work is done right."""
    world = await _start(dut, 0.2)
    for _ in range(6):
        for _ in range(4):
            world.put(world.maker.work())
        await world.cycles(world.rng.randint(5, 150))
        await world.restart()
        works = [world.maker.work() for _ in range(2)]
        for work in works:
            world.put(work)
        await world.finish(works)
        await world.restart()


# -- faults -------------------------------------------------------------------------------------


async def _fault(world: World, expected: Fault) -> None:
    """The fault comes, and after a reset the unit works."""
    for _ in range(400):
        await FallingEdge(world.dut.clk)
        if world.faults:
            break
    assert world.faults, f"no {expected.name}"
    assert world.faults[0] == expected, world.faults
    await world.cycles(world.rng.randint(0, 30))
    await world.restart()
    work = world.maker.work()
    world.put(work)
    await world.finish([work])
    await world.restart()


def _small(world: World, **changes: Any) -> Shape:
    shape = _long(world, rows=1, windows=1, segments=1, segment_cols=4, cols=4, psums=4)
    return replace(shape, **changes)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def iact_faults(dut: Any) -> None:
    """Values beyond the end of a segment."""
    world = await _start(dut)
    c = world.config
    wrong = [[0, 1, 2, 3, 4], [1] * 6, [0, 0, 0, 0, 5]]
    if not c.sparse:
        wrong += [[1, 2], [1]]
    else:
        wrong += [[0] * 30 + [1], [0] * (2 * c.max_run + 5) + [7, 8, 9]]
    for values in wrong:
        for tail in range(2):
            world.put(world.maker.work(_small(world)))
            world.iact.clear()
            world.iact.put(*iact_beats(c, values), *([0] * tail))
            world.scoreboard.expected.clear()
            await _fault(world, Fault.IACT_FORMAT)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def weight_faults(dut: Any) -> None:
    """Blocks too short and too long, wrong addresses, weights beyond the psums."""
    world = await _start(dut)
    c = world.config
    last = 1 << c.weight_word_bits
    streams: list[tuple[list[int], bool]] = []
    for dense in {True, not c.sparse}:
        good = [word & ~last for word in world.maker.work(_small(world, weight_dense=dense)).weight]
        early = len(good) - 2
        streams += [(good + [1 | last], dense), (good[:early] + [good[early] | last], dense)]
    if c.sparse:
        bits, parts = c.weight_addr_bits, c.weight_addrs_per_word

        def header(ends: list[int]) -> list[int]:
            return [
                sum(end << i * bits for i, end in enumerate(ends[n : n + parts]))
                for n in range(0, len(ends), parts)
            ]

        deep = c.weight_data_depth
        streams += [
            (header([2, 1, 3, 4]) + [1] * 4, False),
            (header([4, 5, 6, 0]) + [1] * 6, False),
            (header([1, 2, 3, 3]) + [1 | last], False),
            ([word | last for word in header([1, 2, 3, 3])], False),
            (header([0, 0, 0, 0]) + [last], False),
        ]
        if deep + 1 < 1 << bits:
            streams.append((header([1, 2, 3, deep + 1]), False))
        # A value after psums - 1 of them, in the last column: by its count, and by many words.
        far = (1 << c.weight_bits) * 4 | 1
        if c.count_bits >= 3:
            streams.append(([*header([0, 0, 0, 1]), far | last], False))
        many = [sum(1 << n * c.weight_pair_bits for n in range(c.macs_per_pe))] * 5
        many[-1] |= last
        streams.append((header([0, 0, 0, 5]) + many, False))
    for stream, dense in streams:
        world.put(world.maker.work(_small(world, weight_dense=dense)))
        world.weight.clear()
        world.weight.put(*stream)
        world.scoreboard.expected.clear()
        await _fault(world, Fault.WEIGHT_FORMAT)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def overflows(dut: Any) -> None:
    """Sums that do not fit, of the PE itself and with the PE below, in both directions."""
    world = await _start(dut)
    c = world.config
    top = 1 << c.psum_bits - 1
    for sign in (1, -1):
        shape = _small(world, chain=True, iact_signed=True)
        work = world.maker.work(shape)
        first = work.psum_out[0] & 2 * top - 1
        first -= (first & top) << 1
        below = work.psum_in[0] & 2 * top - 1
        own = first - (below - ((below & top) << 1))
        if own * sign <= 0:
            continue
        beat = [top - own if sign > 0 else -top - own - 1, 0]
        work.psum_in[0] = pack(world.layouts.psum_beat, beat)
        world.put(work)
        world.scoreboard.expected.clear()
        await _fault(world, Fault.PSUM_OVERFLOW)
    if c.psum_bits > 18:
        return
    for sign in (1, -1):
        shape = _small(world, iact_signed=False)
        # 4 x 255 x 127 does not fit 16 bits, 255 x 127 does.
        weight = (1 << c.weight_bits - 1) - 1 if sign > 0 else 1 << c.weight_bits - 1
        raw = sum(weight << n * c.weight_bits for n in range(c.macs_per_pe))
        words = [raw] * (4 * -(-shape.psums // c.macs_per_pe))
        words[-1] |= 1 << c.weight_word_bits
        world.desc.put(pack(world.layouts.pe, replace(shape, weight_dense=True).fields()))
        world.weight.put(*words)
        world.iact.put(*iact_beats(c, [(1 << c.iact_bits) - 1] * 4))
        await _fault(world, Fault.PSUM_OVERFLOW)
