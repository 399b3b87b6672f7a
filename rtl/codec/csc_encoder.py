"""Bytes of words in, (count, value) pairs out: the encoder of segments and of chunks."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import WORD_BYTES, bits_for
from rowmesh.rtl.noc.hop import connect_deep

__all__ = ["CscEncoder", "csc_beat", "csc_word"]

BYTE_BITS = 8
PAIRS = 2


def csc_word(word_bytes: int = WORD_BYTES) -> data.StructLayout:
    """Input of the encoder: the low `bytes` of `word`; `last` ends the segment."""
    return data.StructLayout(
        {"word": BYTE_BITS * word_bytes, "bytes": bits_for(word_bytes), "last": 1, "dense": 1}
    )


def csc_beat(value_bits: int, count_bits: int) -> data.StructLayout:
    """Output of the encoder: two pairs; `last` ends the segment."""
    pair = data.StructLayout({"value": value_bits, "count": count_bits})
    return data.StructLayout({"pairs": data.ArrayLayout(pair, PAIRS), "last": 1})


class CscEncoder(wiring.Component):
    """Encode segments of bytes as CSC: each non-zero with the number of zeros before it.

    Zero runs go on across the words of a segment; a run longer than the count can say is split by
    explicit (max, 0) pairs, each for max + 1 zeros. Zeros at the end of a segment have no entry.
    A word with `dense`, and every word when `count_bits` is 0, has a pair with count 0 for every
    byte. A beat is held back until it is known whether more follows, so `last` is on the
    segment's final beat; an unused second pair is (0, 0), a segment without entries one beat of
    two such pairs.

    Parameters
    ----------
    value_bits : int
        Width of a value; higher bits of a byte are dropped.
    count_bits : int
        Width of a count; 0 makes the encoder dense, without the run logic.
    word_bytes : int
        Bytes of a word, a power of two.
    run_bits : int
        A run of zeros is shorter than ``2**run_bits - word_bytes``.
    deep : bool
        A `Hop` between finding entries and counting zeros.

    Attributes
    ----------
    i : In(stream of word, bytes, last, dense)
        The low `bytes` (1..word_bytes) of `word`; `last` ends the segment.
    o : Out(stream of pairs, last)
        Beats; the layout equals `Layouts.iact_beat` for the same widths.
    busy : Out(1)
        Something is inside.

    Notes
    -----
    A word takes ``max(1, ceil(entries / 2))`` cycles, and one more for every two explicit zeros
    (with counts of one or two bits, a long gap inside a word can cost a cycle too). Latency 1
    cycle from a segment's last word to its last beat, 2 if `deep`. A word stays on `i` until its
    last entries are counted. Combinational from `i` to `o`, and from `i` and `o.ready` to
    `i.ready`; if `deep`, only from `i` to `i.ready`.
    """

    def __init__(
        self,
        value_bits: int,
        count_bits: int,
        word_bytes: int = WORD_BYTES,
        run_bits: int = 20,
        *,
        deep: bool = False,
    ) -> None:
        if not 1 <= value_bits <= BYTE_BITS:
            raise ValueError(f"value_bits = {value_bits}: must be within 1..{BYTE_BITS}")
        if word_bytes < 2 or word_bytes & (word_bytes - 1):
            raise ValueError(f"word_bytes = {word_bytes}: must be a power of two, 2 or more")
        if count_bits < 0:
            raise ValueError(f"count_bits = {count_bits}: must be 0 or more")
        low = max(count_bits, word_bytes.bit_length()) + 1
        if run_bits < low:
            raise ValueError(f"run_bits = {run_bits}: must be {low} or more")
        self.value_bits = value_bits
        self.count_bits = count_bits
        self.word_bytes = word_bytes
        self.run_bits = run_bits
        self.deep = deep
        self.beat = csc_beat(value_bits, count_bits)
        self.pair = self.beat["pairs"].shape.elem_shape
        self.word = csc_word(word_bytes)
        super().__init__(
            {
                "i": In(stream.Signature(self.word)),
                "o": Out(stream.Signature(self.beat)),
                "busy": Out(1),
            }
        )
        # What the pick step hands to the count step.
        position = bits_for(word_bytes - 1)
        self.pick = data.StructLayout(
            {
                "entries": PAIRS,  # one bit an entry, low first
                "values": data.ArrayLayout(value_bits, PAIRS),
                "position": position,  # of the first entry in its word
                "gap": position,  # zeros between the entries
                "tail": signed(position + 2),  # what the run gains by this step
                "last": 1,
            }
        )

    def elaborate(self, platform: Any) -> Module:
        # Implementation notes: three steps in a cycle in which a beat may leave. `pick` finds the
        # next two entries of a word. `count` adds the run: it is kept relative to byte 0 of the
        # word at hand, so after an entry at position p it is -(p + 1), and the count of an entry
        # is run + position. `beat` gathers pairs to beats.
        m = Module()
        picks: Any = stream.Signature(self.pick).create(path=("picks",))
        counts: Any = stream.Signature(self.pick).flip().create(path=("counts",))
        self._build_pick(m, picks)
        inside = connect_deep(m, self.deep, "pick_hop", picks, counts)
        go, counted = Signal(), Signal()
        pairs: list[Any] = [Signal(self.pair, name=f"pair_{k}") for k in range(PAIRS)]
        used = Signal(PAIRS)
        self._build_count(m, go, counts, counted, pairs, used)
        end = counts.valid & counted & counts.payload.last
        held = self._build_beat(m, go, pairs, used, end)
        m.d.comb += [
            go.eq(~self.o.valid | self.o.ready),
            counts.ready.eq(go & counted),
            self.busy.eq(held | inside),
        ]
        return m

    def _build_pick(self, m: Module, picks: Any) -> None:
        """Two entries of the word a cycle; they stay until they are counted."""
        i: Any = self.i.payload
        picked: Any = picks.payload
        values = [i.word[BYTE_BITS * k :][: self.value_bits] for k in range(self.word_bytes)]
        left = Signal(self.word_bytes)  # entries still to send
        done = Signal(self.word_bytes)  # bytes of the word that are
        for k, value in enumerate(values):
            entry = (value.any() | i.dense) if self.count_bits else 1
            m.d.comb += left[k].eq((i.bytes > k) & entry & ~done[k])

        first, second = Signal(self.word_bytes), Signal(self.word_bytes)
        p0, p1 = Signal(range(self.word_bytes)), Signal(range(self.word_bytes))
        gap = Signal(range(self.word_bytes))
        m.d.comb += [
            first.eq(_lowest(left)),
            second.eq(_lowest(left & ~first)),
            p0.eq(_index(first)),
            p1.eq(_index(second)),
            gap.eq(p1 - p0 - 1),
        ]
        has_first, has_second = Signal(), Signal()
        m.d.comb += [has_first.eq(left.any()), has_second.eq(second.any())]
        # A gap that the count cannot say waits for the next step, where it is a run.
        if 0 < self.count_bits < len(gap):
            m.d.comb += has_second.eq(second.any() & ~gap[self.count_bits :].any())
        rest = Signal(self.word_bytes)
        final = Signal()
        m.d.comb += [
            rest.eq(left & ~first & ~Mux(has_second, second, 0)),
            final.eq(~rest.any()),
            picks.valid.eq(self.i.valid),
            self.i.ready.eq(self.i.valid & picks.ready & final),
        ]
        taken = Mux(has_second, p1 + 1, Mux(has_first, p0 + 1, 0))
        m.d.comb += [
            picked.entries.eq(Cat(has_first, has_second)),
            picked.values[0].eq(_select(first, values)),
            picked.values[1].eq(_select(second, values)),
            picked.position.eq(p0),
            picked.gap.eq(gap),
            picked.tail.eq(Mux(final, i.bytes, 0) - taken),
            picked.last.eq(i.last & final),
        ]
        with m.If(picks.ready & self.i.valid):
            m.d.sync += done.eq(Mux(final, 0, ~rest))

    def _build_count(
        self, m: Module, go: Any, picks: Any, counted: Any, pairs: Any, used: Any
    ) -> None:
        """Up to two pairs a cycle: entries with their counts, or explicit zeros."""
        valid, picked = picks.valid, picks.payload
        entries: list[Any] = [valid & picked.entries[k] for k in range(PAIRS)]
        if not self.count_bits:
            m.d.comb += [counted.eq(1), used.eq(Cat(*entries))]
            for k in range(PAIRS):
                with m.If(entries[k]):
                    m.d.comb += pairs[k].value.eq(picked.values[k])
            return

        run, count = Signal(self.run_bits), Signal(self.run_bits)
        zeros: Any = count[self.count_bits :]  # explicit zeros that come before the first entry
        one, two = Signal(), Signal()
        m.d.comb += [
            count.eq(run + picked.position),
            one.eq(entries[0] & zeros.any()),
            two.eq(one & zeros[1:].any()),
            counted.eq(~one),
            used.eq(Mux(one, Cat(one, two), Cat(*entries))),
        ]
        counts = [count[: self.count_bits], picked.gap]
        for k, explicit in enumerate((one, two)):
            with m.If(explicit):
                m.d.comb += pairs[k].count.eq(~0)
            with m.Elif(entries[k] & ~one):
                m.d.comb += [pairs[k].count.eq(counts[k]), pairs[k].value.eq(picked.values[k])]
        with m.If(go & one):
            m.d.sync += run.eq(run - (Mux(two, 2, 1) << self.count_bits))
        with m.Elif(go & valid):
            m.d.sync += run.eq(Mux(picked.last, 0, Mux(entries[0], 0, run) + picked.tail))

    def _build_beat(self, m: Module, go: Any, pairs: list[Any], used: Any, end: Any) -> Any:
        """Gather pairs to beats; a beat leaves when a pair follows it or its segment has ended.

        Unused pairs come in as zeros, so what is held beyond `full` is zero too.
        """
        held: list[Any] = [Signal(self.pair, name=f"held_{k}") for k in range(PAIRS)]
        full = Signal(PAIRS)
        ended, single = Signal(), Signal()
        beat: Any = self.o.payload
        m.d.comb += [
            single.eq(full[0] & ~full[1] & ~ended),  # a pair waits for its second
            self.o.valid.eq(ended | (full[1] & used[0]) | (single & used[1])),
            beat.pairs[0].eq(held[0]),
            beat.pairs[1].eq(Mux(single, pairs[0], held[1])),
            beat.last.eq(ended),
        ]
        with m.If(go):
            m.d.sync += ended.eq(end)
            with m.If(single & used[1]):
                m.d.sync += [held[0].eq(pairs[1]), held[1].eq(0), full.eq(0b01)]
            with m.Elif(single):
                m.d.sync += [held[1].eq(pairs[0]), full[1].eq(used[0])]
            with m.Elif(ended | ~full[0] | used[0]):
                m.d.sync += [held[0].eq(pairs[0]), held[1].eq(pairs[1]), full.eq(used)]
        return full[0] | ended


def _lowest(bits: Any) -> Any:
    """The lowest set bit alone."""
    return Cat(bits[k] & ~bits[:k].any() if k else bits[0] for k in range(len(bits)))


def _index(one_hot: Any) -> Any:
    """Number of the set bit; 0 when there is none."""
    width = (len(one_hot) - 1).bit_length()
    return Cat(
        reduce(or_, (one_hot[k] for k in range(len(one_hot)) if k >> bit & 1))
        for bit in range(width)
    )


def _select(one_hot: Any, values: list[Any]) -> Any:
    """The value of the set bit; 0 when there is none."""
    return reduce(or_, (Mux(one_hot[k], value, 0) for k, value in enumerate(values)))
