"""The router of one PE row's weights."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts, Source
from rowmesh.rtl.noc.fork import Fork

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
        The circuit; taken with its last beat. Sources but `WEST` and `EAST` mean `LOCAL`.
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
    Latency 0, one beat a cycle, one cycle between descriptors. Combinational from the inputs'
    payload and valid to the outputs', and from the outputs' ready to the inputs': every link of
    the mesh needs a `Hop`.
    """

    def __init__(self, config: Config) -> None:
        self.layouts = Layouts(config)
        self.cols = config.pe_cols
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
        m.submodules.fork = fork = Fork(self.layouts.weight_beat, 2 + self.cols)
        circuit: Any = self.desc.payload
        left = Signal.like(circuit.blocks, reset_less=True)
        turn = Signal(self.cols, reset_less=True)  # listeners of this block
        ends = Signal()
        m.d.comb += [
            ends.eq(fork.i.valid & fork.i.ready & fork.i.payload.last),
            self.desc.ready.eq(Mux(self.busy, ends & (left == 1), circuit.blocks == 0)),
        ]
        with m.Switch(circuit.source):
            for source, port in ((Source.WEST, self.west_i), (Source.EAST, self.east_i)):
                with m.Case(source.value):
                    self._connect(m, port, fork.i)
            with m.Default():
                self._connect(m, self.local, fork.i)

        destinations = [self.west_o, self.east_o, *self.pe]
        for tap, port in zip(fork.o, destinations, strict=True):
            m.d.comb += [
                port.payload.eq(tap.payload),
                port.valid.eq(tap.valid),
                tap.ready.eq(port.ready),
            ]
        m.d.comb += fork.select.eq(Cat(circuit.to_west, circuit.to_east, turn))

        # One-hot `turn`: ~(turn - 1) << 1 masks the columns above it.
        above = Signal(self.cols)
        m.d.comb += above.eq(circuit.listeners & (~(turn - 1) << 1))
        with m.If(~self.busy):
            listeners = circuit.listeners
            m.d.sync += [
                left.eq(circuit.blocks),
                turn.eq(Mux(circuit.deal, _lowest(listeners), listeners)),
                self.busy.eq(self.desc.valid & (circuit.blocks != 0)),
            ]
        with m.Elif(ends):
            m.d.sync += [left.eq(left - 1), self.busy.eq(left != 1)]
            with m.If(circuit.deal):
                m.d.sync += turn.eq(_lowest(Mux(above.any(), above, circuit.listeners)))
        return m

    def _connect(self, m: Module, port: Any, sink: Any) -> None:
        """Feed `sink` from `port` while a circuit is held."""
        m.d.comb += [
            sink.payload.eq(port.payload),
            sink.valid.eq(port.valid & self.busy),
            port.ready.eq(sink.ready & self.busy),
        ]


def _lowest(mask: Any) -> Any:
    """Only the lowest set bit of `mask`."""
    return mask & (~mask + 1)
