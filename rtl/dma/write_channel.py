"""One writer of DRAM: runs of words in, bursts out."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.signatures import MAX_BEATS, beat_bytes, burst_layout, write_beat_layout
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.layouts import WORD_BITS, Layouts

__all__ = ["BURSTS", "FIFO_BEATS", "WriteChannel", "run_word_layout"]

#: Beats that a channel buffers: two of the longest bursts.
FIFO_BEATS = 32
#: Bursts that wait for the master.
BURSTS = 8
#: Address bits within a word.
WORD_SHIFT = WORD_BYTES.bit_length() - 1
#: Width of the count of bursts that have no response yet.
OPEN_BITS = 6


def run_word_layout() -> data.StructLayout:
    """A word for a run; `last` ends the run early."""
    return data.StructLayout({"word": WORD_BITS, "last": 1})


class WriteChannel(wiring.Component):
    """Collect the words of a run into beats and bursts; ask the master when a burst is complete.

    A burst ends where 16 beats of address end, so it never crosses 4 KB.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of a beat.

    Attributes
    ----------
    request : In(stream of `Layouts.dma_request`)
        A run: a multiple of 8 as byte address, and the most words it may have. Taken between
        runs; a run of zero words is none.
    data : In(stream of `run_word_layout`)
        Words of the run, up to the last of `words` or to `last`. Taken only within a run.
    burst : Out(stream of `burst_layout`), beat : Out(stream of `write_beat_layout`)
        To the master.
    done : In(1)
        Pulse: a burst has its response.
    busy : Out(1)
        A run is open, or a burst has no response yet.

    Notes
    -----
    A word a cycle, one cycle between runs. 2 cycles from the last word of a burst to `burst`.
    `burst` and `beat` come from registers and memories; `data.ready` does not depend on them
    combinationally.
    """

    def __init__(self, config: Config) -> None:
        self.lanes = beat_bytes(config) // WORD_BYTES
        layouts = Layouts(config)
        super().__init__(
            {
                "request": In(stream.Signature(layouts.dma_request)),
                "data": In(stream.Signature(run_word_layout())),
                "burst": Out(stream.Signature(burst_layout())),
                "beat": Out(stream.Signature(write_beat_layout(config))),
                "done": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lane_bits = self.lanes.bit_length() - 1
        length_bits = MAX_BEATS.bit_length() - 1
        beat_bits = self.lanes * (WORD_BITS + 1)  # words and one strobe a word
        m.submodules.beats = beats = fifo.SyncFIFOBuffered(width=beat_bits, depth=FIFO_BEATS)
        request: Any = self.request.payload
        word = Signal(
            len(request.address) - WORD_SHIFT, reset_less=True
        )  # where the next word goes
        aligned_at = lane_bits + length_bits
        left = Signal.like(request.words, reset_less=True)
        first = Signal(length_bits, reset_less=True)  # beat of the address at which the burst began
        active = Signal()
        m.submodules.bursts = bursts = fifo.SyncFIFO(
            width=len(word) - lane_bits + length_bits, depth=BURSTS
        )

        # A beat is collected lane by lane; its last word goes to the buffer with it.
        run: Any = self.data.payload
        beat_at = word[lane_bits : lane_bits + length_bits]
        merged: Any = Signal(data.ArrayLayout(WORD_BITS + 1, self.lanes))
        moves, ends, fills, closes = Signal(), Signal(), Signal(), Signal()
        last_lane: Any = Const(1)
        for i in range(self.lanes):
            here = word[:lane_bits] == i if lane_bits else Const(1)
            last_lane = here
            collected = Signal(WORD_BITS, name=f"word_{i}", reset_less=True)
            present = Signal(name=f"present_{i}")
            m.d.comb += merged[i].eq(Mux(here, Cat(run.word, 1), Cat(collected, present)))
            if i < self.lanes - 1:  # a beat leaves with its last lane
                with m.If(moves & here):
                    m.d.sync += [collected.eq(run.word), present.eq(1)]
                with m.If(fills):
                    m.d.sync += present.eq(0)
        waiting = Signal(OPEN_BITS)  # bursts without a response
        m.d.comb += [
            self.request.ready.eq(~active),
            self.data.ready.eq(active & beats.w_rdy & bursts.w_rdy & ~waiting[-1]),
            moves.eq(self.data.valid & self.data.ready),
            ends.eq(run.last | (left == 1)),
            fills.eq(moves & (ends | last_lane)),
            closes.eq(fills & (ends | (beat_at == MAX_BEATS - 1))),
            beats.w_data.eq(merged),
            beats.w_en.eq(fills),
            bursts.w_en.eq(closes),
            bursts.w_data.eq(Cat((beat_at - first)[:length_bits], first, word[aligned_at:])),
        ]
        with m.If(moves):
            m.d.sync += [
                word.eq(word + 1),
                left.eq(left - 1),
            ]
        with m.If(closes):
            m.d.sync += first.eq(beat_at + 1)
        with m.If(moves & ends):
            m.d.sync += active.eq(0)
        with m.If(self.request.valid & self.request.ready):
            start = request.address[WORD_SHIFT:]
            m.d.sync += [
                active.eq(request.words != 0),
                word.eq(start),
                first.eq(start[lane_bits:]),
                left.eq(request.words),
            ]

        burst: Any = self.burst.payload
        beat: Any = self.beat.payload
        m.d.comb += [
            self.burst.valid.eq(bursts.r_rdy),
            bursts.r_en.eq(self.burst.ready),
            burst.length.eq(bursts.r_data[:length_bits]),
            burst.address.eq(Cat(Const(0, WORD_SHIFT + lane_bits), bursts.r_data[length_bits:])),
            self.beat.valid.eq(beats.r_rdy),
            beats.r_en.eq(self.beat.ready),
        ]
        stored: Any = data.ArrayLayout(WORD_BITS + 1, self.lanes)(beats.r_data)
        for i in range(self.lanes):
            m.d.comb += [
                beat.data.word_select(i, WORD_BITS).eq(stored[i][:WORD_BITS]),
                beat.strobe.word_select(i, WORD_BYTES).eq(
                    stored[i][WORD_BITS].replicate(WORD_BYTES)
                ),
            ]

        m.d.sync += waiting.eq(waiting + closes - self.done)
        m.d.comb += self.busy.eq(active | (waiting != 0))
        return m
