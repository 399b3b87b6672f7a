"""The register that cuts the path of ready of a stream."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid"]


class Skid(wiring.Component):
    """Half a `Hop`: cuts the path of ready alone, and adds no latency.

    Parameters
    ----------
    payload
        Shape of the stream's payload.

    Notes
    -----
    Latency 0, one beat a cycle. Combinational from `i` payload and valid to `o`.
    """

    def __init__(self, payload: Any) -> None:
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(stream.Signature(payload))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal.like(self.i.payload, reset_less=True)
        full = Signal()
        m.d.comb += [
            self.i.ready.eq(~full),
            self.o.valid.eq(full | self.i.valid),
            self.o.payload.eq(Mux(full, held, self.i.payload)),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.Elif(~full):
            m.d.sync += [full.eq(self.i.valid), held.eq(self.i.payload)]
        return m
