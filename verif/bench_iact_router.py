"""Bench of `IactRouter`: random circuits, back to back."""

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

SOURCES = ("local", "north_i", "south_i", "west_i", "east_i")
NEIGHBOURS = ("north", "south", "west", "east")


def make_agents(dut: Any, stall: float = 0.0) -> Agents:
    """Agents on all streams of the router."""
    config = bench_config()
    outputs = [f"{side}_o" for side in NEIGHBOURS]
    outputs += [f"pe__{k}" for k in range(config.pes_per_cluster)]
    return Agents(dut, ["desc", *SOURCES], outputs, stall)


async def begin(dut: Any, stall: float = 0.0) -> Agents:
    """Clock, agents and reset."""
    start_clock(dut)
    agents = make_agents(dut, stall)
    await reset(dut)
    return agents


def random_circuit(longest: int = 6, density: float = 0.5) -> dict[str, Any]:
    """Fields of a descriptor."""
    period = random.choice([1, 1, 2, 3, random.randint(1, 16)])
    circuit: dict[str, Any] = {f"to_{side}": int(random.random() < 0.3) for side in NEIGHBOURS}
    circuit |= {
        "segments": random.randint(0, longest),
        "source": random.randrange(len(SOURCES)),
        "period": period,
        "listeners": [
            {
                "enable": int(random.random() < density),
                "phase": random.choice([random.randrange(period), random.randrange(16)]),
            }
            for _ in range(bench_config().pes_per_cluster)
        ],
    }
    return circuit


def queue_circuit(agents: Agents, circuit: dict[str, Any], beats: int = 3) -> int:
    """Queue a descriptor and its beats, and what must come of them; return the beats."""
    layouts = Layouts(bench_config())
    agents.send["desc"].append(pack(layouts.iact_router, circuit))
    total = 0
    for segment in range(circuit["segments"]):
        goes_to = [f"{side}_o" for side in NEIGHBOURS if circuit[f"to_{side}"]]
        goes_to += [
            f"pe__{k}"
            for k, listener in enumerate(circuit["listeners"])
            if listener["enable"] and listener["phase"] == segment % circuit["period"]
        ]
        length = random.randint(1, beats)
        for beat in range(length):
            fields = {"last": int(beat == length - 1)}
            payload = pack(layouts.iact_beat, fields)
            # The pairs are the low bits.
            payload |= random.getrandbits(layouts.iact_beat.size - 1)
            agents.send[SOURCES[circuit["source"]]].append(payload)
            for name in goes_to:
                agents.expect[name].append(payload)
        total += length
    return total


def stray_beats() -> dict[str, list[int]]:
    """A beat on every source that no circuit asks for."""
    width = Layouts(bench_config()).iact_beat.size
    return {name: [random.getrandbits(width)] for name in SOURCES}


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.3, 0.7])
async def random_circuits(dut: Any, stall: float) -> None:
    """Every beat reaches exactly its destinations, over changes of the circuit."""
    agents = await begin(dut, stall)
    for _ in range(40):
        queue_circuit(agents, random_circuit())
    await agents.run(stray_beats())
    assert not int(dut.busy.value)


@cocotb.test(timeout_time=500, timeout_unit="us")
async def all_phases(dut: Any) -> None:
    """Periods from 1 to 16, wrapped more than once; periods with no listener at all."""
    agents = await begin(dut, 0.2)
    for period in range(1, 17):
        circuit = random_circuit(density=0.9)
        circuit |= {"period": period, "segments": 2 * period + 1}
        queue_circuit(agents, circuit, beats=2)
    await agents.run(stray_beats())


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(segments=[0, 1, 10])
async def throughput(dut: Any, segments: int) -> None:
    """One beat a cycle, at most three idle cycles a descriptor."""
    agents = await begin(dut)
    beats = 0
    for _ in range(20):
        circuit = random_circuit()
        circuit["segments"] = segments
        beats += queue_circuit(agents, circuit, beats=2)
    wanted = {name: len(agents.send[name]) for name in ("desc", *SOURCES)}
    task = cocotb.start_soon(agents.run())
    cycles = 0
    while any(agents.drivers[name].sent < count for name, count in wanted.items()):
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
