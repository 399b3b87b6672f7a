"""The PEs of one cluster."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.noc.hop import connect_deep
from rowmesh.rtl.pe.activity_counters import (
    COUNTER_BITS,
    ENTRIES,
    ActivityCounters,
    entry_terms,
    slots,
)
from rowmesh.rtl.pe.pe import Pe

__all__ = ["PeCluster", "counter_latency"]


def counter_latency(config: Config) -> int:
    """Cycles from a choice of a counter to its value: two rounds over the terms of an entry."""
    rounds = max(len(entry_terms(n, config.macs_per_pe)) for n in range(ENTRIES))
    return 2 * rounds + 1 + 3 * config.deep_pipeline


class PeCluster(wiring.Component):
    """`pe_rows` x `pe_cols` PEs: iact choice, psum chain, counters.

    PE number is ``row * pe_cols + col``, row 0 on top. Psums go up a column: from `psum_in` into
    the bottom PE, out of the top PE to `psum_out`.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    desc : In(stream of `Layouts.pe`) x PE
    iact : In(stream of `Layouts.iact_beat`) x iact router x PE
        A PE takes from the router that its descriptor names.
    weight : In(stream of `Layouts.weight_beat`) x PE row x PE column
    psum_in : In(stream of `Layouts.psum_beat`), psum_out : Out(stream), x PE column
    busy : Out(1)
        Any PE is busy.
    fault : Out(4)
        One cycle later: the fault of the lowest PE that reports one in that cycle.
    count_enable : In(1)
        Count this cycle; common to all PEs.
    count_clear : In(1)
        While it is high, and as long after a reset, counters are set to 0, one of every PE a cycle:
        all of them in `slots` cycles. Nothing is counted then.
    counter_pe, counter_entry : In
        Counter to read: number of the PE, and `Activity` or `MACS_ENTRY`.
    counter_value : Out(32)
        The counter at most `counter_latency` cycles ago, which is also how long a change of the
        inputs takes at most.

    Notes
    -----
    Adds no latency to the streams, but for a `Hop` behind the psums of every PE with
    `config.deep_pipeline`. Combinational through the iact choice; the rest as in `Pe`.
    """

    def __init__(self, config: Config) -> None:
        self.config = c = config
        layouts = Layouts(c)
        psum = stream.Signature(layouts.psum_beat)
        super().__init__(
            {
                "desc": In(stream.Signature(layouts.pe)).array(c.pes_per_cluster),
                "iact": In(stream.Signature(layouts.iact_beat)).array(
                    c.glb_iact_banks, c.pes_per_cluster
                ),
                "weight": In(stream.Signature(layouts.weight_beat)).array(c.pe_rows, c.pe_cols),
                "psum_in": In(psum).array(c.pe_cols),
                "psum_out": Out(psum).array(c.pe_cols),
                "busy": Out(1),
                "fault": Out(FAULT_BITS),
                "count_enable": In(1),
                "count_clear": In(1),
                "counter_pe": In(bits_for(c.pes_per_cluster - 1)),
                "counter_entry": In(range(ENTRIES)),
                "counter_value": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        pes: list[Any] = [Pe(c) for _ in range(c.pes_per_cluster)]
        busy = Signal(len(pes))
        for number, pe in enumerate(pes):
            row, col = divmod(number, c.pe_cols)
            m.submodules[f"pe_{row}_{col}"] = pe
            connect(m, pe.desc, flipped(self.desc[number]))
            connect(m, pe.weight, flipped(self.weight[row][col]))
            self._choose_iact(m, pe, [self.iact[b][number] for b in range(c.glb_iact_banks)])
            above = pes[number - c.pe_cols].psum_in if row else flipped(self.psum_out[col])
            leaving = connect_deep(m, c.deep_pipeline, f"psum_hop_{number}", pe.psum_out, above)
            m.d.comb += busy[number].eq(pe.busy | leaving)
        for col, below in enumerate(self.psum_in):
            connect(m, flipped(below), pes[col - c.pe_cols].psum_in)

        m.d.comb += self.busy.eq(busy.any())
        m.d.sync += self.fault.eq(0)
        for pe in reversed(pes):
            with m.If(pe.fault != 0):
                m.d.sync += self.fault.eq(pe.fault)
        self._build_counters(m, pes)
        return m

    def _choose_iact(self, m: Module, pe: Any, routers: list[Any]) -> None:
        """Connect the router that the PE listens to; the others see ready low."""
        with m.Switch(pe.iact_source):
            for number, router in enumerate(routers):
                with m.Case(number):
                    m.d.comb += [
                        pe.iact.payload.eq(router.payload),
                        pe.iact.valid.eq(router.valid),
                        router.ready.eq(pe.iact.ready),
                    ]

    def _build_counters(self, m: Module, pes: list[Any]) -> None:
        """Count what the PEs do; add up the terms of the chosen entry, one a cycle, on and on."""
        macs = self.config.macs_per_pe
        terms = [entry_terms(entry, macs) for entry in range(ENTRIES)]
        rounds = max(len(found) for found in terms)
        turn = Signal(range(rounds))
        slot, shift = Signal(range(slots(macs))), Signal(range(macs.bit_length()))
        used, clears, was_reset = Signal(), Signal(), Signal(init=1)
        cleared = Signal.like(slot)  # the next one to clear
        m.d.comb += clears.eq(self.count_clear | was_reset)
        with m.If(clears):
            m.d.sync += cleared.eq(cleared + 1)
            with m.If(cleared == slots(macs) - 1):
                m.d.sync += [cleared.eq(0), was_reset.eq(0)]
        with m.Switch(self.counter_entry):
            for entry, found in enumerate(terms):
                with m.Case(entry), m.Switch(turn):
                    for n, (place, left) in enumerate(found):
                        with m.Case(n):
                            m.d.comb += [slot.eq(place), shift.eq(left), used.eq(1)]

        stage = m.d.sync if self.config.deep_pipeline else m.d.comb
        read: Any = Signal(
            data.StructLayout({"slot": len(slot), "shift": len(shift), "used": 1, "first": 1})
        )
        value: Any = 0
        for number, pe in enumerate(pes):
            counters = ActivityCounters(self.config)
            m.submodules[f"counters_{number}"] = counters
            m.d.comb += [
                counters.activity.eq(pe.activity),
                counters.macs.eq(pe.macs),
                counters.enable.eq(self.count_enable),
                counters.clear.eq(clears),
                counters.slot.eq(Mux(clears, cleared, read.slot)),
            ]
            chosen = (self.counter_pe == number) & read.used
            value = value | Mux(chosen, counters.value, 0)
        late: list[Any] = [value, read.shift, read.first]
        if self.config.deep_pipeline:
            held = [Signal(len(part)) for part in late]
            m.d.sync += Cat(held).eq(Cat(late))
            late = list(held)
        term, first = Signal(COUNTER_BITS, reset_less=True), Signal()
        total = Signal(COUNTER_BITS, reset_less=True)
        stage += [
            read.eq(Cat(slot, shift, used, turn == 0)),
            term.eq(late[0] << late[1]),
            first.eq(late[2]),
        ]
        m.d.sync += total.eq(Mux(first, 0, total) + term)
        with m.If(turn == rounds - 1):
            m.d.sync += turn.eq(0)
        with m.Else():
            m.d.sync += turn.eq(turn + 1)
        with m.If(first):
            m.d.sync += self.counter_value.eq(total)
