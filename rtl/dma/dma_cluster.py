"""All movers between DRAM and one cluster."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.axi.signatures import burst_layout, write_beat_layout
from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import Config
from rowmesh.rtl.dma.iact_loader import IactLoader
from rowmesh.rtl.dma.out_writer import OutWriter
from rowmesh.rtl.dma.param_loader import ParamLoader
from rowmesh.rtl.dma.read_channels import ReadChannels
from rowmesh.rtl.dma.weight_loader import WeightLoader
from rowmesh.rtl.dma.write_channel import WriteChannel
from rowmesh.rtl.glb.iact_bank import iact_write
from rowmesh.rtl.layouts import WORD_BITS, Layouts
from rowmesh.rtl.noc.hop import connect_deep
from rowmesh.rtl.post.param_memory import param_entry

__all__ = ["DmaCluster"]


class DmaCluster(wiring.Component):
    """Loaders with a read channel each, and the output writer with its write channel.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    iact_desc, iact_write, tile_written, tiles : arrays of `glb_iact_banks`
        Descriptors of the iact loaders, words into the banks, and the banks' credits.
    weight_desc, weight : arrays of `pe_rows`
        Descriptors of the weight loaders and the blocks for the weight routers.
    param_desc, param, loaded, half_free
        The parameter loader.
    out_desc, word
        The output writer.
    read_burst, read_beat : arrays of read channels
        To the AXI master: iact loaders, weight loaders, parameter loader.
    write_burst, write_beat, write_done
        To the AXI master.
    busy, writer_busy : Out(1)
        Any mover, the output writer is at work.
    fault : Out(`Fault`)
        A code for a cycle; the lowest unit first.

    Notes
    -----
    Adds no register: see the units.
    """

    def __init__(self, config: Config) -> None:
        self.config = c = config
        layouts = Layouts(c)
        channels = c.read_channels
        super().__init__(
            {
                "iact_desc": In(stream.Signature(layouts.iact_loader)).array(c.glb_iact_banks),
                "iact_write": Out(stream.Signature(iact_write(c))).array(c.glb_iact_banks),
                "tile_written": Out(c.glb_iact_banks),
                "tiles": In(4).array(c.glb_iact_banks),
                "weight_desc": In(stream.Signature(layouts.weight_loader)).array(c.pe_rows),
                "weight": Out(stream.Signature(layouts.weight_beat)).array(c.pe_rows),
                "param_desc": In(stream.Signature(layouts.param_loader)),
                "param": Out(stream.Signature(param_entry(c))),
                "loaded": Out(1),
                "half_free": In(1),
                "out_desc": In(stream.Signature(layouts.out_writer)),
                "word": In(stream.Signature(WORD_BITS)),
                "read_burst": Out(stream.Signature(burst_layout())).array(channels),
                "read_beat": In(stream.Signature(c.axi_data_bits)).array(channels),
                "write_burst": Out(stream.Signature(burst_layout())),
                "write_beat": Out(stream.Signature(write_beat_layout(c))),
                "write_done": In(1),
                "busy": Out(1),
                "writer_busy": Out(1),
                "fault": Out(FAULT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        loaders: list[tuple[str, Any]] = []
        for b in range(c.glb_iact_banks):
            iact: Any = IactLoader(c)
            loaders.append((f"iact_{b}", iact))
            connect(m, iact.desc, flipped(self.iact_desc[b]))
            connect(m, iact.write, flipped(self.iact_write[b]))
            m.d.comb += [
                self.tile_written[b].eq(iact.tile_written),
                iact.tiles.eq(self.tiles[b]),
            ]
        for r in range(c.pe_rows):
            weight: Any = WeightLoader(c)
            loaders.append((f"weight_{r}", weight))
            connect(m, weight.desc, flipped(self.weight_desc[r]))
            connect(m, weight.weight, flipped(self.weight[r]))
        param: Any = ParamLoader(c)
        loaders.append(("param", param))
        connect(m, param.desc, flipped(self.param_desc))
        connect(m, param.param, flipped(self.param))
        m.d.comb += [self.loaded.eq(param.loaded), param.half_free.eq(self.half_free)]
        self._connect_channels(m, loaders)
        writer, channel = self._build_writer(m)

        units = [*(loader for _, loader in loaders), writer]
        m.d.comb += [
            self.busy.eq(Cat(*(unit.busy for unit in units), channel.busy).any()),
            self.writer_busy.eq(writer.busy | channel.busy),
        ]
        for unit in reversed(units):
            if hasattr(unit, "fault"):
                with m.If(unit.fault != 0):
                    m.d.comb += self.fault.eq(unit.fault)
        return m

    def _connect_channels(self, m: Module, loaders: list[tuple[str, Any]]) -> None:
        channels: Any = ReadChannels(self.config, len(loaders))
        m.submodules.read_channels = channels
        for i, (name, loader) in enumerate(loaders):
            m.submodules[f"{name}_loader"] = loader
            connect(m, loader.request, channels.request[i])
            connect(m, channels.data[i], loader.data)
            if hasattr(loader, "cancel"):
                m.d.comb += channels.cancel[i].eq(loader.cancel)
            if hasattr(loader, "ends"):
                m.d.comb += loader.ends.eq(channels.ends[i])
            connect(m, channels.burst[i], flipped(self.read_burst[i]))
            connect(m, flipped(self.read_beat[i]), channels.beat[i])

    def _build_writer(self, m: Module) -> tuple[Any, Any]:
        deep = self.config.deep_pipeline
        m.submodules.out_writer = writer = OutWriter(self.config)
        m.submodules.write_channel = channel = WriteChannel(self.config)
        connect(m, writer.desc, flipped(self.out_desc))
        connect(m, flipped(self.word), writer.word)
        connect(m, writer.request, channel.request)
        connect_deep(m, deep, "run_hop", writer.data, channel.data)
        connect(m, channel.burst, flipped(self.write_burst))
        connect_deep(m, deep, "beat_hop", channel.beat, flipped(self.write_beat))
        m.d.comb += channel.done.eq(self.write_done)
        return writer, channel
