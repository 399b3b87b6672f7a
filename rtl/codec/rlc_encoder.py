"""Plain words to RLC chunks for DRAM."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from rowmesh.rtl.codec.rlc_decoder import CHUNK_BITS, rlc_word_layout
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import RLC_COUNT_BITS, RLC_PAIRS, RLC_VALUE_BITS, WORD_BITS
from rowmesh.rtl.noc.queue import Queue

__all__ = ["RlcEncoder"]


class RlcEncoder(wiring.Component):
    """Code words of eight bytes as chunks of (count, value) pairs, five a word.

    A run of more than 15 zeros is split by explicit zeros (15, 0); zeros at the end of the chunk
    have no pair. A chunk whose last byte is zero ends with a word of fewer than five pairs (an
    empty one where needed), so that the decoder knows its end. A chunk of n words never takes
    more than ``ceil(8 n / 5)`` words.

    Parameters
    ----------
    deep : bool
        A `Queue` at `i`, a cycle more; then no path leads from `i` to `o` or back.

    Attributes
    ----------
    i : In(stream of word, last)
        Plain words; `last` ends the chunk.
    o : Out(stream of word, last)
        RLC words (`rlc_word_layout`); `last` on the last of the chunk.
    busy : Out(1)
        A chunk is under way.

    Notes
    -----
    ``max(1, non-zeros)`` cycles a word, one more for every 16 zeros of a run and one or two at
    the end of a chunk. A word out waits for the pair that follows it. Combinational from `i` to
    `o.valid` and from `o.ready` to `i.ready`; `o.payload.word` comes from registers.
    """

    def __init__(self, *, deep: bool = False) -> None:
        self.deep = deep
        word = data.StructLayout({"word": WORD_BITS, "last": 1})
        super().__init__(
            {"i": In(stream.Signature(word)), "o": Out(stream.Signature(word)), "busy": Out(1)}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = self._words(m)
        i: Any = words.payload
        o: Any = self.o.payload
        coded: Any = Signal(rlc_word_layout())
        at = Signal(range(WORD_BYTES))  # bytes of `i` that are done
        run = Signal(CHUNK_BITS + 4)  # zeros before byte `at`, modulo its width
        ending = Signal()  # the whole chunk is in `coded`
        exact = Signal()  # and a pair says its last byte

        # The next byte that is not zero.
        byte = Signal(range(WORD_BYTES))
        zeros = Signal.like(run)
        split = Signal()
        rest = Cat(i.filled[k] & (at <= k) for k in range(WORD_BYTES))
        for k in reversed(range(WORD_BYTES)):
            with m.If(rest[k]):
                m.d.comb += byte.eq(k)
        is_pair, full = Signal(), Signal()
        takes_pair, takes_word = Signal(), Signal()
        m.d.comb += [
            zeros.eq(run + byte - at),
            split.eq(zeros >> RLC_COUNT_BITS != 0),
            is_pair.eq(words.valid & ~ending & rest.any()),
            full.eq(coded.valid == RLC_PAIRS),
            takes_pair.eq(is_pair & (~full | self.o.ready)),
            takes_word.eq(
                ~ending
                & Mux(
                    rest.any(),
                    (~full | self.o.ready) & ~split & ((rest & (rest - 1)[:WORD_BYTES]) == 0),
                    1,
                )
            ),
            words.ready.eq(takes_word),
            self.busy.eq(ending | (coded.valid != 0) | (run != 0) | self.deep & words.valid),
            self.o.valid.eq(ending | (full & is_pair)),
            o.word.eq(coded),
            o.last.eq(ending & (exact | ~full)),
        ]

        with m.If(self.o.valid & self.o.ready):
            m.d.sync += coded.eq(0)
            with m.If(o.last):
                m.d.sync += [ending.eq(0), run.eq(0)]
        with m.If(takes_pair):
            slot = Mux(full, 0, coded.valid)
            m.d.sync += [
                coded.valid.eq(slot + 1),
                coded.pairs[slot].value.eq(Mux(split, 0, i.word.word_select(byte, RLC_VALUE_BITS))),
                coded.pairs[slot].count.eq(
                    Mux(split, (1 << RLC_COUNT_BITS) - 1, zeros[:RLC_COUNT_BITS])
                ),
                at.eq(Mux(split, at, byte + 1)),
                run.eq(Mux(split, run - (1 << RLC_COUNT_BITS), 0)),
            ]
        with m.If(words.valid & takes_word):
            behind = Mux(rest.any(), WORD_BYTES - 1 - byte, run + WORD_BYTES - at)
            m.d.sync += [at.eq(0), run.eq(behind)]
            with m.If(i.last):
                m.d.sync += [ending.eq(1), exact.eq(rest[WORD_BYTES - 1])]
        return m

    def _words(self, m: Module) -> Any:
        """Words with a mask of their bytes that are not zero."""
        layout = data.StructLayout({"word": WORD_BITS, "last": 1, "filled": WORD_BYTES})
        words: Any = stream.Signature(layout).create(path=("words",))
        i: Any = self.i.payload
        filled = (i.word.word_select(k, RLC_VALUE_BITS).any() for k in range(WORD_BYTES))
        m.d.comb += [
            words.payload.word.eq(i.word),
            words.payload.last.eq(i.last),
            words.payload.filled.eq(Cat(filled)),
            words.valid.eq(self.i.valid),
            self.i.ready.eq(words.ready),
        ]
        if not self.deep:
            return words
        m.submodules.queue = queue = Queue(layout)
        connect(m, words, queue.i)
        return queue.o
