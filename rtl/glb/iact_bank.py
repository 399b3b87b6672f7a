"""One bank of input activations and the count of its tiles."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import WORD_BYTES, Config, bits_for
from rowmesh.rtl.glb.glb_memory import GlbMemory
from rowmesh.rtl.layouts import WORD_BITS

__all__ = ["TILE_BITS", "IactBank", "iact_read", "iact_read_data", "iact_tag", "iact_write"]

#: Width of the number of tiles in a bank.
TILE_BITS = 4


def _address_bits(config: Config) -> int:
    return bits_for(config.glb_iact_words - 1)


def iact_write(config: Config) -> data.StructLayout:
    """Payload from the iact loader: a word and where it goes."""
    return data.StructLayout({"address": _address_bits(config), "data": WORD_BITS})


def iact_tag() -> data.StructLayout:
    """What the reader wants to know of a word when it comes back."""
    return data.StructLayout(
        {
            "shift": bits_for(WORD_BYTES - 1),  # number of the first byte
            "bytes": bits_for(WORD_BYTES),
            "last": 1,  # of the segment
            "dense": 1,
        }
    )


def iact_read(config: Config) -> data.StructLayout:
    """Payload of a read: word address and tag."""
    return data.StructLayout({"address": _address_bits(config), "tag": iact_tag()})


def iact_read_data() -> data.StructLayout:
    """Payload of the answer: the word and its tag."""
    return data.StructLayout({"word": WORD_BITS, "tag": iact_tag()})


class IactBank(wiring.Component):
    """Memory of a bank with a writing and a reading side, which meet through a count of tiles.

    The reading side may read while there is a tile, the writing side may write what no tile that
    is counted holds.

    Parameters
    ----------
    config
        `glb_iact_words` words of 64 bits.

    Attributes
    ----------
    write : In(stream of address, data)
        Always ready.
    tile_written : In(1)
        Pulse: one more tile is complete. The cycle of its last word at the earliest.
    tiles : Out(4)
        Tiles written and not released, at most 15 (`slots` of the loader sees to it).
    read : In(stream of address, tag)
        Word address; the tag comes back with the data.
    data : Out(stream of word, tag)
        The words, in order.
    tile_released : In(1)
        Pulse: the oldest tile may be overwritten.

    Notes
    -----
    Latency of a read 1 cycle, one a cycle. `data` comes from registers (the memory's);
    combinational from `data.ready` to `read.ready`. `tiles` follows in the next cycle.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "write": In(stream.Signature(iact_write(config))),
                "tile_written": In(1),
                "tiles": Out(TILE_BITS),
                "read": In(stream.Signature(iact_read(config))),
                "data": Out(stream.Signature(iact_read_data())),
                "tile_released": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = GlbMemory(WORD_BITS, self.config.glb_iact_words)
        write: Any = self.write.payload
        read: Any = self.read.payload
        answer: Any = self.data.payload
        tag = Signal(iact_tag(), reset_less=True)
        reads = Signal()
        m.d.comb += [
            self.write.ready.eq(1),
            memory.write_enable.eq(self.write.valid),
            memory.write_address.eq(write.address),
            memory.write_data.eq(write.data),
            # The memory holds its output, so it is the stage that waits.
            self.read.ready.eq(~self.data.valid | self.data.ready),
            reads.eq(self.read.valid & self.read.ready),
            memory.read_enable.eq(reads),
            memory.read_address.eq(read.address),
            answer.word.eq(memory.read_data),
            answer.tag.eq(tag),
        ]
        with m.If(reads):
            m.d.sync += tag.eq(read.tag)
        with m.If(self.read.ready):
            m.d.sync += self.data.valid.eq(self.read.valid)
        m.d.sync += self.tiles.eq(self.tiles + self.tile_written - self.tile_released)
        return m
