"""Bench of `HostLink`: the host's code over a simulated line, and a line with faults."""

import os
import random
from collections.abc import Callable
from typing import Any, TypeVar

import cocotb
import numpy as np
from cocotb.task import bridge, resume
from cocotb.triggers import Timer
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteRam, AxiSlave

from rowmesh.gen.driver import DeviceError
from rowmesh.gen.uartbone import UartBone
from rowmesh.verif.dma_harness import SlaveMemory, pause_port
from rowmesh.verif.stream import quiet, reset, start_clock
from rowmesh.verif.uart import UartSink, UartSource

__all__: list[str] = []

T = TypeVar("T")

PERIOD_NS = 10
DIVISOR, CLOCK_HZ = int(os.environ.get("DIVISOR", "4")), int(os.environ.get("CLOCK_HZ", "10000"))
SIZE = 8192
#: Byte addresses of the shell, from docs/shell.md.
REGISTERS, MAGIC, MEMORY_BYTES, STATUS, LINK_SUM, ERRORS = (
    0xF000_0000,
    0xF000_1000,
    0xF000_1008,
    0xF000_1014,
    0xF000_1018,
    0xF000_101C,
)


class Line:
    """The line as the host's code sees a serial port."""

    def __init__(self, source: UartSource, sink: UartSink) -> None:
        self.source, self.sink = source, sink

    def write(self, data: bytes) -> int:
        """Send bytes."""
        resume(self.source.send)(data)
        return len(data)

    def read(self, size: int) -> bytes:
        """Receive bytes, as many as come."""
        return resume(self.sink.take)(size)

    def reset_input_buffer(self) -> None:
        """Forget what has come."""
        self.sink.received.clear()


