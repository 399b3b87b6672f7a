"""One reader of DRAM: requests of words in, words out."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.signatures import MAX_BEATS, beat_bytes, burst_layout
from rowmesh.rtl.config import WORD_BYTES, Config, bits_for
from rowmesh.rtl.layouts import WORD_BITS, Layouts
from rowmesh.rtl.spad import Spad

__all__ = ["FIFO_BEATS", "ReadChannel"]

#: Beats that a channel buffers: two of the longest bursts.
FIFO_BEATS = 32
#: Numbers that tell requests apart: more than can be under way at once.
REQUEST_BITS = 6
#: Address bits within a word.
WORD_SHIFT = WORD_BYTES.bit_length() - 1


class ReadChannel(wiring.Component):
    """Split requests into bursts, buffer the beats, hand out 64-bit words.

    A burst ends where 16 beats of address end, so it never crosses 4 KB; it is asked for only
    when there is room for all of it. Bursts of the next request follow at once.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of a beat.
    words_bits : int, optional
        Width of the words of a request, where they are fewer than a request can say.

    Attributes
    ----------
    request : In(stream of `Layouts.dma_request`)
        A multiple of 8 as byte address; zero words give nothing.
    data : Out(stream of 64)
        The words of the requests in order.
    ends : Out(1)
        The word on `data` is the last of its request.
    cancel : In(1)
        Pulse: drop what is left of the request whose word was taken last (before this cycle).
        Nothing happens when it is complete. `data.valid` may fall after it.
    burst : Out(stream of `burst_layout`)
        To the master.
    beat : In(stream of a beat)
        From the master; always ready for what was asked for.

    Notes
    -----
    2 cycles from a request to its first burst, a burst every 2 cycles while there is room; 2
    cycles from a beat to its word, a word a cycle. `burst` and `data` follow registers and memories
    through a few gates; no combinational path leads through the channel.
    """

    def __init__(self, config: Config, words_bits: int | None = None) -> None:
        self.lanes = beat_bytes(config) // WORD_BYTES
        layouts = Layouts(config)
        self.words_bits = words_bits or layouts.dma_request["words"].width
        bits = config.axi_data_bits
        lane_bits = bits_for(self.lanes - 1)
        #: What the words side must know about a burst.
        self.note = data.StructLayout(
            {
                "number": REQUEST_BITS,  # of the request
                "ends": 1,  # last burst of the request
                "length": MAX_BEATS.bit_length() - 1,
                "first": lane_bits,  # first and last lane that hold wanted words
                "last": lane_bits,
            }
        )
        super().__init__(
            {
                "request": In(stream.Signature(layouts.dma_request)),
                "data": Out(stream.Signature(WORD_BITS)),
                "ends": Out(1),
                "cancel": In(1),
                "burst": Out(stream.Signature(burst_layout())),
                "beat": In(stream.Signature(bits)),
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
        m.submodules.notes = notes = Spad(self.note.size, FIFO_BEATS)
        m.d.comb += [
            beats.w_data.eq(self.beat.payload),
            beats.w_en.eq(self.beat.valid),
            self.beat.ready.eq(beats.w_rdy),
        ]
        taken_number = Signal(REQUEST_BITS)  # request of the word that was taken last
        # Beats of a burst that is done; until then its note must stay.
        freed = Signal(range(MAX_BEATS + 1))
        self._build_bursts(m, notes, freed, taken_number)
        self._build_words(m, beats, notes, freed, taken_number)
        return m

    def _build_bursts(self, m: Module, notes: Any, freed: Signal, taken_number: Signal) -> None:
        """Address and number of the words not yet asked for, burst by burst."""
        lane_bits = self.lanes.bit_length() - 1  # of an address
        low_bits = (MAX_BEATS * self.lanes).bit_length() - 1
        request: Any = self.request.payload
        word = Signal(len(request.address) - WORD_SHIFT, reset_less=True)
        left = Signal(self.words_bits, reset_less=True)
        active = Signal()  # some are left
        number = Signal(REQUEST_BITS)
        # Of the next burst, once it is `prepared`.
        prepared = Signal()
        note: Any = Signal(self.note, reset_less=True)
        low = word[:low_bits]
        end = Signal(len(left) + 1)
        final = Signal()
        last_word = Signal(low_bits)
        m.d.comb += [
            end.eq(low + left),
            final.eq(end <= MAX_BEATS * self.lanes),
            last_word.eq(Mux(final, end[:low_bits] - 1, MAX_BEATS * self.lanes - 1)),
        ]
        m.d.sync += [
            note.number.eq(number),
            note.ends.eq(final),
            note.length.eq(last_word[lane_bits:] - low[lane_bits:]),
            note.first.eq(low & (self.lanes - 1)),
            note.last.eq(last_word & (self.lanes - 1)),
        ]

        room = Signal(range(FIFO_BEATS + 1), init=FIFO_BEATS)
        place = Signal(range(FIFO_BEATS))  # of the next burst's first beat
        asks, cancelled, cancels = Signal(), Signal(), Signal()
        burst: Any = self.burst
        m.d.comb += [
            burst.valid.eq(prepared & (note.length < room)),
            burst.payload.address.eq(Cat(Const(0, WORD_SHIFT + lane_bits), word[lane_bits:])),
            burst.payload.length.eq(note.length),
            asks.eq(burst.valid & burst.ready),
            self.request.ready.eq(~active),
            # A burst that waits for the master is still asked for, and dropped when it comes.
            cancels.eq(cancelled | (self.cancel & (number == taken_number))),
            notes.write[0].enable.eq(asks),
            notes.write[0].address.eq(place),
            notes.write[0].data.eq(note),
        ]
        m.d.sync += [
            prepared.eq(Mux(prepared, ~asks & ~(cancels & ~burst.valid), active & ~cancels)),
            cancelled.eq(cancels & burst.valid & ~asks),
            room.eq(room + freed - Mux(asks, note.length + 1, 0)),
        ]
        with m.If(asks):
            m.d.sync += [
                word.eq(Cat(Const(0, low_bits), word[low_bits:] + 1)),
                left.eq(end - MAX_BEATS * self.lanes),
                active.eq(~note.ends & ~cancels),
                place.eq(place + note.length + 1),
            ]
        with m.Elif(cancels & ~burst.valid):
            m.d.sync += active.eq(0)
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [word.eq(request.address[WORD_SHIFT:]), left.eq(request.words)]
            with m.If(request.words != 0):
                m.d.sync += [active.eq(1), number.eq(number + 1)]

    def _build_words(
        self, m: Module, beats: Any, notes: Any, freed: Signal, taken_number: Signal
    ) -> None:
        """The words of the beats; the note of the oldest burst says which lanes are wanted."""
        now: Any = self.note(notes.read[0].data)
        place = Signal(range(FIFO_BEATS))  # of the oldest burst's first beat
        index = Signal.like(now.length)  # beats of the burst done
        next_lane = Signal(len(now.first))
        fresh = Signal(init=1)  # no word of the burst is taken yet
        lane = Signal(len(now.first))
        dropping = Signal()  # drop bursts of the request `dropped`
        dropped = Signal(REQUEST_BITS, reset_less=True)
        drop, takes, pops = Signal(), Signal(), Signal()
        final_beat, final_word = Signal(), Signal()
        m.d.comb += [
            notes.read[0].address.eq(place),
            lane.eq(Mux(fresh, now.first, next_lane)),
            drop.eq(dropping & (now.number == dropped)),
            final_beat.eq(index == now.length),
            final_word.eq(final_beat & (lane == now.last)),
            self.data.payload.eq(beats.r_data.word_select(lane, WORD_BITS)),
            self.data.valid.eq(beats.r_rdy & ~drop),
            self.ends.eq(now.ends & final_word),
            takes.eq(self.data.valid & self.data.ready),
            pops.eq(beats.r_rdy & drop | takes & (final_word | (lane == self.lanes - 1))),
            beats.r_en.eq(pops),
            freed.eq(Mux(pops & final_beat, now.length + 1, 0)),
        ]
        with m.If(takes):
            m.d.sync += [next_lane.eq(lane + 1), fresh.eq(0), taken_number.eq(now.number)]
        with m.If(pops):
            m.d.sync += [
                next_lane.eq(0),
                fresh.eq(final_beat),
                index.eq(Mux(final_beat, 0, index + 1)),
            ]
        m.d.sync += place.eq(place + freed)
        with m.If(self.cancel):
            m.d.sync += [dropping.eq(1), dropped.eq(taken_number)]
        with m.Elif(beats.r_rdy & ~drop):
            m.d.sync += dropping.eq(0)
