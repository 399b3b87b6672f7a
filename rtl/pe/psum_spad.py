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
    pair : In
        Number of the pair of psums that the drain reads, in a half without products (with
        `config.deep_pipeline`, in the next cycle),
    psums : Out(Layouts.psum_beat)
        in the same cycle,
    take : In(1)
        and clears.
    overflow : Out(1)
        A sum of the cycle before did not fit.

    Notes
    -----
    Latency 1 cycle, one word of products a cycle. With `config.deep_pipeline` products and all
    addresses are registered first, a cycle more. After a reset the drain clears all psums.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.half = config.psum_depth // 2
        records = Records(config)
        super().__init__(
            {
                "i": In(records.lanes),
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
        stage = m.d.sync if c.deep_pipeline else m.d.comb
        pair_upper, pair_at = self._place(self.pair, self.half // PSUM_LANES)
        drain_upper = Signal()
        stage += drain_upper.eq(pair_upper)

        wrong = Signal(c.macs_per_pe)
        for n in range(count):
            ports = [half.port[n] for half in halves]
            clears = self.take if n < PSUM_LANES else 0
            adds = Signal(2, name=f"adds_{n}")  # to this half
            total = Signal(signed(c.psum_bits + 1), name=f"total_{n}")
            place: Any = (0, 0)
            if n < c.macs_per_pe:
                place = self._place(lanes[n].address, self.half)
                product = Signal.like(lanes[n].product, name=f"product_{n}")
                old = Mux(adds[1], ports[1].old, ports[0].old).as_signed()
                stage += product.eq(lanes[n].product)
                m.d.comb += [
                    total.eq(old + product),
                    wrong[n].eq(adds.any() & (total[-1] != total[-2])),
                ]
            for b, port in enumerate(ports):
                here = lanes[n].active & (place[0] == b) if n < c.macs_per_pe else 0
                # To which half the drain goes is known late, so the multipliers choose.
                stage += [
                    adds[b].eq(here),
                    port.address.eq(Mux(here, place[1], pair_at * PSUM_LANES + n)),
                ]
                m.d.comb += [
                    port.enable.eq(adds[b] | (clears & (drain_upper == b))),
                    port.new.eq(Mux(adds[b], total, 0)),
                ]
            if n < PSUM_LANES:
                m.d.comb += psums[n].eq(Mux(drain_upper, ports[1].old, ports[0].old))
        m.d.sync += self.overflow.eq(wrong.any())
        return m

    @staticmethod
    def _place(address: Any, half: int) -> tuple[Value, Value]:
        """Whether an address lies in the upper half, and where in its half."""
        upper = address >= half
        return upper, Mux(upper, address - half, address)[: bits_for(half - 1)]
