"""Bench of `ConfigNode`: random words against a model of every descriptor port.

A unit of the bench takes its descriptor whenever its monitor is ready, so the descriptors of an
instance must come out as the words up to each `go` made them, whatever the others do.
"""

import random
from collections import defaultdict
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import pack
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

WORDS = 250
_ROW_STEP, _COL_STEP = 14, 15
COUNTS = ("groups", "blocks", "rows", "windows", "segments", "cols", "psums")


def instances(config: Config) -> dict[Unit, int]:
    """Units of a cluster, as the architecture document counts them."""
    banks, rows, cols = config.glb_iact_banks, config.pe_rows, config.pe_cols
    counts = dict.fromkeys(Unit, 1)
    counts |= {Unit.PE: rows * cols, Unit.WEIGHT_ROUTER: rows, Unit.WEIGHT_LOADER: rows}
    counts |= {Unit.PSUM_ROUTER: cols, Unit.PSUM_BANK: cols}
    counts |= dict.fromkeys((Unit.IACT_ROUTER, Unit.IACT_LOADER, Unit.IACT_READER), banks)
    return counts


class Node:
    """The node's surroundings, and what its ports should hold."""

    def __init__(self, dut: Any, stall: float, place: tuple[int, int] | None = None) -> None:
        random.seed(cocotb.RANDOM_SEED)
        self.dut, self.config = dut, bench_config()
        self.layouts = Layouts(self.config)
        self.mask_bits = max(instances(self.config).values())
        rows, cols = self.config.cluster_rows, self.config.cluster_cols
        self.row, self.col = place or (random.randrange(rows), random.randrange(cols))
        dut.row.value, dut.col.value = self.row, self.col
        self.driver = StreamDriver(dut, "i", stall_probability=stall)
        layout = self.layouts.config_write
        self.passed = {}
        for name in ("south", "east"):
            getattr(dut, f"enable_{name}").value = 1
            monitor = StreamMonitor(dut, name, stall_probability=stall)
            self.passed[name] = Scoreboard(monitor, layout=layout)
        self.ports: dict[tuple[Unit, int], Scoreboard] = {}
        self.monitors: list[StreamMonitor] = []
        for unit, count in instances(self.config).items():
            for i in range(count):
                name = f"{unit.name.lower()}__{i}"
                monitor = StreamMonitor(dut, name, stall_probability=stall)
                self.monitors.append(monitor)
                self.ports[unit, i] = Scoreboard(monitor, layout=self.layouts.descriptor(unit))
        self.shadow: defaultdict[tuple[Unit, int], int] = defaultdict(int)
        self.step = 0  # of the first node it stays so

    @classmethod
    async def begin(cls, dut: Any, stall: float, place: tuple[int, int] | None = None) -> "Node":
        """Clock and reset; then every word is written, because a reset clears none."""
        node = cls(dut, stall, place)
        start_clock(dut)
        dut.rst.value = 1
        await reset(dut)
        node.write_all()
        await node.finish()
        await FallingEdge(dut.clk)
        return node

    def word(self, **fixed: int) -> dict[str, int]:
        """A random write."""
        config = self.config
        unit = random.choice(list(Unit))
        size = self.layouts.descriptor(unit).size
        return {
            "rows": random.getrandbits(config.cluster_rows) | (random.random() < 0.7) << self.row,
            "cols": random.getrandbits(config.cluster_cols) | (random.random() < 0.7) << self.col,
            "instances": random.getrandbits(self.mask_bits) & random.getrandbits(self.mask_bits),
            "unit": unit,
            "index": random.randrange(-(-size // 32) + 1),
            "go": int(random.random() < 0.3),
            "ramp": random.randrange(2),
            "data": random.getrandbits(32),
            **fixed,
        }

    def steps(self) -> list[dict[str, int]]:
        """The words of a STEP: of nodes that hear from north, of those that hear from west."""
        flat = dict.fromkeys(("rows", "cols", "instances", "index", "go", "ramp"), 0)
        return [
            {**flat, "unit": kind, "data": random.randrange(-(2**23), 2**23) % 2**32}
            for kind in (_ROW_STEP, _COL_STEP)
        ]

    def send(self, write: dict[str, int], *, south: bool = True, east: bool = True) -> None:
        """Queue a word, and expect what follows from it."""
        self.driver.put(pack(self.layouts.config_write, write))
        if write["unit"] == (_COL_STEP if self.col else _ROW_STEP) and (self.row or self.col):
            self.step = write["data"]
        if write["ramp"]:
            write = {**write, "data": (write["data"] + self.step) % 2**32}
        payload = pack(self.layouts.config_write, write)
        for name, on in (("south", south), ("east", east)):
            if on:
                self.passed[name].expect(payload)
        if not (write["rows"] >> self.row & 1 and write["cols"] >> self.col & 1):
            return
        if write["unit"] in (_ROW_STEP, _COL_STEP):
            return
        unit = Unit(write["unit"])
        size = self.layouts.descriptor(unit).size
        low = 32 * write["index"]
        mask = (0xFFFF_FFFF << low) & ((1 << size) - 1)
        count = instances(self.config)[unit]
        selected = write["instances"] & ((1 << count) - 1)
        for i in range(count):
            here = selected >> i & 1
            part = mask if here else self.shared(unit) & mask if selected else 0
            old = self.shadow[unit, i]
            self.shadow[unit, i] = old & ~part | write["data"] << low & part
            if write["go"] and here and not self.empty(unit, self.shadow[unit, i]):
                self.ports[unit, i].expect(self.shadow[unit, i])

    def empty(self, unit: Unit, value: int) -> bool:
        """A descriptor of a PE with a count of zero: nobody hears of it."""
        if unit is not Unit.PE:
            return False
        fields = self.layouts.pe
        return any(
            not value >> fields[name].offset & (1 << fields[name].width) - 1 for name in COUNTS
        )

    def shared(self, unit: Unit) -> int:
        """Mask of the bits that all instances of a kind have in common."""
        layout = self.layouts.pe
        return (1 << layout["iact_source"].offset) - 1 if unit is Unit.PE else 0

    def held(self, unit: Unit) -> dict[str, int]:
        """The first word, if to write another one to any instance would be to write it to all."""
        common = self.shadow[unit, 0] & 0xFFFF_FFFF
        return {"data": common} if self.shared(unit) else {}

    def write_all(self) -> None:
        """The steps, and every word of every instance; starts nothing."""
        for write in self.steps():
            self.send(write)
        everywhere = {
            "rows": 1 << self.row,
            "cols": 1 << self.col,
            "instances": (1 << self.mask_bits) - 1,
        }
        for unit in Unit:
            for index in range(-(-self.layouts.descriptor(unit).size // 32)):
                self.send(self.word(**everywhere, unit=unit, index=index, go=0))

    async def finish(self) -> None:
        """Everything expected comes, and nothing else; then nothing is pending."""
        await self.driver.drain()
        for board in [*self.passed.values(), *self.ports.values()]:
            await board.finish(idle=0)
        for _ in range(20):
            await FallingEdge(self.dut.clk)
        for board in [*self.passed.values(), *self.ports.values()]:
            board.check()
        await ReadOnly()
        assert not int(self.dut.pending.value) and not int(self.dut.moving.value)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.3, 0.8])
async def random_words(dut: Any, stall: float) -> None:
    """Any words: they pass on in order, and make the right descriptors."""
    node = await Node.begin(dut, stall)
    for _ in range(WORDS):
        node.send(node.word())
    await node.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(place=["first", "row", "col", "inner"])
async def ramps(dut: Any, place: str) -> None:
    """Each node adds its step to ramps and to nothing else, between changes of the steps."""
    config = bench_config()
    row = config.cluster_rows - 1 if place in ("row", "inner") else 0
    col = config.cluster_cols - 1 if place in ("col", "inner") else 0
    node = await Node.begin(dut, 0.3, (row, col))
    for _ in range(WORDS):
        if random.random() < 0.2:
            node.send(random.choice(node.steps()))
        node.send(node.word())
    await node.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(way=["south", "east", "none"])
async def edges_of_the_tree(dut: Any, way: str) -> None:
    """A way that is not enabled gets nothing and holds nothing up."""
    node = await Node.begin(dut, 0.2)
    dut.enable_south.value, dut.enable_east.value = int(way == "south"), int(way == "east")
    for _ in range(WORDS // 2):
        node.send(node.word(), south=way == "south", east=way == "east")
    await node.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def one_word_a_cycle(dut: Any) -> None:
    """Words that start nothing follow each other without a gap."""
    node = await Node.begin(dut, 0.0)
    for _ in range(WORDS):
        node.send(node.word(go=0))
    cycles, before = 0, node.driver.sent
    while node.driver.sent < before + WORDS:
        await FallingEdge(dut.clk)
        cycles += 1
    assert cycles < WORDS + 8, f"{cycles} cycles for {WORDS} words"
    await node.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def waiting_descriptors(dut: Any) -> None:
    """A word waits for exactly the instances that it is for; the tree has it meanwhile."""
    node = await Node.begin(dut, 0.0)
    here = {"rows": 1 << node.row, "cols": 1 << node.col}
    for unit, count in instances(node.config).items():
        busy = random.randrange(count)
        monitor = node.monitors[list(node.ports).index((unit, busy))]
        monitor.stall_probability = 1.0
        first = {**here, "unit": unit, "go": 1, "index": 0, **node.held(unit)}
        for _ in range(2):  # one is held for the unit, one waits
            node.send(node.word(**first, instances=1 << busy))
        for other in range(count):
            if other != busy:
                node.send(node.word(**first, instances=1 << other))
        await node.driver.drain()
        for _ in range(30):
            await FallingEdge(dut.clk)
        await ReadOnly()
        assert int(dut.pending.value) and not int(dut.moving.value)
        # Two instances, one of them waits: neither is written.
        node.send(node.word(**here, unit=unit, instances=(1 << count) - 1, go=1, index=0))
        passed = len(node.passed["south"].expected)
        for _ in range(30):
            await FallingEdge(dut.clk)
        await ReadOnly()
        assert int(dut.pending.value) and int(dut.moving.value)
        assert len(node.passed["south"]._monitor.received) == passed, "the tree must not wait"
        for (kind, i), board in node.ports.items():
            if kind is unit:
                missing = 3 if i == busy else 1
                assert len(board._monitor.received) == len(board.expected) - missing
        monitor.stall_probability = 0.0
        await node.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def empty_descriptors(dut: Any, stall: float) -> None:
    """A count of zero is nothing to do for a PE, between others; nothing stays pending."""
    node = await Node.begin(dut, stall)
    here = {"rows": 1 << node.row, "cols": 1 << node.col, "ramp": 0, "unit": Unit.PE}
    layout = node.layouts.pe
    for name in ("", *COUNTS, "", *COUNTS):
        values = {key: random.randrange(1, 1 << field.width) for key, field in layout}
        whole = pack(layout, values if not name else {**values, name: 0})
        everyone = (1 << node.config.pes_per_cluster) - 1
        words = -(-layout.size // 32)
        for index in range(words):
            data = whole >> 32 * index & 0xFFFF_FFFF
            go = int(index == words - 1)
            node.send(node.word(**here, instances=everyone, index=index, data=data, go=go))
    boards = [board for (unit, _), board in node.ports.items() if unit is Unit.PE]
    assert all(len(board.expected) == 2 for board in boards)
    await node.finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_at_any_time(dut: Any) -> None:
    """A reset leaves no descriptor behind; words that are written anew are right."""
    node = await Node.begin(dut, 0.4)
    for _ in range(6):
        for _ in range(40):
            node.send(node.word())
        for _ in range(random.randrange(100)):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        node.driver.clear()
        await reset(dut, 3)
        node.driver.clear()
        for board in [*node.passed.values(), *node.ports.values()]:
            board.expected.clear()
            board._monitor.received.clear()
            board._checked = 0
        node.write_all()
        for _ in range(20):
            node.send(node.word())
        await node.finish()
        await FallingEdge(dut.clk)
