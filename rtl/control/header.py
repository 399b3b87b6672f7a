"""The check that a program is made for this machine."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codes import FAULT_BITS, Fault
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.registers import HEADER_WORDS, PROGRAM_MAGIC, PROGRAM_VERSION
from rowmesh.rtl.layouts import WORD_BITS

__all__ = ["HeaderCheck"]


class HeaderCheck(wiring.Component):
    """Look at the words of a program's header one by one.

    Words (low half, high half): magic, version; hash of the configuration, number of
    instructions; CRC-32 of the instructions, number of all words; 0, 0.

    Parameters
    ----------
    config : Config
        Its hash must be the header's.
    word_bits : int
        Width of a number of words.

    Attributes
    ----------
    take : In(1), number : In(2), word : In(64)
        Word `number` of the header is there in this cycle.
    limit : In(word_bits)
        Words that the program may have in all.
    problem : Out(`Fault`)
        What is wrong with this word, while `take`.
    count : Out(word_bits), crc : Out(32)
        Number of instructions and their CRC, from the cycle after their word.

    Notes
    -----
    `problem` is combinational from `word`.
    """

    def __init__(self, config: Config, word_bits: int) -> None:
        self.hash = config.hash
        self.word_bits = word_bits
        super().__init__(
            {
                "take": In(1),
                "number": In(range(HEADER_WORDS)),
                "word": In(WORD_BITS),
                "limit": In(word_bits),
                "problem": Out(FAULT_BITS),
                "count": Out(word_bits),
                "crc": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        low, high = self.word[:32], self.word[32:]
        found = Signal(FAULT_BITS)
        with m.Switch(self.number):
            with m.Case(0):
                with m.If(low != PROGRAM_MAGIC):
                    m.d.comb += found.eq(Fault.PROGRAM_MAGIC)
                with m.Elif(high != PROGRAM_VERSION):
                    m.d.comb += found.eq(Fault.PROGRAM_VERSION)
            with m.Case(1):
                with m.If(low != self.hash):
                    m.d.comb += found.eq(Fault.PROGRAM_CONFIG)
                with m.Elif((high == 0) | (high >> self.word_bits != 0)):
                    m.d.comb += found.eq(Fault.PROGRAM_LENGTH)
                with m.If(self.take):
                    m.d.sync += self.count.eq(high)
            with m.Case(2):
                with m.If((high != self.count + HEADER_WORDS) | (high > self.limit)):
                    m.d.comb += found.eq(Fault.PROGRAM_LENGTH)
                with m.If(self.take):
                    m.d.sync += self.crc.eq(low)
            # Reserved words are 0 in this version.
            with m.Case(3), m.If(self.word != 0):
                m.d.comb += found.eq(Fault.PROGRAM_VERSION)
        with m.If(self.take):
            m.d.comb += self.problem.eq(found)
        return m
