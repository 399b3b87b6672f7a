"""What the controller puts on the configuration bus."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codes import Opcode, Stepping, Unit
from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import WORD_BITS, Layouts

__all__ = ["ConfigIssue"]

_RAMPS = Opcode.RAMP, Opcode.RAMP_NUMBER
#: Writes that say the number themselves.
_NUMBERS = Opcode.ONE, Opcode.WRITE_NUMBER, Opcode.RAMP_NUMBER


class ConfigIssue(wiring.Component):
    """Execute masks, writes and steps: all instructions that end on the configuration bus.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    i : In(stream of 64)
        Instructions. One that is `refused` must not be transferred.
    refused : Out(1)
        The instruction of `i`, valid or not, is none for the bus, or is for no `Unit`, or is a
        ramp of a program that has not set the steps.
    clear : In(1)
        A program begins: no masks, and its steps are to come.
    flush : In(1)
        Forget the word on the bus.
    o : Out(stream of `Layouts.config_write`)
        Root of the configuration tree.

    Notes
    -----
    One instruction a cycle, a STEP in two. `o` comes from registers; its ready leads to that of
    `i`. Rows, columns and numbers that do not exist reach nobody, in a mask or in a ONE.
    """

    def __init__(self, config: Config) -> None:
        self.layouts = layouts = Layouts(config)
        super().__init__(
            {
                "i": In(stream.Signature(WORD_BITS)),
                "refused": Out(1),
                "clear": In(1),
                "flush": In(1),
                "o": Out(stream.Signature(layouts.config_write)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word: Any = self.layouts.instruction(self.i.payload)
        payload: Any = self.o.payload
        masks = {
            opcode: (name, Signal.like(payload[name], name=f"mask_{name}"))
            for opcode, name in (
                (Opcode.ROWS, "rows"),
                (Opcode.COLS, "cols"),
                (Opcode.UNITS, "instances"),
            )
        }
        stepped = Signal()  # this program has set the steps
        stepping = Signal()  # the first word of a STEP is sent
        free = Signal()
        m.d.comb += free.eq(self.o.ready | ~self.o.valid)

        def is_one_of(*opcodes: Opcode) -> Value:
            return Cat(word.opcode == opcode for opcode in opcodes).any()

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.Switch(word.opcode):
            for opcode, (_, mask) in masks.items():
                with m.Case(opcode):
                    m.d.comb += self.i.ready.eq(1)
                    with m.If(self.i.valid):
                        m.d.sync += mask.eq(word.data)
            with m.Case(Opcode.WRITE, Opcode.RAMP, *_NUMBERS):
                m.d.comb += [
                    self.i.ready.eq(free),
                    self.refused.eq((word.unit > max(Unit)) | (is_one_of(*_RAMPS) & ~stepped)),
                ]
                one, number = is_one_of(Opcode.ONE), is_one_of(*_NUMBERS)
                chosen = {"rows": one, "cols": one, "instances": number}
                said = {"rows": word.row, "cols": word.col, "instances": word.number}
                with m.If(self.i.valid & free & ~self.refused):
                    m.d.sync += [
                        self.o.valid.eq(1),
                        *(
                            payload[name].eq(Mux(chosen[name], 1 << said[name], mask))
                            for name, mask in masks.values()
                        ),
                        payload.unit.eq(word.unit),
                        payload.index.eq(word.index),
                        payload.go.eq(word.go),
                        payload.ramp.eq(is_one_of(*_RAMPS)),
                        payload.data.eq(word.data),
                    ]
            with m.Case(Opcode.STEP):
                # Two words, which are for no instance.
                steps: Any = self.layouts.steps(self.i.payload)
                m.d.comb += self.i.ready.eq(free & stepping)
                with m.If(self.i.valid & free):
                    m.d.sync += [
                        self.o.valid.eq(1),
                        payload.eq(0),
                        payload.unit.eq(Mux(stepping, Stepping.COLS, Stepping.ROWS)),
                        payload.data.eq(Mux(stepping, steps.col_step, steps.row_step)),
                        stepping.eq(~stepping),
                        stepped.eq(1),
                    ]
            with m.Default():
                m.d.comb += self.refused.eq(1)
        with m.If(self.clear):
            m.d.sync += [mask.eq(0) for _, mask in masks.values()]
            m.d.sync += [stepped.eq(0), stepping.eq(0)]
        with m.If(self.flush):
            m.d.sync += self.o.valid.eq(0)
        return m
