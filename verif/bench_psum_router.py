"""Bench of `PsumRouter`: random circuits, both directions on their own."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import Agents
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []


async def begin(dut: Any, stall: float = 0.0) -> Agents:
    """Clock, agents and reset."""
    start_clock(dut)
    agents = Agents(dut, ["desc", "pe", "south_i"], ["bank", "north_o", "chain"], stall)
    await reset(dut)
    return agents


def random_circuit(longest: int = 12) -> dict[str, int]:
    """Fields of a descriptor."""
    return {
        "beats": random.randint(0, longest),
        "to_north": random.randrange(2),
        "from_south": random.randrange(2),
    }


def queue_circuit(agents: Agents, circuit: dict[str, int]) -> None:
    """Queue a descriptor and its beats, and what must come of them."""
    layouts = Layouts(bench_config())
    width = 2 * bench_config().psum_bits
    agents.send["desc"].append(pack(layouts.psum_router, circuit))
    out = [random.getrandbits(width) for _ in range(circuit["beats"])]
    agents.send["pe"] += out
    agents.expect["north_o" if circuit["to_north"] else "bank"] += out
    if circuit["from_south"]:
        into = [random.getrandbits(width) for _ in range(circuit["beats"])]
        agents.send["south_i"] += into
        agents.expect["chain"] += into


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.3, 0.7])
async def random_circuits(dut: Any, stall: float) -> None:
    """Exactly the beats of each circuit pass, each way."""
    agents = await begin(dut, stall)
    for _ in range(40):
        queue_circuit(agents, random_circuit())
    await agents.run({"pe": [1], "south_i": [2]})
    assert not int(dut.busy.value)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(slow=["pe", "south_i", "bank", "north_o", "chain"])
async def one_side_lags(dut: Any, slow: str) -> None:
    """A direction that lags holds the descriptor, and loses nothing."""
    agents = await begin(dut)
    agents.stall(0.05)
    (agents.drivers | agents.monitors)[slow].stall_probability = 0.9
    for _ in range(10):
        queue_circuit(agents, {**random_circuit(), "from_south": 1})
    await agents.run({"pe": [1], "south_i": [2]})


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(beats=[0, 1, 10])
async def throughput(dut: Any, beats: int) -> None:
    """One beat a cycle each way, at most one idle cycle a descriptor, two with a lead."""
    agents = await begin(dut)
    for _ in range(20):
        queue_circuit(agents, {**random_circuit(), "beats": beats})
    goal = {name: agents.drivers[name].sent + len(agents.send[name]) for name in agents.drivers}
    task = cocotb.start_soon(agents.run())
    cycles = 0
    while any(agents.drivers[name].sent < count for name, count in goal.items()):
        await FallingEdge(dut.clk)
        cycles += 1
    await task
    assert cycles <= 20 * (beats + 2) + 2, f"{cycles} cycles for 20 circuits of {beats} beats"


@cocotb.test(timeout_time=500, timeout_unit="us")
async def reset_in_between(dut: Any) -> None:
    """A reset in the middle drops the circuit; the next one works."""
    agents = await begin(dut, 0.5)
    for _ in range(8):
        for _ in range(5):
            queue_circuit(agents, random_circuit())
        for name, payloads in agents.send.items():
            agents.drivers[name].put(*payloads)
        for _ in range(random.randint(1, 25)):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        agents.forget()
        await reset(dut)
        agents.forget()
        for _ in range(3):
            queue_circuit(agents, random_circuit())
        await agents.run()
        agents.forget()
