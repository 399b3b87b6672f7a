"""Bench of linked routers: the delivery patterns of all three networks, back to back.

A circuit of a network says for every cluster from where it takes its data; the descriptors of
the routers follow from that.
"""

import random
from typing import Any

import cocotb

from rowmesh.rtl.codes import Source
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import Agents
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []

Place = tuple[int, int]
STEPS = {
    Source.NORTH: (-1, 0),
    Source.SOUTH: (1, 0),
    Source.WEST: (0, -1),
    Source.EAST: (0, 1),
}
ROWS = COLS = 2
PLACES = [(row, col) for row in range(ROWS) for col in range(COLS)]
#: Source of every cluster; the mesh is 2 x 2.
PATTERNS: dict[str, dict[Place, Source]] = {
    "unicast": dict.fromkeys(PLACES, Source.LOCAL),
    "horizontal": {p: Source.WEST if p[1] else Source.LOCAL for p in PLACES},
    "horizontal_from_east": {p: Source.LOCAL if p[1] else Source.EAST for p in PLACES},
    "vertical": {p: Source.NORTH if p[0] else Source.LOCAL for p in PLACES},
    "vertical_from_south": {p: Source.LOCAL if p[0] else Source.SOUTH for p in PLACES},
    "broadcast": {
        (0, 0): Source.LOCAL,
        (0, 1): Source.WEST,
        (1, 0): Source.NORTH,
        (1, 1): Source.WEST,
    },
    "snake": {
        (1, 1): Source.LOCAL,
        (1, 0): Source.EAST,
        (0, 0): Source.SOUTH,
        (0, 1): Source.WEST,
    },
}


def origin(pattern: dict[Place, Source], place: Place) -> Place:
    """The cluster whose local stream reaches `place`."""
    while pattern[place] != Source.LOCAL:
        row, col = STEPS[pattern[place]]
        place = (place[0] + row, place[1] + col)
    return place


def sides(pattern: dict[Place, Source], place: Place) -> dict[str, int]:
    """To which neighbours `place` passes its data on: those that take from it."""
    result = {}
    for side, (row, col) in STEPS.items():
        other = pattern.get((place[0] + row, place[1] + col))
        back = {
            Source.NORTH: Source.SOUTH,
            Source.SOUTH: Source.NORTH,
            Source.WEST: Source.EAST,
            Source.EAST: Source.WEST,
        }[side]
        result[f"to_{side.name.lower()}"] = int(other == back)
    return result


def name(port: str, place: Place, *indices: int) -> str:
    """Name of a stream of the cluster at `place`."""
    return "__".join([port, str(place[0] * COLS + place[1]), *map(str, indices)])


def random_beats(layout: Any, groups: int) -> list[list[int]]:
    """Segments or blocks of a few beats; `last` is the top bit."""
    result = []
    for _ in range(groups):
        length = random.randint(1, 3)
        beats = [random.getrandbits(layout.size - 1) for _ in range(length)]
        beats[-1] |= 1 << layout.size - 1
        result.append(beats)
    return result


def queue_iact(agents: Agents, router: int, pattern: dict[Place, Source]) -> None:
    """A circuit of iact router `router` in all clusters."""
    c, layouts = bench_config(), Layouts(bench_config())
    segments, period = random.randint(1, 6), random.randint(1, 3)
    data = {p: random_beats(layouts.iact_beat, segments) for p in PLACES}
    for place in PLACES:
        listeners = [
            {"enable": random.randrange(2), "phase": random.randrange(period)}
            for _ in range(c.pes_per_cluster)
        ]
        fields = {
            "segments": segments,
            "source": int(pattern[place]),
            "period": period,
            "listeners": listeners,
            **sides(pattern, place),
        }
        agents.send[name("iact_desc", place, router)].append(pack(layouts.iact_router, fields))
        source = origin(pattern, place)
        if source == place:
            agents.send[name("iact_local", place, router)] += sum(data[place], [])
        for pe, listener in enumerate(listeners):
            if listener["enable"]:
                heard = data[source][listener["phase"] :: period]
                agents.expect[name("iact_pe", place, router, pe)] += sum(heard, [])


