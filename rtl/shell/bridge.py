"""LiteX's UARTBone protocol: commands on a byte stream become accesses of a 32-bit bus."""

import enum
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.shell.bus import WORD_ADDRESS_BITS, request_layout, response_layout

__all__ = ["Bridge", "Command"]


class Command(enum.IntEnum):
    """First byte of a command."""

    WRITE = 1
    READ = 2
    WRITE_FIXED = 3
    READ_FIXED = 4


class Bridge(wiring.Component):
    """Host commands to bus accesses, one word at a time.

    A command is: `Command`, number of words (a byte), address of a word (4 bytes), then for a
    write the words (4 bytes each); a read answers with the words. All are big endian. The address
    counts up by one word, with the fixed commands it stays. There is no answer to a write, and
    none to a command of no words. An unknown command is dropped with its length and address.

    A command that does not go on is dropped after `timeout` cycles without a byte, so that a host
    that is silent for longer than that begins anew.

    Parameters
    ----------
    timeout : int
        Cycles.

    Attributes
    ----------
    i : In(stream of 8 bits), o : Out(stream of 8 bits)
        Bytes from the host and to it.
    request : Out(stream of `request_layout`), response : In(stream of `response_layout`)
        The bus. A response for every request.
    sum : Out(32)
        Of `data ^ address` over all words moved in either direction, as they were on the line:
        with it a host finds bytes that were lost or damaged.
    abandoned : Out(1)
        Pulse: a command was dropped, because it did not go on or is not known.
    failed : Out(1)
        Pulse: the bus said error.

    Raises
    ------
    ValueError
        `timeout` is less than 1.

    Notes
    -----
    Source: `Stream2Wishbone` of LiteX (litex/soc/cores/uart.py), whose timeout counts from the
    first byte of a command. One byte a cycle; a word takes 4 cycles for its bytes and 2 cycles
    more than the bus. Ready and valid depend on registers only.
    """

    def __init__(self, timeout: int) -> None:
        if timeout < 1:
            raise ValueError(f"timeout = {timeout}: must be at least 1 cycle")
        self.timeout = timeout
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "request": Out(stream.Signature(request_layout())),
                "response": In(stream.Signature(response_layout())),
                "sum": Out(32),
                "abandoned": Out(1),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        command, left = Signal(8), Signal(8)
        word = Signal(32)
        address = Signal(WORD_ADDRESS_BITS)
        count = Signal(2)  # bytes of the address or of the word so far
        silence = Signal(range(self.timeout + 1))
        writes, increments, waits = Signal(), Signal(), Signal()
        shifted = Cat(self.i.payload, word[:24])
        m.d.comb += [
            writes.eq((command == Command.WRITE) | (command == Command.WRITE_FIXED)),
            increments.eq((command == Command.WRITE) | (command == Command.READ)),
            self.request.payload.write.eq(writes),
            self.request.payload.address.eq(address),
            self.request.payload.data.eq(word),
            self.o.payload.eq(word[24:]),
        ]
        m.d.sync += [self.abandoned.eq(0), self.failed.eq(0)]

        def wait_for_byte() -> None:
            """Take a byte, but not for ever."""
            m.d.comb += [self.i.ready.eq(1), waits.eq(1)]
            with m.If(~self.i.valid & (silence == self.timeout)):
                m.d.sync += self.abandoned.eq(1)
                m.next = "COMMAND"

        def next_word(first: str) -> None:
            """Go on with the next word, or end the command."""
            m.d.sync += [left.eq(left - 1), address.eq(address + increments)]
            with m.If(left == 1):
                m.next = "COMMAND"
            with m.Else():
                m.next = first

        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [count.eq(0), command.eq(self.i.payload)]
                with m.If(self.i.valid):
                    m.next = "LENGTH"
            with m.State("LENGTH"):
                wait_for_byte()
                m.d.sync += left.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                wait_for_byte()
                with m.If(self.i.valid):
                    m.d.sync += [word.eq(shifted), count.eq(count + 1)]
                    with m.If(count == 3):
                        m.d.sync += address.eq(shifted[:WORD_ADDRESS_BITS])
                        with m.If((command == 0) | (command > max(Command))):
                            m.d.sync += self.abandoned.eq(1)
                            m.next = "COMMAND"
                        with m.Elif(left == 0):
                            m.next = "COMMAND"
                        with m.Elif(writes):
                            m.next = "DATA"
                        with m.Else():
                            m.next = "REQUEST"
            with m.State("DATA"):
                wait_for_byte()
                with m.If(self.i.valid):
                    m.d.sync += [word.eq(shifted), count.eq(count + 1)]
                    with m.If(count == 3):
                        m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += self.response.ready.eq(1)
                with m.If(self.response.valid):
                    m.d.sync += self.failed.eq(self.response.payload.error)
                    with m.If(writes):
                        m.next = "WRITTEN"
                    with m.Else():
                        m.d.sync += word.eq(self.response.payload.data)
                        m.next = "READ"
            with m.State("WRITTEN"):
                m.d.sync += self.sum.eq(self.sum + (word ^ address))
                next_word("DATA")
            with m.State("READ"):
                m.d.sync += self.sum.eq(self.sum + (word ^ address))
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [word.eq(word << 8), count.eq(count + 1)]
                    with m.If(count == 3):
                        next_word("REQUEST")

        m.d.sync += silence.eq(0)
        with m.If(waits & ~self.i.valid):
            m.d.sync += silence.eq(silence + 1)
        return m
