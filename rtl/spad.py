"""The one small memory of the PE; swap it here for SRAM macros or FPGA blocks."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import bits_for

__all__ = ["Spad"]


class Spad(wiring.Component):
    """Scratch pad with asynchronous read ports and synchronous write ports.

    Parameters
    ----------
    width, depth
        Bits of a word and number of words (any depth).
    reads, writes
        Number of ports of each kind.
    parts
        A word is written in so many parts of equal width.

    Attributes
    ----------
    read : array of In(address, data out)
        `data` follows `address` in the same cycle: the word as before this cycle's writes.
    write : array of In(enable, address, data)
        One bit of `enable` a part.
        Two ports never write the same address in one cycle (the caller sees to it).

    Notes
    -----
    Contents survive a reset: whoever reads knows what it wrote. Addresses of `depth` and beyond
    read an undefined word and write nothing.
    """

    def __init__(
        self, width: int, depth: int, *, reads: int = 1, writes: int = 1, parts: int = 1
    ) -> None:
        self.width, self.depth = width, depth
        self.reads, self.writes, self.parts = reads, writes, parts
        address = bits_for(depth - 1)
        read = wiring.Signature({"address": Out(address), "data": In(width)})
        write = wiring.Signature(
            {"enable": Out(parts), "address": Out(address), "data": Out(width)}
        )
        super().__init__({"read": In(read).array(reads), "write": In(write).array(writes)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        memory: Any = Memory(shape=self.width, depth=self.depth, init=[])
        m.submodules.memory = memory
        read: Any = self.read
        write: Any = self.write
        for i in range(self.reads):
            port = memory.read_port(domain="comb")
            m.d.comb += [port.addr.eq(read[i].address), read[i].data.eq(port.data)]
        for i in range(self.writes):
            target = memory.write_port(granularity=self.width // self.parts)
            m.d.comb += [
                target.en.eq(write[i].enable),
                target.addr.eq(write[i].address),
                target.data.eq(write[i].data),
            ]
        return m
