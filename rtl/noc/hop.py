"""The register that cuts all paths of a stream."""

from typing import Any

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

__all__ = ["Hop", "connect_deep"]


def connect_deep(m: Module, deep: bool, name: str, source: Any, sink: Any) -> Any:
    """Connect two streams, with a `Hop` between them if the pipeline is deep.

    Parameters
    ----------
    m
        Gets the connection.
    deep
        `Config.deep_pipeline`.
    name
        Of the submodule.
    source, sink
        Ports that `connect` takes, source first.

    Returns
    -------
    Value
        High while a beat waits here.
    """
    if not deep:
        connect(m, source, sink)
        return Const(0)
    hop = Hop(source.payload.shape(), eager=True)
    m.submodules[name] = hop
    connect(m, source, hop.i)
    connect(m, hop.o, sink)
    return hop.o.valid


class Hop(wiring.Component):
    """A skid buffer: full throughput, and no combinational path in either direction.

    Parameters
    ----------
    payload
        Shape of the stream's payload.
    eager : bool
        The spare register loads in every cycle in which it is free, whether a beat comes or not:
        more toggles, but `i.valid` enables no wide register.

    Notes
    -----
    Latency 1 cycle, one beat a cycle. Cuts payload, valid and ready.
    """

    def __init__(self, payload: Any, *, eager: bool = False) -> None:
        self.eager = eager
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(stream.Signature(payload))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        skid = Signal.like(self.i.payload, reset_less=True)
        held = Signal.like(self.i.payload, reset_less=True)
        full = Signal()
        m.d.comb += [self.i.ready.eq(~full), self.o.payload.eq(held)]
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [self.o.valid.eq(self.i.valid | full), full.eq(0)]
            with m.If(full):
                m.d.sync += held.eq(skid)
            with m.Else():
                m.d.sync += held.eq(self.i.payload)
        with m.Elif(self.i.valid & ~full):
            m.d.sync += full.eq(1)
            if not self.eager:
                m.d.sync += skid.eq(self.i.payload)
        if self.eager:
            with m.If(~full):
                m.d.sync += skid.eq(self.i.payload)
        return m
