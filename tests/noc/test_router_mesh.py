"""`RouterCluster` x 4, linked as a `Cluster` links them, on both simulators."""

import dataclasses
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from rowmesh.rtl.config import Config
from rowmesh.rtl.noc.router_cluster import RouterCluster
from rowmesh.rtl.noc.skid import Skid
from rowmesh.verif.simulator import Simulator, run_bench
from rowmesh.verif.soak import SMALL_MACHINES

MODULE = "rowmesh.verif.bench_router_mesh"

SIDES = {"north": (-1, 0, "south"), "south": (1, 0, "north")}
SIDES |= {"west": (0, -1, "east"), "east": (0, 1, "west")}


class RouterMesh(wiring.Component):
    """`cluster_rows` x `cluster_cols` router clusters, a `Skid` on every link of psums.

    Ports are those of `RouterCluster` but for the mesh, as arrays with the cluster's number in
    front. Links at the edge are closed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        members = {
            port: member.array(config.clusters)
            for port, member in RouterCluster.members(config).items()
            if not port.endswith(("_i", "_o"))
        }
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        clusters: list[Any] = [RouterCluster(c) for _ in range(c.clusters)]
        for number, cluster in enumerate(clusters):
            row, col = divmod(number, c.cluster_cols)
            m.submodules[f"cluster_{row}_{col}"] = cluster
            for port, member in RouterCluster.members(c).items():
                inside = getattr(cluster, port)
                if port.endswith("_o"):
                    down, right, back = SIDES[port.split("_")[1]]
                    to_row, to_col = row + down, col + right
                    if not (0 <= to_row < c.cluster_rows and 0 <= to_col < c.cluster_cols):
                        continue
                    other = clusters[to_row * c.cluster_cols + to_col]
                    ends = getattr(other, f"{port.split('_')[0]}_{back}_i")
                    for i, (out, end) in enumerate(zip(inside, ends, strict=True)):
                        if not port.startswith("psum"):
                            connect(m, out, end)
                            continue
                        skid = Skid(out.payload.shape())
                        m.submodules[f"skid_{port}_{row}_{col}_{i}"] = skid
                        connect(m, out, skid.i)
                        connect(m, skid.o, end)
                elif not port.endswith("_i"):
                    outside = getattr(self, port)[number]
                    if member.is_port:
                        m.d.comb += outside.eq(inside)
                    else:
                        connect_all(m, inside, outside)
        return m


def connect_all(m: Module, inside: Any, outside: Any) -> None:
    """Connect streams, or arrays of them, to the outer ports."""
    if isinstance(inside, list | tuple):
        for one, other in zip(inside, outside, strict=True):
            connect_all(m, one, other)
    else:
        connect(m, inside, flipped(outside))


@pytest.mark.cocotb
def test_router_mesh(sim: Simulator, seed: int) -> None:
    config = dataclasses.replace(SMALL_MACHINES["small"], cluster_rows=2, cluster_cols=2)
    run_bench(RouterMesh(config), MODULE, sim=sim, seed=seed, config=config)
