"""A run of steps with a border before and behind it."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Border"]


class Border(wiring.Component):
    """Count steps through three parts: border, body, border. Any of them may be empty.

    Parameters
    ----------
    border_bits, body_bits : int
        Widths of the parts' lengths.

    Attributes
    ----------
    before, body, after : In
        Lengths of the parts; stable from `begin` on.
    begin : In(1)
        Go to the first step.
    step : In(1)
        Go to the next step, from the last to the first; not when all parts are empty.
    inside : Out(1)
        This step is of the body.
    ends : Out(1)
        It is the last.
    empty : Out(1)
        There is no step.

    Notes
    -----
    `inside` comes from registers, `ends` from registers and the lengths; all paths are cut, but for
    lengths to `ends` and `empty`.
    """

    def __init__(self, border_bits: int, body_bits: int) -> None:
        super().__init__(
            {
                "before": In(border_bits),
                "body": In(body_bits),
                "after": In(border_bits),
                "begin": In(1),
                "step": In(1),
                "inside": Out(1),
                "ends": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lengths: list[Any] = [self.before, self.body, self.after]
        part = Signal(len(lengths))  # one-hot
        left = Signal(max(len(length) for length in lengths), reset_less=True)  # steps of the part
        there, follows, enters = Signal.like(part), Signal.like(part), Signal.like(part)
        last, anew = Signal(), Signal()
        m.d.comb += [
            there.eq(Cat(length.any() for length in lengths)),
            self.empty.eq(there == 0),
            # The part that comes next within the run; none after the last.
            follows.eq(Cat(0, part[0] & there[1], (part[1] | (part[0] & ~there[1])) & there[2])),
            last.eq(left == 1),
            self.inside.eq(part[1]),
            self.ends.eq(last & ~follows.any()),
            anew.eq(self.begin | (self.step & self.ends)),
            enters.eq(Mux(anew, there & ~(there << 1 | there << 2), Mux(last, follows, 0))),
        ]
        with m.If(self.begin | self.step):
            m.d.sync += left.eq(left - 1)
            with m.If(enters.any()):
                m.d.sync += part.eq(enters)
            for i, length in enumerate(lengths):
                with m.If(enters[i]):
                    m.d.sync += left.eq(length)
        return m
