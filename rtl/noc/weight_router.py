"""The router of one PE row's weights."""

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

__all__ = ["WeightRouter"]


class WeightRouter(wiring.Component):
    """Hold a circuit for `blocks` weight blocks, from one source to neighbours and a row of PEs.

    Every beat goes to the enabled neighbours. A block goes to all listeners of the row, or with
    `deal` block n goes to the (n mod number of listeners)-th listener, lowest column first.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    desc : In(stream of `Layouts.weight_router`)
        The circuit; taken when its last beat has left. Sources but `WEST` and `EAST` mean `LOCAL`.
    local : In(stream of `Layouts.weight_beat`)
        From the weight loader.
    west_i, east_i : In(stream), west_o, east_o : Out(stream)
        The mesh.
    pe : Out(stream) x pe_cols
        To the PEs of the row.
    busy : Out(1)
        A circuit is held.

    Notes
    -----
    Latency 1 cycle, one beat a cycle, three cycles between descriptors. A `Hop` stands between the
    sources and the destinations: it cuts every path, so links of the mesh need no register.
    """

    def __init__(self, config: Config) -> None:
        self.layouts = Layouts(config)
        self.cols = config.pe_cols
        self.deep = config.deep_pipeline
        super().__init__(self.members(config))

    @staticmethod
    def members(config: Config) -> dict[str, Any]:
        """Ports of a router of this configuration."""
        layouts = Layouts(config)
        beat = stream.Signature(layouts.weight_beat)
        return {
            "desc": In(stream.Signature(layouts.weight_router)),
            "local": In(beat),
            "west_i": In(beat),
            "east_i": In(beat),
            "west_o": Out(beat),
            "east_o": Out(beat),
            "pe": Out(beat).array(config.pe_cols),
            "busy": Out(1),
        }

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.hop = hop = Hop(self.layouts.weight_beat, eager=self.deep)
        m.submodules.fork = fork = Fork(self.layouts.weight_beat, 2 + self.cols)
        circuit: Any = self.desc.payload
        opened = Signal()  # blocks of the circuit are still to come
        with m.Switch(circuit.source):
            for source, port in ((Source.WEST, self.west_i), (Source.EAST, self.east_i)):
                with m.Case(source.value):
                    gate(m, port, hop.i, opened)
            with m.Default():
                gate(m, self.local, hop.i, opened)
        connect(m, hop.o, fork.i)

        left = Signal.like(circuit.blocks, reset_less=True)
        turn = Signal(self.cols, reset_less=True)  # listeners of the block that leaves
        # One-hot `turn`: ~(turn - 1) << 1 masks the columns above it.
        above = Signal(self.cols)
        listeners = circuit.listeners
        empty = circuit.blocks == 0
        m.d.comb += [
            self.desc.ready.eq(Mux(self.busy, ~opened & ~hop.o.valid, empty)),
            above.eq(listeners & (~(turn - 1) << 1)),
        ]
        with m.If(~self.busy):
            begins = self.desc.valid & ~empty
            m.d.sync += [
                left.eq(circuit.blocks),
                turn.eq(Mux(circuit.deal, _lowest(listeners), listeners)),
                self.busy.eq(begins),
                opened.eq(begins),
            ]
        with m.Elif(self.desc.ready):
            m.d.sync += self.busy.eq(0)
        with m.If(hop.i.valid & hop.i.ready & hop.i.payload.last):
            m.d.sync += [left.eq(left - 1), opened.eq(left != 1)]
        with m.If(fork.i.valid & fork.i.ready & fork.i.payload.last & circuit.deal):
            m.d.sync += turn.eq(_lowest(Mux(above.any(), above, listeners)))

        for tap, port in zip(fork.o, [self.west_o, self.east_o, *self.pe], strict=True):
            connect(m, tap, flipped(port))
        m.d.comb += fork.select.eq(Cat(circuit.to_west, circuit.to_east, turn))
        return m


def _lowest(mask: Any) -> Any:
    """Only the lowest set bit of `mask`."""
    return mask & (~mask + 1)
