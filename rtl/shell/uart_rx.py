"""Bytes from a serial line."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.shell.baud import check_divisor

__all__ = ["UartRx"]

#: Data bits and the stop bit.
_BITS = 9


class UartRx(wiring.Component):
    """Receiver: 8 data bits, least significant first, no parity, one stop bit.

    A start bit that is gone at its middle is a glitch and does nothing. A byte whose stop bit is
    low (a framing error, a break) is dropped, and the next start bit counts only once the line has
    been high again.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit, 4 or more.

    Attributes
    ----------
    rx : In(1)
        The line, of no clock; high when idle.
    o : Out(stream of 8 bits)
        A byte that is not taken before the next one has come is lost.
    framing_error : Out(1)
        Pulse: a byte was dropped because of its stop bit.
    overrun : Out(1)
        Pulse: a byte was dropped because the one before had not been taken.

    Raises
    ------
    ValueError
        `divisor` is too small.

    Notes
    -----
    Every bit is sampled once, in its middle, 2 cycles of synchronizer later. A byte comes out 9.5
    bits after its start. All outputs come from registers.
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = check_divisor(divisor)
        super().__init__(
            {
                "rx": In(1),
                "o": Out(stream.Signature(8)),
                "framing_error": Out(1),
                "overrun": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(self.divisor))
        bits = Signal(_BITS - 1)
        count = Signal(range(_BITS))
        sample = Signal()
        m.d.comb += sample.eq(timer == 0)
        m.d.sync += [
            timer.eq(timer - 1),
            self.framing_error.eq(0),
            self.overrun.eq(0),
        ]
        with m.If(sample):
            m.d.sync += timer.eq(self.divisor - 1)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [timer.eq(self.divisor // 2 - 1), count.eq(0)]
                with m.If(~line):
                    m.next = "START"
            with m.State("START"), m.If(sample):
                with m.If(line):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "BITS"
            with m.State("BITS"), m.If(sample):
                m.d.sync += count.eq(count + 1)
                with m.If(count != _BITS - 1):
                    m.d.sync += bits.eq(Cat(bits[1:], line))
                with m.Elif(~line):
                    m.d.sync += self.framing_error.eq(1)
                    m.next = "BREAK"
                with m.Else():
                    m.next = "IDLE"
                    with m.If(self.o.valid & ~self.o.ready):
                        m.d.sync += self.overrun.eq(1)
                    with m.Else():
                        m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(bits)]
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m
