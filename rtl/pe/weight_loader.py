"""Takes weight blocks from the stream into the SPads of a PE."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, column_words, wrap

__all__ = ["WeightLoader"]


class WeightLoader(wiring.Component):
    """Write one block of weights behind the current one, and the ends of its columns.

    The header of a sparse block is checked and goes word by word into the address SPad as it is. A
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
    head, target : Out
        Ring address after the last word; after the next one, while that is stored.
    fills : Out(1)
        The block is as large as the data SPad.
    room : In(1)
        A word fits into the data SPad.
    store, data : Out
        Write `data` to the data SPad at `head`.
    note : Out, slot, ends : Out
        Write these entries (a mask) of word `slot` of the address SPad: ends of columns, in words
        from the start of the block.
    fault : Out(1)
        In the cycle before: addresses not ascending or beyond the SPad, or a block of another
        length than they say.

    Notes
    -----
    One word a cycle. `weight.ready` comes from registers.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = records = Records(config)
        super().__init__(
            {
                "weight": In(stream.Signature(records.layouts.weight_beat)),
                "work": In(records.layouts.pe),
                "start": In(1),
                "take": In(1),
                "more": In(1),
                "loaded": Out(1),
                "head": Out(bits_for(config.weight_data_depth - 1)),
                "target": Out(bits_for(config.weight_data_depth - 1)),
                "fills": Out(1),
                "room": In(1),
                "store": Out(1),
                "data": Out(config.weight_word_bits),
                "note": Out(config.weight_addrs_per_word),
                "slot": Out(records.slot_bits),
                "ends": Out(records.ends),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self.config.weight_data_depth
        work: Any = self.work
        self.dense: Any = work.weight_dense if self.config.sparse else Const(1)
        self.left = Signal.like(work.cols, reset_less=True)  # columns without an end
        # Words to come of a dense column, or of a block that has said its length.
        self.words = Signal(
            max(work.psums.shape().width, self.config.weight_addr_bits), reset_less=True
        )
        self.length = Signal(self.config.weight_addr_bits, reset_less=True)  # up to these columns
        self.at = Signal.like(self.slot, reset_less=True)
        self.column = column_words(work.psums, self.config.macs_per_pe)
        m.d.comb += [
            self.target.eq(wrap(self.head + 1, depth)),
            self.slot.eq(self.at),
            self.fills.eq(self.length == depth),
            self.data.eq(self.expand()),
        ]
        m.d.sync += self.fault.eq(0)
        begin = Signal()
        with m.If(begin):
            m.d.sync += [
                self.left.eq(work.cols),
                self.words.eq(self.column),
                self.length.eq(0),
                self.at.eq(0),
            ]
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
        """Check the ends of some columns a cycle; the last one is the length of the block."""
        c = self.config
        weight: Any = self.weight
        bits, parts = c.weight_addr_bits, c.weight_addrs_per_word
        ends = [weight.payload.word[i * bits : (i + 1) * bits] for i in range(parts)]
        last, no_data, falls = Signal(), Signal(), Signal(parts)
        length = Signal.like(self.length)
        m.d.comb += [
            last.eq(self.left <= parts),
            length.eq(ends[-1]),
            no_data.eq(last & (length == 0)),
            weight.ready.eq(1),
            *(self.ends[i].eq(end) for i, end in enumerate(ends)),
            *(
                falls[i].eq((end < before) & (self.left > i))
                for i, (end, before) in enumerate(zip(ends, [self.length, *ends], strict=False))
            ),
        ]
        for i in range(parts - 1):
            with m.If(self.left == i + 1):
                m.d.comb += length.eq(ends[i])
        with m.If(weight.valid):
            m.d.comb += self.note.eq(~0)
            m.d.sync += [
                self.fault.eq(
                    falls.any() | (length > c.weight_data_depth) | (weight.payload.last != no_data)
                ),
                self.length.eq(length),
                self.words.eq(length),
                self.left.eq(self.left - parts),
                self.at.eq(self.at + 1),
            ]
            with m.If(last):
                m.next = "data"
            with m.If(no_data):
                m.next = "loaded"

    def build_data(self, m: Module) -> None:
        """Store one word a cycle until the block is complete."""
        c = self.config
        weight: Any = self.weight
        final, column_end = Signal(), Signal()
        m.d.comb += [
            column_end.eq(self.words == 1),
            weight.ready.eq(self.room),
            self.store.eq(weight.valid & self.room),
            final.eq(column_end & (self.left == 1)),
        ]
        if c.sparse:
            with m.If(~self.dense):
                m.d.comb += final.eq(column_end)
        with m.If(self.store):
            m.d.sync += [
                self.head.eq(self.target),
                self.words.eq(self.words - 1),
                self.fault.eq(weight.payload.last != final),
            ]
            with m.If(self.dense):
                m.d.sync += [
                    self.length.eq(self.length + 1),
                    self.left.eq(self.left - column_end),
                ]
                with m.If(column_end):
                    m.d.sync += self.words.eq(self.column)
                if c.sparse:
                    self.build_notes(m, column_end)
            with m.If(final):
                m.next = "loaded"
        # A dense block that fills the SPad and goes on would wait for ever.
        with m.If(weight.valid & self.dense & self.fills):
            m.d.sync += self.fault.eq(1)

    def build_notes(self, m: Module, column_end: Signal) -> None:
        """The end of a dense column, entry by entry."""
        parts = self.config.weight_addrs_per_word
        turn = Signal(parts, init=1)  # one-hot
        m.d.comb += [end.eq(self.length + 1) for end in self.ends]
        with m.If(column_end):
            m.d.comb += self.note.eq(turn)
            m.d.sync += [turn.eq(turn.rotate_left(1)), self.at.eq(self.at + turn[-1])]
            with m.If(self.left == 1):
                m.d.sync += turn.eq(1)
