"""Fair choice among requesters."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RoundRobin", "merge"]


def merge(values: Sequence[ValueLike]) -> Any:
    """OR of values of which at most one is not zero, as a tree: a chain is too deep for Python."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return merge(values[:half]) | merge(values[half:])


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
