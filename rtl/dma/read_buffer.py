"""The beats of one DRAM reader on their way to words."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from rowmesh.rtl.axi.signatures import MAX_BEATS, beat_bytes
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.dma.burst_planner import FIFO_BEATS, burst_note
from rowmesh.rtl.layouts import WORD_BITS
from rowmesh.rtl.noc.queue import Queue
from rowmesh.rtl.spad import Spad

__all__ = ["ReadBuffer"]

#: Numbers that tell requests apart: more than can be under way at once.
REQUEST_BITS = 6


class ReadBuffer(wiring.Component):
    """The beats of one channel and the words in them.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of a beat.

    Attributes
    ----------
    begins, asks, note
        From the `BurstPlanner`: a request begins; a burst of it goes out.
    room : Out, frees : Out(1)
        Beats for which there is room; they become more.
    cancels : Out(1)
        Pulse: what is left of the last request is not wanted.
    data, ends, cancel, beat
        See `ReadChannels`.

    Notes
    -----
    2 cycles from a beat to its word, a word a cycle; with `config.deep_pipeline` 3 cycles, and
    `data` comes from a `Queue`.
    """

    def __init__(self, config: Config) -> None:
        self.lanes = beat_bytes(config) // WORD_BYTES
        note = burst_note(config)
        #: What the words side must know about a burst.
        self.deep = config.deep_pipeline
        #: What travels to the reader.
        self.word_layout = data.StructLayout(
            {"word": WORD_BITS, "number": REQUEST_BITS, "begins": 1, "ends": 1}
        )
        self.note_layout = data.StructLayout({"number": REQUEST_BITS, "burst": note})
        super().__init__(
            {
                "begins": In(1),
                "asks": In(1),
                "note": In(note),
                "room": Out(range(FIFO_BEATS + 1)),
                "frees": Out(1),
                "cancels": Out(1),
                "data": Out(stream.Signature(WORD_BITS)),
                "ends": Out(1),
                "cancel": In(1),
                "beat": In(stream.Signature(config.axi_data_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # Implementation notes: beats of all bursts lie in one ring in the order in which they were
        # asked for, so the place of a burst's first beat is known when it is asked for. What the
        # words side must know of a burst is written to that place of a second, small memory.
        m = Module()
        m.submodules.beats = beats = fifo.SyncFIFOBuffered(
            width=len(self.beat.payload), depth=FIFO_BEATS
        )
        m.submodules.notes = notes = Spad(self.note_layout.size, FIFO_BEATS)
        room = Signal(range(FIFO_BEATS + 1), init=FIFO_BEATS)
        number = Signal(REQUEST_BITS)  # of the last request
        taken_number = Signal(REQUEST_BITS)  # request of the word that was taken last
        place = Signal(range(FIFO_BEATS))  # of the next burst's first beat
        # Beats of a burst that is done; until then its note must stay.
        freed = Signal(range(MAX_BEATS + 1))
        room_freed = Signal.like(freed)
        ports: Any = notes
        note: Any = self.note
        entry: Any = self.note_layout(ports.write[0].data)
        asked = Mux(self.asks, note.length + 1, 0)
        m.d.comb += [
            beats.w_data.eq(self.beat.payload),
            beats.w_en.eq(self.beat.valid),
            self.beat.ready.eq(beats.w_rdy),
            ports.write[0].enable.eq(self.asks),
            ports.write[0].address.eq(place),
            entry.number.eq(number),
            entry.burst.eq(note),
            self.cancels.eq(self.cancel & (number == taken_number)),
            self.room.eq(room),
            self.frees.eq(room_freed != 0),
        ]
        stage = m.d.sync if self.deep else m.d.comb
        stage += room_freed.eq(freed)
        m.d.sync += [
            number.eq(number + self.begins),
            place.eq(place + asked),
            room.eq(room + room_freed - asked),
        ]
        self._build_words(m, beats, notes, freed, taken_number)
        return m

    def _build_words(
        self, m: Module, beats: Any, notes: Any, freed: Signal, taken_number: Signal
    ) -> None:
        """The words of the beats; the note of the oldest burst says which lanes are wanted."""
        entry: Any = self.note_layout(notes.read[0].data)
        now = entry.burst
        place = Signal(range(FIFO_BEATS))  # of the oldest burst's first beat
        index = Signal.like(now.length)  # beats of the burst done
        next_lane = Signal(len(now.first))
        fresh = Signal(init=1)  # no word of the burst is taken yet
        lane = Signal(len(now.first))
        dropping = Signal()  # drop bursts of the request `dropped`
        dropped = Signal(REQUEST_BITS, reset_less=True)
        last_number = Signal(REQUEST_BITS)  # request of the word before
        drop, takes, pops = Signal(), Signal(), Signal()
        final_beat, final_word = Signal(), Signal()
        word: Any = stream.Signature(self.word_layout).create(path=("word",))  # of the oldest beat
        out: Any = word  # where the reader sees it
        gone: Any = 0  # it is of the request to drop
        if self.deep:
            m.submodules.queue = queue = Queue(self.word_layout)
            connect(m, word, queue.i)
            out = queue.o
            gone = out.valid & dropping & ~out.payload.begins
        m.d.comb += [
            notes.read[0].address.eq(place),
            lane.eq(Mux(fresh, now.first, next_lane)),
            drop.eq(dropping & (entry.number == dropped)),
            final_beat.eq(index == now.length),
            final_word.eq(final_beat & (lane == now.last)),
            word.payload.word.eq(beats.r_data.word_select(lane, WORD_BITS)),
            word.payload.number.eq(entry.number),
            word.payload.begins.eq(entry.number != last_number),
            word.payload.ends.eq(now.ends & final_word),
            word.valid.eq(beats.r_rdy & ~drop),
            takes.eq(word.valid & word.ready),
            self.data.payload.eq(out.payload.word),
            self.data.valid.eq(out.valid & ~gone),
            self.ends.eq(out.payload.ends),
            out.ready.eq(self.data.ready | gone),
            pops.eq(beats.r_rdy & drop | takes & (final_word | (lane == self.lanes - 1))),
            beats.r_en.eq(pops),
            freed.eq(Mux(pops & final_beat, now.length + 1, 0)),
        ]
        with m.If(takes):
            m.d.sync += [next_lane.eq(lane + 1), fresh.eq(0), last_number.eq(entry.number)]
        with m.If(self.data.valid & self.data.ready):
            m.d.sync += taken_number.eq(out.payload.number)
        with m.If(pops):
            m.d.sync += [
                next_lane.eq(0),
                fresh.eq(final_beat),
                index.eq(Mux(final_beat, 0, index + 1)),
            ]
        m.d.sync += place.eq(place + freed)
        with m.If(self.cancel):
            m.d.sync += [dropping.eq(1), dropped.eq(taken_number)]
        with m.Elif(self.data.valid):
            m.d.sync += dropping.eq(0)
