"""The port through which every unit gets its work."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.layouts import CONFIG_BITS

__all__ = ["DescriptorPort"]


class DescriptorPort(wiring.Component):
    """Collect configuration words into a descriptor; hold it until the unit takes it.

    The next descriptor may be written as soon as the unit has taken this one, so one waits while
    one runs. Words that are not written keep their value: a descriptor is sent as a difference.
    Cuts all paths between the bus and the unit, but for `ready` (`pending` only).

    Parameters
    ----------
    layout
        Descriptor layout.

    Attributes
    ----------
    select : In(1)
        A word is written this cycle; only while `pending` is low.
    index, data, go : In
        Word number, word, and "this was the last word".
    pending : Out(1)
        A complete descriptor waits.
    desc : Out(stream)
        The descriptor.
    """

    def __init__(self, layout: data.StructLayout) -> None:
        self.layout = layout
        super().__init__(
            {
                "select": In(1),
                "index": In(6),
                "data": In(CONFIG_BITS),
                "go": In(1),
                "pending": Out(1),
                "desc": Out(stream.Signature(layout)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        size = self.layout.size
        shadow = Signal(size)
        m.d.comb += [
            self.desc.payload.eq(shadow),
            self.desc.valid.eq(self.pending),
        ]
        with m.If(self.desc.ready):
            m.d.sync += self.pending.eq(0)
        with m.If(self.select):
            for word, low in enumerate(range(0, size, CONFIG_BITS)):
                with m.If(self.index == word):
                    m.d.sync += shadow[low : low + CONFIG_BITS].eq(self.data)
            with m.If(self.go):
                m.d.sync += self.pending.eq(1)
        return m
