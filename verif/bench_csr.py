"""Bench of `Csr`: a host on AXI4-Lite against a model of the register map."""

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from rowmesh.rtl.codes import Activity
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.counters import COUNTER_ENTRIES, counter_settle
from rowmesh.rtl.control.csr import Csr
from rowmesh.rtl.control.registers import Access, RegisterMap, register_map
from rowmesh.verif.fields import unpack
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []

END = 0x100  # offsets beyond the last register, and some


def stalls(probability: float, seed: int) -> Iterator[bool]:
    """Random pauses of a channel."""
    rng = random.Random(seed)
    while True:
        yield rng.random() < probability


class Host:
    """A master, and what the registers should hold."""

    def __init__(self, dut: Any, config: Config, stall: float) -> None:
        self.dut = dut
        self.csr: Any = Csr(config)
        self.config = config
        self.map: RegisterMap = register_map(config)
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
        write, read = self.master.write_if, self.master.read_if
        channels = [write.aw_channel, write.w_channel, write.b_channel]
        channels += [read.ar_channel, read.r_channel]
        for channel in channels:
            channel.set_pause_generator(stalls(stall, random.getrandbits(32)))
        self.words = {
            register.offset: self._bits(register, None) for register in self.map.registers
        }
        self.strobes: dict[str, int] = {}
        self.status = 0
        dut.status.value = 0
        dut.events.value = 0

    def _bits(self, register: Any, kind: Access | None) -> int:
        """Mask of the fields of a kind; without one, the reset value."""
        if kind is None:
            wanted = (Access.CONST, Access.RW)
            return sum(
                field.reset << register.low(field.name)
                for field in register.fields
                if register.access_of(field) in wanted
            )
        return sum(register.mask(f.name) for f in register.fields if register.access_of(f) is kind)

    async def watch(self) -> None:
        """Count the cycles that each command is high."""
        commands = [self.map["CONTROL"].signal(f) for _, f in self.map.fields(Access.STROBE)]
        while True:
            await FallingEdge(self.dut.clk)
            await ReadOnly()
            if not int(self.dut.rst.value):
                control = self.control()
                for name in commands:
                    self.strobes[name] = self.strobes.get(name, 0) + control[name]

    def control(self) -> dict[str, int]:
        """What the machine sees."""
        fields: dict[str, int] = unpack(self.csr.control.shape(), int(self.dut.control.value))
        return fields

    async def write(self, offset: int, data: bytes, lane: int) -> None:
        """Write some bytes of a word, and change the model."""
        answer = await self.master.write(offset + lane, data)
        found = [register for register in self.map.registers if register.offset == offset]
        writable = 0
        if found:
            kinds = (Access.RW, Access.STROBE, Access.W1C)
            writable = sum(self._bits(found[0], kind) for kind in kinds)
        assert answer.resp == (AxiResp.OKAY if writable else AxiResp.SLVERR), hex(offset)
        if writable:
            lanes = int.from_bytes(b"\xff" * len(data), "little") << 8 * lane
            word = int.from_bytes(data, "little") << 8 * lane
            kept = self._bits(found[0], Access.RW) & lanes
            cleared = self._bits(found[0], Access.W1C) & word
            self.words[offset] = self.words[offset] & ~kept & ~cleared | word & kept

    async def read(self, offset: int) -> int:
        """Read a word; checks the response."""
        answer = await self.master.read(offset, 4)
        known = any(register.offset == offset for register in self.map.registers)
        assert answer.resp == (AxiResp.OKAY if known else AxiResp.SLVERR), hex(offset)
        if offset & ~3 == self.map["COUNTER_VALUE"].offset:
            self.next_counter()
        return int.from_bytes(answer.data, "little")

    def next_counter(self) -> None:
        """Move the model's selection on, as a read of COUNTER_VALUE does."""
        select = self.map["COUNTER_SELECT"]
        c = self.config
        count = {"row": c.cluster_rows, "col": c.cluster_cols, "pe": c.pes_per_cluster, "entry": 8}
        word = self.words[select.offset]
        at = {name: select.extract(name, word) for name in count}
        for name in reversed(count):
            at[name] += 1
            if name == "entry" and at[name] == len(Activity):
                at[name] += 1  # entry 6 has no meaning
            if at[name] < count[name]:
                break
            at[name] = 0
        self.words[select.offset] = select.compose(at)

    def expected(self, offset: int) -> int:
        """What a read gives."""
        for register in self.map.registers:
            if register.offset == offset:
                word = self.words[offset]
                status = unpack(self.csr.status.shape(), self.status)
                for field in register.fields:
                    if register.access_of(field) is Access.RO:
                        word |= status[register.signal(field)] << register.low(field.name)
                return word
        return 0