class Bench:
    """Link, registers, memory and a host."""

    def __init__(self, dut: Any, stall: float) -> None:
        random.seed(cocotb.RANDOM_SEED)
        quiet(dut)
        self.dut = dut
        bit_ns = PERIOD_NS * DIVISOR
        self.source, self.sink = UartSource(dut.rx, bit_ns), UartSink(dut.tx, bit_ns)
        line = Line(self.source, self.sink)
        self.bone = UartBone(line, "line", 115_200, patience=0.0)
        self.registers = AxiLiteRam(
            AxiLiteBus.from_prefix(dut, "registers_"), dut.clk, dut.rst, size=4096
        )
        self.memory = SlaveMemory(random.randbytes(SIZE))
        slave = AxiSlave(AxiBus.from_prefix(dut, "memory_"), dut.clk, dut.rst, target=self.memory)
        for port in (self.registers, slave) if stall else ():
            pause_port(port, stall)

    async def start(self) -> None:
        """Clock and reset."""
        self.dut.irq.value = 0
        start_clock(self.dut, PERIOD_NS)
        self.dut.rst.value = 1
        await reset(self.dut)

    async def host(self, function: Callable[[], T]) -> T:
        """Run code of the host."""
        return await bridge(function)()

    async def silence(self) -> None:
        """Be silent for longer than the timeout, a tenth of a second of the device's clock."""
        await Timer(PERIOD_NS * (CLOCK_HZ // 10 + 100), unit="ns")

    def read(self, address: int) -> int:
        """A word (for the host's code)."""
        return int(self.bone.read(address, 1)[0])

    def errors(self) -> dict[str, int]:
        """The counters, cleared behind the look (for the host's code)."""
        value = self.read(ERRORS)
        self.bone.write(ERRORS, np.zeros(1, np.uint32))
        # The answer comes behind the write.
        self.read(MAGIC)
        return dict(zip(NONE, value.to_bytes(4, "little"), strict=True))


NONE = {"framing": 0, "overrun": 0, "abandoned": 0, "bus": 0}


async def begin(dut: Any, stall: float = 0.0) -> Bench:
    """A bench that runs."""
    bench = Bench(dut, stall)
    await bench.start()
    return bench


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.7])
async def words(dut: Any, stall: float) -> None:
    """Memory, registers, the shell's registers; the sum is that of the host."""
    bench = await begin(dut, stall)
    content = np.frombuffer(bench.memory.content, "<u4").copy()

    def work() -> None:
        assert bench.read(MAGIC).to_bytes(4, "little") == b"RWSH"
        assert bench.read(MEMORY_BYTES) == SIZE
        for _ in range(4):
            at, count = random.randrange(SIZE // 4 - 40), random.randint(1, 40)
            new = np.random.default_rng(at).integers(0, 1 << 32, count, dtype=np.uint32)
            bench.bone.write(4 * at, new)
            content[at : at + count] = new
            at, count = random.randrange(SIZE // 4 - 40), random.randint(1, 40)
            found = bench.bone.read(4 * at, count)
            np.testing.assert_array_equal(found, content[at : at + count])
        bench.bone.write(REGISTERS + 0x20, np.array([0x12345678, 0xCAFE0001], np.uint32))
        assert bench.read(REGISTERS + 0x24) == 0xCAFE0001
        expected = bench.bone.sum
        assert bench.read(LINK_SUM) == expected
        assert bench.errors() == NONE

    await bench.host(work)
    assert bench.memory.content == bytearray(content.tobytes())
    assert bench.registers.read(0x20, 8) == bytes.fromhex("78563412 0100feca")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def nothing_there(dut: Any) -> None:
    """A read gives ones, a write has no effect; both are counted, and stop at 255."""
    bench = await begin(dut)
    bench.memory.bad = range(4096, SIZE)
    before = bytes(bench.memory.content)

    def work() -> None:
        for address in (4096, 0xF000_1020, 0xF000_2000, 0xFFFF_FFFC):
            assert bench.read(address) == 0xFFFF_FFFF
            bench.bone.write(address, np.array([5], np.uint32))
        # Read only.
        bench.bone.write(MAGIC, np.array([5], np.uint32))
        assert bench.errors() == {**NONE, "bus": 9}
        bench.bone.read(0xF000_2000, 255)
        bench.bone.read(0xF000_2000, 5)
        assert bench.errors() == {**NONE, "bus": 255}
        assert bench.errors() == NONE

    await bench.host(work)
    assert bytes(bench.memory.content) == before


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def interrupt(dut: Any) -> None:
    """STATUS and an LED show it."""
    bench = await begin(dut)
    for value in (1, 0, 1):
        dut.irq.value = value
        assert await bench.host(lambda: bench.read(STATUS)) == value
        assert int(dut.leds.value) >> 2 & 1 == value


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def faults_of_the_line(dut: Any) -> None:
    """Garbage, frames without stop bit, lost bytes: after a silence all is as before."""
    bench = await begin(dut)

    def look() -> dict[str, int]:
        assert bench.read(MAGIC).to_bytes(4, "little") == b"RWSH"
        return bench.errors()

    command = bytes([1, 2]) + (8).to_bytes(4, "big") + bytes(8)
    for lost in (1, 3, 8, 9, 12, 13):
        await bench.source.send(command[:-lost])
        await bench.silence()
        assert await bench.host(look) == {**NONE, "abandoned": 1}
        assert int(dut.leds.value) >> 3 == 0
    await bench.source.send(b"\x02\x01\x00")
    await bench.source.send(b"\x00", stop=0, gap=2)
    await bench.silence()
    assert int(dut.leds.value) >> 3 == 1
    assert await bench.host(look) == {**NONE, "framing": 1, "abandoned": 1}
    for _ in range(5):
        # Not a read, whose answer would come between.
        await bench.source.send(bytes([random.randint(5, 255), *random.randbytes(5)]))
        await bench.source.level(0, 30)
        await bench.source.level(1, 5)
        await bench.silence()
        assert await bench.host(look) == {**NONE, "framing": 1, "abandoned": 1}


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def no_answer(dut: Any) -> None:
    """A host whose bytes do not come says so; a reset in an answer leaves an idle line."""
    bench = await begin(dut)
    await bench.source.send(bytes([2, 40]) + bytes(4))
    await bench.source.level(1, 25)
    await reset(dut, 3)
    await bench.source.level(1, 15)
    bench.sink.received.clear()
    assert await bench.host(lambda: bench.read(MEMORY_BYTES)) == SIZE
    dut.rst.value = 1

    def deaf() -> str:
        try:
            bench.read(MAGIC)
        except DeviceError as error:
            return str(error)
        return "an answer"

    assert "line: no answer within" in await bench.host(deaf)
