"""The one small memory of the PE; swap it here for SRAM macros or FPGA blocks."""

from typing import Any

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import bits_for

__all__ = ["Spad"]

#: Words of a distributed RAM of an FPGA.
RAM_WORDS = 16


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
    read an undefined word and write nothing. On an FPGA (`elaborate` is given a platform) a deeper
    memory is made of distributed RAMs of 16 words, and there must be one write port: see
    `UpdateSpad` for more.
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
        if platform is not None and self.depth > RAM_WORDS:
            return self.elaborate_banks()
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

    def elaborate_banks(self) -> Module:
        """Memories of 16 words, and a tree of multiplexers that takes no more than it must."""
        m = Module()
        ports: Any = self
        bits = bits_for(RAM_WORDS - 1)
        banks: list[Any] = []
        for first in range(0, self.depth, RAM_WORDS):
            words = min(RAM_WORDS, self.depth - first)
            bank = Spad(self.width, words, reads=self.reads, writes=self.writes, parts=self.parts)
            m.submodules[f"bank_{len(banks)}"] = bank
            banks.append(bank)
        for number, bank in enumerate(banks):
            low = bits_for(bank.depth - 1)
            for inner, outer in zip(bank.read, ports.read, strict=True):
                m.d.comb += inner.address.eq(outer.address[:low])
            for inner, outer in zip(bank.write, ports.write, strict=True):
                here = outer.address[bits:] == number
                m.d.comb += [
                    inner.address.eq(outer.address[:low]),
                    inner.data.eq(outer.data),
                    inner.enable.eq(Mux(here, outer.enable, 0)),
                ]
        for n, outer in enumerate(ports.read):
            words_read = [bank.read[n].data for bank in banks]
            for bit in outer.address[bits:]:
                pairs = zip(words_read[::2], [*words_read[1::2], words_read[-1]], strict=False)
                words_read = [Mux(bit, upper, lower) for lower, upper in pairs]
            m.d.comb += outer.data.eq(words_read[0])
        return m
