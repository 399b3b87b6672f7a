"""The mesh of clusters."""

from typing import Any

from amaranth.hdl import Array as Choice
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.axi.signatures import axi4_read_signature, axi4_write_signature, burst_layout
from rowmesh.rtl.cluster_group import ClusterGroup, first_fault
from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.counters import counter_select
from rowmesh.rtl.layouts import ADDRESS_BITS, Layouts

__all__ = ["Array"]

#: Cycles from an input of the array's status network to its output, at most.
STATUS_LATENCY = 6


class Array(wiring.Component):
    """`cluster_rows` x `cluster_cols` clusters with their links, AXI masters, the status network.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    soft_reset : In(1)
        Resets everything but the masters.
    config_i : In(stream of `Layouts.config_write`)
        Root of the configuration tree: down the first column, east along every row.
    read, write : AXI4 channels, one a master
        The memory.
    burst, beat : streams
        A read channel of the first master, for the program.
    read_base, read_limit, write_base, write_limit, stop, quiet, master_fault
        Of all masters: see `AxiReadMaster`.
    busy, writers_busy : Out(1)
        Any unit, any output writer is at work.
    fault : Out(`Fault`)
        The lowest non-zero code of this cycle, one that any cluster reports.
    count_enable, count_clear, counter_select : In, counter_value : Out(32)
        Activity counters of all PEs.

    Notes
    -----
    Status and counters pass two register stages, one a group of rows and one for all of them.
    """

    def __init__(self, config: Config) -> None:
        self.config = c = config
        super().__init__(
            {
                "soft_reset": In(1),
                "config_i": In(stream.Signature(Layouts(config).config_write)),
                "read": Out(axi4_read_signature(c.axi_data_bits)).array(c.axi_masters),
                "write": Out(axi4_write_signature(c.axi_data_bits)).array(c.axi_masters),
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
        c = self.config
        groups: list[Any] = [ClusterGroup(c) for _ in range(c.axi_masters)]
        for i, group in enumerate(groups):
            m.submodules[f"group_{i}"] = group
            m.d.comb += [
                group.row.eq(i * c.rows_per_axi_master),
                group.enable_south.eq(int(i + 1 < len(groups))),
                *(
                    getattr(group, name).eq(getattr(self, name))
                    for name in (
                        "soft_reset",
                        "read_base",
                        "read_limit",
                        "write_base",
                        "write_limit",
                        "stop",
                    )
                ),
            ]
            connect(m, group.read, flipped(self.read[i]))
            connect(m, group.write, flipped(self.write[i]))
            self._link(m, group, groups[i + 1] if i + 1 < len(groups) else None)
        for name in ("psum_north_o", "iact_north_o"):
            m.d.comb += getattr(groups[0], name).ready.eq(-1)
        connect(m, flipped(self.config_i), groups[0].config_i)
        connect(m, flipped(self.burst), groups[0].burst)
        connect(m, groups[0].beat, flipped(self.beat))
        m.d.comb += [
            self.quiet.eq(Cat(group.quiet for group in groups).all()),
            self.master_fault.eq(first_fault([group.master_fault for group in groups])),
        ]
        self._status(m, groups)
        return m

    def _link(self, m: Module, here: Any, south: Any) -> None:
        """Join a group to the one south of it; what leaves the mesh's edge is swallowed."""
        if south is None:
            m.d.comb += here.iact_south_o.ready.eq(-1)
            return
        for source, out, target, into in (
            (here, "iact_south_o", south, "iact_north_i"),
            (south, "iact_north_o", here, "iact_south_i"),
            (south, "psum_north_o", here, "psum_south_i"),
        ):
            connect(m, getattr(source, out), getattr(target, into))
        connect(m, here.config_south, south.config_i)

    def _status(self, m: Module, groups: list[Any]) -> None:
        """The second stage of the status, and the spreading of the counters' selection."""
        c = self.config
        m.domains.array = domain = ClockDomain("array", local=True)
        select: Any = self.counter_select
        chosen = Signal(range(len(groups)))
        m.d.comb += [
            domain.clk.eq(ClockSignal()),
            domain.rst.eq(ResetSignal() | self.soft_reset),
            chosen.eq(select.row // c.rows_per_axi_master),
        ]
        for group in groups:
            m.d.comb += [
                group.count_enable.eq(self.count_enable),
                group.count_clear.eq(self.count_clear),
                group.counter_select.eq(select),
                group.counter_select.row.eq(select.row % c.rows_per_axi_master),
            ]
        m.d.array += [
            self.busy.eq(Cat(group.busy for group in groups).any()),
            self.writers_busy.eq(Cat(group.writers_busy for group in groups).any()),
            self.fault.eq(first_fault([group.fault for group in groups])),
            self.counter_value.eq(Choice(group.counter_value for group in groups)[chosen]),
        ]
