"""The router of one iact network."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts, Source
from rowmesh.rtl.noc.fork import Fork

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
        The circuit; taken with its last beat. Period 0 means 16; sources that do not exist mean
        `Source.LOCAL`.
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
    Latency 0, one beat a cycle, one cycle between descriptors. Combinational from the inputs'
    payload and valid to the outputs', and from the outputs' ready to the inputs': every link of
    the mesh needs a `Hop`.
    """

    def __init__(self, config: Config) -> None:
        self.layouts = Layouts(config)
        self.pes = config.pes_per_cluster
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
        m.submodules.fork = fork = Fork(self.layouts.iact_beat, 4 + self.pes)
        circuit: Any = self.desc.payload
        left = Signal.like(circuit.segments, reset_less=True)
        slot = Signal(4, reset_less=True)  # segment number mod period
        ends = Signal()
        m.d.comb += [
            ends.eq(fork.i.valid & fork.i.ready & fork.i.payload.last),
            self.desc.ready.eq(Mux(self.busy, ends & (left == 1), circuit.segments == 0)),
        ]
        sources = {
            Source.NORTH: self.north_i,
            Source.SOUTH: self.south_i,
            Source.WEST: self.west_i,
            Source.EAST: self.east_i,
        }
        with m.Switch(circuit.source):
            for source, port in sources.items():
                with m.Case(source.value):
                    self._connect(m, port, fork.i)
            with m.Default():
                self._connect(m, self.local, fork.i)

        destinations = [self.north_o, self.south_o, self.west_o, self.east_o, *self.pe]
        for tap, port in zip(fork.o, destinations, strict=True):
            m.d.comb += [
                port.payload.eq(tap.payload),
                port.valid.eq(tap.valid),
                tap.ready.eq(port.ready),
            ]
        listens = [entry.enable & (entry.phase == slot) for entry in circuit.listeners]
        neighbours = [circuit.to_north, circuit.to_south, circuit.to_west, circuit.to_east]
        m.d.comb += fork.select.eq(Cat(*neighbours, *listens))

        with m.If(~self.busy):
            m.d.sync += [
                left.eq(circuit.segments),
                slot.eq(0),
                self.busy.eq(self.desc.valid & (circuit.segments != 0)),
            ]
        with m.Elif(ends):
            m.d.sync += [
                left.eq(left - 1),
                slot.eq(Mux(slot + 1 == circuit.period, 0, slot + 1)),
                self.busy.eq(left != 1),
            ]
        return m

    def _connect(self, m: Module, port: Any, sink: Any) -> None:
        """Feed `sink` from `port` while a circuit is held."""
        m.d.comb += [
            sink.payload.eq(port.payload),
            sink.valid.eq(port.valid & self.busy),
            port.ready.eq(sink.ready & self.busy),
        ]
