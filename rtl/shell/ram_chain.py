"""Block RAM in banks that stand in a row, each with wires to its neighbours only."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import bits_for

__all__ = ["BANK_BYTES", "RamChain"]

#: Of a bank: as many words as a DP16KD of an ECP5 has with ports of 4 bits, so that a bank of any
#: width needs no multiplexer between its block RAMs.
BANK_BYTES = 4096 * 8


class RamChain(wiring.Component):
    """One read and one write port; accesses and what was read wander along the banks.

    A large memory in one piece spreads over the whole FPGA, and a wire across it takes longer than
    anything else in a design. Here no wire is longer than from one bank to the next.

    Parameters
    ----------
    width : int
        Bits of a word, in bytes of 8.
    depth : int
        Words.
    bank_depth : int
        Words of a bank; the last one may have fewer.

    Attributes
    ----------
    read_enable, read_address : In
        Read port.
    read_data : Out(width)
        `latency` cycles after `read_enable`. Undefined when the word is written in the same cycle.
    write_enable, write_address, write_data : In
        Write port, an enable a byte. A read of the next cycle gives what was written.

    Notes
    -----
    An access a cycle on each port. Everything goes into a register, and `read_data` comes from one.
    Contents survive a reset.
    """

    def __init__(self, width: int, depth: int, bank_depth: int) -> None:
        self.width, self.depth, self.bank_depth = width, depth, bank_depth
        self.banks = -(-depth // bank_depth)
        #: Cycles from `read_enable` to `read_data`.
        self.latency = self.banks + 2
        address = bits_for(depth - 1)
        self.access = data.StructLayout(
            {
                "read_enable": 1,
                "read_address": address,
                "write_enable": width // 8,
                "write_address": address,
                "write_data": width,
            }
        )
        super().__init__(
            {**{name: In(field.shape) for name, field in self.access}, "read_data": Out(width)}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        before: Any = Signal(self.access)
        for name, _ in self.access:
            m.d.comb += before[name].eq(getattr(self, str(name)))
        found: Any = 0
        for number in range(self.banks):
            access: Any = Signal(self.access, name=f"access_{number}")
            m.d.sync += access.eq(before)
            found = self._build_bank(m, number, access, found)
            before = access
        m.d.comb += self.read_data.eq(found)
        return m

    def _build_bank(self, m: Module, number: int, access: Any, found: Any) -> Signal:
        """A bank and what was read, there or before; a cycle behind `access`, and registered."""
        depth = min(self.bank_depth, self.depth - number * self.bank_depth)
        memory: Any = Memory(shape=self.width, depth=depth, init=[])
        m.submodules[f"bank_{number}"] = memory
        read: Any = memory.read_port()
        write: Any = memory.write_port(granularity=8)
        inside = bits_for(self.bank_depth - 1)
        reads, read_here = Signal(name=f"reads_{number}"), Signal(name=f"read_here_{number}")
        writes = Signal(name=f"writes_{number}")
        m.d.comb += [
            reads.eq(access.read_enable & (access.read_address >> inside == number)),
            writes.eq(access.write_address >> inside == number),
            read.en.eq(reads),
            read.addr.eq(access.read_address[: len(read.addr)]),
            write.en.eq(Mux(writes, access.write_enable, 0)),
            write.addr.eq(access.write_address[: len(write.addr)]),
            write.data.eq(access.write_data),
        ]
        result = Signal(self.width, name=f"found_{number}", reset_less=True)
        m.d.sync += [read_here.eq(reads), result.eq(Mux(read_here, read.data, found))]
        return result
