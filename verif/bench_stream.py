"""Bench of anything that passes a stream ``i`` on to ``o`` unchanged: also tests the agents."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(i_stall=[0.0, 0.5], o_stall=[0.0, 0.7])
async def passes_unchanged(dut: Any, i_stall: float, o_stall: float) -> None:
    """Every payload comes out once, in order, whatever the stalls."""
    start_clock(dut)
    driver = StreamDriver(dut, "i", stall_probability=i_stall)
    monitor = StreamMonitor(dut, "o", stall_probability=o_stall)
    await reset(dut)
    width = len(dut.i__payload)
    payloads = [random.getrandbits(width) for _ in range(300)]
    if record := os.environ.get("BENCH_STREAM_RECORD"):
        with open(record, "a", encoding="utf-8") as file:
            file.write(f"{payloads}\n")
    # A deliberate fault, for the test of the bench itself.
    expected = list(payloads)
    if os.environ.get("BENCH_STREAM_FAULT"):
        expected[100] ^= 1
    scoreboard = Scoreboard(monitor, expected)
    driver.put(*payloads)
    await scoreboard.finish()
    assert driver.sent == len(payloads)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def keeps_protocol(dut: Any) -> None:
    """Under back-pressure, valid and payload hold until the transfer."""
    start_clock(dut)
    driver = StreamDriver(dut, "i", stall_probability=0.3)
    StreamMonitor(dut, "o", stall_probability=0.7)
    await reset(dut)
    driver.put(*(n % 2 for n in range(100)))
    for _ in range(100):
        await FallingEdge(dut.clk)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def full_throughput(dut: Any) -> None:
    """Without stalls one beat moves every cycle."""
    start_clock(dut)
    driver = StreamDriver(dut, "i")
    monitor = StreamMonitor(dut, "o")
    await reset(dut)
    driver.put(*range(100))
    for _ in range(110):
        await FallingEdge(dut.clk)
    assert monitor.received == list(range(100))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reset_in_between(dut: Any) -> None:
    """After a reset nothing old comes out."""
    start_clock(dut)
    driver = StreamDriver(dut, "i")
    monitor = StreamMonitor(dut, "o", stall_probability=1.0)
    await reset(dut)
    driver.put(1, 2, 3)
    for _ in range(10):
        await FallingEdge(dut.clk)
    driver.clear()
    await reset(dut)
    monitor.stall_probability = 0.0
    scoreboard = Scoreboard(monitor, [4, 5])
    driver.put(4, 5)
    await scoreboard.finish()
