"""What a PE did: its cycle and multiplication counters."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codes import ACTIVITY_BITS, Activity
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.spad import Spad

__all__ = ["COUNTER_BITS", "ENTRIES", "MACS_ENTRY", "ActivityCounters", "entry_terms", "slots"]

COUNTER_BITS = 32
#: What the host reads: cycles of every `Activity`, and effectual multiplications.
ENTRIES = 8
#: Entry of the effectual multiplications; entries without a meaning read 0.
MACS_ENTRY = 7


def slots(macs_per_pe: int) -> int:
    """Counters of a PE: `Activity.COMPUTE` has one for every number of multiplications."""
    return len(Activity) + macs_per_pe


def entry_terms(entry: int, macs_per_pe: int) -> list[tuple[int, int]]:
    """An entry as a sum of slots: pairs of a slot and how far it is shifted to the left."""
    multiplying = {n: len(Activity) - 1 + n for n in range(1, macs_per_pe + 1)}
    if entry == Activity.COMPUTE:
        return [(entry, 0), *((slot, 0) for slot in multiplying.values())]
    if entry == MACS_ENTRY:
        powers = range(macs_per_pe.bit_length())
        return [(slot, k) for n, slot in multiplying.items() for k in powers if n >> k & 1]
    return [(entry, 0)] if entry < len(Activity) else []


class ActivityCounters(wiring.Component):
    """Count cycles in one memory: of every activity, computing by the number of multiplications.

    So one counter steps in a cycle, which takes one adder and one write port, and effectual
    multiplications follow from the slots: `entry_terms`. Counters wrap at 32 bits.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    activity : In(3), macs : In
        What the PE does in this cycle, and how many effectual multiplications (when computing).
    enable : In(1)
        Count this cycle.
    clear : In(1)
        `slot` is 0 from the next cycle on. The cycle before this one is not counted.
    slot : In
        Slot to read or clear.
    value : Out(32)
        Its count of all cycles but the one before this one.

    Notes
    -----
    What to count passes a register. Nothing is cleared by a reset: `PeCluster` does it slot by
    slot. `value` is combinational from `slot`.
    """

    def __init__(self, config: Config) -> None:
        self.slots = slots(config.macs_per_pe)
        super().__init__(
            {
                "activity": In(ACTIVITY_BITS),
                "macs": In(bits_for(config.macs_per_pe)),
                "enable": In(1),
                "clear": In(1),
                "slot": In(range(self.slots)),
                "value": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Spad(COUNTER_BITS, self.slots, reads=2)
        ports: Any = memory
        counting = Signal()
        at = Signal.like(self.slot, reset_less=True)
        multiplies = (self.activity == Activity.COMPUTE) & self.macs.any()
        m.d.sync += [
            counting.eq(self.enable),
            at.eq(Mux(multiplies, len(Activity) - 1 + self.macs, self.activity)),
        ]
        m.d.comb += [
            ports.read[0].address.eq(at),
            ports.write[0].address.eq(Mux(self.clear, self.slot, at)),
            ports.write[0].data.eq(Mux(self.clear, 0, ports.read[0].data + 1)),
            ports.write[0].enable.eq(counting | self.clear),
            ports.read[1].address.eq(self.slot),
            self.value.eq(ports.read[1].data),
        ]
        return m
