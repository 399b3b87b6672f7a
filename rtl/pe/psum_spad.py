"""The psums of a PE and the adders that accumulate them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import PSUM_LANES, Config, bits_for
from rowmesh.rtl.pe.records import Records
from rowmesh.rtl.update_spad import UpdateSpad

__all__ = ["PsumSpad"]


class PsumSpad(wiring.Component):
    """Add products to psums; read psums for the drain, and leave zeros behind.

    A sum is read, added and written in one cycle, so the same psum may follow at once. Each half is
    a memory of its own, whose ports serve the multipliers or the drain: never both.

    Parameters
    ----------
    config
        The machine. Psums: `config.psum_depth`; ports: `config.macs_per_pe`.

    Attributes
    ----------
    i : In(Records.lanes)
        Products; two of them never have the same address.
    draining : In(1)
        The drain has the half in which `pair` lies,
    pair : In
        the number of the pair of psums that it reads,
    psums : Out(Layouts.psum_beat)
        in the same cycle,
    take : In(1)
        and clears.
    overflow : Out(1)
        A sum does not fit.

    Notes
    -----
    Latency 1 cycle, one word of products a cycle. After a reset the drain clears all psums.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.half = config.psum_depth // 2
        records = Records(config)
        super().__init__(
            {
                "i": In(records.lanes),
                "draining": In(1),
                "pair": In(bits_for(config.psum_depth // PSUM_LANES - 1)),
                "psums": Out(records.layouts.psum_beat),
                "take": In(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        lanes: Any = self.i
        psums: Any = self.psums
        count = max(c.macs_per_pe, PSUM_LANES)
        halves: list[Any] = [UpdateSpad(c.psum_bits, self.half, ports=count) for _ in "01"]
        m.submodules.lower, m.submodules.upper = halves
        drained = Signal(2)  # the half that the drain has
        drain_upper, drain_at = self._place(self.pair, self.half // PSUM_LANES)
        m.d.comb += drained.eq(Mux(self.draining, Mux(drain_upper, 0b10, 0b01), 0))

        wrong = Signal(c.macs_per_pe)
        for n in range(count):
            ports = [half.port[n] for half in halves]
            at: Any = 0
            total = Signal(signed(c.psum_bits + 1), name=f"total_{n}")
            if n < c.macs_per_pe:
                upper, at = self._place(lanes[n].address, self.half)
                old = Mux(upper, ports[1].old, ports[0].old).as_signed()
                m.d.comb += [
                    total.eq(old + lanes[n].product),
                    wrong[n].eq(lanes[n].active & (total[-1] != total[-2])),
                    ports[0].enable.eq(lanes[n].active & ~upper),
                    ports[1].enable.eq(lanes[n].active & upper),
                ]
            for port in ports:
                m.d.comb += [port.address.eq(at), port.new.eq(total)]
            if n < PSUM_LANES:
                drain = drain_at * PSUM_LANES + n
                m.d.comb += psums[n].eq(Mux(drain_upper, ports[1].old, ports[0].old))
                for b, port in enumerate(ports):
                    with m.If(drained[b]):
                        m.d.comb += [
                            port.address.eq(drain),
                            port.enable.eq(self.take),
                            port.new.eq(0),
                        ]
        m.d.comb += self.overflow.eq(wrong.any())
        return m

    @staticmethod
    def _place(address: Any, half: int) -> tuple[Value, Value]:
        """Whether an address lies in the upper half, and where in its half."""
        upper = address >= half
        return upper, Mux(upper, address - half, address)[: bits_for(half - 1)]
