"""Bench of `UartRx`: bytes at the edges of the tolerance, glitches, breaks, lost bytes, resets."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, Timer

from rowmesh.verif.stream import StreamMonitor, reset, start_clock
from rowmesh.verif.uart import UartSource

__all__: list[str] = []

PERIOD_NS = 10


class Counts:
    """Pulses of the error outputs."""

    def __init__(self, dut: Any) -> None:
        self.framing = self.overrun = 0
        self._dut = dut
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await FallingEdge(self._dut.clk)
            self.framing += int(self._dut.framing_error.value)
            self.overrun += int(self._dut.overrun.value)


async def begin(dut: Any, stall: float = 0.0) -> tuple[UartSource, StreamMonitor, Counts]:
    """Clock, reset, a line of the nominal rate."""
    random.seed(cocotb.RANDOM_SEED)
    start_clock(dut, PERIOD_NS)
    source = UartSource(dut.rx, PERIOD_NS * int(os.environ["DIVISOR"]))
    monitor = StreamMonitor(dut, "o", stall_probability=stall)
    dut.rst.value = 1
    await reset(dut)
    counts = Counts(dut)
    await source.level(1, 2)
    return source, monitor, counts


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(off=[-0.02, 0.0, 0.02], stall=[0.0, 0.8])
async def every_byte(dut: Any, off: float, stall: float) -> None:
    """One behind the other and with gaps, at a rate that is a little off."""
    source, monitor, counts = await begin(dut, stall)
    source.bit_ns *= 1 + off
    content = bytes(random.sample(range(256), 20)) + bytes([0x00, 0xFF, 0x55, 0xAA])
    await source.send(content)
    for byte in content:
        await source.send(bytes([byte]), gap=random.random() * 3)
    await source.level(1, 2)
    assert bytes(monitor.received) == content * 2
    assert (counts.framing, counts.overrun) == (0, 0)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def glitches_and_breaks(dut: Any) -> None:
    """A short low is nothing; a missing stop bit drops one byte, however long the line is low."""
    source, monitor, counts = await begin(dut)
    await source.send(b"a")
    await source.level(0, 0.3)
    await source.level(1, 2)
    await source.send(b"b")
    await source.send(b"\xf0", stop=0, gap=1)
    await source.send(b"c")
    await source.level(0, 25)
    await source.level(1, 1)
    await source.send(b"d")
    await source.level(1, 2)
    assert bytes(monitor.received) == b"abcd"
    assert (counts.framing, counts.overrun) == (2, 0)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def overrun(dut: Any) -> None:
    """Bytes that nobody takes: the first one stays, the others are counted."""
    source, monitor, counts = await begin(dut)
    monitor.stall_probability = 1.0
    await source.send(b"123")
    await source.level(1, 2)
    assert (monitor.received, counts.overrun) == ([], 2)
    monitor.stall_probability = 0.0
    await source.send(b"4")
    await source.level(1, 2)
    assert bytes(monitor.received) == b"14"


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_in_a_byte(dut: Any) -> None:
    """What was half received is gone."""
    source, monitor, counts = await begin(dut)
    for bits in range(1, 10):
        sending = cocotb.start_soon(source.send(b"\x0f"))
        await Timer(round(1000 * bits * source.bit_ns), unit="ps")
        sending.cancel()
        dut.rx.value = 1
        await reset(dut)
        await source.level(1, 2)
        await source.send(bytes([bits]))
        await source.level(1, 2)
    assert bytes(monitor.received) == bytes(range(1, 10))
    assert (counts.framing, counts.overrun) == (0, 0)
