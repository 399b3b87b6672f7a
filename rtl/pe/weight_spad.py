"""The weights of a PE: a ring of blocks, and the lookup of their columns."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, column_words, wrap
from rowmesh.rtl.pe.weight_loader import WeightLoader
from rowmesh.rtl.spad import Spad

__all__ = ["WeightSpad"]


class WeightSpad(wiring.Component):
    """Find the words of a column; load the next block meanwhile.

    The data SPad is a ring of words. The address SPad has two halves that take turns, so that the
    next header loads while columns of this block are looked up; a word of it holds the ends of
    some neighbouring columns. A machine that is not sparse has no address SPad: its columns come
    in order, each as long as the others, so a running address does.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    weight : In(stream)
        Blocks.
    work, start, take, more
        From the `Sequencer`.
    loaded, lookup_ready : Out(1)
        To the `Sequencer`.
    i : In(stream of Records.item)
        iacts of the window.
    o : Out(stream of Records.column)
        iacts whose column is not empty, and markers.
    ends_write, ends_read : Out
        Ports of the `OperandSpad`, in a machine that is sparse.
    address : In, word : Out
        Read port of the data SPad, asynchronous.
    release : In(1)
        The multipliers are done with the oldest block.
    fault : Out(1)
        See `WeightLoader`.

    Notes
    -----
    The lookup is combinational (`i` comes from and `o` goes to registers), one column a cycle.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = records = Records(config)
        ports: dict[str, Any] = {}
        if config.sparse:
            ports["ends_write"] = Out(records.ends_write)
            ports["ends_read"] = Out(records.ends_read).array(2)
        super().__init__(
            {
                "weight": In(stream.Signature(records.layouts.weight_beat)),
                "work": In(records.layouts.pe),
                "start": In(1),
                "take": In(1),
                "more": In(1),
                "loaded": Out(1),
                "lookup_ready": Out(1),
                "i": In(stream.Signature(records.item)),
                "o": Out(stream.Signature(records.column)),
                "address": In(bits_for(config.weight_data_depth - 1)),
                "word": Out(config.weight_word_bits),
                "release": In(1),
                "fault": Out(1),
                **ports,
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.loader = loader = WeightLoader(self.config)
        connect(m, flipped(self.weight), loader.weight)
        m.d.comb += [
            loader.work.eq(self.work),
            loader.start.eq(self.start),
            loader.take.eq(self.take),
            loader.more.eq(self.more),
            self.loaded.eq(loader.loaded),
            self.fault.eq(loader.fault),
        ]
        self.base = Signal.like(self.address, reset_less=True)  # of the current block
        self.following = Signal.like(self.address)  # of the block after it
        self.in_use = Signal()  # columns of the current block are looked up
        with m.If(self.take):
            m.d.sync += [self.base.eq(self.following), self.following.eq(loader.head)]
        looked_up = self.build_stream(m)
        self.build_data(m, loader, looked_up)
        if self.config.sparse:
            self.build_lookup(m, loader)
        else:
            self.build_count(m)
        return m

    def build_stream(self, m: Module) -> Signal:
        """From `i` to `o`, dropping empty columns. High when the lookups of a block end."""
        i: Any = self.i
        o: Any = self.o
        looked_up, blocked = Signal(), Signal()
        self.leaving = Signal()  # the multipliers are not done with the block before
        m.d.comb += [
            blocked.eq(i.payload.marker.block & self.leaving),
            o.valid.eq(i.valid & ~blocked & (o.payload.hit | i.payload.marker.window)),
            # Not of `o.valid`: the way from the address SPad to the loops would be long.
            i.ready.eq(~blocked & o.ready),
            o.payload.value.eq(i.payload.value),
            o.payload.marker.eq(i.payload.marker),
            looked_up.eq(i.valid & i.ready & i.payload.marker.block),
            self.lookup_ready.eq(~i.valid | i.ready),
        ]
        with m.If(self.release):
            m.d.sync += self.leaving.eq(0)
        with m.If(looked_up):
            m.d.sync += [self.leaving.eq(1), self.in_use.eq(0)]
        with m.If(self.take):
            m.d.sync += self.in_use.eq(1)
        return looked_up

    def build_data(self, m: Module, loader: WeightLoader, looked_up: Signal) -> None:
        """The ring of words and its room."""
        c = self.config
        m.submodules.data = spad = Spad(c.weight_word_bits, c.weight_data_depth)
        ports: Any = spad
        tail, next_tail = Signal.like(self.address), Signal.like(self.address)
        full = Signal()
        fills, leaving_fills = Signal(), Signal()  # the block takes the whole ring
        m.d.comb += [
            ports.read[0].address.eq(self.address),
            self.word.eq(ports.read[0].data),
            ports.write[0].enable.eq(loader.store),
            ports.write[0].address.eq(loader.head),
            ports.write[0].data.eq(loader.data),
            loader.room.eq(~full),
            # What is left begins with the current block, or with the one after it.
            next_tail.eq(Mux(self.release, Mux(self.in_use, self.base, self.following), tail)),
        ]
        m.d.sync += tail.eq(next_tail)
        with m.If(loader.store):
            m.d.sync += full.eq(loader.target == next_tail)
        with m.Elif(self.release & ((next_tail != tail) | leaving_fills)):
            m.d.sync += full.eq(0)
        with m.If(self.take):
            m.d.sync += fills.eq(loader.fills)
        with m.If(looked_up):
            m.d.sync += leaving_fills.eq(fills)

    def build_lookup(self, m: Module, loader: WeightLoader) -> None:
        """Start and length of a column from the address SPad: it starts where the one before ends.

        The end before can lie in another word, so there are two read ports.
        """
        c = self.config
        o: Any = self.o
        parts = c.weight_addrs_per_word
        write: Any = self.ends_write
        bank = Signal()  # of the block that loads; the other one is looked up
        m.d.comb += [
            write.enable.eq(loader.note),
            write.address.eq(Cat(loader.slot, bank)),
            write.data.eq(loader.ends),
        ]
        with m.If(self.take):
            m.d.sync += bank.eq(~bank)

        column = self.i.payload.column
        count = 1 << len(column)
        found: list[Any] = []
        reads: Any = self.ends_read
        for n, read in enumerate(reads):  # its own end, the one before
            slot = Signal.like(loader.slot, name=f"slot_{n}")
            part = Signal(range(parts), name=f"part_{n}")
            m.d.comb += [
                slot.eq(Array((k - n) % count // parts for k in range(count))[column]),
                part.eq(Array((k - n) % count % parts for k in range(count))[column]),
                read.address.eq(Cat(slot, ~bank)),
            ]
            found.append(read.data[part][: c.weight_addr_bits])
        before = Signal(c.weight_addr_bits)
        m.d.comb += [
            before.eq(Mux(column == 0, 0, found[1])),
            o.payload.start.eq(wrap(self.base + before, c.weight_data_depth)),
            o.payload.count.eq(found[0] - before),
            o.payload.hit.eq(self.i.payload.hit & (found[0] != before)),
        ]

    def build_count(self, m: Module) -> None:
        """Start and length of the next column of a dense block."""
        c = self.config
        work: Any = self.work
        i: Any = self.i
        o: Any = self.o
        at = Signal.like(self.address)
        words = column_words(work.psums, c.macs_per_pe)
        m.d.comb += [
            o.payload.hit.eq(i.payload.hit),
            o.payload.start.eq(at),
            o.payload.count.eq(words),
        ]
        with m.If(i.valid & i.ready):
            with m.If(i.payload.marker.window):
                m.d.sync += at.eq(self.base)
            with m.Elif(i.payload.hit):
                m.d.sync += at.eq(wrap(at + words, c.weight_data_depth))
        with m.If(self.take):
            m.d.sync += at.eq(self.following)