def queue_weight(agents: Agents, row: int, pattern: dict[Place, Source]) -> None:
    """A circuit of weight router `row` in all clusters; `pattern` is horizontal."""
    c, layouts = bench_config(), Layouts(bench_config())
    blocks = random.randint(1, 6)
    data = {p: random_beats(layouts.weight_beat, blocks) for p in PLACES}
    for place in PLACES:
        deal, listeners = random.randrange(2), random.getrandbits(c.pe_cols)
        to = sides(pattern, place)
        fields = {
            "blocks": blocks,
            "source": int(pattern[place]),
            "to_west": to["to_west"],
            "to_east": to["to_east"],
            "deal": deal,
            "listeners": listeners,
        }
        agents.send[name("weight_desc", place, row)].append(pack(layouts.weight_router, fields))
        source = origin(pattern, place)
        if source == place:
            agents.send[name("weight_local", place, row)] += sum(data[place], [])
        columns = [col for col in range(c.pe_cols) if listeners >> col & 1]
        for turn, col in enumerate(columns):
            heard = data[source][turn :: len(columns)] if deal else data[source]
            agents.expect[name("weight_pe", place, row, col)] += sum(heard, [])


def queue_psum(agents: Agents, col: int, chain: bool) -> None:
    """A circuit of psum router `col` in all clusters: each on its own, or columns of clusters."""
    layouts = Layouts(bench_config())
    beats = random.randint(0, 8)
    for place in PLACES:
        to_north = int(chain and place[0] > 0)
        from_south = int(chain and place[0] < ROWS - 1)
        fields = {"beats": beats, "to_north": to_north, "from_south": from_south}
        agents.send[name("psum_desc", place, col)].append(pack(layouts.psum_router, fields))
        data = [random.getrandbits(layouts.psum_beat.size) for _ in range(beats)]
        agents.send[name("psum_pe", place, col)] += data
        if to_north:
            agents.expect[name("psum_chain", (place[0] - 1, place[1]), col)] += data
        else:
            agents.expect[name("psum_bank", place, col)] += data


async def begin(dut: Any, stall: float) -> Agents:
    """Clock, agents and reset."""
    c = bench_config()
    start_clock(dut)
    inputs: list[str] = []
    outputs: list[str] = []
    for p in PLACES:
        for b in range(c.glb_iact_banks):
            inputs += [name("iact_desc", p, b), name("iact_local", p, b)]
            outputs += [name("iact_pe", p, b, pe) for pe in range(c.pes_per_cluster)]
        for row in range(c.pe_rows):
            inputs += [name("weight_desc", p, row), name("weight_local", p, row)]
            outputs += [name("weight_pe", p, row, col) for col in range(c.pe_cols)]
        for col in range(c.pe_cols):
            inputs += [name("psum_desc", p, col), name("psum_pe", p, col)]
            outputs += [name("psum_bank", p, col), name("psum_chain", p, col)]
    agents = Agents(dut, inputs, outputs, stall)
    await reset(dut)
    return agents


@cocotb.test(timeout_time=1000, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.4])
async def each_pattern(dut: Any, stall: float) -> None:
    """One pattern after the other on all iact routers."""
    agents = await begin(dut, stall)
    for pattern in PATTERNS.values():
        for router in range(bench_config().glb_iact_banks):
            queue_iact(agents, router, pattern)
    await agents.run()


@cocotb.test(timeout_time=1000, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.4])
async def all_networks(dut: Any, stall: float) -> None:
    """Random patterns on all networks at once; routers of a mesh change on their own."""
    c = bench_config()
    agents = await begin(dut, stall)
    horizontal = [PATTERNS[key] for key in ("unicast", "horizontal", "horizontal_from_east")]
    for _ in range(10):
        for router in range(c.glb_iact_banks):
            queue_iact(agents, router, random.choice(list(PATTERNS.values())))
        for row in range(c.pe_rows):
            queue_weight(agents, row, random.choice(horizontal))
        for col in range(c.pe_cols):
            queue_psum(agents, col, chain=bool(random.randrange(2)))
    await agents.run()
    for network in ("iact", "weight", "psum"):
        for p in PLACES:
            assert not int(getattr(dut, name(f"{network}_busy", p)).value)
