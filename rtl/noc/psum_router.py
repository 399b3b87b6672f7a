"""The router of one PE column's psums."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import Layouts

__all__ = ["PsumRouter"]


class PsumRouter(wiring.Component):
    """Let `beats` psum beats leave the PE column, and as many enter it from the south.

    Psums go to the bank of this cluster or, with `to_north`, on to the cluster north. With
    `from_south` as many beats of the cluster south enter the column at its bottom PE. A beat leaves
    only after its beat from the south has entered, as it must; the lead is bounded.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    desc : In(stream of `Layouts.psum_router`)
        The circuit; taken with its last beat.
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
    needs a `Skid`.
    """

    def __init__(self, config: Config) -> None:
        #: A beat waits in every PE of the column at most.
        self.lead_bits = bits_for(config.pe_rows + 1)
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
        circuit: Any = self.desc.payload
        left = Signal.like(circuit.beats, reset_less=True)  # beats that have not left
        ahead = Signal(self.lead_bits)  # beats that have entered and not left
        enters, leaves = Signal(), Signal()
        in_open, out_open, moves_in, moves_out = Signal(), Signal(), Signal(), Signal()
        full = (1 << self.lead_bits) - 1
        m.d.comb += [
            enters.eq(self.busy & circuit.from_south),
            in_open.eq(enters & (left > ahead) & (ahead != full)),
            out_open.eq(self.busy & (~circuit.from_south | (ahead != 0))),
            self.bank.payload.eq(self.pe.payload),
            self.bank.valid.eq(self.pe.valid & out_open & ~circuit.to_north),
            self.north_o.payload.eq(self.pe.payload),
            self.north_o.valid.eq(self.pe.valid & out_open & circuit.to_north),
            self.pe.ready.eq(out_open & Mux(circuit.to_north, self.north_o.ready, self.bank.ready)),
            self.chain.payload.eq(self.south_i.payload),
            self.chain.valid.eq(self.south_i.valid & in_open),
            self.south_i.ready.eq(self.chain.ready & in_open),
            moves_in.eq(self.south_i.valid & self.south_i.ready),
            moves_out.eq(self.pe.valid & self.pe.ready),
            leaves.eq(moves_out & circuit.from_south),
            self.desc.ready.eq(Mux(self.busy, moves_out & (left == 1), circuit.beats == 0)),
        ]
        m.d.sync += ahead.eq(ahead + moves_in - leaves)
        with m.If(~self.busy):
            m.d.sync += [
                left.eq(circuit.beats),
                self.busy.eq(self.desc.valid & (circuit.beats != 0)),
            ]
        with m.Elif(moves_out):
            m.d.sync += [left.eq(left - 1), self.busy.eq(left != 1)]
        return m
