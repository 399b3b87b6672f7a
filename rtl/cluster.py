"""One cluster: global buffer, routers, PEs, movers and post-processing."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.axi.signatures import burst_layout, write_beat_layout
from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.control.config_node import ConfigNode
from rowmesh.rtl.dma.dma_cluster import DmaCluster
from rowmesh.rtl.glb.glb_cluster import GlbCluster
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.noc.hop import connect_deep
from rowmesh.rtl.noc.router_cluster import RouterCluster
from rowmesh.rtl.noc.skid import Skid
from rowmesh.rtl.pe.activity_counters import COUNTER_BITS, ENTRIES
from rowmesh.rtl.pe.pe_cluster import PeCluster
from rowmesh.rtl.post.post import Post

__all__ = ["Cluster"]


class Cluster(wiring.Component):
    """The tile that the mesh is made of; every instance is the same module.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    row, col : In
        Position in the mesh: constants.
    config_i, config_south, config_east : streams of `Layouts.config_write`
        The configuration tree; `enable_south` and `enable_east` say where it goes on.
    iact_{north,south,west,east}_{i,o} : streams, array of `glb_iact_banks`
    weight_{west,east}_{i,o} : streams, array of `pe_rows`
    psum_north_o, psum_south_i : streams, array of `pe_cols`
        The mesh. Outputs come from registers through a few gates.
    read_burst, read_beat : streams, array of `read_channels`
    write_burst, write_beat, write_done
        To the AXI masters.
    busy, writers_busy : Out(1), fault : Out(`Fault`)
        Status, registered.
    count_enable, count_clear, counter_pe, counter_entry, counter_value
        Activity counters of the PEs: see `PeCluster`.

    Notes
    -----
    No combinational path from a mesh input to a mesh output.
    """

    def __init__(self, config: Config) -> None:
        self.config = c = config
        layouts = Layouts(c)
        iact = stream.Signature(layouts.iact_beat)
        weight = stream.Signature(layouts.weight_beat)
        psum = stream.Signature(layouts.psum_beat)
        bus = stream.Signature(layouts.config_write)
        channels = c.read_channels
        members: dict[str, Any] = {
            "row": In(bits_for(c.cluster_rows - 1)),
            "col": In(bits_for(c.cluster_cols - 1)),
            "config_i": In(bus),
            "config_south": Out(bus),
            "config_east": Out(bus),
            "enable_south": In(1),
            "enable_east": In(1),
            "psum_north_o": Out(psum).array(c.pe_cols),
            "psum_south_i": In(psum).array(c.pe_cols),
            "read_burst": Out(stream.Signature(burst_layout())).array(channels),
            "read_beat": In(stream.Signature(c.axi_data_bits)).array(channels),
            "write_burst": Out(stream.Signature(burst_layout())),
            "write_beat": Out(stream.Signature(write_beat_layout(c))),
            "write_done": In(1),
            "busy": Out(1),
            "writers_busy": Out(1),
            "fault": Out(FAULT_BITS),
            "count_enable": In(1),
            "count_clear": In(1),
            "counter_pe": In(bits_for(c.pes_per_cluster - 1)),
            "counter_entry": In(range(ENTRIES)),
            "counter_value": Out(COUNTER_BITS),
        }
        for side in ("north", "south", "west", "east"):
            members[f"iact_{side}_i"] = In(iact).array(c.glb_iact_banks)
            members[f"iact_{side}_o"] = Out(iact).array(c.glb_iact_banks)
        for side in ("west", "east"):
            members[f"weight_{side}_i"] = In(weight).array(c.pe_rows)
            members[f"weight_{side}_o"] = Out(weight).array(c.pe_rows)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        m.submodules.config_node = node = ConfigNode(c)
        m.submodules.dma_cluster = dma = DmaCluster(c)
        m.submodules.glb_cluster = glb = GlbCluster(c)
        m.submodules.router_cluster = routers = RouterCluster(c)
        m.submodules.pe_cluster = pes = PeCluster(c)
        m.submodules.post = post = Post(c)

        self._configure(m, node, dma, glb, routers, pes, post)
        self._connect_memory(m, dma)
        self._connect_mesh(m, routers)
        # DRAM -> banks -> iact routers -> PEs
        for b in range(c.glb_iact_banks):
            connect(m, dma.iact_write[b], glb.write[b])
            connect(m, glb.iact[b], routers.iact_local[b])
            for pe in range(c.pes_per_cluster):
                connect(m, routers.iact_pe[b][pe], pes.iact[b][pe])
            m.d.comb += dma.tiles[b].eq(glb.tiles[b])
        m.d.comb += glb.tile_written.eq(dma.tile_written)
        # DRAM -> weight routers -> PEs
        for r in range(c.pe_rows):
            connect(m, dma.weight[r], routers.weight_local[r])
            for j in range(c.pe_cols):
                connect(m, routers.weight_pe[r][j], pes.weight[r][j])
        # PEs -> psum routers -> psum banks -> post -> DRAM. The unit behind a hop is busy.
        deep = c.deep_pipeline
        for j in range(c.pe_cols):
            connect_deep(m, deep, f"chain_hop_{j}", routers.psum_chain[j], pes.psum_in[j])
            connect(m, pes.psum_out[j], routers.psum_pe[j])
            connect_deep(m, deep, f"psum_hop_{j}", routers.psum_bank[j], glb.psum[j])
            connect(m, post.read_address[j], glb.read_address[j])
            m.d.comb += post.read_data[j].eq(glb.read_data[j])
        m.d.comb += [post.full.eq(glb.full), glb.release.eq(post.release)]
        connect(m, dma.param, post.param)
        m.d.comb += [post.loaded.eq(dma.loaded), dma.half_free.eq(post.half_free)]
        connect(m, post.word, dma.word)

        self._status(m, node, dma, glb, routers, pes, post)
        return m

    def _configure(
        self, m: Module, node: Any, dma: Any, glb: Any, routers: Any, pes: Any, post: Any
    ) -> None:
        """The configuration tree, and a descriptor stream for every unit."""
        connect(m, flipped(self.config_i), node.i)
        connect(m, node.south, flipped(self.config_south))
        connect(m, node.east, flipped(self.config_east))
        m.d.comb += [
            node.row.eq(self.row),
            node.col.eq(self.col),
            node.enable_south.eq(self.enable_south),
            node.enable_east.eq(self.enable_east),
        ]
        for source, units in (
            (node.pe, pes.desc),
            (node.iact_router, routers.iact_desc),
            (node.weight_router, routers.weight_desc),
            (node.psum_router, routers.psum_desc),
            (node.iact_loader, dma.iact_desc),
            (node.iact_reader, glb.iact_desc),
            (node.weight_loader, dma.weight_desc),
            (node.psum_bank, glb.psum_desc),
            (node.post, [post.desc]),
            (node.out_writer, [dma.out_desc]),
            (node.param_loader, [dma.param_desc]),
        ):
            for out, unit in zip(source, units, strict=True):
                connect(m, out, unit)

    def _connect_memory(self, m: Module, dma: Any) -> None:
        for i in range(self.config.read_channels):
            connect(m, dma.read_burst[i], flipped(self.read_burst[i]))
            connect(m, flipped(self.read_beat[i]), dma.read_beat[i])
        connect(m, dma.write_burst, flipped(self.write_burst))
        connect(m, dma.write_beat, flipped(self.write_beat))
        m.d.comb += dma.write_done.eq(self.write_done)

    def _connect_mesh(self, m: Module, routers: Any) -> None:
        """Links of the mesh. Routers of iacts and weights cut every path, PEs do but for ready."""
        for name, sides in (
            ("iact", ("north", "south", "west", "east")),
            ("weight", ("west", "east")),
        ):
            for port in (f"{name}_{side}_{way}" for side in sides for way in ("i", "o")):
                for inside, outside in zip(
                    getattr(routers, port), getattr(self, port), strict=True
                ):
                    connect(m, inside, flipped(outside))
        for i, (out, outside) in enumerate(
            zip(routers.psum_north_o, self.psum_north_o, strict=True)
        ):
            m.submodules[f"skid_{i}"] = skid = Skid(out.payload.shape())
            connect(m, out, skid.i)
            connect(m, skid.o, flipped(outside))
        for inside, outside in zip(routers.psum_south_i, self.psum_south_i, strict=True):
            connect(m, inside, flipped(outside))

    def _status(
        self, m: Module, node: Any, dma: Any, glb: Any, routers: Any, pes: Any, post: Any
    ) -> None:
        busy = Signal()
        m.d.comb += busy.eq(
            node.pending
            | dma.busy
            | glb.busy
            | pes.busy
            | post.busy
            | Cat(link.valid for link in self.psum_north_o).any()
            | routers.iact_busy.any()
            | routers.weight_busy.any()
            | routers.psum_busy.any()
        )
        m.d.sync += [
            self.busy.eq(busy),
            # A descriptor still on its way to the output writer counts as its work.
            self.writers_busy.eq(dma.writer_busy | node.writer_pending),
            self.fault.eq(dma.fault | 0),
        ]
        for unit in (pes, glb):
            with m.If(unit.fault != 0):
                m.d.sync += self.fault.eq(unit.fault)
        m.d.comb += [
            pes.count_enable.eq(self.count_enable),
            pes.count_clear.eq(self.count_clear),
            pes.counter_pe.eq(self.counter_pe),
            pes.counter_entry.eq(self.counter_entry),
            self.counter_value.eq(pes.counter_value),
        ]
