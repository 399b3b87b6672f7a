"""The one memory for the window of iacts and for the ends of the weight columns."""

from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rowmesh.rtl.config import Config
from rowmesh.rtl.pe.records import Records
from rowmesh.rtl.spad import Spad

__all__ = ["OperandSpad"]


class OperandSpad(wiring.Component):
    """iact SPad and weight address SPad side by side in one memory.

    Each alone is too small to be more than flip-flops. Both have ports of their own, so neither
    knows of the other. On an FPGA, whose distributed RAM has one write port, they are two memories.

    Parameters
    ----------
    config
        The machine. One that is not sparse has no column ends.

    Attributes
    ----------
    iact_write, iact_read
        Words of the window.
    ends_write : In, ends_read : In, array of two
        Ends of columns.

    Notes
    -----
    See `Spad`: reads in the same cycle.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = records = Records(config)
        ports: dict[str, Any] = {
            "iact_write": In(records.iact_write),
            "iact_read": In(records.iact_read),
        }
        if config.sparse:
            ports["ends_write"] = In(records.ends_write)
            ports["ends_read"] = In(records.ends_read).array(2)
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c, records = self.config, self.records
        word_bits = records.layouts.iact_beat.size
        if not c.sparse or platform is not None:
            m.submodules.iacts = iacts = Spad(word_bits, c.iact_words)
            self.connect_iacts(m, iacts, 0)
            if not c.sparse:
                return m
            parts = c.weight_addrs_per_word
            depth = 1 << records.slot_bits + 1
            m.submodules.ends = ends = Spad(records.ends.size, depth, reads=2, parts=parts)
            self.connect_ends(m, ends, 0)
            return m
        # Parts of a word are as wide as an end, because ends are also written one by one.
        share = records.ends.elem_shape
        parts = max(-(-word_bits // share), c.weight_addrs_per_word)
        first = 1 << records.slot_bits + 1  # word of the window; the ends lie below
        depth = first + c.iact_words
        m.submodules.spad = spad = Spad(share * parts, depth, reads=3, writes=2, parts=parts)
        self.connect_iacts(m, spad, first)
        self.connect_ends(m, spad, 1)
        return m

    def connect_ends(self, m: Module, spad: Spad, number: int) -> None:
        """The ports from `number` on."""
        ports: Any = spad
        write: Any = self.ends_write
        m.d.comb += [
            ports.write[number].enable.eq(write.enable),
            ports.write[number].address.eq(write.address),
            ports.write[number].data.eq(write.data),
        ]
        reads: Any = self.ends_read
        for port, read in zip(ports.read[number:], reads, strict=True):
            m.d.comb += [port.address.eq(read.address), Value.cast(read.data).eq(port.data)]

    def connect_iacts(self, m: Module, spad: Spad, first: int) -> None:
        """The first port of each kind, for words from `first` on."""
        ports: Any = spad
        write: Any = self.iact_write
        read: Any = self.iact_read
        m.d.comb += [
            ports.write[0].enable.eq(write.enable.replicate(spad.parts)),
            ports.write[0].address.eq(write.address + first),
            ports.write[0].data.eq(write.data),
            ports.read[0].address.eq(read.address + first),
            Value.cast(read.data).eq(ports.read[0].data),
        ]
