"""A short queue of wide words."""

from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """A `Hop` with its words in a memory: `o.ready` enables a few registers, however wide they are.

    Parameters
    ----------
    payload
        Shape of the stream's payload.
    depth : int
        Words.

    Attributes
    ----------
    i, o
        The stream.
    level : Out
        Words inside.

    Notes
    -----
    Latency 1 cycle, one beat a cycle. Cuts payload, valid and ready; `o.payload` comes from the
    memory.
    """

    def __init__(self, payload: Any, depth: int = 4) -> None:
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(payload)),
                "o": Out(stream.Signature(payload)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = Value.cast(self.i.payload)
        m.submodules.words = words = fifo.SyncFIFO(width=len(bits), depth=self.depth)
        m.d.comb += [
            words.w_data.eq(bits),
            words.w_en.eq(self.i.valid),
            self.i.ready.eq(words.w_rdy),
            Value.cast(self.o.payload).eq(words.r_data),
            self.o.valid.eq(words.r_rdy),
            words.r_en.eq(self.o.ready),
            self.level.eq(words.level),
        ]
        return m
