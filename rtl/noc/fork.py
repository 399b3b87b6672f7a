"""One stream to several destinations."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Fork"]


class Fork(wiring.Component):
    """Eager fork: each selected destination takes the beat once, at a time of its own.

    The beat completes in the cycle in which the last selected destination takes it; with nothing
    selected it is swallowed at once.

    Parameters
    ----------
    payload
        Shape of the stream's payload.
    n : int
        Number of destinations, at least 1.

    Attributes
    ----------
    i : In(stream), o : Out(stream) x n
        The stream and its copies.
    select : In(n)
        Mask of destinations; stable from the cycle a beat is valid until it completes.

    Notes
    -----
    Latency 0, one beat a cycle. Combinational from `i` payload and valid to `o`, and from `o` ready
    to `i` ready. No path from any ready to any valid, so forks may follow each other.
    """

    def __init__(self, payload: Any, n: int) -> None:
        self.n = n
        super().__init__(
            {
                "i": In(stream.Signature(payload)),
                "o": Out(stream.Signature(payload)).array(n),
                "select": In(n),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        done = Signal(self.n)
        wanted = Signal(self.n)
        ready = Signal(self.n)
        m.d.comb += [wanted.eq(self.select & ~done), self.i.ready.eq(~(wanted & ~ready).any())]
        for k, o in enumerate(self.o):
            m.d.comb += [
                o.payload.eq(self.i.payload),
                o.valid.eq(self.i.valid & wanted[k]),
                ready[k].eq(o.ready),
            ]
        with m.If(self.i.valid):
            # Bits of destinations that are not selected may rise: nobody looks at them.
            m.d.sync += done.eq(done | ready)
            with m.If(self.i.ready):
                m.d.sync += done.eq(0)
        return m
