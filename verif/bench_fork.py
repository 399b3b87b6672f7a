"""Bench of `Fork`: random masks, random back-pressure."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.verif.noc_agents import Agents
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []

BEATS = 200


def outputs(dut: Any) -> list[str]:
    """Names of the fork's outputs."""
    return [f"o__{k}" for k in range(len(dut.select))]


async def run_masks(dut: Any, agents: Agents, masks: list[int]) -> int:
    """Send one beat a mask, in step with the beats; return the cycles it took."""
    width = len(dut.i__payload)
    for mask in masks:
        payload = random.getrandbits(width)
        agents.send["i"].append(payload)
        for k in range(len(dut.select)):
            if mask >> k & 1:
                agents.expect[f"o__{k}"].append(payload)
    driver = agents.drivers["i"]
    first = driver.sent
    task = cocotb.start_soon(agents.run())
    cycles = 0
    # The mask is set at the falling edge at which the driver shows the beat that goes with it.
    while driver.sent - first < len(masks):
        dut.select.value = masks[driver.sent - first]
        await FallingEdge(dut.clk)
        cycles += 1
    await task
    return cycles


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.3, 0.7])
async def random_masks(dut: Any, stall: float) -> None:
    """Each selected destination gets the beat once, whatever the order they take it in."""
    start_clock(dut)
    agents = Agents(dut, ["i"], outputs(dut), stall)
    dut.select.value = 0
    await reset(dut)
    masks = [random.getrandbits(len(dut.select)) for _ in range(BEATS)]
    await run_masks(dut, agents, masks)


@cocotb.test(timeout_time=500, timeout_unit="us")
async def full_throughput(dut: Any) -> None:
    """One beat a cycle when every destination is ready, also with nothing selected."""
    start_clock(dut)
    agents = Agents(dut, ["i"], outputs(dut))
    await reset(dut)
    everything = (1 << len(dut.select)) - 1
    cycles = await run_masks(dut, agents, [everything] * 50 + [0] * 50)
    assert cycles <= 102, f"{cycles} cycles for 100 beats"


@cocotb.test(timeout_time=500, timeout_unit="us")
async def valid_ignores_ready(dut: Any) -> None:
    """With no destination ready all selected ones see valid; a mask of 0 is swallowed."""
    start_clock(dut)
    agents = Agents(dut, ["i"], outputs(dut), stall=1.0)
    dut.select.value = 1
    await reset(dut)
    agents.drivers["i"].stall_probability = 0.0
    agents.drivers["i"].put(5)
    for _ in range(3):
        await FallingEdge(dut.clk)
    await ReadOnly()
    assert int(dut.o__0__valid.value) == 1
    assert int(dut.i__ready.value) == 0
    agents.drivers["i"].clear()
    await reset(dut)
    agents.forget()
    agents.stall(0.3)
    await run_masks(dut, agents, [random.getrandbits(len(dut.select)) for _ in range(30)])
