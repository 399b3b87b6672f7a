"""Bench of `PeCluster`: convolutions over all PEs against numpy; counters and faults.

PE row r computes filter row r, PE column e output row e. Psums chain up the column.
"""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.rtl.codes import Fault
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import Agents
from rowmesh.verif.pe_work import iact_beats, weight_beats
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []

ACTIVITIES = 6
MACS = 7


async def begin(dut: Any, stall: float = 0.0) -> Agents:
    """Clock, agents and reset."""
    c = bench_config()
    start_clock(dut)
    for name in ("count_enable", "count_clear", "counter_pe", "counter_entry"):
        getattr(dut, name).value = 0
    inputs = [f"desc__{pe}" for pe in range(c.pes_per_cluster)]
    inputs += [f"iact__{b}__{p}" for b in range(c.glb_iact_banks) for p in range(c.pes_per_cluster)]
    inputs += [f"weight__{row}__{col}" for row in range(c.pe_rows) for col in range(c.pe_cols)]
    inputs += [f"psum_in__{col}" for col in range(c.pe_cols)]
    agents = Agents(dut, inputs, [f"psum_out__{col}" for col in range(c.pe_cols)], stall)
    await reset(dut)
    await cleared(dut)
    return agents


async def cleared(dut: Any) -> None:
    """Wait until the counters are 0: a cycle for each of a PE."""
    for _ in range(ACTIVITIES + bench_config().macs_per_pe):
        await FallingEdge(dut.clk)


