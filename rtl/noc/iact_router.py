"""The router of one iact network."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.codes import Source
from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.noc.fork import Fork
from rowmesh.rtl.noc.gate import gate
from rowmesh.rtl.noc.hop import Hop

__all__ = ["IactRouter"]


class IactRouter(wiring.Component):
    """Hold a circuit for `segments` segments, from one source to neighbours and PEs.

    Segment n of a descriptor goes to the PEs that listen with phase ``n mod period`` and to all
    enabled neighbours. A source that is not selected sees ready low.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    desc : In(stream of `Layouts.iact_router`)
        The circuit; taken when its last beat has left. Period 0 means 16; sources that do not exist
        mean `Source.LOCAL`.
    local : In(stream of `Layouts.iact_beat`)
        From the GLB bank of this router.
    north_i, south_i, west_i, east_i : In(stream), north_o, south_o, west_o, east_o : Out(stream)
        The mesh.
    pe : Out(stream) x pes_per_cluster
        To the PEs, number ``row * pe_cols + col``.
    busy : Out(1)
        A circuit is held.

    Notes
    -----
    Latency 1 cycle, one beat a cycle, three cycles between descriptors. A `Hop` stands between the
    sources and the destinations: it cuts every path, so links of the mesh need no register.
    """

    def __init__(self, config: Config) -> None:
        self.layouts = Layouts(config)
        self.pes = config.pes_per_cluster
        self.deep = config.deep_pipeline
        super().__init__(self.members(config))

    @staticmethod
    def members(config: Config) -> dict[str, Any]:
        """Ports of a router of this configuration."""
        layouts = Layouts(config)
        beat = stream.Signature(layouts.iact_beat)
        return {
            "desc": In(stream.Signature(layouts.iact_router)),
            "local": In(beat),
            "north_i": In(beat),
            "south_i": In(beat),
            "west_i": In(beat),
            "east_i": In(beat),
            "north_o": Out(beat),
            "south_o": Out(beat),
            "west_o": Out(beat),
            "east_o": Out(beat),
            "pe": Out(beat).array(config.pes_per_cluster),
            "busy": Out(1),
        }

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.hop = hop = Hop(self.layouts.iact_beat, eager=self.deep)
        m.submodules.fork = fork = Fork(self.layouts.iact_beat, 4 + self.pes)
        circuit: Any = self.desc.payload
        opened = Signal()  # segments of the circuit are still to come
        self._build_source(m, circuit, opened, hop.i)
        connect(m, hop.o, fork.i)

        left = Signal.like(circuit.segments, reset_less=True)
        slot = Signal(4, reset_less=True)  # number of the segment that leaves, mod period
        empty = circuit.segments == 0
        m.d.comb += self.desc.ready.eq(Mux(self.busy, ~opened & ~hop.o.valid, empty))
        with m.If(~self.busy):
            begins = self.desc.valid & ~empty
            m.d.sync += [left.eq(circuit.segments), slot.eq(0)]
            m.d.sync += [self.busy.eq(begins), opened.eq(begins)]
        with m.Elif(self.desc.ready):
            m.d.sync += self.busy.eq(0)
        with m.If(hop.i.valid & hop.i.ready & hop.i.payload.last):
            m.d.sync += [left.eq(left - 1), opened.eq(left != 1)]
        with m.If(fork.i.valid & fork.i.ready & fork.i.payload.last):
            m.d.sync += slot.eq(Mux(slot + 1 == circuit.period, 0, slot + 1))

        destinations = [self.north_o, self.south_o, self.west_o, self.east_o, *self.pe]
        for tap, port in zip(fork.o, destinations, strict=True):
            connect(m, tap, flipped(port))
        listens = [entry.enable & (entry.phase == slot) for entry in circuit.listeners]
        neighbours = [circuit.to_north, circuit.to_south, circuit.to_west, circuit.to_east]
        m.d.comb += fork.select.eq(Cat(*neighbours, *listens))
        return m

    def _build_source(self, m: Module, circuit: Any, opened: Signal, sink: Any) -> None:
        """Feed `sink` from the source of the circuit."""
        sources = {
            Source.NORTH: self.north_i,
            Source.SOUTH: self.south_i,
            Source.WEST: self.west_i,
            Source.EAST: self.east_i,
        }
        with m.Switch(circuit.source):
            for source, port in sources.items():
                with m.Case(source.value):
                    gate(m, port, sink, opened)
            with m.Default():
                gate(m, self.local, sink, opened)
