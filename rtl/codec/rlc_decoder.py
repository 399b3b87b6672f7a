"""RLC chunks of DRAM to plain words."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import (
    FAULT_BITS,
    RLC_COUNT_BITS,
    RLC_PAIRS,
    RLC_VALUE_BITS,
    WORD_BITS,
    Fault,
)

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
    2 cycles from a word in to a word out. A pair a cycle, but for a pair that lies in a later word
    than the one before: one more cycle for every word passed. So a plain word takes
    ``max(1, non-zeros)`` cycles or a little more. One cycle between chunks. `o` comes from
    registers; combinational from `o.ready` to `i.ready`.
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
        loaded: Any = layout(self.i.payload)
        active = Signal()
        words = Signal(self.chunk_bits, reset_less=True)  # still to be completed
        pairs: Any = Signal(layout["pairs"].shape, reset_less=True)  # the next one at index 0
        left = Signal(range(RLC_PAIRS + 1))  # pairs in `pairs`
        final = Signal()  # no word follows in the chunk
        at = Signal(range(WORD_BYTES))  # next byte of `o.payload`, while it is not valid

        count, value = pairs[0].count, pairs[0].value
        byte = Signal(range(WORD_BYTES + (1 << RLC_COUNT_BITS)))  # where the value goes
        steps, takes_pair, completes = Signal(), Signal(), Signal()
        over = (words == 0) & (left == 0)
        m.d.comb += [
            byte.eq(at + count),
            steps.eq(active & (words != 0) & (~self.o.valid | self.o.ready) & (self.fault == 0)),
            takes_pair.eq(steps & (left != 0) & (byte < WORD_BYTES)),
            # A word is complete at its last byte, or when what follows is further on.
            completes.eq(steps & Mux(left != 0, byte >= WORD_BYTES - 1, final)),
            self.chunk.ready.eq(~active),
            self.busy.eq(active | self.o.valid),
            self.i.ready.eq(
                active
                & ~final
                & (words != 0)
                & (self.fault == 0)
                & ((left == 0) | (takes_pair & (left == 1) & ~(completes & (words == 1))))
            ),
        ]

        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.o.valid.eq(0), self.o.payload.eq(0)]
        with m.If(takes_pair):
            m.d.sync += [
                self.o.payload.word_select(byte[:3], RLC_VALUE_BITS).eq(value),
                at.eq(byte + 1),
                pairs.eq(pairs.as_value() >> pairs[0].shape().size),
                left.eq(left - 1),
            ]
        with m.Elif(completes):
            m.d.sync += [at.eq(0), count.eq(byte - WORD_BYTES)]
        with m.If(completes):
            m.d.sync += [self.o.valid.eq(1), words.eq(words - 1)]

        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                pairs.eq(loaded.pairs),
                left.eq(loaded.valid),
                final.eq(loaded.valid < RLC_PAIRS),
            ]
            with m.If(loaded.valid > RLC_PAIRS):
                m.d.sync += self.fault.eq(Fault.RLC_FORMAT)
        with m.If(active & (words == 0) & (left != 0)):
            m.d.sync += self.fault.eq(Fault.RLC_FORMAT)

        with m.If(self.chunk.valid & self.chunk.ready):
            m.d.sync += [active.eq(1), words.eq(self.chunk.payload), final.eq(0), at.eq(0)]
        with m.Elif(active & over):
            m.d.sync += active.eq(0)
        short = self.i.valid & self.i.ready & (loaded.valid < RLC_PAIRS)
        m.d.sync += self.drained.eq(short | (active & over & ~final))
        return m