def queue_convolution(agents: Agents, density: float) -> list[int]:
    """Queue one random convolution; return the effectual multiplications of each PE."""
    c, layouts = bench_config(), Layouts(bench_config())
    # A group of all windows when there are more channels than one block holds.
    blocks = random.choice([1, 2])
    channels, taps, maps = random.randint(1, 4), random.randint(1, 3), 2 * random.randint(1, 4)
    windows = random.randint(1, c.psum_depth // maps if blocks > 1 else 5)
    pixels = windows + taps - 1
    rng = np.random.default_rng(random.getrandbits(32))
    signed = random.randrange(2)
    low = -128 if signed else 0
    x = rng.integers(low, low + 256, (blocks, c.pe_rows + c.pe_cols - 1, pixels, channels))
    w = rng.integers(-128, 128, (blocks, c.pe_rows, taps, channels, maps))
    x *= rng.random(x.shape) < density
    w *= rng.random(w.shape) < density
    from_south = random.randrange(2)
    below = rng.integers(-(1 << 12), 1 << 12, (c.pe_cols, windows, maps)) * from_south
    view = np.lib.stride_tricks.sliding_window_view(x, (c.pe_rows, taps), axis=(1, 2))
    # view: block, output row, window, channel, filter row, tap
    y = np.einsum("bewcrs,brscm->ewm", view, w) + below
    both = np.einsum("bewcrs,brscm->re", (view != 0).astype(int), (w != 0).astype(int))

    def beats(values: Any) -> list[int]:
        flat = [int(value) for value in values.reshape(-1)]
        return [pack(layouts.psum_beat, flat[n : n + 2]) for n in range(0, len(flat), 2)]

    for col in range(c.pe_cols):
        agents.expect[f"psum_out__{col}"] += beats(y[col])
        if from_south:
            agents.send[f"psum_in__{col}"] += beats(below[col])
    for pe in range(c.pes_per_cluster):
        row, col = divmod(pe, c.pe_cols)
        source = random.randrange(c.glb_iact_banks)
        fields = {
            "groups": 1,
            "blocks": blocks,
            "rows": 1,
            "windows": windows,
            "segments": taps,
            "segment_cols": channels,
            "cols": channels * taps,
            "psums": maps,
            "iact_source": source,
            "iact_signed": signed,
            "weight_dense": 0,
            "chain": int(from_south or row < c.pe_rows - 1),
        }
        agents.send[f"desc__{pe}"].append(pack(layouts.pe, fields))
        for block in range(blocks):
            columns = w[block, row].reshape(-1, maps).tolist()
            agents.send[f"weight__{row}__{col}"] += weight_beats(c, columns, dense=False)
            for pixel in x[block, row + col].tolist():
                agents.send[f"iact__{source}__{pe}"] += iact_beats(c, pixel)
    return [int(count) for count in both.reshape(-1)]


async def read_counter(dut: Any, pe: int, entry: int) -> int:
    """Read a counter in as many cycles as it takes: 2 rounds of at most 3 terms, and one."""
    dut.counter_pe.value = pe
    dut.counter_entry.value = entry
    for _ in range(7):
        await FallingEdge(dut.clk)
    return int(dut.counter_value.value)


async def check_counters(dut: Any, cycles: int, macs: list[int]) -> None:
    """Activities sum to the cycles, multiplications are those of the model."""
    for pe, wanted in enumerate(macs):
        activities = [await read_counter(dut, pe, entry) for entry in range(ACTIVITIES)]
        assert sum(activities) == cycles, f"PE {pe}: {activities} do not sum to {cycles}"
        assert await read_counter(dut, pe, MACS) == wanted, f"PE {pe}: multiplications"
        assert await read_counter(dut, pe, 6) == 0


async def count_cycles(dut: Any, cycles: list[int]) -> None:
    """Count rising edges with `count_enable` high, and see that nothing faults."""
    while True:
        await ReadOnly()
        cycles[0] += int(dut.count_enable.value)
        assert not int(dut.fault.value)
        await FallingEdge(dut.clk)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def convolutions(dut: Any, stall: float) -> None:
    """Convolutions back to back, each with its own choice of iact routers and chain."""
    agents = await begin(dut, stall)
    cycles = [0]
    macs = [0] * bench_config().pes_per_cluster
    for density in (1.0, 0.5, 0.1, 0.0, 0.8, 0.3):
        for pe, count in enumerate(queue_convolution(agents, density)):
            macs[pe] += count
    dut.count_enable.value = 1
    watch = cocotb.start_soon(count_cycles(dut, cycles))
    await agents.run()
    assert not int(dut.busy.value)
    dut.count_enable.value = 0
    await FallingEdge(dut.clk)
    watch.cancel()
    await check_counters(dut, cycles[0], macs)
    if stall:
        await reset(dut, 1)
        await cleared(dut)
    else:
        dut.count_clear.value = 1
        await cleared(dut)
        dut.count_clear.value = 0
    await check_counters(dut, 0, [0] * len(macs))


@cocotb.test(timeout_time=500, timeout_unit="us")
async def fault_comes_out(dut: Any) -> None:
    """A position beyond the segment in one PE is the cluster's fault; a reset recovers."""
    c, layouts = bench_config(), Layouts(bench_config())
    agents = await begin(dut)
    for pe in range(c.pes_per_cluster):
        row, col = divmod(pe, c.pe_cols)
        fields = {name: 1 for name in ("groups", "blocks", "rows", "windows", "segments")}
        fields |= {"segment_cols": 2, "cols": 2, "psums": 2}
        agents.drivers[f"desc__{pe}"].put(pack(layouts.pe, fields))
        agents.drivers[f"weight__{row}__{col}"].put(*weight_beats(c, [[1, 2], [3, 4]], dense=False))
        agents.drivers[f"iact__0__{pe}"].put(*iact_beats(c, [0, 0, 5]))
        seen = set()
        for _ in range(60):
            await FallingEdge(dut.clk)
            seen.add(int(dut.fault.value))
        assert seen == {int(Fault.NONE), int(Fault.IACT_FORMAT)}, f"PE {pe}: {seen}"
        await reset(dut)
        agents.forget()
    for _ in range(2):
        queue_convolution(agents, 0.5)
    await agents.run()
