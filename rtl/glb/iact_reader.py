"""Reads tiles out of an iact bank as CSC segments."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from rowmesh.rtl.codec.csc_encoder import CscEncoder, csc_word
from rowmesh.rtl.config import WORD_BYTES, Config, bits_for
from rowmesh.rtl.control.agu import Agu
from rowmesh.rtl.glb.iact_bank import TILE_BITS, iact_read, iact_read_data
from rowmesh.rtl.layouts import SEGMENT_LOOPS, Layouts
from rowmesh.rtl.noc.hop import connect_deep

__all__ = ["IactReader"]


class IactReader(wiring.Component):
    """Walk a loop nest over a tile; send `bytes` bytes of each word on as CSC segments.

    A descriptor starts when a tile is in the bank. Its byte addresses never run over the end of a
    word. A segment ends where the loops below `SEGMENT_LOOPS` all end. With `release` the tile is
    released with the last read; without, it is there for the next descriptor. An empty nest
    sends nothing and releases likewise.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    desc : In(stream of `Layouts.iact_reader`)
        Taken with the last read; the nest and the tags come straight from it.
    tiles : In(4), tile_released : Out(1)
        Credits: see `IactBank`. `tiles` follows a release in the next cycle.
    read : Out(stream of address, tag), data : In(stream of word, tag)
        To and from the `IactBank`.
    iact : Out(stream of `Layouts.iact_beat`)
        Segments.
    busy : Out(1)
        A descriptor waits or is at work, or a word is under way.

    Notes
    -----
    One word a cycle as long as it has at most two entries (see `CscEncoder`), and one cycle
    between two descriptors, while the words before go on. From the cycle in which a descriptor is
    taken (its tile is there) to the first possible beat: 8 cycles, with `config.deep_pipeline` 12:
    then the word (as read, and shifted), its entries and the beat wait in a `Hop` each. `iact`
    comes from a register and `iact.ready` reaches registers only; combinational from `read.ready`
    to `tile_released` and `desc.ready`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layouts = layouts = Layouts(config)
        super().__init__(
            {
                "desc": In(stream.Signature(layouts.iact_reader)),
                "tiles": In(TILE_BITS),
                "tile_released": Out(1),
                "read": Out(stream.Signature(iact_read(config))),
                "data": In(stream.Signature(iact_read_data())),
                "iact": Out(stream.Signature(layouts.iact_beat)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        job: Any = self.desc.payload
        address_bits = self.layouts.iact_address_bits
        m.submodules.agu = agu = Agu(job.loops.shape(), {"iact": ("step", address_bits)})
        # No segment has more columns than a PE has addresses.
        most = max(self.config.weight_addr_depth, 1 << self.config.csc_count_bits)
        m.submodules.encoder = encoder = CscEncoder(
            self.config.iact_bits,
            self.config.csc_count_bits,
            run_bits=bits_for(2 * most + WORD_BYTES),
            deep=self.config.deep_pipeline,
        )
        at: Any = agu.o.payload
        read: Any = self.read.payload
        byte_bits = len(read.tag.shift)
        m.d.comb += [
            agu.loops.eq(job.loops),
            agu.base.iact.eq(job.base),
            self.read.valid.eq(agu.o.valid),
            agu.o.ready.eq(self.read.ready),
            read.address.eq(at.address.iact[byte_bits:]),
            read.tag.shift.eq(at.address.iact[:byte_bits]),
            read.tag.bytes.eq(job.bytes),
            read.tag.last.eq(at.ends[SEGMENT_LOOPS - 1]),
            read.tag.dense.eq(job.dense),
        ]

        deep = self.config.deep_pipeline
        found: Any = stream.Signature(iact_read_data()).flip().create(path=("found",))
        read_word = connect_deep(m, deep, "read_hop", flipped(self.data), found)
        words: Any = stream.Signature(csc_word()).create(path=("words",))
        answer: Any = found.payload
        word: Any = words.payload
        m.d.comb += [
            words.valid.eq(found.valid),
            found.ready.eq(words.ready),
            word.word.eq(answer.word >> Cat(Const(0, byte_bits), answer.tag.shift)),
            word.bytes.eq(answer.tag.bytes),
            word.last.eq(answer.tag.last),
            word.dense.eq(answer.tag.dense),
        ]
        inside = connect_deep(m, deep, "word_hop", words, encoder.i)
        outside = connect_deep(m, deep, "iact_hop", encoder.o, flipped(self.iact))

        ended = Signal()
        m.d.comb += [self.desc.ready.eq(ended), self.tile_released.eq(ended & job.release)]
        with m.FSM(name="state"):
            m.d.comb += self.busy.eq(
                self.desc.valid | self.data.valid | read_word | inside | encoder.busy | outside
            )
            with m.State("IDLE"), m.If(self.desc.valid & (self.tiles != 0)):
                m.d.comb += agu.start.eq(1)
                m.next = "READ"
            with m.State("READ"):
                # An empty nest is over before it begins.
                m.d.comb += ended.eq(~agu.busy | (agu.o.valid & agu.o.ready & at.ends[-1]))
                with m.If(ended):
                    m.next = "IDLE"
        return m
