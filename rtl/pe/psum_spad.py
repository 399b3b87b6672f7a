"""The psums of a PE and the adders that accumulate them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import PSUM_LANES, Config, bits_for
from rowmesh.rtl.pe.records import Records
from rowmesh.rtl.spad import Spad

__all__ = ["PsumSpad"]


class PsumSpad(wiring.Component):
    """Add products to psums; read psums for the drain.

    A sum is read, added and written in one cycle, so the same psum may follow at once. A bit a psum
    says that its group has written it; an older sum counts as zero, so nothing is ever cleared.

    Parameters
    ----------
    config
        The machine. Psums: `config.psum_depth`; ports: `config.macs_per_pe`.

    Attributes
    ----------
    i : In(Records.lanes)
        Products; two of them never have the same address.
    pair : In
        Number of the pair of psums that the drain reads,
    psums : Out(Layouts.psum_beat)
        in the same cycle.
    clear : In(2)
        Begin anew: in the lower, in the upper half.
    overflow : Out(1)
        A sum does not fit.

    Notes
    -----
    Latency 1 cycle, one word of products a cycle.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        records = Records(config)
        super().__init__(
            {
                "i": In(records.lanes),
                "pair": In(bits_for(config.psum_depth // PSUM_LANES - 1)),
                "psums": Out(records.layouts.psum_beat),
                "clear": In(2),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        lanes: Any = self.i
        psums: Any = self.psums
        depth, macs, bits = c.psum_depth, c.macs_per_pe, c.psum_bits
        m.submodules.spad = spad = Spad(bits, depth, reads=macs + PSUM_LANES, writes=macs)
        ports: Any = spad
        written = Signal(depth)
        wrong = Signal(macs)
        now = Signal(depth)
        later: Any = 0
        for n in range(macs):
            lane = lanes[n]
            old = Signal(signed(bits), name=f"old_{n}")
            total = Signal(signed(bits + 1), name=f"total_{n}")
            m.d.comb += [
                ports.read[n].address.eq(lane.address),
                old.eq(Mux(written.bit_select(lane.address, 1), ports.read[n].data, 0)),
                total.eq(old + lane.product),
                wrong[n].eq(lane.active & (total[bits] != total[bits - 1])),
                ports.write[n].enable.eq(lane.active),
                ports.write[n].address.eq(lane.address),
                ports.write[n].data.eq(total),
            ]
            later = later | (lane.active << lane.address)
        m.d.comb += [now.eq(later), self.overflow.eq(wrong.any())]
        for half in range(2):
            part = slice(half * depth // 2, (half + 1) * depth // 2)
            # Between two groups in one bank there are cycles without products.
            m.d.sync += written[part].eq(Mux(self.clear[half], 0, written[part] | now[part]))

        for n in range(PSUM_LANES):
            port = ports.read[macs + n]
            pairs = written[n::PSUM_LANES]
            m.d.comb += [
                port.address.eq(self.pair * PSUM_LANES + n),
                psums[n].eq(Mux(pairs.bit_select(self.pair, 1), port.data.as_signed(), 0)),
            ]
        return m
