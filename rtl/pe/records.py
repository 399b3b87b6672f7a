"""What travels between the stages of a PE."""

from functools import cached_property
from typing import Any

from amaranth.hdl import Mux, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import Layouts

__all__ = ["Records", "column_words", "wrap", "zero"]


def wrap(value: Value, depth: int) -> Value:
    """``value mod depth`` for ``value < 2 * depth``: the address of a ring of any depth."""
    bits = bits_for(depth - 1)
    if depth == 1 << bits:
        return value[:bits]
    return Mux(value >= depth, value - depth, value)[:bits]


class Records:
    """Layouts between the stages of one configuration's PE."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layouts = Layouts(config)

    @property
    def column_bits(self) -> int:
        """Bits of a column while it is decoded: the window, a segment beyond it, one count."""
        c = self.config
        segment_bits = self.layouts.pe["segment_cols"].width
        return bits_for(c.weight_addr_depth + (1 << segment_bits) + c.max_run)

    @property
    def psum_bits(self) -> int:
        """Bits of a psum address while it is decoded: one word of counts beyond the SPad."""
        c = self.config
        return bits_for(c.psum_depth + c.macs_per_pe * (c.max_run + 1))

    @cached_property
    def ends(self) -> data.ArrayLayout:
        """A word of the address SPad: ends of columns, each as wide as its share of the word."""
        c = self.config
        share = c.weight_word_bits // c.weight_addrs_per_word
        return data.ArrayLayout(share, c.weight_addrs_per_word)

    @property
    def iact_write(self) -> wiring.Signature:
        """Write port for the words of the window."""
        address = bits_for(self.config.iact_words - 1)
        beat = self.layouts.iact_beat
        return wiring.Signature({"enable": Out(1), "address": Out(address), "data": Out(beat)})

    @property
    def iact_read(self) -> wiring.Signature:
        """Read port for the words of the window."""
        address = bits_for(self.config.iact_words - 1)
        return wiring.Signature({"address": Out(address), "data": In(self.layouts.iact_beat)})

    @property
    def ends_write(self) -> wiring.Signature:
        """Write port for ends of columns; address: slot, then half."""
        return wiring.Signature(
            {
                "enable": Out(self.config.weight_addrs_per_word),
                "address": Out(self.slot_bits + 1),
                "data": Out(self.ends),
            }
        )

    @property
    def ends_read(self) -> wiring.Signature:
        """Read port for ends of columns."""
        return wiring.Signature({"address": Out(self.slot_bits + 1), "data": In(self.ends)})

    @property
    def slots(self) -> int:
        """Words of a block's addresses."""
        return -(-self.config.weight_addr_depth // self.config.weight_addrs_per_word)

    @property
    def slot_bits(self) -> int:
        """Bits of the number of such a word."""
        return bits_for(self.slots - 1)

    @property
    def product_bits(self) -> int:
        """Bits of an exact product of the iact (one bit wider, signed) and a weight."""
        return self.config.iact_bits + 1 + self.config.weight_bits

    @cached_property
    def marker(self) -> data.StructLayout:
        """Ends that follow an iact: of a window; its psum group; its weight block."""
        return data.StructLayout({"window": 1, "drain": 1, "block": 1})

    @cached_property
    def item(self) -> data.StructLayout:
        """An iact (if `hit`) with its column in the window, and what ends after it."""
        c = self.config
        return data.StructLayout(
            {
                "hit": 1,
                "value": c.iact_bits,
                "column": bits_for(c.weight_addr_depth - 1),
                "marker": self.marker,
            }
        )

    @cached_property
    def column(self) -> data.StructLayout:
        """An iact (if `hit`) with the ring address and the words of its weight column."""
        c = self.config
        return data.StructLayout(
            {
                "hit": 1,
                "value": c.iact_bits,
                "start": bits_for(c.weight_data_depth - 1),
                "count": c.weight_addr_bits,
                "marker": self.marker,
            }
        )

    @cached_property
    def word(self) -> data.StructLayout:
        """A word of weights (if `hit`) and the iact that it meets."""
        c = self.config
        return data.StructLayout(
            {
                "hit": 1,
                "first": 1,  # of its column
                "value": c.iact_bits,
                "pairs": data.ArrayLayout(self.layouts.weight_pair, c.macs_per_pe),
                "marker": self.marker,
            }
        )

    @cached_property
    def lane(self) -> data.StructLayout:
        """A product on its way to its psum."""
        return data.StructLayout(
            {
                "active": 1,
                "address": bits_for(self.config.psum_depth - 1),
                "product": signed(self.product_bits),
            }
        )

    @cached_property
    def lanes(self) -> data.ArrayLayout:
        """The products of one word of weights."""
        return data.ArrayLayout(self.lane, self.config.macs_per_pe)

    @cached_property
    def finish(self) -> data.StructLayout:
        """A psum group is complete after this cycle: its bank, its end, how to drain it."""
        c = self.config
        return data.StructLayout({"valid": 1, "bank": 1, "end": bits_for(c.psum_depth), "chain": 1})


def column_words(psums: Any, macs_per_pe: int) -> Value:
    """Words of a dense column; the number of psums is even."""
    if macs_per_pe == 1:
        return Value.cast(psums)
    # In pairs of psums: for two multipliers nothing is left to round up.
    return Value.cast((psums[1:] + (macs_per_pe // 2 - 1)) >> (macs_per_pe.bit_length() - 2))


def zero(value: Any) -> Value:
    """One when a view or value is zero."""
    return ~Value.cast(value).any()
