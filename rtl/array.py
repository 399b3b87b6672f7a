"""The mesh of clusters."""

from typing import Any

from amaranth.hdl import Array as Choice
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.axi.signatures import burst_layout, write_beat_layout
from rowmesh.rtl.cluster import Cluster
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.counters import counter_select
from rowmesh.rtl.layouts import FAULT_BITS, Layouts

__all__ = ["Array"]

#: Cycles from an input of the array's status network to its output, at most.
STATUS_LATENCY = 6


class Array(wiring.Component):
    """`cluster_rows` x `cluster_cols` clusters with their links, and the status network.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    config_i : In(stream of `Layouts.config_write`)
        Root of the configuration tree: down the first column, east along every row.
    read_burst, read_beat : streams, (master, channel)
        Read channels of the clusters, grouped by AXI master.
    write_burst, write_beat, write_done : (master, channel)
        Write channels, one a cluster.
    busy, writers_busy : Out(1)
        Any unit, any output writer is at work.
    fault : Out(`Fault`)
        The lowest non-zero code of this cycle, one that any cluster reports.
    count_enable, count_clear, counter_select : In, counter_value : Out(32)
        Activity counters of all PEs.

    Notes
    -----
    Status and counters pass two register stages, one a row and one for all rows.
    """

    def __init__(self, config: Config) -> None:
        self.config = c = config
        self.layouts = layouts = Layouts(config)
        self.clusters_per_master = c.cluster_cols * c.rows_per_axi_master
        self.channels = Cluster.read_channels(config)
        reads = (c.axi_masters, self.clusters_per_master * self.channels)
        writes = (c.axi_masters, self.clusters_per_master)
        super().__init__(
            {
                "config_i": In(stream.Signature(layouts.config_write)),
                "read_burst": Out(stream.Signature(burst_layout())).array(*reads),
                "read_beat": In(stream.Signature(c.axi_data_bits)).array(*reads),
                "write_burst": Out(stream.Signature(burst_layout())).array(*writes),
                "write_beat": Out(stream.Signature(write_beat_layout(c))).array(*writes),
                "write_done": In(1).array(*writes),
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
        c = self.config
        grid: dict[tuple[int, int], Any] = {}
        for y in range(c.cluster_rows):
            for x in range(c.cluster_cols):
                m.submodules[f"cluster_{y}_{x}"] = grid[(y, x)] = Cluster(c)
        for (y, x), cluster in grid.items():
            m.d.comb += [cluster.row.eq(y), cluster.col.eq(x)]
            self._link(m, grid, y, x)
            self._connect_memory(m, cluster, y, x)
        connect(m, flipped(self.config_i), grid[(0, 0)].config_i)
        self._status(m, grid)
        return m

    def _link(self, m: Module, grid: dict[tuple[int, int], Any], y: int, x: int) -> None:
        """Join a cluster to its neighbours; what leaves the mesh's edge is swallowed."""
        here = grid[(y, x)]
        south, east = grid.get((y + 1, x)), grid.get((y, x + 1))
        north, west = grid.get((y - 1, x)), grid.get((y, x - 1))
        for there, out, into in (
            (north, "iact_north_o", "iact_south_i"),
            (south, "iact_south_o", "iact_north_i"),
            (west, "iact_west_o", "iact_east_i"),
            (east, "iact_east_o", "iact_west_i"),
            (west, "weight_west_o", "weight_east_i"),
            (east, "weight_east_o", "weight_west_i"),
            (north, "psum_north_o", "psum_south_i"),
        ):
            for i, source in enumerate(getattr(here, out)):
                if there is None:
                    m.d.comb += source.ready.eq(1)
                else:
                    connect(m, source, getattr(there, into)[i])
        # The configuration tree: down the first column, and east along every row.
        south = south if x == 0 else None
        m.d.comb += [
            here.enable_south.eq(int(south is not None)),
            here.enable_east.eq(int(east is not None)),
        ]
        if south is not None:
            connect(m, here.config_south, south.config_i)
        if east is not None:
            connect(m, here.config_east, east.config_i)

    def _connect_memory(self, m: Module, cluster: Any, y: int, x: int) -> None:
        c = self.config
        master, row = divmod(y, c.rows_per_axi_master)
        place = row * c.cluster_cols + x
        for i in range(self.channels):
            channel = place * self.channels + i
            connect(m, cluster.read_burst[i], flipped(self.read_burst[master][channel]))
            connect(m, flipped(self.read_beat[master][channel]), cluster.read_beat[i])
        connect(m, cluster.write_burst, flipped(self.write_burst[master][place]))
        connect(m, cluster.write_beat, flipped(self.write_beat[master][place]))
        m.d.comb += cluster.write_done.eq(self.write_done[master][place])

    def _status(self, m: Module, grid: dict[tuple[int, int], Any]) -> None:
        """Reduce status by rows, then over rows; spread counter selection the same way."""
        c = self.config
        select: Any = self.counter_select
        rows: dict[str, list[Any]] = {"busy": [], "writers_busy": []}
        faults, values = [], []
        for y in range(c.cluster_rows):
            row = [grid[(y, x)] for x in range(c.cluster_cols)]
            for name, out in rows.items():
                flag = Signal(name=f"{name}_{y}")
                m.d.sync += flag.eq(Cat(getattr(cluster, name) for cluster in row).any())
                out.append(flag)
            fault = Signal(FAULT_BITS, name=f"fault_{y}")
            m.d.sync += fault.eq(first_fault([cluster.fault for cluster in row]))
            faults.append(fault)
            value = Signal(32, name=f"counter_{y}")
            m.d.sync += value.eq(Choice(cluster.counter_value for cluster in row)[select.col])
            values.append(value)
            enable, clear = Signal(name=f"count_enable_{y}"), Signal(name=f"count_clear_{y}")
            pe, entry = (
                Signal.like(select.pe, name=f"counter_pe_{y}"),
                Signal.like(select.entry, name=f"counter_entry_{y}"),
            )
            m.d.sync += [
                enable.eq(self.count_enable),
                clear.eq(self.count_clear),
                pe.eq(select.pe),
                entry.eq(select.entry),
            ]
            for cluster in row:
                m.d.comb += [
                    cluster.count_enable.eq(enable),
                    cluster.count_clear.eq(clear),
                    cluster.counter_pe.eq(pe),
                    cluster.counter_entry.eq(entry),
                ]
        m.d.sync += [
            self.busy.eq(Cat(rows["busy"]).any()),
            self.writers_busy.eq(Cat(rows["writers_busy"]).any()),
            self.fault.eq(first_fault(faults)),
            self.counter_value.eq(Choice(values)[select.row]),
        ]


def first_fault(codes: list[Any]) -> Any:
    """The first code of a list that is not zero, by a priority tree."""
    from amaranth.hdl import Mux

    if len(codes) == 1:
        return codes[0]
    half = len(codes) // 2
    low, high = first_fault(codes[:half]), first_fault(codes[half:])
    return Mux(low != 0, low, high)
