"""One reader of DRAM: requests of words in, words out."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.signatures import MAX_BEATS, beat_bytes, burst_layout
from rowmesh.rtl.config import WORD_BYTES, Config, bits_for
from rowmesh.rtl.layouts import WORD_BITS, Layouts

__all__ = ["BURSTS", "FIFO_BEATS", "ReadChannel"]

#: Beats that a channel buffers: two of the longest bursts.
FIFO_BEATS = 32
#: Bursts that a channel has open or buffered.
BURSTS = 8
#: Numbers that tell requests apart: more than can be under way at once.
REQUEST_BITS = 4


class ReadChannel(wiring.Component):
    """Split requests into bursts, buffer the beats, hand out 64-bit words.

    A burst ends where 16 beats of address end, so it never crosses 4 KB; it is asked for only
    when there is room for all of it. Bursts of the next request follow at once.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of a beat.

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
    2 cycles from a request to its first burst, a burst a cycle while there is room; 2 cycles from
    a beat to its word, a word a cycle. `burst` comes from registers. Combinational from
    `data.ready` to the buffer only.
    """

    def __init__(self, config: Config) -> None:
        self.lanes = beat_bytes(config) // WORD_BYTES
        layouts = Layouts(config)
        bits = config.axi_data_bits
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
        m = Module()
        lane_bits = self.lanes.bit_length() - 1  # of an address
        lane_width = bits_for(self.lanes - 1)
        low_bits = (MAX_BEATS * self.lanes).bit_length() - 1
        # What the words side must know about a burst.
        burst_info = data.StructLayout(
            {
                "number": REQUEST_BITS,  # of the request
                "ends": 1,  # last burst of the request
                "length": MAX_BEATS.bit_length() - 1,
                "first": lane_width,  # first and last lane that hold wanted words
                "last": lane_width,
            }
        )
        m.submodules.beats = beats = fifo.SyncFIFOBuffered(
            width=len(self.beat.payload), depth=FIFO_BEATS
        )
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=burst_info.size, depth=BURSTS)
        taken_number = Signal(REQUEST_BITS)  # request of the word that was taken last

        # -- bursts: address and number of the words not yet asked for.
        request: Any = self.request.payload
        word = Signal(len(request.address) - (WORD_BYTES.bit_length() - 1))
        left = Signal.like(request.words)
        number = Signal(REQUEST_BITS)
        room = Signal(range(FIFO_BEATS + 1), init=FIFO_BEATS)
        low = word[:low_bits]
        end = Signal(len(left) + 1)
        final = Signal()
        last_word = Signal(low_bits)
        length = Signal(MAX_BEATS.bit_length() - 1)
        m.d.comb += [
            end.eq(low + left),
            final.eq(end <= MAX_BEATS * self.lanes),
            last_word.eq(Mux(final, end[:low_bits] - 1, MAX_BEATS * self.lanes - 1)),
            length.eq(last_word[lane_bits:] - low[lane_bits:]),
        ]
        cancelled = Signal()
        asks = Signal()
        pops = Signal()
        burst: Any = self.burst.payload
        info: Any = burst_info(bursts.w_data)
        m.d.comb += [
            cancelled.eq(self.cancel & (number == taken_number)),
            asks.eq(
                (left != 0)
                & ~self.cancel
                & (length < room)
                & bursts.w_rdy
                & (~self.burst.valid | self.burst.ready)
            ),
            bursts.w_en.eq(asks),
            info.number.eq(number),
            info.ends.eq(final),
            info.length.eq(length),
            info.first.eq(low & (self.lanes - 1)),
            info.last.eq(last_word & (self.lanes - 1)),
            self.request.ready.eq(left == 0),
        ]
        with m.If(self.burst.ready):
            m.d.sync += self.burst.valid.eq(0)
        with m.If(asks):
            aligned = Cat(Const(0, 3 + lane_bits), word[lane_bits:])
            m.d.sync += [
                self.burst.valid.eq(1),
                burst.address.eq(aligned),
                burst.length.eq(length),
                word.eq(Cat(Const(0, low_bits), word[low_bits:] + 1)),
                left.eq(Mux(final, 0, end - MAX_BEATS * self.lanes)),
            ]
        with m.If(cancelled):
            m.d.sync += left.eq(0)
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [word.eq(request.address[3:]), left.eq(request.words)]
            with m.If(request.words != 0):
                m.d.sync += number.eq(number + 1)
        m.d.sync += room.eq(room + pops - Mux(asks, length + 1, 0))

        # -- words: the oldest burst says which lanes of its beats are wanted.
        m.d.comb += [
            beats.w_data.eq(self.beat.payload),
            beats.w_en.eq(self.beat.valid),
            self.beat.ready.eq(beats.w_rdy),
        ]
        now: Any = burst_info(bursts.r_data)
        index = Signal.like(now.length)  # beats of the burst done
        next_lane = Signal(lane_width)
        fresh = Signal(init=1)  # no word of the burst is taken yet
        lane = Signal(lane_width)
        dropping = Signal()  # drop bursts of the request `dropped`
        dropped = Signal(REQUEST_BITS)
        drop = Signal()
        takes = Signal()
        final_beat, final_word = Signal(), Signal()
        present = bursts.r_rdy & beats.r_rdy
        m.d.comb += [
            lane.eq(Mux(fresh, now.first, next_lane)),
            drop.eq(dropping & (now.number == dropped)),
            final_beat.eq(index == now.length),
            final_word.eq(final_beat & (lane == now.last)),
            self.data.payload.eq(beats.r_data.word_select(lane, WORD_BITS)),
            self.data.valid.eq(present & ~drop),
            self.ends.eq(now.ends & final_word),
            takes.eq(self.data.valid & self.data.ready),
            pops.eq(present & drop | takes & (final_word | (lane == self.lanes - 1))),
            beats.r_en.eq(pops),
            bursts.r_en.eq(pops & final_beat),
        ]
        with m.If(takes):
            m.d.sync += [next_lane.eq(lane + 1), fresh.eq(0), taken_number.eq(now.number)]
        with m.If(pops):
            m.d.sync += [
                next_lane.eq(0),
                fresh.eq(final_beat),
                index.eq(Mux(final_beat, 0, index + 1)),
            ]
        with m.If(self.cancel):
            m.d.sync += [dropping.eq(1), dropped.eq(taken_number)]
        with m.Elif(bursts.r_rdy & ~drop):
            m.d.sync += dropping.eq(0)
        return m
