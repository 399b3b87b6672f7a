"""Takes weight blocks from the stream into the SPads of a PE."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, wrap

__all__ = ["WeightLoader"]


class WeightLoader(wiring.Component):
    """Write one block of weights behind the current one, and the ends of its columns.

    The header of a sparse block is unpacked one address a cycle, so that the address SPad needs one
    write port; addresses become absolute in the ring here, once, instead of at every lookup. A
    dense block has no header: the loader counts the ends of its columns itself and adds counts of
    zero to its values. Behind the SPads both kinds look the same.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    weight : In(stream)
        Blocks.
    work : In(Layouts.pe)
        The running descriptor.
    start : In(1)
        Load the first block.
    take, more : In(1)
        The loaded block becomes the current one; load another one.
    loaded : Out(1)
        A block is complete.
    head : Out
        Ring address after the last word.
    fills : Out(1)
        The block is as large as the data SPad.
    room : In(1)
        A word fits into the data SPad.
    addresses_free : In(1)
        The address entries of this block are not in use.
    store, data : Out
        Write `data` to the data SPad at `head`.
    note, column, entry : Out
        Write `entry` for `column` to the address SPad: ring address after the column; where a
        column can fill the data SPad, above it a bit that says whether the column has words.
    fault : Out(1)
        Addresses not ascending or beyond the SPad, or a block of another length than they say.

    Notes
    -----
    One word, or one address of the header, a cycle. `weight.ready` comes from registers.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = records = Records(config)
        pointer = bits_for(config.weight_data_depth - 1)
        super().__init__(
            {
                "weight": In(stream.Signature(records.layouts.weight_beat)),
                "work": In(records.layouts.pe),
                "start": In(1),
                "take": In(1),
                "more": In(1),
                "loaded": Out(1),
                "head": Out(pointer),
                "fills": Out(1),
                "room": In(1),
                "addresses_free": In(1),
                "store": Out(1),
                "data": Out(config.weight_word_bits),
                "note": Out(1),
                "column": Out(bits_for(config.weight_addr_depth - 1)),
                "entry": Out(pointer + records.column_fills_spad),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self.config.weight_data_depth
        work: Any = self.work
        self.dense: Any = work.weight_dense if self.config.sparse else Const(1)
        self.at = Signal(work.cols.shape())  # column
        self.part = Signal(max(4, work.psums.shape().width))  # of a header word, of a column
        self.header = Signal()  # the word is one of the address vector
        self.address = Signal(self.config.weight_addr_bits)
        self.length = Signal.like(self.address)  # of the block, up to the last column
        self.target = Signal.like(self.head)
        self.end = Signal.like(self.head)  # of a sparse block
        self.last_column = Signal()
        m.d.comb += [
            self.last_column.eq(self.at + 1 == work.cols),
            self.target.eq(wrap(self.head + Mux(self.header, self.address, 1), depth)),
            self.column.eq(self.at),
            self.fills.eq(self.length == depth),
            self.entry.eq(Cat(self.target, ~self.header | (self.address != self.length))),
            self.data.eq(self.expand()),
        ]
        begin = Signal()
        with m.If(begin):
            m.d.sync += [self.at.eq(0), self.part.eq(0), self.length.eq(0)]
        with m.FSM(name="state"):
            with m.State("idle"):
                m.d.comb += begin.eq(self.start)
                self.build_begin(m, begin)
            if self.config.sparse:
                with m.State("header"):
                    self.build_header(m)
            with m.State("data"):
                self.build_data(m)
            with m.State("loaded"):
                m.d.comb += [self.loaded.eq(1), begin.eq(self.take & self.more)]
                with m.If(self.take):
                    m.next = "idle"
                self.build_begin(m, begin)
        return m

    def expand(self) -> Value:
        """The word as the data SPad keeps it: pairs, with counts of zero for raw values."""
        c = self.config
        word: Any = self.weight.payload.word
        if not c.sparse:
            return Value.cast(word)
        zeros = Const(0, c.count_bits)
        values = [word[i * c.weight_bits :][: c.weight_bits] for i in range(c.macs_per_pe)]
        pairs = Cat(*(part for value in values for part in (value, zeros)))
        return Mux(self.dense, pairs, word)

    def build_begin(self, m: Module, begin: Signal) -> None:
        """Go to the first word of a block."""
        with m.If(begin):
            m.next = "data"
            if self.config.sparse:
                with m.If(~self.dense):
                    m.next = "header"

    def build_header(self, m: Module) -> None:
        """Note the end of one column a cycle; the last end is the length of the block."""
        c = self.config
        weight: Any = self.weight
        bits, parts = c.weight_addr_bits, c.weight_addrs_per_word
        word_end, no_data = Signal(), Signal()
        m.d.comb += [
            self.header.eq(1),
            self.address.eq(
                Array(weight.payload.word[i * bits : (i + 1) * bits] for i in range(parts))[
                    self.part
                ]
            ),
            word_end.eq((self.part == parts - 1) | self.last_column),
            no_data.eq(self.last_column & (self.address == 0)),
            weight.ready.eq(self.addresses_free & word_end),
        ]
        with m.If(weight.valid & self.addresses_free):
            m.d.comb += self.note.eq(1)
            m.d.sync += [
                self.length.eq(self.address),
                self.end.eq(self.target),
                self.at.eq(self.at + 1),
                self.part.eq(Mux(word_end, 0, self.part + 1)),
            ]
            with m.If((self.address < self.length) | (self.address > c.weight_data_depth)):
                m.d.comb += self.fault.eq(1)
            if not self.records.column_fills_spad:
                with m.If((self.length == 0) & (self.address == c.weight_data_depth)):
                    m.d.comb += self.fault.eq(1)
            with m.If(word_end & (weight.payload.last != no_data)):
                m.d.comb += self.fault.eq(1)
            with m.If(self.last_column):
                m.next = "data"
            with m.If(no_data):
                m.next = "loaded"

    def build_data(self, m: Module) -> None:
        """Store one word a cycle until the block is complete."""
        c = self.config
        work: Any = self.work
        weight: Any = self.weight
        column_words = (work.psums + (c.macs_per_pe - 1)) >> (c.macs_per_pe.bit_length() - 1)
        ready, final, column_end = Signal(), Signal(), Signal()
        m.d.comb += [
            ready.eq(self.room & (~self.dense | self.addresses_free)),
            column_end.eq(self.part + 1 == column_words),
            weight.ready.eq(ready),
            self.store.eq(weight.valid & ready),
            self.note.eq(self.store & self.dense & column_end),
        ]
        if c.sparse:
            at_end = self.target == self.end
            m.d.comb += final.eq(Mux(self.dense, column_end & self.last_column, at_end))
        else:
            m.d.comb += final.eq(column_end & self.last_column)
        with m.If(self.store):
            m.d.sync += self.head.eq(self.target)
            m.d.comb += self.fault.eq(weight.payload.last != final)
            with m.If(self.dense):
                m.d.sync += [
                    self.length.eq(self.length + 1),
                    self.part.eq(Mux(column_end, 0, self.part + 1)),
                    self.at.eq(self.at + column_end),
                ]
            with m.If(final):
                m.next = "loaded"
        # A dense block that fills the SPad and goes on would wait for ever.
        with m.If(weight.valid & self.dense & self.fills):
            m.d.comb += self.fault.eq(1)
