"""Sends finished psums up the column of PEs."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import PSUM_LANES, Config, bits_for
from rowmesh.rtl.pe.records import Records

__all__ = ["Drain"]


class Drain(wiring.Component):
    """Drain the psum banks while the other bank computes, adding the psums of the PE below.

    After a reset the first thing to drain is whatever is in the SPad: it is dropped, which clears
    the SPad. Nothing can be computed before.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    finish : In(Records.finish)
        A group is complete after this cycle.
    full : Out(2)
        Banks that hold a finished group.
    pair, psums, take
        The drain side of the `PsumSpad`.
    psum_in : In(stream)
        Psums of the PE below, taken only for a group with `chain`.
    psum_out : Out(stream)
        The sums.
    busy : Out(1)
        A group or a beat has not left yet.
    overflow : Out(1)
        A sum of the cycle before did not fit.

    Notes
    -----
    One beat a cycle; the first one 3 cycles after `finish`. `psum_out` is registered;
    `psum_in.ready` follows `psum_out.ready` through one gate, so a column of PEs has a path of one
    gate a row (the router cuts it).
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        records = Records(config)
        self.end_bits = bits_for(config.psum_depth)
        beat = stream.Signature(records.layouts.psum_beat)
        super().__init__(
            {
                "finish": In(records.finish),
                "full": Out(2),
                "pair": Out(bits_for(config.psum_depth // PSUM_LANES - 1)),
                "psums": In(records.layouts.psum_beat),
                "take": Out(1),
                "psum_in": In(beat),
                "psum_out": Out(beat),
                "busy": Out(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        running, bank, end, chain = Signal(), Signal(), Signal(self.end_bits), Signal()
        self._pair = Signal.like(self.pair, reset_less=True)
        self._next = Signal.like(self.pair)
        m.d.comb += self._next.eq(self._pair)
        m.d.sync += self._pair.eq(self._next)
        dropping = Signal(init=1)
        done = self.build_beats(m, running, end, chain, dropping)
        self.build_banks(m, done, bank, end, chain)
        half = self.config.psum_depth // 2
        m.d.comb += [
            self.pair.eq(self._next if self.config.deep_pipeline else self._pair),
            self.busy.eq((self.full.any() & ~dropping) | self.psum_out.valid),
        ]
        other = Signal()  # the bank to look at next
        m.d.comb += other.eq(Mux(running, ~bank, ~self.full[0]))
        with m.If(done | ~running):
            m.d.sync += [running.eq(self.full.bit_select(other, 1)), bank.eq(other)]
            m.d.comb += self._next.eq(Mux(other, half // PSUM_LANES, 0))
        with m.If(done):
            m.d.sync += dropping.eq(0)
        return m

    def build_banks(
        self, m: Module, done: Signal, bank: Signal, end: Signal, chain: Signal
    ) -> None:
        """Remember where the group of each bank ends and how it leaves."""
        finish: Any = self.finish
        full = Signal(2, init=0b01)
        m.d.comb += self.full.eq(full)
        ends = [Signal(self.end_bits, name=f"end_{b}", reset_less=True) for b in range(2)]
        chains = [Signal(name=f"chain_{b}", reset_less=True) for b in range(2)]
        for b in range(2):
            with m.If(done & (bank == b)):
                m.d.sync += full[b].eq(0)
            with m.If(finish.valid & (finish.bank == b)):
                m.d.sync += [
                    full[b].eq(1),
                    ends[b].eq(finish.end),
                    chains[b].eq(finish.chain),
                ]
        m.d.comb += [end.eq(Mux(bank, *reversed(ends))), chain.eq(Mux(bank, *reversed(chains)))]

    def build_beats(
        self, m: Module, running: Signal, end: Signal, chain: Signal, dropping: Signal
    ) -> Signal:
        """Send the pairs of a bank; high with the last one."""
        bits = self.config.psum_bits
        below: Any = self.psum_in
        up: Any = self.psum_out
        psums: Any = self.psums
        room, sends, moves, done = Signal(), Signal(), Signal(), Signal()
        wrong = Signal(PSUM_LANES)
        last = self.config.psum_depth // PSUM_LANES - 1
        m.d.comb += [
            room.eq(~up.valid | up.ready),
            below.ready.eq(running & chain & room & ~dropping),
            sends.eq(running & room & (~chain | below.valid) & ~dropping),
            moves.eq(sends | (running & dropping)),
            done.eq(
                moves & Mux(dropping, self._pair == last, (self._pair + 1) * PSUM_LANES == end)
            ),
            self.take.eq(moves),
        ]
        m.d.sync += self.overflow.eq(sends & wrong.any())
        valid = Signal()
        beat = Signal(self.psums.shape(), reset_less=True)
        m.d.comb += [up.valid.eq(valid), up.payload.eq(beat)]
        with m.If(room):
            m.d.sync += valid.eq(sends)
        with m.If(moves):
            m.d.comb += self._next.eq(self._pair + 1)
        for n in range(PSUM_LANES):
            total = Signal(signed(bits + 1), name=f"total_{n}")
            m.d.comb += [
                total.eq(psums[n] + Mux(chain, below.payload[n], 0)),
                wrong[n].eq(total[bits] != total[bits - 1]),
            ]
            with m.If(sends):
                m.d.sync += beat[n].eq(total)
        return done
