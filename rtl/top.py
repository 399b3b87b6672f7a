"""The accelerator: array, controller, registers and AXI masters."""

from typing import Any

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from rowmesh.rtl.array import Array
from rowmesh.rtl.axi.signatures import (
    axi4_signature,
    axi_lite_signature,
    flat_members,
    join_flat,
)
from rowmesh.rtl.cluster_group import first_fault
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.controller import Controller
from rowmesh.rtl.control.csr import Csr
from rowmesh.rtl.control.registers import ADDR_BITS
from rowmesh.rtl.dma.read_channels import ReadChannels

__all__ = ["Top"]


class Top(wiring.Component):
    """What the host and the memory see.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    s_axil_* : AXI4-Lite slave
        The registers: `rowmesh.rtl.control.registers`.
    m0_axi_*, m1_axi_*, ... : AXI4 masters
        One for each group of cluster rows; the first also fetches the program.
    irq : Out(1)
        Level, while an enabled event is set.

    Notes
    -----
    The clusters and all DMA channels are in the clock domain ``array``: the same clock, and a reset
    of its own for the soft reset. The AXI masters are not in it, so that open transactions end.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        members: dict[str, Any] = {"irq": Out(1)}
        slave: Any = axi_lite_signature(ADDR_BITS).flip()
        members |= flat_members("s_axil", slave)
        for i in range(config.axi_masters):
            members |= flat_members(f"m{i}_axi", axi4_signature(config.axi_data_bits))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        m.submodules.csr = csr = Csr(c)
        m.submodules.controller = controller = Controller(c)
        m.submodules.array = array = Array(c)
        fetch: Any = ReadChannels(c, 1)
        m.domains.array = domain = ClockDomain("array", local=True)
        m.d.comb += [
            domain.clk.eq(ClockSignal()),
            domain.rst.eq(ResetSignal() | controller.array_reset),
        ]
        m.submodules.fetch = DomainRenamer("array")(fetch)

        join_flat(m, csr.bus, self, "s_axil")
        connect(m, controller.request, fetch.request[0])
        connect(m, fetch.data[0], controller.data)
        connect(m, fetch.burst[0], array.burst)
        connect(m, array.beat, fetch.beat[0])
        connect(m, controller.config_o, array.config_i)
        for i in range(c.axi_masters):
            join_flat(m, array.read[i], self, f"m{i}_axi")
            join_flat(m, array.write[i], self, f"m{i}_axi")
        m.d.comb += [
            array.soft_reset.eq(controller.array_reset),
            array.stop.eq(controller.stop),
            *(
                getattr(array, name).eq(csr.control[name])
                for name in ("read_base", "read_limit", "write_base", "write_limit")
            ),
            controller.array_busy.eq(array.busy),
            controller.writers_busy.eq(array.writers_busy),
            controller.fault.eq(first_fault([array.master_fault, array.fault])),
            controller.quiet.eq(array.quiet),
            array.count_enable.eq(controller.count_enable),
            array.count_clear.eq(controller.count_clear),
        ]
        self._connect_registers(m, csr, controller, array)
        return m

    def _connect_registers(self, m: Module, csr: Any, controller: Any, array: Any) -> None:
        control, status = csr.control, csr.status
        m.d.comb += [
            controller.start.eq(control.control_start),
            controller.soft_reset.eq(control.control_soft_reset),
            controller.resume.eq(control.control_continue),
            controller.single_step.eq(control.control_single_step),
            controller.program_address.eq(control.program),
            controller.program_words.eq(control.program_words),
            Cat(
                status[f"status_{name}"] for name in ("idle", "running", "paused", "done", "fault")
            ).eq(controller.state),
            status.fault.eq(controller.fault_code),
            status.fault_layer.eq(controller.fault_layer),
            status.fault_index.eq(controller.fault_index),
            status.cycles_low.eq(controller.cycles[:32]),
            status.cycles_high.eq(controller.cycles[32:]),
            status.layer.eq(controller.layer),
            array.counter_select.row.eq(control.counter_select_row),
            array.counter_select.col.eq(control.counter_select_col),
            array.counter_select.pe.eq(control.counter_select_pe),
            array.counter_select.entry.eq(control.counter_select_entry),
            status.counter_value.eq(array.counter_value),
            *(
                csr.events[f"irq_status_{name}"].eq(controller.events[name])
                for name in ("done", "fault", "paused")
            ),
            self.irq.eq(csr.irq),
        ]
        for kind, prefix in (("read", "r"), ("written", "w")):
            self._count_beats(m, prefix, controller.count_clear, status[f"beats_{kind}"])

    def _count_beats(self, m: Module, prefix: str, clear: Any, out: Any) -> None:
        """Beats of all masters; the handshakes are registered first."""
        beats: Any = 0
        for i in range(self.config.axi_masters):
            beat = Signal(name=f"{prefix}_beat_{i}")
            valid = getattr(self, f"m{i}_axi_{prefix}valid")
            m.d.sync += beat.eq(valid & getattr(self, f"m{i}_axi_{prefix}ready"))
            beats = beats + beat
        count = Signal(32, name=f"{prefix}_beats")
        m.d.sync += count.eq(count + beats)
        with m.If(clear):
            m.d.sync += count.eq(0)
        m.d.comb += out.eq(count)
