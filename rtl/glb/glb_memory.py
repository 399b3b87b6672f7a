"""The one memory of the global buffer; swap it here for SRAM macros or FPGA blocks."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import bits_for

__all__ = ["GlbMemory"]


class GlbMemory(wiring.Component):
    """One write port and one synchronous read port.

    Parameters
    ----------
    width, depth
        Bits of a word and number of words (any depth).

    Attributes
    ----------
    write_enable, write_address, write_data : In
        Write port.
    read_enable, read_address : In
        Read port.
    read_data : Out
        From the cycle after `read_enable` until after the next one. Undefined when the same
        address was written in the cycle of the read (the callers never do that).

    Notes
    -----
    Latency 1 cycle, one read and one write a cycle. Contents survive a reset.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        address = bits_for(depth - 1)
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(address),
                "write_data": In(width),
                "read_enable": In(1),
                "read_address": In(address),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        memory: Any = Memory(shape=self.width, depth=self.depth, init=[])
        m.submodules.memory = memory
        write: Any = memory.write_port()
        read: Any = memory.read_port()
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        return m
