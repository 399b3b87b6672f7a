"""RLC chunks of DRAM to plain words."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codes import FAULT_BITS, Fault
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import RLC_COUNT_BITS, RLC_PAIRS, RLC_VALUE_BITS, WORD_BITS

__all__ = ["CHUNK_BITS", "RlcDecoder", "rlc_word_layout"]

#: Width of the number of words in a chunk, at most.
CHUNK_BITS = 16


def rlc_word_layout() -> data.StructLayout:
    """A word of an RLC chunk: up to five pairs and how many they are."""
    pair = data.StructLayout({"value": RLC_VALUE_BITS, "count": RLC_COUNT_BITS})
    pairs = data.ArrayLayout(pair, RLC_PAIRS)
    return data.StructLayout({"pairs": pairs, "valid": WORD_BITS - pairs.size})


class RlcDecoder(wiring.Component):
    """Expand chunks of (count, value) pairs into words of eight bytes.

    A chunk ends when all its bytes are there, or with its first word of fewer than five pairs;
    the bytes after its last pair are zero.

    Parameters
    ----------
    chunk_bits : int
        Width of the number of words in a chunk.

    Attributes
    ----------
    chunk : In(stream of `chunk_bits`)
        Begin a chunk of so many output words; 0 is a chunk without input.
    i : In(stream of 64)
        RLC words (`rlc_word_layout`). Taken only within a chunk, and only what it needs.
    o : Out(stream of 64)
        Plain words.
    drained : Out(1)
        Pulse: the chunk needs no more input. At least a cycle before the next chunk takes any.
    busy : Out(1)
        A chunk is open or a word waits on `o`.
    fault : Out(`Fault`)
        `RLC_FORMAT`, from the cycle after a pair past the end of the chunk or a word of more than
        five pairs, until a reset. Nothing moves then.

    Notes
    -----
    1 cycle from the last pair of a word to the word out. A pair a cycle, but for a pair that lies
    in a later word than the one before: one more cycle for every word passed. So a plain word
    takes ``max(1, non-zeros)`` cycles or a little more. One cycle between chunks. `o` comes from
    registers; pairs are read from `i`, whose word is taken with its last one: combinational from
    `i` and `o.ready` to `i.ready`.
    """

    def __init__(self, chunk_bits: int = CHUNK_BITS) -> None:
        self.chunk_bits = chunk_bits
        super().__init__(
            {
                "chunk": In(stream.Signature(chunk_bits)),
                "i": In(stream.Signature(WORD_BITS)),
                "o": Out(stream.Signature(WORD_BITS)),
                "drained": Out(1),
                "busy": Out(1),
                "fault": Out(FAULT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layout = rlc_word_layout()
        word: Any = layout(self.i.payload)
        active = Signal()
        words = Signal(self.chunk_bits, reset_less=True)  # still to be completed
        index = Signal(range(RLC_PAIRS), reset_less=True)  # of the next pair in its word
        final = Signal(reset_less=True)  # no word follows in the chunk
        at = Signal(range(WORD_BYTES), reset_less=True)  # next byte of `o.payload`
        # Zeros before the pair that lie in this word, when words were passed since the last one.
        passed, rest = Signal(reset_less=True), Signal(RLC_COUNT_BITS, reset_less=True)

        pair: Any = Signal(layout["pairs"].shape.elem_shape)
        byte = Signal(range(WORD_BYTES + (1 << RLC_COUNT_BITS)))  # where the value goes
        goes, present, empty, steps = Signal(), Signal(), Signal(), Signal()
        takes_pair, last_pair, completes = Signal(), Signal(), Signal()
        m.d.comb += [
            pair.eq(word.pairs[index]),
            byte.eq(at + Mux(passed, rest, pair.count)),
            goes.eq(active & (words != 0) & (self.fault == 0)),
            empty.eq(word.valid == 0),
            present.eq(self.i.valid & ~final & ~empty),
            last_pair.eq(index + 1 == word.valid),
            steps.eq(goes & (~self.o.valid | self.o.ready)),
            takes_pair.eq(steps & present & (byte < WORD_BYTES)),
            # A word is complete at its last byte, or when what follows is further on.
            completes.eq(steps & Mux(present, byte >= WORD_BYTES - 1, final)),
            self.i.ready.eq((takes_pair & last_pair) | (goes & ~final & empty)),
            self.chunk.ready.eq(~active),
            self.busy.eq(active | self.o.valid),
        ]

        leaves, begins = Signal(), Signal()
        plain = Signal(WORD_BITS, reset_less=True)
        m.d.comb += [
            leaves.eq(self.o.valid & self.o.ready),
            begins.eq(self.chunk.valid & self.chunk.ready),
            self.o.payload.eq(plain),
        ]
        for k in range(WORD_BYTES):
            here = takes_pair & (byte[:3] == k)
            with m.If(here | leaves | (begins & ~self.o.valid)):
                m.d.sync += plain.word_select(k, RLC_VALUE_BITS).eq(Mux(here, pair.value, 0))
        with m.If(leaves):
            m.d.sync += self.o.valid.eq(0)
        with m.If(takes_pair):
            m.d.sync += [
                at.eq(byte + 1),
                passed.eq(0),
                index.eq(Mux(last_pair, 0, index + 1)),
            ]
        with m.Elif(completes):
            m.d.sync += [at.eq(0), passed.eq(present), rest.eq(byte - WORD_BYTES)]
        with m.If(completes):
            m.d.sync += [self.o.valid.eq(1), words.eq(words - 1)]

        short = Signal()
        many = self.i.valid & goes & ~final & (word.valid > RLC_PAIRS)
        beyond = completes & (words == 1) & present & ~(takes_pair & last_pair)
        m.d.comb += short.eq(self.i.valid & self.i.ready & (word.valid < RLC_PAIRS))
        with m.If(short):
            m.d.sync += final.eq(1)
        with m.If(many | beyond):
            m.d.sync += self.fault.eq(Fault.RLC_FORMAT)

        over = active & (words == 0) & (self.fault == 0)
        m.d.sync += self.drained.eq(short | (over & ~final))
        with m.If(begins):
            m.d.sync += [active.eq(1), words.eq(self.chunk.payload), final.eq(0)]
            m.d.sync += [at.eq(0), passed.eq(0), index.eq(0)]
        with m.Elif(over):
            m.d.sync += active.eq(0)
        return m