async def begin(dut: Any, stall: float = 0.0) -> Host:
    """Clock, reset, master."""
    random.seed(cocotb.RANDOM_SEED)
    start_clock(dut)
    dut.rst.value = 1
    host = Host(dut, bench_config(), stall)
    await reset(dut)
    cocotb.start_soon(host.watch())
    return host


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def random_accesses(dut: Any, stall: float) -> None:
    """Any bytes of any word, any order of address and data; reads give what was written."""
    host = await begin(dut, stall)
    for register in host.map.registers:
        assert await host.read(register.offset) == host.expected(register.offset), register.name
    sent = {"control_start": 0, "control_soft_reset": 0, "control_continue": 0}
    control = host.map["CONTROL"]
    for _ in range(300):
        offset = 4 * random.randrange(END // 4)
        if random.random() < 0.4:
            offset = control.offset
        if random.random() < 0.5:
            lane = random.randrange(4)
            data = random.randbytes(random.randint(1, 4 - lane))
            await host.write(offset, data, lane)
            if offset == control.offset and lane == 0:
                for name in sent:
                    sent[name] += control.extract(name.removeprefix("control_"), data[0])
        else:
            host.status = random.getrandbits(len(dut.status))
            dut.status.value = host.status
            await RisingEdge(dut.clk)
            assert await host.read(offset) == host.expected(offset), hex(offset)
    for _ in range(3):
        await RisingEdge(dut.clk)
    assert host.strobes == sent, "every command is high for one cycle for each 1 written"
    seen = host.control()
    for register, field in host.map.fields(Access.RW):
        held = register.extract(field.name, host.words[register.offset])
        assert seen[register.signal(field)] == held, register.name


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def address_and_data_apart(dut: Any) -> None:
    """Either half of a write may come long before the other."""
    host = await begin(dut)
    register = host.map["WRITE_BASE"]
    channels = [host.master.write_if.aw_channel, host.master.write_if.w_channel]
    for late in channels:
        late.set_pause_generator(stalls(1.0, 0))
        task = cocotb.start_soon(host.write(register.offset, random.randbytes(4), 0))
        for _ in range(20):
            await RisingEdge(dut.clk)
        assert not task.done()
        assert host.control()["write_base"] != host.words[register.offset] or not task.done()
        late.clear_pause_generator()
        late.pause = False
        await task
        assert await host.read(register.offset) == host.words[register.offset]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def interrupts(dut: Any) -> None:
    """Events stay until cleared, win against a clear, and raise `irq` where enabled."""
    host = await begin(dut, 0.3)
    status, enable = host.map["IRQ_STATUS"], host.map["IRQ_ENABLE"]
    pending = 0
    for _ in range(60):
        action = random.random()
        mask = random.getrandbits(3)
        if action < 0.4:
            await FallingEdge(dut.clk)
            dut.events.value = mask
            await FallingEdge(dut.clk)
            dut.events.value = 0
            pending |= mask
        elif action < 0.7:
            await host.write(status.offset, bytes([mask]), 0)
            pending &= ~mask
        else:
            await host.write(enable.offset, bytes([mask]), 0)
        assert await host.read(status.offset) == pending
        await FallingEdge(dut.clk)
        assert int(dut.irq.value) == int(bool(pending & host.words[enable.offset]))
    # An event that lasts through the clear.
    dut.events.value = 7
    await host.write(status.offset, b"\x07", 0)
    dut.events.value = 0
    assert await host.read(status.offset) == 7


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(latency_share=[0.3, 1.0])
async def counter_reads_wait(dut: Any, latency_share: float) -> None:
    """The value of the selection written last is read, however long the array takes for it."""
    host = await begin(dut)
    config = bench_config()
    latency = max(1, int(latency_share * (counter_settle(config) - 1)))
    select, value = host.map["COUNTER_SELECT"], host.map["COUNTER_VALUE"]
    used = sum(select.mask(field.name) for field in select.fields)
    width = {field.name: field.bits for field in select.fields}
    history: list[int] = []

    async def array() -> None:
        while True:
            await FallingEdge(dut.clk)
            fields = host.control()
            chosen = select.compose({name: fields[f"counter_select_{name}"] for name in width})
            history.append(chosen)
            shape: Any = host.csr.status.shape()
            old = history[max(0, len(history) - 1 - latency)]
            dut.status.value = (old * 0x9E3779B1 + 5 & 0xFFFF_FFFF) << shape["counter_value"].offset

    cocotb.start_soon(array())
    for case in range(60):
        # Many reads in a row, over the ends of PEs, columns and rows; now and then another write.
        if case % 20 == 0:
            await host.write(select.offset, bytes(4), 0)
        elif random.random() < 0.1:
            await host.write(select.offset, random.randbytes(4), 0)
        for _ in range(random.choice([0, 0, 0, 3, 40])):
            await RisingEdge(dut.clk)
        chosen = host.words[select.offset] & used
        assert await host.read(value.offset) == (chosen * 0x9E3779B1 + 5) & 0xFFFF_FFFF
    total = len(COUNTER_ENTRIES) * config.pes
    await host.write(select.offset, bytes(4), 0)
    for _ in range(total if config.pes < 10 else 0):
        await host.read(value.offset)
    assert host.words[select.offset] & used == 0, "behind the last counter comes the first"
    assert await host.read(select.offset) == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_at_any_time(dut: Any) -> None:
    """After a reset in the middle of accesses all is as at the beginning."""
    host = await begin(dut, 0.2)
    for _ in range(5):
        tasks = [
            cocotb.start_soon(host.master.write(host.map["PROGRAM"].offset, b"\xff" * 4)),
            cocotb.start_soon(host.master.read(host.map["LAYER"].offset, 4)),
        ]
        for _ in range(random.randrange(8)):
            await RisingEdge(dut.clk)
        for task in tasks:
            task.cancel()
        await reset(dut, 3)
        host.words[host.map["PROGRAM"].offset] = 0
        for _ in range(3):
            await RisingEdge(dut.clk)
        assert host.control()["program"] == 0
        assert await host.read(host.map["PROGRAM"].offset) == 0
        await host.write(host.map["PROGRAM"].offset, random.randbytes(4), 0)
        read = await host.read(host.map["PROGRAM"].offset)
        assert read == host.expected(host.map["PROGRAM"].offset)
