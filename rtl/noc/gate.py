"""A stream that passes while a circuit is held."""

from typing import Any

from amaranth.hdl import Module, Signal

__all__ = ["gate"]


def gate(m: Module, port: Any, sink: Any, opened: Signal) -> None:
    """Connect the streams while `opened`."""
    m.d.comb += [
        sink.payload.eq(port.payload),
        sink.valid.eq(port.valid & opened),
        port.ready.eq(sink.ready & opened),
    ]
