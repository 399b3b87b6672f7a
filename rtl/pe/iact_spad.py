"""The sliding window of a PE: stores segments of iacts, hands them out window by window."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, wrap

__all__ = ["IactSpad"]


class IactSpad(wiring.Component):
    """Ring of iact words: two pairs, and whether their segment ends.

    The end bit stands for the address SPad of the paper: in a ring that is read in order, the next
    segment begins where this one ends. Words that no later window needs are freed as they are
    read; after a window the reader goes back to the oldest word. While one row is read, the
    segments of the next row are taken in as soon as there is room.

    Parameters
    ----------
    config
        The machine. Words: `config.iact_words`.

    Attributes
    ----------
    iact : In(stream)
        Segments. `ready` only for segments of the running descriptor.
    work : In(Layouts.pe)
        The running descriptor.
    start, running, row_done, final_row : In(1)
        From the `Sequencer`: work begins; is going on; the row being read ends; is the last one.
    write, read : Out
        Ports of the `OperandSpad`.
    valid, word : Out
        The next word of the window.
    step : In(1)
        The word has been read (only while `valid`),
    free : In(1)
        and may go,
    rewind : In(1)
        and was the last one of its window.

    Notes
    -----
    Latency 1 cycle, one word a cycle. `iact.ready` and `valid` come from registers.
    """

    def __init__(self, config: Config) -> None:
        self.words = config.iact_words
        records = Records(config)
        layouts = records.layouts
        super().__init__(
            {
                "write": Out(records.iact_write),
                "read": Out(records.iact_read),
                "iact": In(stream.Signature(layouts.iact_beat)),
                "work": In(layouts.pe),
                "start": In(1),
                "running": In(1),
                "row_done": In(1),
                "final_row": In(1),
                "valid": Out(1),
                "word": Out(layouts.iact_beat),
                "step": In(1),
                "free": In(1),
                "rewind": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        loading = self.build_rows(m)
        self.build_ring(m, loading)
        return m

    def build_rows(self, m: Module) -> Signal:
        """High while a segment may come: of the row being read, or of the one after it."""
        work: Any = self.work
        iact: Any = self.iact
        left = Signal(work.windows.shape().width + 1, reset_less=True)
        loading = Signal()
        ahead = Signal()  # what is loading, or was loaded last, is the row after the one being read
        next_row = Signal()
        m.d.comb += next_row.eq(self.running & ~loading & ~ahead & ~self.final_row)
        with m.If(self.start | next_row):
            m.d.sync += [left.eq(work.windows + work.segments - 1), loading.eq(1)]
            m.d.sync += ahead.eq(next_row & ~self.row_done)
        with m.Else():
            with m.If(self.row_done):
                m.d.sync += ahead.eq(0)
            with m.If(iact.valid & iact.ready & iact.payload.last):
                m.d.sync += [left.eq(left - 1), loading.eq(left != 1)]
        return loading

    def build_ring(self, m: Module, loading: Signal) -> None:
        """Read, write and free; `used` words are stored, `unread` of them wait for this window."""
        iact: Any = self.iact
        depth = self.words
        write: Any = self.write
        read: Any = self.read
        pointer, count = bits_for(depth - 1), bits_for(depth)
        head, reader, tail = Signal(pointer), Signal(pointer), Signal(pointer)
        used, unread, used_next = Signal(count), Signal(count), Signal(count)
        accept, freed = Signal(), Signal()
        m.d.comb += [
            iact.ready.eq(loading & (used != depth)),
            accept.eq(iact.valid & iact.ready),
            freed.eq(self.step & self.free),
            used_next.eq(used + change(accept, freed)),
            self.valid.eq(unread != 0),
            read.address.eq(reader),
            self.word.eq(read.data),
            write.enable.eq(accept),
            write.address.eq(head),
            write.data.eq(iact.payload),
        ]
        m.d.sync += [used.eq(used_next), unread.eq(unread + change(accept, self.step))]
        with m.If(accept):
            m.d.sync += head.eq(wrap(head + 1, depth))
        with m.If(self.step):
            following = Signal(pointer)
            m.d.comb += following.eq(wrap(reader + 1, depth))
            m.d.sync += reader.eq(following)
            with m.If(self.free):
                m.d.sync += tail.eq(following)
            with m.If(self.rewind):
                m.d.sync += [reader.eq(Mux(self.free, following, tail)), unread.eq(used_next)]


def change(up: Any, down: Any) -> Value:
    """+1, 0 or -1 as a signed value."""
    return Cat(up ^ down, down & ~up).as_signed()
