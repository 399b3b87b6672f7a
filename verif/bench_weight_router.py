"""Bench of `WeightRouter`: random circuits, broadcast and dealt, back to back."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.rtl.codes import Source
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import Agents
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []

SOURCES = {Source.LOCAL: "local", Source.WEST: "west_i", Source.EAST: "east_i"}


async def begin(dut: Any, stall: float = 0.0) -> Agents:
    """Clock, agents and reset."""
    start_clock(dut)
    outputs = ["west_o", "east_o", *(f"pe__{k}" for k in range(bench_config().pe_cols))]
    agents = Agents(dut, ["desc", *SOURCES.values()], outputs, stall)
    await reset(dut)
    return agents


def random_circuit(longest: int = 8) -> dict[str, int]:
    """Fields of a descriptor."""
    return {
        "blocks": random.randint(0, longest),
        "source": random.choice(list(SOURCES)),
        "to_west": random.randrange(2),
        "to_east": random.randrange(2),
        "deal": random.randrange(2),
        "listeners": random.getrandbits(bench_config().pe_cols),
    }


def queue_circuit(agents: Agents, circuit: dict[str, int], beats: int = 4) -> int:
    """Queue a descriptor and its beats, and what must come of them; return the beats."""
    layouts = Layouts(bench_config())
    agents.send["desc"].append(pack(layouts.weight_router, circuit))
    listeners = [k for k in range(bench_config().pe_cols) if circuit["listeners"] >> k & 1]
    total = 0
    for block in range(circuit["blocks"]):
        goes_to = [side for side in ("west", "east") if circuit[f"to_{side}"]]
        names = [f"{side}_o" for side in goes_to]
        if circuit["deal"] and listeners:
            names.append(f"pe__{listeners[block % len(listeners)]}")
        else:
            names += [f"pe__{k}" for k in listeners]
        length = random.randint(1, beats)
        for beat in range(length):
            word = random.getrandbits(bench_config().weight_word_bits)
            payload = pack(layouts.weight_beat, {"word": word, "last": int(beat == length - 1)})
            agents.send[SOURCES[Source(circuit["source"])]].append(payload)
            for name in names:
                agents.expect[name].append(payload)
        total += length
    return total


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.3, 0.7])
async def random_circuits(dut: Any, stall: float) -> None:
    """Every beat reaches exactly its destinations, over changes of the circuit."""
    agents = await begin(dut, stall)
    for _ in range(40):
        queue_circuit(agents, random_circuit())
    width = Layouts(bench_config()).weight_beat.size
    await agents.run({name: [random.getrandbits(width)] for name in SOURCES.values()})
    assert not int(dut.busy.value)


@cocotb.test(timeout_time=500, timeout_unit="us")
async def every_deal(dut: Any) -> None:
    """Every mask of listeners, dealt over more than two rounds."""
    agents = await begin(dut, 0.2)
    for listeners in range(1 << bench_config().pe_cols):
        circuit = random_circuit()
        circuit |= {"deal": 1, "listeners": listeners, "blocks": 2 * bench_config().pe_cols + 1}
        queue_circuit(agents, circuit, beats=2)
    await agents.run()


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(blocks=[0, 1, 10])
async def throughput(dut: Any, blocks: int) -> None:
    """One beat a cycle, at most three idle cycles a descriptor."""
    agents = await begin(dut)
    beats = 0
    for _ in range(20):
        beats += queue_circuit(agents, {**random_circuit(), "blocks": blocks}, beats=2)
    goal = {name: agents.drivers[name].sent + len(agents.send[name]) for name in agents.drivers}
    task = cocotb.start_soon(agents.run())
    cycles = 0
    while any(agents.drivers[name].sent < count for name, count in goal.items()):
        await FallingEdge(dut.clk)
        cycles += 1
    await task
    assert cycles <= beats + 3 * 20 + 2, f"{cycles} cycles for {beats} beats of 20 circuits"


@cocotb.test(timeout_time=500, timeout_unit="us")
async def reset_in_between(dut: Any) -> None:
    """A reset in the middle of a multicast drops the circuit; the next one works."""
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
