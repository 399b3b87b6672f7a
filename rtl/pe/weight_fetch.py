"""Columns that wait for the multipliers, and the walk through the words of the first one."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, wrap
from rowmesh.rtl.spad import Spad

__all__ = ["WeightFetch"]


class WeightFetch(wiring.Component):
    """Queue of looked-up columns; reads one weight word a cycle for the column at its head.

    A marker without an iact joins the newest column in the queue, so that the end of a window costs
    no cycle. Only when that one is gone it travels alone, and then there is nothing to delay.

    Parameters
    ----------
    config
        The machine.
    depth
        Columns in the queue.

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
        Something is in the queue.

    Notes
    -----
    Latency 1 cycle, one word a cycle without a gap between columns. `i.ready` comes from registers,
    `o` from registers and the data SPad.
    """

    def __init__(self, config: Config, depth: int = 2) -> None:
        self.config = config
        self.depth = depth
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
        pop = Signal()
        head, marker = self.build_queue(m, pop)
        self.build_walk(m, pop, head, marker)
        return m

    def build_queue(self, m: Module, pop: Signal) -> tuple[Any, Any]:
        """The column at the head and its marker; `busy` says that there is one."""
        i: Any = self.i
        depth = self.depth
        width = self.records.column["marker"].offset  # the last field, kept apart
        m.submodules.queue = queue = Spad(width, depth)
        ports: Any = queue
        markers = Array(
            Signal(self.records.marker, name=f"marker_{n}", reset_less=True) for n in range(depth)
        )
        first, free = Signal(range(depth)), Signal(range(depth))
        newest = Signal(range(depth))
        level, stay = Signal(range(depth + 1)), Signal(range(depth + 1))
        push, join = Signal(), Signal()
        head = Signal(self.records.column)
        m.d.comb += [
            self.busy.eq(level != 0),
            stay.eq(level - pop),
            # A column may carry one window's end only.
            join.eq(~i.payload.hit & (stay != 0) & ~markers[newest].window),
            i.ready.eq(level != depth),
            push.eq(i.valid & i.ready & ~join),
            ports.read[0].address.eq(first),
            head.as_value()[:width].eq(ports.read[0].data),
            ports.write[0].enable.eq(push),
            ports.write[0].address.eq(free),
            ports.write[0].data.eq(i.payload),
        ]
        m.d.sync += level.eq(stay + push)
        with m.If(pop):
            m.d.sync += first.eq(wrap(first + 1, depth))
        with m.If(push):
            m.d.sync += [
                free.eq(wrap(free + 1, depth)),
                newest.eq(free),
                markers[free].eq(i.payload.marker),
            ]
        with m.If(i.valid & i.ready & join):
            m.d.sync += markers[newest].eq(i.payload.marker)
        return head, markers[first]

    def build_walk(self, m: Module, pop: Signal, head: Any, marker: Any) -> None:
        """Read the words of the column at the head."""
        o: Any = self.o
        following = Signal.like(self.address, reset_less=True)
        left = Signal.like(head.count, reset_less=True)
        words = Signal.like(head.count)  # of the column, not yet read
        inside = Signal()  # the first word of the column has been read
        last, moves = Signal(), Signal()
        m.d.comb += [
            self.address.eq(Mux(inside, following, head.start)),
            words.eq(Mux(inside, left, head.count)),
            last.eq(~head.hit | (words == 1)),
            moves.eq(o.valid & o.ready),
            pop.eq(moves & last),
            self.release.eq(pop & marker.block),
            o.valid.eq(self.busy),
            o.payload.hit.eq(head.hit),
            o.payload.first.eq(~inside),
            o.payload.value.eq(head.value),
            o.payload.pairs.as_value().eq(self.word),
            o.payload.marker.eq(Mux(last, marker.as_value(), 0)),
        ]
        with m.If(moves):
            m.d.sync += [
                following.eq(wrap(self.address + 1, self.config.weight_data_depth)),
                left.eq(words - 1),
                inside.eq(~last),
            ]
