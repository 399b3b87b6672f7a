"""Bench of `UartTx`: frames, their timing, back-pressure, resets."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.verif.stream import StreamDriver, reset, start_clock
from rowmesh.verif.uart import UartSink

__all__: list[str] = []

PERIOD_NS = 10


async def begin(dut: Any, stall: float = 0.0) -> tuple[UartSink, StreamDriver, int]:
    """Clock, reset, a listener; returns the cycles of a bit too."""
    random.seed(cocotb.RANDOM_SEED)
    start_clock(dut, PERIOD_NS)
    driver = StreamDriver(dut, "i", stall_probability=stall)
    dut.rst.value = 1
    await reset(dut)
    divisor = int(os.environ["DIVISOR"])
    return UartSink(dut.tx, PERIOD_NS * divisor), driver, divisor


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.95])
async def every_byte(dut: Any, stall: float) -> None:
    """Bytes come out as they went in."""
    sink, driver, _ = await begin(dut, stall)
    content = bytes(random.sample(range(256), 30)) + bytes([0x00, 0xFF])
    driver.put(*content)
    assert await sink.take(len(content)) == content


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def no_cycle_between_bytes(dut: Any) -> None:
    """The line, cycle by cycle: ten bits a byte, least significant first, then idle."""
    _, driver, divisor = await begin(dut)
    content = b"\x31\x00\xff\xa5"
    expected = []
    for byte in content:
        for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
            expected += [bit] * divisor
    driver.put(*content)
    line: list[int] = []
    while len(line) < len(expected) + 3 * divisor:
        await FallingEdge(dut.clk)
        await ReadOnly()
        if line or not int(dut.tx.value):
            line.append(int(dut.tx.value))
    assert line == expected + [1] * (3 * divisor)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_in_a_byte(dut: Any) -> None:
    """The line is idle at once."""
    _, driver, divisor = await begin(dut)
    driver.put(0, 0)
    for _ in range(3 * divisor):
        await FallingEdge(dut.clk)
    assert dut.tx.value == 0
    driver.clear()
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    assert dut.tx.value == 1
    dut.rst.value = 0
    for _ in range(12 * divisor):
        await FallingEdge(dut.clk)
        assert dut.tx.value == 1
