"""The accelerator as a component of a larger Amaranth design, here one that counts its runs.

``python examples/amaranth_design.py [CONFIG]`` writes the design as Verilog to standard output.
"""

import sys
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import Config, load_config
from rowmesh.rtl.top import Top


class Design(wiring.Component):
    """The accelerator's buses are the design's; `runs` counts interrupts."""

    def __init__(self, config: Config) -> None:
        self.accelerator = Top(config)
        super().__init__({**self.accelerator.signature.members, "runs": Out(8)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.accelerator = accelerator = self.accelerator
        for name, member in accelerator.signature.members.items():
            inside, outside = getattr(accelerator, name), getattr(self, name)
            m.d.comb += inside.eq(outside) if member.flow is In else outside.eq(inside)
        before = Signal()
        m.d.sync += [before.eq(accelerator.irq), self.runs.eq(self.runs + (self.irq & ~before))]
        return m


def main(arguments: list[str]) -> int:
    """Write the design; the exit status."""
    print(emit(Design(load_config(arguments[0] if arguments else "tiny")), "design"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
