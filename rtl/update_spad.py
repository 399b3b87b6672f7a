"""The small memory whose ports read, add and write a word in one cycle."""

from functools import reduce
from operator import xor
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import bits_for
from rowmesh.rtl.spad import Spad

__all__ = ["UpdateSpad"]


class UpdateSpad(wiring.Component):
    """Scratch pad with ports that read a word and write it anew in the same cycle.

    Parameters
    ----------
    width, depth
        Bits of a word and number of words (any depth).
    ports
        Number of ports.

    Attributes
    ----------
    port : array of In(address, enable, new data in, old data out)
        `old` follows `address` in the same cycle: the word as before this cycle's writes. With
        `enable` the word is `new` from the next cycle on. Two ports never write the same address
        in one cycle (the caller sees to it).

    Notes
    -----
    Contents survive a reset. On an FPGA `new` follows `old` of its port: nothing is cut.
    """

    def __init__(self, width: int, depth: int, *, ports: int) -> None:
        self.width, self.depth, self.ports = width, depth, ports
        port = wiring.Signature(
            {
                "address": Out(bits_for(depth - 1)),
                "enable": Out(1),
                "new": Out(width),
                "old": In(width),
            }
        )
        super().__init__({"port": In(port).array(ports)})

    def elaborate(self, platform: Any) -> Module:
        if platform is None or self.ports == 1:
            return self.elaborate_whole()
        return self.elaborate_shares()

    def elaborate_whole(self) -> Module:
        """One memory with all ports."""
        m = Module()
        spad = Spad(self.width, self.depth, reads=self.ports, writes=self.ports)
        m.submodules.spad = spad
        for port, read, write in zip(self.port, spad.read, spad.write, strict=True):
            m.d.comb += [
                read.address.eq(port.address),
                port.old.eq(read.data),
                write.address.eq(port.address),
                write.enable.eq(port.enable),
                write.data.eq(port.new),
            ]
        return m

    def elaborate_shares(self) -> Module:
        """For distributed RAM, which has one write port: a memory of its own for every port.

        A word is the exclusive or of its shares in all of them, so a port sets the word by writing
        its own share alone, whatever the others are.
        """
        m = Module()
        ports: list[Any] = list(self.port)
        spads: list[Any] = [Spad(self.width, self.depth, reads=self.ports) for _ in ports]
        for n, port in enumerate(ports):
            m.submodules[f"share_{n}"] = spads[n]
            for spad in spads:
                m.d.comb += spad.read[n].address.eq(port.address)
            shares = [spad.read[n].data for spad in spads]
            others = reduce(xor, (share for i, share in enumerate(shares) if i != n))
            m.d.comb += [
                port.old.eq(shares[n] ^ others),
                spads[n].write[0].address.eq(port.address),
                spads[n].write[0].enable.eq(port.enable),
                spads[n].write[0].data.eq(port.new ^ others),
            ]
        return m
