"""Columns that wait for the multipliers, and the walk through the words of the first one."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, wrap

__all__ = ["WeightFetch"]


class WeightFetch(wiring.Component):
    """Two places for looked-up columns; reads one weight word a cycle for the column in the first.

    What is left of that column stands in its place, so the place is also the address of the next
    word. A marker without an iact joins the column before it, so that the end of a window costs no
    cycle. Only when that one is gone it travels alone, and then there is nothing to delay.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    i : In(stream of Records.column)
        iacts with the addresses of their weights, and markers.
    address : Out, word : In
        Read port of the data SPad, asynchronous.
    o : Out(stream of Records.word)
        Weight words with their iact.
    release : Out(1)
        The last word of a block is read in this cycle.
    busy : Out(1)
        A column is here.

    Notes
    -----
    Latency 1 cycle, one word a cycle without a gap between columns. `i.ready` comes from registers,
    `o` from registers and the data SPad.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = records = Records(config)
        super().__init__(
            {
                "i": In(stream.Signature(records.column)),
                "address": Out(bits_for(config.weight_data_depth - 1)),
                "word": In(config.weight_word_bits),
                "o": Out(stream.Signature(records.word)),
                "release": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        i: Any = self.i
        o: Any = self.o
        first: Any = Signal(self.records.column, reset_less=True)
        second: Any = Signal(self.records.column, reset_less=True)
        occupied = Signal()  # the second place is
        inside = Signal()  # the first word of the column has been read
        last, moves, pop, join = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.address.eq(first.start),
            last.eq(~first.hit | (first.count == 1)),
            moves.eq(o.valid & o.ready),
            pop.eq(moves & last),
            self.release.eq(pop & first.marker.block),
            o.valid.eq(self.busy),
            o.payload.hit.eq(first.hit),
            o.payload.first.eq(~inside),
            o.payload.value.eq(first.value),
            o.payload.pairs.as_value().eq(self.word),
            o.payload.marker.eq(Mux(last, first.marker.as_value(), 0)),
            i.ready.eq(~occupied),
            # A column may carry one window's end only.
            join.eq(~i.payload.hit & self.busy & ~occupied & ~pop & ~first.marker.window),
        ]
        with m.If(moves):
            m.d.sync += [
                first.start.eq(wrap(first.start + 1, self.config.weight_data_depth)),
                first.count.eq(first.count - 1),
                inside.eq(~last),
            ]
        # The places take what comes whether it is valid or not: `i.valid` comes late.
        with m.If(pop | ~self.busy):
            m.d.sync += first.eq(Mux(occupied, second.as_value(), i.payload.as_value()))
        with m.Elif(i.valid & join):
            m.d.sync += first.marker.eq(i.payload.marker)
        with m.If(~occupied):
            m.d.sync += second.eq(i.payload)
        with m.If(pop):
            m.d.sync += [self.busy.eq(occupied | i.valid), occupied.eq(0)]
        with m.Elif(i.valid & ~occupied & ~join):
            m.d.sync += [self.busy.eq(1), occupied.eq(self.busy)]
        return m
