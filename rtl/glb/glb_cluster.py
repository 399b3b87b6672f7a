"""The global buffer of one cluster."""

from functools import reduce
from typing import Any

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import Config
from rowmesh.rtl.glb.iact_bank import TILE_BITS, IactBank, iact_write
from rowmesh.rtl.glb.iact_reader import IactReader
from rowmesh.rtl.glb.psum_bank import PsumBank
from rowmesh.rtl.layouts import Layouts

__all__ = ["GlbCluster"]


class GlbCluster(wiring.Component):
    """iact banks with their readers, and psum banks, side by side.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    write, tiles : arrays of `glb_iact_banks`; tile_written : In, one bit a bank
        From and to the iact loaders: see `IactBank`.
    iact_desc, iact : streams, arrays of `glb_iact_banks`
        Descriptor and segments of every `IactReader`.
    psum_desc, psum, read_address, read_data : streams, arrays of `pe_cols`
        Of every `PsumBank`.
    full : Out, release : In, one bit a psum bank
        Of every `PsumBank`.
    busy : Out(1)
        A reader or a psum bank is at work.
    fault : Out(`Fault`)
        The first non-zero one of the banks, registered; it stays until a reset.

    Notes
    -----
    Adds nothing to the latencies of the units, but for one cycle on `fault`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        layouts = Layouts(config)
        banks, cols = config.glb_iact_banks, config.pe_cols
        super().__init__(
            {
                "write": In(stream.Signature(iact_write(config))).array(banks),
                "tile_written": In(banks),
                "tiles": Out(TILE_BITS).array(banks),
                "iact_desc": In(stream.Signature(layouts.iact_reader)).array(banks),
                "iact": Out(stream.Signature(layouts.iact_beat)).array(banks),
                "psum_desc": In(stream.Signature(layouts.psum_bank)).array(cols),
                "psum": In(stream.Signature(layouts.psum_beat)).array(cols),
                "full": Out(cols),
                "read_address": In(stream.Signature(layouts.psum_word_bits)).array(cols),
                "read_data": Out(layouts.psum_beat).array(cols),
                "release": In(cols),
                "busy": Out(1),
                "fault": Out(FAULT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        busy: list[Any] = []
        for i in range(self.config.glb_iact_banks):
            m.submodules[f"iact_bank_{i}"] = bank = IactBank(self.config)
            m.submodules[f"iact_reader_{i}"] = reader = IactReader(self.config)
            connect(m, flipped(self.write[i]), bank.write)
            connect(m, flipped(self.iact_desc[i]), reader.desc)
            connect(m, reader.read, bank.read)
            connect(m, bank.data, reader.data)
            connect(m, reader.iact, flipped(self.iact[i]))
            m.d.comb += [
                bank.tile_written.eq(self.tile_written[i]),
                bank.tile_released.eq(reader.tile_released),
                reader.tiles.eq(bank.tiles),
                self.tiles[i].eq(bank.tiles),
            ]
            busy.append(reader.busy)

        faults: list[Any] = []
        for i in range(self.config.pe_cols):
            m.submodules[f"psum_bank_{i}"] = psum_bank = PsumBank(self.config)
            connect(m, flipped(self.psum_desc[i]), psum_bank.desc)
            connect(m, flipped(self.psum[i]), psum_bank.psum)
            connect(m, flipped(self.read_address[i]), psum_bank.read_address)
            m.d.comb += [
                self.read_data[i].eq(psum_bank.read_data),
                self.full[i].eq(psum_bank.full),
                psum_bank.release.eq(self.release[i]),
            ]
            busy.append(psum_bank.busy)
            faults.append(psum_bank.fault)
        m.d.comb += self.busy.eq(Cat(*busy).any())
        m.d.sync += self.fault.eq(
            reduce(lambda later, first: Mux(first.any(), first, later), reversed(faults))
        )
        return m
