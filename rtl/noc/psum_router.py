"""The router of one PE column's psums."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts

__all__ = ["PsumRouter"]


class PsumRouter(wiring.Component):
    """Let `beats` psum beats leave the PE column, and as many enter it from the south.

    Psums go to the bank of this cluster or, with `to_north`, on to the cluster north. With
    `from_south` as many beats of the cluster south enter the column at its bottom PE. The two
    directions run on their own; the descriptor is done when both are through.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    desc : In(stream of `Layouts.psum_router`)
        The next circuit.
    pe : In(stream of `Layouts.psum_beat`)
        From the top PE of the column.
    bank, north_o : Out(stream)
        To the psum bank and to the cluster north.
    south_i : In(stream)
        From the cluster south.
    chain : Out(stream)
        To the psum input of the bottom PE of the column.
    busy : Out(1)
        A circuit is held.

    Notes
    -----
    Latency 0, one beat a cycle each way, one cycle between descriptors. Combinational from `pe` to
    `bank` and `north_o` and from `south_i` to `chain`, and back for ready: every link of the mesh
    needs a `Hop`.
    """

    def __init__(self, config: Config) -> None:
        self.layouts = Layouts(config)
        super().__init__(self.members(config))

    @staticmethod
    def members(config: Config) -> dict[str, Any]:
        """Ports of a router of this configuration."""
        layouts = Layouts(config)
        beat = stream.Signature(layouts.psum_beat)
        return {
            "desc": In(stream.Signature(layouts.psum_router)),
            "pe": In(beat),
            "bank": Out(beat),
            "north_o": Out(beat),
            "south_i": In(beat),
            "chain": Out(beat),
            "busy": Out(1),
        }

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        desc: Any = self.desc.payload
        out_open = Signal()  # the circuit from the column
        in_open = Signal()  # the circuit into the column
        out_left = Signal.like(desc.beats, reset_less=True)
        in_left = Signal.like(desc.beats, reset_less=True)
        to_north = Signal(reset_less=True)

        m.d.comb += [
            self.busy.eq(out_open | in_open),
            self.desc.ready.eq(~self.busy),
            self.bank.payload.eq(self.pe.payload),
            self.bank.valid.eq(self.pe.valid & out_open & ~to_north),
            self.north_o.payload.eq(self.pe.payload),
            self.north_o.valid.eq(self.pe.valid & out_open & to_north),
            self.pe.ready.eq(out_open & Mux(to_north, self.north_o.ready, self.bank.ready)),
            self.chain.payload.eq(self.south_i.payload),
            self.chain.valid.eq(self.south_i.valid & in_open),
            self.south_i.ready.eq(self.chain.ready & in_open),
        ]
        with m.If(self.pe.valid & self.pe.ready):
            m.d.sync += [out_left.eq(out_left - 1), out_open.eq(out_left != 1)]
        with m.If(self.south_i.valid & self.south_i.ready):
            m.d.sync += [in_left.eq(in_left - 1), in_open.eq(in_left != 1)]
        with m.If(self.desc.valid & self.desc.ready):
            any_beats = desc.beats != 0
            m.d.sync += [
                out_left.eq(desc.beats),
                in_left.eq(desc.beats),
                to_north.eq(desc.to_north),
                out_open.eq(any_beats),
                in_open.eq(any_beats & desc.from_south),
            ]
        return m
