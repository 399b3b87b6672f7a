"""The one address generator: an affine loop nest."""

from typing import Any

from amaranth.hdl import Module, Mux, Shape, ShapeCastable, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Agu"]


class Agu(wiring.Component):
    """Addresses of an affine loop nest, one a cycle.

    ``address_k = base_k + sum(i_level * stride_k[level])`` for each named address, level 0 the
    innermost. Any count of zero makes the nest empty: it ends without an address.

    Parameters
    ----------
    loops
        Array layout of the descriptor's loops: structs of `count` and one stride an address.
    addresses
        For every address its stride field and its width: ``{"psum": ("psum_stride", 12)}``.
        Addresses wrap at their width.

    Attributes
    ----------
    start : In(1)
        Load the bases and begin; only while `busy` is low.
    loops : In(loops)
        Held stable while `busy`.
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

    def __init__(self, loops: data.ArrayLayout, addresses: dict[str, tuple[str, int]]) -> None:
        self.addresses = addresses
        self.levels = loops.length
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
        loops: Any = self.loops
        base: Any = self.base
        payload: Any = self.o.payload
        count_shape: Shape | ShapeCastable | int = loops[0].count.shape()
        # Rounds left and, per address, the value at the start of every level's current round.
        left = [Signal(count_shape, name=f"left_{i}") for i in range(self.levels)]
        at = {
            name: [Signal(width, name=f"{name}_at_{i}") for i in range(self.levels)]
            for name, (_, width) in self.addresses.items()
        }
        last = [left[i] == 1 for i in range(self.levels)]
        ends = Signal(self.levels)
        below: Any = 1
        for i in range(self.levels):
            below = below & last[i]
            m.d.comb += ends[i].eq(below)
        empty = Signal()
        m.d.comb += empty.eq(data_any_zero(loops, self.levels))

        m.d.comb += [self.o.valid.eq(self.busy), payload.ends.eq(ends)]
        for name in self.addresses:
            m.d.comb += payload.address[name].eq(at[name][0])

        with m.If(self.start):
            m.d.sync += self.busy.eq(~empty)
            for i in range(self.levels):
                m.d.sync += left[i].eq(loops[i].count)
            for name in self.addresses:
                m.d.sync += [value.eq(base[name]) for value in at[name]]
        with m.Elif(self.o.valid & self.o.ready):
            with m.If(ends[-1]):
                m.d.sync += self.busy.eq(0)
            # The level that steps is the lowest that is not at its last round: it advances its own
            # start by its stride, and every level below restarts there.
            for i in range(self.levels):
                steps = ~last[i] & (ends[i - 1] if i else 1)
                with m.If(steps):
                    m.d.sync += left[i].eq(left[i] - 1)
                    for lower in range(i):
                        m.d.sync += left[lower].eq(loops[lower].count)
                    for name, (stride, width) in self.addresses.items():
                        moved = (at[name][i] + loops[i][stride])[:width]
                        m.d.sync += [at[name][j].eq(moved) for j in range(i + 1)]
        return m


def data_any_zero(loops: Any, levels: int) -> Any:
    """One when any count of the nest is zero."""
    zero: Any = 0
    for i in range(levels):
        zero = zero | (loops[i].count == 0)
    return Mux(zero, 1, 0)
