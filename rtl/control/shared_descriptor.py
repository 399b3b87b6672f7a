"""Through what the PEs of a cluster get their work."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.layouts import CONFIG_BITS

__all__ = ["SharedDescriptorBank"]


class SharedDescriptorBank(wiring.Component):
    """A `DescriptorBank` for units that work on equal descriptors, but for the last fields.

    What is equal is collected once and held once. A unit with a complete descriptor begins when
    what is held is what was collected: at once, if the others work on the same, else when all of
    them have let go. A word that would change what a waiting unit shares is not for now. A
    descriptor in which one of `counts` is zero is empty: it is dropped when its turn comes.

    Parameters
    ----------
    layout
        Descriptor layout of the units.
    units
        Number of units.
    own
        The first of the fields of which every unit has its own.
    counts
        Shared fields that are not zero in a descriptor with work.
    deep
        A cycle for looking at a word, which takes two then.

    Attributes
    ----------
    select, index, data, go, waiting, desc_0, desc_1, ...
        As those of `DescriptorBank`; `waiting` also says for whom the word at hand must wait.
    offer : In(1)
        A word is at hand.

    Notes
    -----
    From `go` to `desc`: 1 cycle, 3 for the first that begins with something new. Combinational from
    `index` and `data` to `waiting`, if not `deep`. What was collected survives a reset.
    """

    def __init__(
        self,
        layout: data.StructLayout,
        units: int,
        own: str,
        counts: Sequence[str],
        *,
        deep: bool = False,
    ) -> None:
        self.layout, self.units, self.counts = layout, units, tuple(counts)
        self.deep = deep
        self.shared_bits = layout[own].offset
        super().__init__(
            {
                "offer": In(1),
                "select": In(units),
                "index": In(6),
                "data": In(CONFIG_BITS),
                "go": In(1),
                "waiting": Out(units),
                **{f"desc_{i}": Out(stream.Signature(layout)) for i in range(units)},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        size, shared_bits = self.layout.size, self.shared_bits
        shared = Signal(shared_bits, reset_less=True)  # collected
        held = Signal(shared_bits, reset_less=True)
        waiting, valid = Signal(self.units), Signal(self.units)
        changes, equal, work = Signal(), Signal(), Signal()
        seen, blocks = Signal(), Signal()  # the word at hand was looked at, and is not for now
        fields: Any = data.View(self.layout, Cat(held, Const(0, size - shared_bits)))
        m.d.comb += [
            equal.eq(shared == held),
            work.eq(Cat(fields[name].any() for name in self.counts).all()),
            self.waiting.eq(
                waiting | (self.offer & ~seen | blocks & waiting.any()).replicate(self.units)
            ),
        ]
        if self.deep:
            m.d.sync += [seen.eq(self.offer & ~self.select.any()), blocks.eq(changes)]
        else:
            m.d.comb += [seen.eq(1), blocks.eq(changes)]
        with m.If(~valid.any()):
            m.d.sync += held.eq(shared)
        for low in range(0, shared_bits, CONFIG_BITS):
            part = shared[low : low + CONFIG_BITS]
            with m.If(self.index == low // CONFIG_BITS):
                m.d.comb += changes.eq(part != self.data[: len(part)])
                with m.If(self.select.any()):
                    m.d.sync += part.eq(self.data)

        for i in range(self.units):
            port: Any = getattr(self, f"desc_{i}")
            own = Signal(size - shared_bits, name=f"own_{i}", reset_less=True)
            own_held = Signal.like(own, name=f"own_held_{i}", reset_less=True)
            m.d.comb += [port.valid.eq(valid[i]), port.payload.eq(Cat(held, own_held))]
            with m.If(port.ready):
                m.d.sync += valid[i].eq(0)
            with m.If(waiting[i] & equal & (~valid[i] | port.ready)):
                m.d.sync += [valid[i].eq(work), waiting[i].eq(0), own_held.eq(own)]
            for number in range(shared_bits // CONFIG_BITS, -(-size // CONFIG_BITS)):
                low = number * CONFIG_BITS
                first = max(low, shared_bits)
                with m.If(self.select[i] & (self.index == number)):
                    part = own[first - shared_bits : low + CONFIG_BITS - shared_bits]
                    m.d.sync += part.eq(self.data[first - low :])
            with m.If(self.select[i] & self.go):
                m.d.sync += waiting[i].eq(1)
        return m
