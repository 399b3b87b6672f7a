"""What a PE did: its cycle and multiplication counters."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import ACTIVITY_BITS, Activity
from rowmesh.rtl.spad import Spad

__all__ = ["COUNTER_BITS", "ENTRIES", "MACS_ENTRY", "UPDATE_PERIOD", "ActivityCounters"]

COUNTER_BITS = 32
ENTRIES = 8
#: Entry of the effectual multiplications; entry 6 is unused and reads 0.
MACS_ENTRY = 7
#: Cycles in which every entry must be updated once: see `ActivityCounters`.
UPDATE_PERIOD = 2 * (len(Activity) + 1)


class ActivityCounters(wiring.Component):
    """Count cycles by `Activity` and effectual multiplications in one memory of 8 x 32 bits.

    Entry ``activity`` counts cycles; entry `MACS_ENTRY` counts multiplications. The activities
    sum to the cycles counted. Counters wrap at 32 bits.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    activity : In(3), macs : In
        What the PE does in this cycle, and how many effectual multiplications.
    enable : In(1)
        Count this cycle.
    clear : In(1)
        All entries are 0 from the next cycle on; this cycle is not counted.
    address : In(3)
        Entry to read, or to update.
    update : In(1)
        Write the entry at `address` back. Every entry in use needs an update in every
        `UPDATE_PERIOD` cycles while counting; the cycles between are free to read.
    value : Out(32)
        The entry at `address`, exact.

    Notes
    -----
    Small pending counters catch the events, so one read and one write port are enough. The
    memory is not cleared: a `fresh` bit masks an entry until its first update. `value` is
    combinational from `address` (memory, mask, adder).
    """

    def __init__(self, config: Config) -> None:
        self.macs_per_pe = config.macs_per_pe
        super().__init__(
            {
                "activity": In(ACTIVITY_BITS),
                "macs": In(bits_for(config.macs_per_pe)),
                "enable": In(1),
                "clear": In(1),
                "address": In(range(ENTRIES)),
                "update": In(1),
                "value": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Spad(COUNTER_BITS, ENTRIES)
        fresh = Signal(ENTRIES, init=-1)
        pending = [
            Signal(range(UPDATE_PERIOD + 1), name=f"pending_{kind.name.lower()}")
            for kind in Activity
        ]
        pending_macs = Signal(range(UPDATE_PERIOD * self.macs_per_pe + 1))
        unused = [0] * (MACS_ENTRY - len(pending))
        stored = Mux(fresh.bit_select(self.address, 1), 0, memory.read[0].data)
        m.d.comb += [
            memory.read[0].address.eq(self.address),
            memory.write[0].address.eq(self.address),
            memory.write[0].data.eq(self.value),
            memory.write[0].enable.eq(self.update),
            self.value.eq(stored + Array([*pending, *unused, pending_macs])[self.address]),
        ]

        events = [(kind, self.activity == kind, count) for kind, count in enumerate(pending)]
        for entry, amount, count in [*events, (MACS_ENTRY, self.macs, pending_macs)]:
            written = Signal(name=f"written_{entry}")
            m.d.comb += written.eq(self.update & (self.address == entry))
            kept = Mux(written, 0, count)
            m.d.sync += count.eq(kept + Mux(self.enable, amount, 0))
            with m.If(written):
                m.d.sync += fresh[entry].eq(0)
        with m.If(self.clear):
            m.d.sync += [fresh.eq(-1), pending_macs.eq(0), *(count.eq(0) for count in pending)]
        return m
