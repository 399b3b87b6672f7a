"""A pipeline register in a stream."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Stage"]


class Stage(wiring.Component):
    """Register payload and valid where valid comes late: the payload does not wait for it.

    Parameters
    ----------
    payload
        Shape of the stream's payload.

    Notes
    -----
    Latency 1 cycle, one beat a cycle. Cuts payload and valid; `i.ready` follows `o.ready` through
    one gate. See `Hop` for a register that cuts ready too and moves for valid beats only.
    """

    def __init__(self, payload: Any) -> None:
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(stream.Signature(payload))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal.like(self.o.payload, reset_less=True)
        m.d.comb += [self.i.ready.eq(~self.o.valid | self.o.ready), self.o.payload.eq(held)]
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), held.eq(self.i.payload)]
        return m
