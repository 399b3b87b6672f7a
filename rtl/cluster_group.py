"""Cluster rows that share an AXI master."""

from typing import Any

from amaranth.hdl import Array as Choice
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Module,
    Mux,
    ResetSignal,
    Shape,
    Signal,
    Value,
)
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.axi.read_master import AxiReadMaster
from rowmesh.rtl.axi.signatures import axi4_read_signature, axi4_write_signature, burst_layout
from rowmesh.rtl.axi.write_master import AxiWriteMaster
from rowmesh.rtl.cluster import Cluster
from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.control.counters import counter_select
from rowmesh.rtl.layouts import ADDRESS_BITS, Layouts

__all__ = ["ClusterGroup", "first_fault", "link_members"]


def bundle(shape: Any, count: int) -> wiring.Signature:
    """`count` streams side by side in three wide signals.

    Between groups they go together: what it costs to generate the array does not grow with the
    number of streams.
    """
    bits = Shape.cast(shape).width * count
    return wiring.Signature({"payload": Out(bits), "valid": Out(count), "ready": In(count)})


def link_members(config: Config) -> dict[str, Any]:
    """Links of a group to its neighbours north and south, a column of clusters after the other."""
    c, layouts = config, Layouts(config)
    iact = bundle(layouts.iact_beat, c.cluster_cols * c.glb_iact_banks)
    psum = bundle(layouts.psum_beat, c.cluster_cols * c.pe_cols)
    members: dict[str, Any] = {"psum_north_o": Out(psum), "psum_south_i": In(psum)}
    for side in ("north", "south"):
        members[f"iact_{side}_i"] = In(iact)
        members[f"iact_{side}_o"] = Out(iact)
    return members


