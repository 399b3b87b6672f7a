"""The top of the design on a board: clock, reset, pins, and the shell."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.shell.shell import Shell
from rowmesh.synth.boards import Board
from rowmesh.synth.fpga_pll import Pll

__all__ = ["BoardTop", "make_shell"]

#: Cycles of reset once the clock is stable.
_RESET_CYCLES = 64


def make_shell(config: Config, clock_hz: float, memory_bytes: int) -> Any:
    """The shell with its memory in block RAM: what `BoardTop` is given by default."""
    return Shell(config, clock_hz=round(clock_hz), memory_bytes=memory_bytes)


class BoardTop(wiring.Component):  # type: ignore[type-arg]
    """A design on the pins of a board, with a clock from the PLL and a reset at power-on.

    Parameters
    ----------
    design
        Component in the domain ``sync`` with the ports `rx`, `tx` and `leds`, of four bits: a board
        with fewer LEDs shows the first ones.
    board : Board
        Where it runs.
    pll : Pll
        From the board's oscillator to the design's clock.

    Attributes
    ----------
    clk_in : In(1)
        Oscillator.
    rx : In(1), tx : Out(1)
        Serial line.
    led_0, led_1, ... : Out(1)
        LEDs of the board.

    Notes
    -----
    Reset lasts until the PLL is locked and 64 cycles more; it comes from a register.
    """

    def __init__(self, design: Any, board: Board, pll: Pll) -> None:
        self.design, self.board, self.pll = design, board, pll
        members: dict[str, Any] = {"clk_in": In(1), "rx": In(1), "tx": Out(1)}
        members |= {pin.port: Out(1) for pin in board.leds}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        locked = self.build_clock(m)
        self.build_reset(m, locked)
        m.submodules.shell = self.design
        ports: Any = self
        m.d.comb += [self.design.rx.eq(ports.rx), ports.tx.eq(self.design.tx)]
        for number, pin in enumerate(self.board.leds):
            m.d.comb += getattr(self, pin.port).eq(self.design.leds[number] ^ pin.inverted)
        return m

    def build_clock(self, m: Module) -> Signal:
        """The PLL; returns whether it is locked."""
        ports: Any = self
        clock, locked = Signal(), Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            *(("p", key, value) for key, value in self.pll.parameters().items()),
            a_FREQUENCY_PIN_CLKI=f"{self.pll.input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self.pll.clock_hz / 1e6:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            i_CLKI=ports.clk_in,
            i_CLKFB=0,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            o_CLKOP=clock,
            o_LOCK=locked,
        )
        m.domains.sync = ClockDomain(local=True)
        m.domains.start = ClockDomain(local=True, reset_less=True)
        m.d.comb += [ClockSignal("sync").eq(clock), ClockSignal("start").eq(clock)]
        return locked

    def build_reset(self, m: Module, locked: Signal) -> None:
        """Reset until the clock has been stable for a while."""
        stable = Signal()
        left = Signal(range(_RESET_CYCLES), init=_RESET_CYCLES - 1)
        reset = Signal(init=1)
        m.submodules.lock = FFSynchronizer(locked, stable, o_domain="start")
        with m.If(~stable):
            m.d.start += left.eq(_RESET_CYCLES - 1)
        with m.Elif(left != 0):
            m.d.start += left.eq(left - 1)
        m.d.start += reset.eq(left != 0)
        m.d.comb += ResetSignal("sync").eq(reset)
