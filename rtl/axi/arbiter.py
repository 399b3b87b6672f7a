"""Fair choice among requesters."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin"]


class RoundRobin(wiring.Component):
    """Grant one of the requests; the one granted last has the lowest priority.

    Parameters
    ----------
    count : int
        Number of requesters.

    Attributes
    ----------
    requests : In(count)
        Who asks.
    grant : Out(count)
        One-hot, zero without a request. May change while `next` is low.
    next : In(1)
        The grant of this cycle is used.

    Notes
    -----
    Latency 0. Combinational from `requests` to `grant`.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__({"requests": In(count), "grant": Out(count), "next": In(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        below = Signal(self.count)  # ones above the requester that was granted last
        first = Signal(self.count)
        m.d.comb += [
            first.eq(Mux((self.requests & below).any(), self.requests & below, self.requests)),
            self.grant.eq(first & (-first)[: self.count]),
        ]
        with m.If(self.next & self.requests.any()):
            # ~(grant | grant - 1): everything above the granted bit.
            m.d.sync += below.eq(~(self.grant | (self.grant - 1)[: self.count]))
        return m
