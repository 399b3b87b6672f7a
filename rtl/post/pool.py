"""The maximum over output words, and the packing of values into words."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import PSUM_LANES, WORD_BYTES
from rowmesh.rtl.layouts import WORD_BITS
from rowmesh.rtl.post.requantize import VALUE_BITS

__all__ = ["Pool"]

BEATS = WORD_BYTES // PSUM_LANES


class Pool(wiring.Component):
    """Pack four pairs of values to a word of bytes; send the maximum of `pool` words.

    Attributes
    ----------
    i : In(stream of two values)
        Pairs, the lowest bytes of a word first. Values are compared in full, then cut to a byte.
    pool : In(8)
        Words that one maximum is taken over (0 as 1). Constant from `clear` to `clear`.
    clear : In(1)
        Start a new word and a new window.
    word : Out(stream(64))
        Output words.

    Notes
    -----
    The running maximum of a word's four pairs goes round a shift register of four places.
    Latency 1 cycle from a window's last pair; one pair a cycle, as long as every word is taken
    within the time of four pairs. Cuts every path: `i.ready` is low only when the window's last
    pair waits while the word before has not been taken.
    """

    def __init__(self) -> None:
        values = data.ArrayLayout(signed(VALUE_BITS), PSUM_LANES)
        super().__init__(
            {
                "i": In(stream.Signature(values)),
                "pool": In(8),
                "clear": In(1),
                "word": Out(stream.Signature(WORD_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pair: Any = self.i.payload
        beat = Signal(range(BEATS))
        left = Signal(8, reset_less=True)  # words of the window still to come, this one included
        first = Signal(init=1)
        pair_layout = data.ArrayLayout(signed(VALUE_BITS), PSUM_LANES)
        ring = Signal(data.ArrayLayout(pair_layout, BEATS), reset_less=True)
        places: Any = ring

        word_ends, window_ends, sends = Signal(), Signal(), Signal()
        m.d.comb += [
            word_ends.eq(beat == BEATS - 1),
            window_ends.eq(Mux(first, self.pool <= 1, left == 1)),
            sends.eq(word_ends & window_ends),
            self.i.ready.eq(~(sends & self.word.valid)),
        ]
        best = [Signal(signed(VALUE_BITS), name=f"best_{lane}") for lane in range(PSUM_LANES)]
        for lane in range(PSUM_LANES):
            keeps = ~first & (places[0][lane] > pair[lane])
            m.d.comb += best[lane].eq(Mux(keeps, places[0][lane], pair[lane]))

        with m.If(self.word.ready):
            m.d.sync += self.word.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += beat.eq(beat + 1)
            for place in range(BEATS - 1):
                m.d.sync += places[place].eq(places[place + 1])
            for lane in range(PSUM_LANES):
                m.d.sync += places[BEATS - 1][lane].eq(best[lane])
            with m.If(word_ends):
                m.d.sync += [
                    left.eq(Mux(first, self.pool, left) - 1),
                    first.eq(window_ends),
                ]
            with m.If(sends):
                older = [places[i][lane][:8] for i in range(1, BEATS) for lane in range(PSUM_LANES)]
                m.d.sync += [
                    self.word.payload.eq(Cat(*older, *(value[:8] for value in best))),
                    self.word.valid.eq(1),
                ]
        with m.If(self.clear):
            m.d.sync += [beat.eq(0), first.eq(1)]
        return m
