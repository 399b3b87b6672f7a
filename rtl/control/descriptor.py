"""Through what units get their work."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import bits_for
from rowmesh.rtl.layouts import CONFIG_BITS

__all__ = ["DescriptorBank"]


class DescriptorBank(wiring.Component):
    """Collect the next descriptors of some units in a memory, hold the current ones in registers.

    A lane of the memory for every unit, so that a word that is for many units is written in one
    cycle. A complete descriptor is copied into the unit's register as soon as the unit has let go
    of the one before; from then on its lane may be written. Words that are not written keep their
    value: a descriptor is sent as a difference.

    Parameters
    ----------
    layouts
        Descriptor layout of every unit.

    Attributes
    ----------
    select : In, one bit a unit
        A word is written this cycle; only for units with `waiting` low.
    index, data, go : In
        Word number, word, and "this was the last word".
    waiting : Out, one bit a unit
        A complete descriptor waits in the memory.
    desc_0, desc_1, ... : Out(stream of the unit's descriptor)
        A unit may work with the payload as long as it does not take it.

    Notes
    -----
    From `go`, or from the transfer of the descriptor before, to `desc`: 1 cycle and one for every
    word (every two, of descriptors longer than `NARROW_WORDS`); units that become free meanwhile
    wait for their turn. Cuts all paths. What the memory holds survives a reset.
    """

    #: Longer descriptors are copied two words a cycle.
    NARROW_WORDS = 4

    def __init__(self, layouts: Sequence[data.StructLayout]) -> None:
        self.layouts = tuple(layouts)
        words = max(-(-layout.size // CONFIG_BITS) for layout in self.layouts)
        #: Words of a lane that are read at once, and how many such rows there are.
        self.row_words = 2 if words > self.NARROW_WORDS else 1
        self.rows = -(-words // self.row_words)
        lanes = len(self.layouts)
        super().__init__(
            {
                "select": In(lanes),
                "index": In(6),
                "data": In(CONFIG_BITS),
                "go": In(1),
                "waiting": Out(lanes),
                **{
                    f"desc_{i}": Out(stream.Signature(layout))
                    for i, layout in enumerate(self.layouts)
                },
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes = len(self.layouts)
        ports: list[Any] = [getattr(self, f"desc_{i}") for i in range(lanes)]
        row_bits = self.row_words * CONFIG_BITS
        memory: Any = Memory(shape=lanes * row_bits, depth=self.rows, init=[])
        m.submodules.memory = memory
        write = memory.write_port(granularity=CONFIG_BITS)
        read = memory.read_port(domain="comb")
        part_bits = self.row_words - 1  # of an index: which word of the row
        m.d.comb += [
            write.addr.eq(self.index >> part_bits),
            write.data.eq(self.data.replicate(lanes * self.row_words)),
        ]
        fits = self.index < self.rows * self.row_words
        for n in range(lanes * self.row_words):
            lane, part = divmod(n, self.row_words)
            here = (self.index[0] == part) if part_bits else 1
            m.d.comb += write.en[n].eq(self.select[lane] & fits & here)

        row = Signal(bits_for(self.rows - 1))  # 0 between copies
        copying, chosen = Signal(lanes), Signal(lanes)
        free, final = Signal(lanes), Signal()
        m.d.comb += [
            free.eq(Cat(~port.valid | port.ready for port in ports)),
            chosen.eq(Mux(row == 0, self.waiting & free, copying)),
            final.eq(row == self.rows - 1),
            read.addr.eq(row),
        ]
        with m.If(chosen.any()):
            m.d.sync += [copying.eq(chosen), row.eq(Mux(final, 0, row + 1))]
        for i, (port, layout) in enumerate(zip(ports, self.layouts, strict=True)):
            valid = Signal(name=f"valid_{i}")
            held = Signal(layout.size, name=f"held_{i}", reset_less=True)
            m.d.comb += [port.valid.eq(valid), port.payload.eq(held)]
            with m.If(port.ready):
                m.d.sync += valid.eq(0)
            with m.If(chosen[i]):
                for k, low in enumerate(range(0, layout.size, row_bits)):
                    with m.If(row == k):
                        m.d.sync += held[low : low + row_bits].eq(read.data[i * row_bits :])
                with m.If(final):
                    m.d.sync += [valid.eq(1), self.waiting[i].eq(0)]
            with m.If(self.select[i] & self.go):
                m.d.sync += self.waiting[i].eq(1)
        return m
