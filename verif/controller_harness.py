"""What surrounds a controller in its bench: memory, an array that is busy for a while, commands.

What must come out is told by the maker of random programs, below; the CRC comes from zlib.
"""

import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.rtl.codes import Fault, Opcode, Unit
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.controller import settle_cycles
from rowmesh.rtl.control.registers import State
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import unpack
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import StreamDriver, StreamMonitor, reset, start_clock

__all__ = ["Run", "System", "binary", "instruction", "random_program", "step_words"]

BASE = 0x8000_1238
_RAMPS = (Opcode.RAMP, Opcode.RAMP_NUMBER)
_WRITES = (Opcode.WRITE, Opcode.WRITE_NUMBER, Opcode.ONE, *_RAMPS)
#: Not drawn as the others are.
_RAW = (Opcode.END, *_WRITES)


@dataclass
class Run:
    """What a program does when nothing stops it: (bits of the write, layer, waits before it)."""

    words: list[int] = field(default_factory=list)
    writes: list[dict[str, int]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # instruction of every write
    after_wait: list[bool] = field(default_factory=list)  # a WAIT stands before it
    layers: list[tuple[int, int]] = field(default_factory=list)  # (instruction, number)


def instruction(
    opcode: int,
    data: int = 0,
    unit: int = 0,
    index: int = 0,
    go: int = 0,
    place: tuple[int, int, int] = (0, 0, 0),
) -> int:
    """One word, by the format of the architecture document."""
    row, col, number = place
    where = number << 39 | col << 44 | row << 49
    return data | go << 32 | index << 33 | where | unit << 54 | opcode << 58


def step_words(rows: int, cols: int) -> tuple[int, list[dict[str, int]]]:
    """A STEP, and what the bus carries for it."""
    base = dict.fromkeys(("rows", "cols", "instances", "index", "go", "ramp"), 0)
    words = [{**base, "unit": 14 + i, "data": step % 2**32} for i, step in enumerate((rows, cols))]
    return rows % 2**24 | cols % 2**24 << 24 | Opcode.STEP << 58, words


def random_program(config: Config, rng: random.Random, length: int, *, end: bool = True) -> Run:
    """Instructions in any order, and what they do."""
    run = Run()
    masks = {"rows": 0, "cols": 0, "instances": 0}
    waits = False
    stepped = False
    kinds = [*_WRITES, Opcode.WRITE, *_WRITES, *(op for op in Opcode if op not in _RAW)]
    for at in range(length):
        opcode = rng.choice(kinds)
        data = rng.getrandbits(32)
        if opcode is Opcode.LAYER:
            data &= 0xFFFF
            run.layers.append((at, data))
        if opcode is Opcode.WAIT:
            waits = True
        for op, name, bits in (
            (Opcode.ROWS, "rows", config.cluster_rows),
            (Opcode.COLS, "cols", config.cluster_cols),
            (Opcode.UNITS, "instances", config.most_instances),
        ):
            if opcode is op:
                masks[name] = data & ((1 << bits) - 1)
        if opcode is Opcode.STEP:
            stepped = True
            word, writes = step_words(*(rng.randrange(-(2**23), 2**23) for _ in range(2)))
            run.words.append(word)
            run.writes += writes
            run.places += [at, at]
            run.after_wait += [waits, False]
            waits = False
            continue
        if opcode in _RAMPS and not stepped:
            opcode = Opcode.WRITE
        if opcode in _WRITES:
            unit, index, go = rng.choice(list(Unit)), rng.randrange(64), rng.randrange(2)
            if unit is Unit.OUT_WRITER:
                go = rng.choice([0, 1, 1])
            y, x, i = place = rng.randrange(32), rng.randrange(32), rng.randrange(32)
            run.words.append(instruction(opcode, data, unit, index, go, place))
            reached = dict(masks)
            if opcode is Opcode.ONE:
                reached["rows"] = 1 << y & ((1 << config.cluster_rows) - 1)
                reached["cols"] = 1 << x & ((1 << config.cluster_cols) - 1)
            if opcode in (Opcode.ONE, Opcode.WRITE_NUMBER, Opcode.RAMP_NUMBER):
                reached["instances"] = 1 << i & ((1 << config.most_instances) - 1)
            said = {"unit": unit, "index": index, "go": go, "ramp": int(opcode in _RAMPS)}
            run.writes.append({**reached, **said, "data": data})
            run.places.append(at)
            run.after_wait.append(waits)
            waits = False
        else:
            run.words.append(instruction(opcode, data))
    if end:
        run.words.append(instruction(Opcode.END))
    return run


def binary(config: Config, words: list[int], **change: int) -> bytearray:
    """A program with its header; `change` replaces fields of the header."""
    body = struct.pack(f"<{len(words)}Q", *words)
    fields = {
        "magic": int.from_bytes(b"RWMP", "little"),
        "version": 2,
        "hash": config.hash,
        "count": len(words),
        "crc": zlib.crc32(body),
        "total": len(words) + 4,
        "low": 0,
        "high": 0,
        **change,
    }
    return bytearray(struct.pack("<8I", *fields.values()) + body)


class _Channel(StreamMonitor):
    """A monitor that the controller's own reset of the array excuses."""

    dut: Any

    def _in_reset(self) -> bool:
        return super()._in_reset() or bool(self.dut.array_reset.value)


class System:
    """Everything around the controller."""

    def __init__(self, dut: Any, stall: float) -> None:
        random.seed(cocotb.RANDOM_SEED)
        self.dut, self.config = dut, bench_config()
        self.layouts = Layouts(self.config)
        self.settle = settle_cycles(self.config)
        self.memory: dict[int, int] = {}
        self.expected: Run | None = None
        self.writes: list[dict[str, int]] = []
        self.requests: list[dict[str, int]] = []
        self.busy = {"array": 0, "writers": 0}  # cycles left
        self.noise = 0  # cycles until the masters are quiet
        self.counted = self.cleared = 0
        self.events = {"done": 0, "fault": 0, "paused": 0}
        _Channel.dut = dut
        self.data = StreamDriver(dut, "data", stall_probability=stall)
        self.request = _Channel(dut, "request", stall_probability=stall, callback=self._requested)
        self.bus = _Channel(dut, "config_o", stall_probability=stall, callback=self._written)
        for name in ("start", "soft_reset", "resume", "single_step", "fault"):
            getattr(dut, name).value = 0
        dut.program_address.value = BASE
        dut.program_words.value = 0

    @classmethod
    async def begin(cls, dut: Any, stall: float) -> "System":
        """Clock, reset, and the surroundings at work."""
        system = cls(dut, stall)
        start_clock(dut)
        dut.rst.value = 1
        await reset(dut)
        cocotb.start_soon(system._model())
        return system

    def put(self, content: bytes | bytearray, words: int | None = None) -> None:
        """Place a program, the only content of memory."""
        count = len(content) // 8
        stored = struct.unpack(f"<{count}Q", content)
        self.memory = {BASE + 8 * i: word for i, word in enumerate(stored)}
        self.dut.program_words.value = count if words is None else words

    def _requested(self, payload: int) -> None:
        request = unpack(self.layouts.dma_request, payload)
        self.requests.append(request)
        assert request["words"] > 0
        for i in range(request["words"]):
            # A word that is not in memory fails here: nothing behind the limit is read.
            self.data.put(self.memory[request["address"] + 8 * i])

    def _written(self, payload: int) -> None:
        write = unpack(self.layouts.config_write, payload)
        assert not int(self.dut.stop.value) or self.dut.array_reset.value == 0
        assert self.expected is not None, f"nothing may be written: {write}"
        at = len(self.writes)
        assert at < len(self.expected.writes), f"one write too many: {write}"
        assert write == self.expected.writes[at], f"write {at}"
        if self.expected.after_wait[at]:
            assert not self.busy["writers"], f"write {at} did not wait"
        self.writes.append(write)
        if write["go"]:
            length = random.choice([1, 2, 5, 60])
            kind = "writers" if write["unit"] == Unit.OUT_WRITER else "array"
            self.busy[kind] = max(self.busy[kind], length)

    async def _model(self) -> None:
        """Busy flags that come late, a bus that becomes quiet, counters."""
        dut = self.dut
        late: list[tuple[int, int]] = [(0, 0)] * random.randrange(1, self.settle - 1)
        was_reset = clear_cycles = 0
        while True:
            await FallingEdge(dut.clk)
            resets = int(dut.array_reset.value)
            if resets:
                assert was_reset or not self.noise, "reset while the bus is at work"
                self.data.clear()
                self.busy = dict.fromkeys(self.busy, 0)
                late = [(0, 0)] * len(late)
            for kind, left in self.busy.items():
                self.busy[kind] = max(0, left - 1)
            now = (int(any(self.busy.values())), int(self.busy["writers"] > 0))
            late = [*late[1:], now]
            dut.array_busy.value, dut.writers_busy.value = late[0]
            stopped = int(dut.stop.value)
            if not stopped:
                self.noise = random.randrange(2 * self.settle)
            elif self.noise:
                self.noise -= 1
            dut.quiet.value = int(not self.noise or (not stopped and random.random() < 0.5))
            was_reset = resets
            await ReadOnly()
            self.counted += int(dut.count_enable.value)
            clears = int(dut.count_clear.value)
            assert not (clears and int(dut.count_enable.value))
            if clears:
                self.counted = 0
            elif clear_cycles and int(dut.count_enable.value):
                # Every slot of a PE's counters: six activities, computing by multiplications.
                assert clear_cycles >= 6 + self.config.macs_per_pe
                self.cleared += 1
            clear_cycles = clear_cycles + 1 if clears else 0
            for bit, name in enumerate(self.events):
                self.events[name] += int(dut.events.value) >> bit & 1

    async def cycles(self, number: int) -> None:
        """Let time pass."""
        for _ in range(number):
            await FallingEdge(self.dut.clk)

    async def pulse(self, *names: str, value: int = 1) -> None:
        """Commands of one cycle."""
        await FallingEdge(self.dut.clk)
        for name in names:
            getattr(self.dut, name).value = value
        await FallingEdge(self.dut.clk)
        for name in names:
            getattr(self.dut, name).value = 0

    @property
    def state(self) -> State:
        """The one bit of the state."""
        value = int(self.dut.state.value)
        assert value.bit_count() == 1, f"state {value:b}"
        return State(value.bit_length() - 1)

    async def until(self, *states: State, timeout: int = 20_000) -> State:
        """Wait for a state."""
        for _ in range(timeout):
            await FallingEdge(self.dut.clk)
            if self.state in states:
                return self.state
        raise AssertionError(f"still {self.state.name} after {timeout} cycles")

    def expect(self, run: Run | None) -> None:
        """A run begins: forget the one before."""
        self.expected = run
        self.writes.clear()
        self.requests.clear()

    async def good(self, length: int = 60) -> None:
        """A whole good run, from whatever state."""
        run = random_program(self.config, random.Random(random.random()), length)
        content = binary(self.config, run.words + [instruction(12)] * random.choice([0, 0, 3]))
        self.put(content, len(content) // 8 + random.choice([0, 5]))
        self.expect(run)
        await self.cycles(2)  # events of the run before are counted by now
        before = dict(self.events)
        await self.pulse("start")
        await self.until(State.RUNNING)
        await self.pulse("start")  # ignored
        assert await self.until(State.DONE, State.FAULT) is State.DONE, self.fault()
        assert not any(self.busy.values()), "END did not wait"
        assert self.writes == run.writes
        assert self.fault() == (0, 0, 0)
        if run.layers:
            assert int(self.dut.layer.value) == run.layers[-1][1]
        await self.cycles(2)
        assert int(self.dut.cycles.value) == self.counted > 0
        assert {name: self.events[name] - before[name] for name in before} == {
            "done": 1,
            "fault": 0,
            "paused": 0,
        }
        words = len(content) // 8 - 4
        spans = [(r["address"], r["words"]) for r in self.requests]
        body = BASE + 32
        assert spans == [(BASE, 4), (body, words), (body, words)]

    def fault(self) -> tuple[int, int, int]:
        """Code, layer, instruction."""
        dut = self.dut
        return (
            int(dut.fault_code.value),
            int(dut.fault_layer.value),
            int(dut.fault_index.value),
        )

    async def fails(self, code: Fault, layer: int = 0, index: int = 0) -> None:
        """A run that must end with a fault."""
        await self.pulse("start")
        await self.until(State.FAULT)
        assert self.fault() == (code, layer, index), Fault(self.fault()[0]).name
        assert int(self.dut.stop.value) and not int(self.dut.count_enable.value)
        await self.cycles(2)
        assert int(self.dut.array_reset.value)

    async def recover(self) -> None:
        """Whatever recovers: a soft reset, or nothing before the next start."""
        if random.random() < 0.5:
            await self.pulse("soft_reset")
            await self.until(State.IDLE)
            assert self.fault() == (0, 0, 0)
            assert not int(self.dut.stop.value) and not int(self.dut.array_reset.value)
