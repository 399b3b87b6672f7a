"""From the (count, value) pairs of a window to (column, value)."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.pe.records import Records, zero

__all__ = ["IactDecode"]


class IactDecode(wiring.Component):
    """Run-length decoder of the iacts, one pair a cycle.

    A segment may begin anywhere in the window, so the decoder keeps the column after the last pair
    and the column at which the segment ends. A zero, or a column beyond the window, moves the
    column but is not sent (in a machine that is not sparse zeros are sent, to be gated).

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    work, start, active, marker
        From the `Sequencer`.
    valid, word, step
        The read side of the `IactSpad`.
    segment_end : Out(1)
        The last pair of a segment is read in this cycle.
    o : Out(stream of Records.item)
        iacts and markers.
    fault : Out(1)
        A value beyond the end of its segment, or (not sparse) a segment of another length.

    Notes
    -----
    Latency 1 cycle, one pair a cycle; an unused second pair takes none. `o` is registered;
    `o.ready` reaches the counters of the reading side.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = records = Records(config)
        super().__init__(
            {
                "work": In(records.layouts.pe),
                "start": In(1),
                "active": In(1),
                "marker": In(records.marker),
                "valid": In(1),
                "word": In(records.layouts.iact_beat),
                "step": Out(1),
                "segment_end": Out(1),
                "o": Out(stream.Signature(records.item)),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        work: Any = self.work
        word: Any = self.word
        marker: Any = self.marker
        sparse = self.config.sparse
        bits = self.records.column_bits
        item = Signal(self.records.item, reset_less=True)
        valid = Signal()
        m.d.comb += [self.o.valid.eq(valid), self.o.payload.eq(item)]

        second = Signal()  # of the two pairs
        after = Signal(bits, reset_less=True)  # column after the last pair
        end = Signal(bits, reset_less=True)  # column after the segment
        column, following = Signal(bits), Signal(bits)
        value = Signal(self.config.iact_bits)
        count: Any = Const(0)
        if sparse:
            count = Mux(second, word.pairs[1].count, word.pairs[0].count)
        past, skip, keep, go = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            value.eq(Mux(second, word.pairs[1].value, word.pairs[0].value)),
            column.eq(after + count),
            past.eq(column >= end),
            following.eq(Mux(past, end, column + 1)),
            # The second pair of the last word is unused.
            skip.eq(word.last & zero(word.pairs[1].value) & (sparse | (following == end))),
            keep.eq((~zero(value) | (not sparse)) & ~past & (column < work.cols)),
            go.eq(self.valid & self.active & (~valid | self.o.ready)),
            self.step.eq(go & (second | skip)),
            self.segment_end.eq(self.step & word.last),
            self.fault.eq(go & past & ~zero(value)),
        ]
        if not sparse:
            with m.If(self.segment_end & (following != end)):
                m.d.comb += self.fault.eq(1)

        with m.If(self.o.ready):
            m.d.sync += valid.eq(0)
        with m.If(go):
            m.d.sync += [
                valid.eq(keep | (self.segment_end & marker.window)),
                item.hit.eq(keep),
                item.value.eq(value),
                item.column.eq(column),
                item.marker.eq(Mux(self.segment_end, marker.as_value(), 0)),
                second.eq(~self.step),
                after.eq(following),
            ]
        with m.If(self.segment_end):
            m.d.sync += [after.eq(end), end.eq(end + work.segment_cols)]
        with m.If(self.start | (self.segment_end & marker.window)):
            m.d.sync += [after.eq(0), end.eq(work.segment_cols)]
        return m
