"""Bytes to a serial line."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.shell.baud import check_divisor

__all__ = ["UartTx"]

#: Start bit, data bits, stop bit.
_BITS = 10


class UartTx(wiring.Component):
    """Transmitter: 8 data bits, least significant first, no parity, one stop bit.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit, 4 or more.

    Attributes
    ----------
    i : In(stream of 8 bits)
        What to send.
    tx : Out(1)
        The line; high when idle.

    Raises
    ------
    ValueError
        `divisor` is too small.

    Notes
    -----
    The start bit begins the cycle after the transfer; a byte every 10 bits and no cycle more.
    `ready` depends on registers only, `tx` is one.
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = check_divisor(divisor)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        left = Signal(range(_BITS))  # bits behind this one
        bits = Signal(_BITS - 1)
        ends, idle = Signal(), Signal(init=1)
        line = Signal(init=1)
        m.d.comb += [
            self.tx.eq(line),
            ends.eq(timer == 0),
            self.i.ready.eq(idle | (ends & (left == 0))),
        ]
        m.d.sync += timer.eq(timer - 1)
        with m.If(self.i.ready):
            m.d.sync += idle.eq(~self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [
                    line.eq(0),
                    bits.eq(Cat(self.i.payload, Const(1, 1))),
                    left.eq(_BITS - 1),
                    timer.eq(self.divisor - 1),
                ]
        with m.Elif(ends):
            m.d.sync += [
                line.eq(bits[0]),
                bits.eq(Cat(bits[1:], Const(1, 1))),
                left.eq(left - 1),
                timer.eq(self.divisor - 1),
            ]
        return m
