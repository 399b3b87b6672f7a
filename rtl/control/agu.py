"""The one address generator: an affine loop nest."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.nest import Nest

__all__ = ["Agu"]


class Agu(wiring.Component):
    """Addresses of an affine loop nest, one a cycle.

    ``address_k = base_k + sum(i_level * stride_k[level])`` for each named address, level 0 the
    innermost. Any count of zero makes the nest empty: it ends without an address.

    Parameters
    ----------
    loops : Nest
        The descriptor's loops.
    addresses
        For every address its step field and its width: ``{"psum": ("psum_step", 12)}``.
        Addresses wrap at their width.

    Attributes
    ----------
    start : In(1)
        Load the bases and begin; only while `busy` is low.
    loops : In(loops)
        Held stable from `start` on while `busy`.
    base : In(struct)
        First value of every address, sampled at `start`.
    o : Out(stream)
        The addresses, and `ends`: bit L says that the loops 0..L all are at their last round.
    busy : Out(1)
        From the cycle after `start` until the last transfer.

    Notes
    -----
    Latency 1 cycle, one address a cycle. `o` comes from registers; `o.ready` reaches counters only.
    """

    def __init__(self, loops: Nest, addresses: dict[str, tuple[str, int]]) -> None:
        self.addresses = addresses
        self.levels = len(loops.members)
        widths = data.StructLayout({name: width for name, (_, width) in addresses.items()})
        super().__init__(
            {
                "start": In(1),
                "loops": In(loops),
                "base": In(widths),
                "o": Out(
                    stream.Signature(data.StructLayout({"address": widths, "ends": self.levels}))
                ),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        loops: list[Any] = [self.loops[f"level_{i}"] for i in range(self.levels)]
        base: Any = self.base
        payload: Any = self.o.payload
        left = [
            Signal(loop.count.shape(), name=f"left_{i}", reset_less=True)
            for i, loop in enumerate(loops)
        ]
        last, ends, steps = Signal(self.levels), Signal(self.levels), Signal(self.levels)
        below: Any = 1
        for i in range(self.levels):
            # The level that steps is the lowest that is not at its last round.
            m.d.comb += [
                last[i].eq(left[i] == 1),
                steps[i].eq(below & ~last[i]),
                ends[i].eq(below & last[i]),
            ]
            below = ends[i]
        m.d.comb += [self.o.valid.eq(self.busy), payload.ends.eq(ends)]

        moves = Signal()
        m.d.comb += moves.eq(self.busy & self.o.ready)
        with m.If(self.start):
            m.d.sync += self.busy.eq(~reduce(or_, (loop.count == 0 for loop in loops)))
        with m.Elif(moves & ends[-1]):
            m.d.sync += self.busy.eq(0)
        for i, loop in enumerate(loops):
            # A level that ends begins again, if a higher one steps.
            with m.If(self.start | (moves & ends[i])):
                m.d.sync += left[i].eq(loop.count)
            with m.Elif(moves & steps[i]):
                m.d.sync += left[i].eq(left[i] - 1)
        for name, (field, width) in self.addresses.items():
            at = Signal(width, name=f"at_{name}", reset_less=True)
            shape = Shape.cast(loops[0][field].shape())
            step = Signal(shape, name=f"step_{name}")
            m.d.comb += [
                payload.address[name].eq(at),
                step.eq(
                    reduce(or_, (Mux(steps[i], loop[field], 0) for i, loop in enumerate(loops)))
                ),
            ]
            with m.If(self.start):
                m.d.sync += at.eq(base[name])
            with m.Elif(moves):
                m.d.sync += at.eq(at + step)
        return m