class ClusterGroup(wiring.Component):
    """`rows_per_axi_master` rows of clusters with their links, and their AXI masters.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    row : In
        Cluster row of the first row: a constant.
    enable_south : In(1)
        Whether there is a group south of this one: a constant.
    soft_reset : In(1)
        Resets the clusters, but not the masters: open transactions end.
    config_i : In(stream of `Layouts.config_write`), config_south : Out(stream)
        The configuration tree: down the first column, east along every row.
    iact_*, psum_* : bundles of streams, column by column
        Links north and south. West and east end at the edge of the mesh: what leaves is swallowed.
    read, write : AXI4 read and write channels
        The masters' ports.
    burst, beat : streams
        One more read channel, for the program.
    read_base, read_limit, write_base, write_limit, stop : In; quiet : Out(1)
        Of the masters: see `AxiReadMaster`.
    master_fault : Out(`Fault`)
        Of the masters.
    busy, writers_busy : Out(1), fault : Out(`Fault`)
        Status of the clusters, registered.
    count_enable, count_clear, counter_select : In, counter_value : Out(32)
        Activity counters; `counter_select.row` counts from the first row of the group.

    Notes
    -----
    Status and counters pass one register stage.
    """

    def __init__(self, config: Config) -> None:
        self.config = c = config
        self.rows = c.rows_per_axi_master
        bus = stream.Signature(Layouts(config).config_write)
        super().__init__(
            {
                **link_members(config),
                "row": In(bits_for(c.cluster_rows - 1)),
                "enable_south": In(1),
                "soft_reset": In(1),
                "config_i": In(bus),
                "config_south": Out(bus),
                "read": Out(axi4_read_signature(c.axi_data_bits)),
                "write": Out(axi4_write_signature(c.axi_data_bits)),
                "burst": In(stream.Signature(burst_layout())),
                "beat": Out(stream.Signature(c.axi_data_bits)),
                "read_base": In(ADDRESS_BITS),
                "read_limit": In(ADDRESS_BITS),
                "write_base": In(ADDRESS_BITS),
                "write_limit": In(ADDRESS_BITS),
                "stop": In(1),
                "quiet": Out(1),
                "master_fault": Out(FAULT_BITS),
                "busy": Out(1),
                "writers_busy": Out(1),
                "fault": Out(FAULT_BITS),
                "count_enable": In(1),
                "count_clear": In(1),
                "counter_select": In(counter_select(c)),
                "counter_value": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.array = domain = ClockDomain("array", local=True)
        # It reaches all clusters: in a deep pipeline its wires have a cycle for themselves.
        reset = Signal(reset_less=True, init=1)
        stage = m.d.sync if self.config.deep_pipeline else m.d.comb
        stage += reset.eq(ResetSignal() | self.soft_reset)
        m.d.comb += [
            domain.clk.eq(ClockSignal()),
            domain.rst.eq(reset),
        ]
        grid: dict[tuple[int, int], Any] = {}
        for y in range(self.rows):
            for x in range(self.config.cluster_cols):
                grid[(y, x)] = cluster = Cluster(self.config)
                m.submodules[f"cluster_{y}_{x}"] = DomainRenamer("array")(cluster)
        for (y, x), cluster in grid.items():
            m.d.comb += [cluster.row.eq(self.row + y), cluster.col.eq(x)]
            self._link(m, grid, y, x)
            self._configure(m, grid, y, x)
        self._link_groups(m, grid)
        connect(m, flipped(self.config_i), grid[(0, 0)].config_i)
        self._connect_memory(m, list(grid.values()))
        self._status(m, grid)
        return m

    def _link(self, m: Module, grid: dict[tuple[int, int], Any], y: int, x: int) -> None:
        """Join a cluster's outputs to its neighbours inside the group."""
        here = grid[(y, x)]
        for dy, dx, out, into in (
            (-1, 0, "iact_north_o", "iact_south_i"),
            (1, 0, "iact_south_o", "iact_north_i"),
            (0, -1, "iact_west_o", "iact_east_i"),
            (0, 1, "iact_east_o", "iact_west_i"),
            (0, -1, "weight_west_o", "weight_east_i"),
            (0, 1, "weight_east_o", "weight_west_i"),
            (-1, 0, "psum_north_o", "psum_south_i"),
        ):
            there = grid.get((y + dy, x + dx))
            for i, source in enumerate(getattr(here, out)):
                if there is not None:
                    connect(m, source, getattr(there, into)[i])
                elif dx:
                    m.d.comb += source.ready.eq(1)

    def _link_groups(self, m: Module, grid: dict[tuple[int, int], Any]) -> None:
        """Join the edge clusters to the bundles that lead north and south."""
        for name, y in (
            ("iact_north", 0),
            ("psum_north", 0),
            ("iact_south", self.rows - 1),
            ("psum_south", self.rows - 1),
        ):
            row = [grid[(y, x)] for x in range(self.config.cluster_cols)]
            for port in (f"{name}_o", f"{name}_i"):
                if port not in self.signature.members:
                    continue
                streams = [one for cluster in row for one in getattr(cluster, port)]
                there = getattr(self, port)
                payload = Cat(Value.cast(one.payload) for one in streams)
                valid = Cat(one.valid for one in streams)
                ready = Cat(one.ready for one in streams)
                if port.endswith("_o"):
                    m.d.comb += [
                        there.payload.eq(payload),
                        there.valid.eq(valid),
                        ready.eq(there.ready),
                    ]
                else:
                    m.d.comb += [
                        payload.eq(there.payload),
                        valid.eq(there.valid),
                        there.ready.eq(ready),
                    ]

    def _configure(self, m: Module, grid: dict[tuple[int, int], Any], y: int, x: int) -> None:
        """The configuration tree: down the first column, and east along every row."""
        here, east = grid[(y, x)], grid.get((y, x + 1))
        m.d.comb += here.enable_east.eq(int(east is not None))
        if east is not None:
            connect(m, here.config_east, east.config_i)
        if x == 0 and y < self.rows - 1:
            m.d.comb += here.enable_south.eq(1)
            connect(m, here.config_south, grid[(y + 1, x)].config_i)
        elif x == 0:
            m.d.comb += here.enable_south.eq(self.enable_south)
            connect(m, here.config_south, flipped(self.config_south))

    def _connect_memory(self, m: Module, clusters: list[Any]) -> None:
        """All DMA channels to the two masters."""
        bursts = [burst for cluster in clusters for burst in cluster.read_burst]
        beats = [beat for cluster in clusters for beat in cluster.read_beat]
        reader: Any = AxiReadMaster(self.config, len(bursts) + 1)
        writer: Any = AxiWriteMaster(self.config, len(clusters))
        m.submodules.read_master = reader
        m.submodules.write_master = writer
        for burst, port in zip([*bursts, flipped(self.burst)], reader.burst, strict=True):
            connect(m, burst, port)
        for data, beat in zip(reader.data, [*beats, flipped(self.beat)], strict=True):
            connect(m, data, beat)
        for k, cluster in enumerate(clusters):
            connect(m, cluster.write_burst, writer.burst[k])
            connect(m, cluster.write_beat, writer.data[k])
            m.d.comb += cluster.write_done.eq(writer.done[k])
        connect(m, reader.axi, flipped(self.read))
        connect(m, writer.axi, flipped(self.write))
        for unit, kind in ((reader, "read"), (writer, "write")):
            m.d.comb += [
                unit.window_base.eq(getattr(self, f"{kind}_base")),
                unit.window_limit.eq(getattr(self, f"{kind}_limit")),
                unit.stop.eq(self.stop),
            ]
        m.d.comb += [
            self.quiet.eq(reader.quiet & writer.quiet),
            self.master_fault.eq(first_fault([reader.fault, writer.fault])),
        ]

    def _status(self, m: Module, grid: dict[tuple[int, int], Any]) -> None:
        """One register stage for the status of all clusters, and for the counters."""
        clusters = list(grid.values())
        select: Any = self.counter_select
        held: Any = Signal.like(select)
        enable, clear = Signal(), Signal()
        place = Signal(range(len(clusters)))
        columns = self.config.cluster_cols
        m.d.array += [
            self.busy.eq(Cat(cluster.busy for cluster in clusters).any()),
            self.writers_busy.eq(Cat(cluster.writers_busy for cluster in clusters).any()),
            self.fault.eq(first_fault([cluster.fault for cluster in clusters])),
            held.eq(select),
            place.eq(select.row * columns + select.col),
            enable.eq(self.count_enable),
            clear.eq(self.count_clear),
            self.counter_value.eq(Choice(cluster.counter_value for cluster in clusters)[place]),
        ]
        for cluster in clusters:
            m.d.comb += [
                cluster.count_enable.eq(enable),
                cluster.count_clear.eq(clear),
                cluster.counter_pe.eq(held.pe),
                cluster.counter_entry.eq(held.entry),
            ]


def first_fault(codes: list[Any]) -> Any:
    """The first code of a list that is not zero, by a priority tree."""
    if len(codes) == 1:
        return codes[0]
    half = len(codes) // 2
    low, high = first_fault(codes[:half]), first_fault(codes[half:])
    return Mux(low != 0, low, high)
