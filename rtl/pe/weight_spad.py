"""The weights of a PE: a ring of blocks, and the lookup of their columns."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, wrap
from rowmesh.rtl.pe.weight_loader import WeightLoader
from rowmesh.rtl.spad import Spad

__all__ = ["WeightSpad"]


class WeightSpad(wiring.Component):
    """Find the words of a column; load the next block meanwhile.

    The data SPad is a ring of words. The address SPad is two halves that take turns when a block
    fits half of it, so that the next header loads while columns of this block are looked up. A
    machine that is not sparse has no address SPad: its columns come in order, each as long as the
    others, so a running address does.

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
        looked_up = self.build_stream(m)
        self.build_data(m, loader, looked_up)
        base = Signal.like(self.address)  # of the current block
        following = Signal.like(self.address)  # of the block after it
        with m.If(self.take):
            m.d.sync += [base.eq(following), following.eq(loader.head)]
        if self.config.sparse:
            self.build_lookup(m, loader, base, looked_up)
        else:
            self.build_count(m, loader, base, following)
        return m

    def build_stream(self, m: Module) -> Signal:
        """From `i` to `o`, dropping empty columns. High when the lookups of a block end."""
        i: Any = self.i
        o: Any = self.o
        looked_up = Signal()
        # Lengths of two blocks are kept: of the current one, and of one that waits for its release.
        self.leaving = Signal()
        blocked = Signal()
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
        return looked_up

    def build_data(self, m: Module, loader: WeightLoader, looked_up: Signal) -> None:
        """The ring of words and its room."""
        c = self.config
        m.submodules.data = spad = Spad(c.weight_word_bits, c.weight_data_depth)
        ports: Any = spad
        used = Signal(c.weight_addr_bits)
        current, oldest = Signal(c.weight_addr_bits), Signal(c.weight_addr_bits)
        m.d.comb += [
            ports.read[0].address.eq(self.address),
            self.word.eq(ports.read[0].data),
            ports.write[0].enable.eq(loader.store),
            ports.write[0].address.eq(loader.head),
            ports.write[0].data.eq(loader.data),
            loader.room.eq(used != c.weight_data_depth),
        ]
        m.d.sync += used.eq(used + loader.store - Mux(self.release, oldest, 0))
        with m.If(self.take):
            m.d.sync += current.eq(loader.length)
        with m.If(self.release):
            m.d.sync += self.leaving.eq(0)
        with m.If(looked_up):
            m.d.sync += [oldest.eq(current), self.leaving.eq(1)]

    def build_lookup(
        self, m: Module, loader: WeightLoader, base: Signal, looked_up: Signal
    ) -> None:
        """Start and end of a column from the address SPad."""
        c = self.config
        work: Any = self.work
        column: Any = self.i.payload.column
        o: Any = self.o
        half = c.weight_addr_depth // 2
        width = len(self.address) + 1
        m.submodules.addresses = spad = Spad(width, c.weight_addr_depth, reads=2)
        ports: Any = spad
        bank = Signal()  # of the block that loads; the other one is looked up
        in_use = Signal()
        two, load_base, read_base = Signal(), Signal(range(half + 1)), Signal(range(half + 1))
        m.d.comb += [
            two.eq(work.cols <= half),
            load_base.eq(Mux(two & bank, half, 0)),
            read_base.eq(Mux(two & ~bank, half, 0)),
            loader.addresses_free.eq(two | ~in_use),
            ports.write[0].enable.eq(loader.note),
            ports.write[0].address.eq(load_base + loader.column),
            ports.write[0].data.eq(loader.entry),
            ports.read[0].address.eq(read_base + column),
            ports.read[1].address.eq(read_base + column - 1),
            o.payload.hit.eq(self.i.payload.hit & ports.read[0].data[-1]),
            o.payload.start.eq(Mux(column == 0, base, ports.read[1].data[: width - 1])),
            o.payload.end.eq(ports.read[0].data[: width - 1]),
        ]
        with m.If(looked_up):
            m.d.sync += in_use.eq(0)
        with m.If(self.take):
            m.d.sync += [in_use.eq(1), bank.eq(~bank)]

    def build_count(
        self, m: Module, loader: WeightLoader, base: Signal, following: Signal
    ) -> None:
        """Start and end of the next column of a dense block."""
        c = self.config
        work: Any = self.work
        i: Any = self.i
        o: Any = self.o
        at, end = Signal.like(base), Signal.like(base)
        words = (work.psums + (c.macs_per_pe - 1)) >> (c.macs_per_pe.bit_length() - 1)
        m.d.comb += [
            end.eq(wrap(at + words, c.weight_data_depth)),
            loader.addresses_free.eq(Const(1)),
            o.payload.hit.eq(i.payload.hit),
            o.payload.start.eq(at),
            o.payload.end.eq(end),
        ]
        with m.If(i.valid & i.ready):
            with m.If(i.payload.marker.window):
                m.d.sync += at.eq(base)
            with m.Elif(i.payload.hit):
                m.d.sync += at.eq(end)
        with m.If(self.take):
            m.d.sync += at.eq(following)
