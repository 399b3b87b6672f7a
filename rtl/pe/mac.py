"""The multipliers of a PE, and where their products belong."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.records import Records, zero

__all__ = ["Mac"]


class Mac(wiring.Component):
    """Multiply a word of weights with its iact; decode the psum addresses from the counts.

    The place of the group in the psum SPad is decided here too: a group that fits half the SPad
    takes turns between two banks, a longer one always begins at 0. The size of the first group is
    known when it ends: the windows of one block have walked through it.

    Parameters
    ----------
    config
        The machine. Multipliers: `config.macs_per_pe`.

    Attributes
    ----------
    i : In(stream of Records.word)
        Words and markers; `ready` is low while the bank of the group is not drained.
    work, start
        From the `Sequencer`.
    full : In(2)
        Banks that hold a finished group.
    o : Out(Records.lanes)
        Products with their psum address.
    finish : Out(Records.finish)
        The group ends with these products.
    compute : Out(1)
        The multipliers work on a word.
    macs : Out
        Multipliers with two non-zero operands in this cycle.
    blocked : Out(1)
        Work waits for a bank.
    busy : Out(1)
        Work is in this stage.
    fault : Out(1)
        A weight beyond `psums`; its product is dropped.

    Notes
    -----
    Latency 1 cycle, one word a cycle. Nothing moves in multipliers without work: all keep their
    operands, or one with a weight of zero multiplies by zero. `i.ready` and `finish` come from
    registers, `o` from them through the multipliers.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = records = Records(config)
        super().__init__(
            {
                "i": In(stream.Signature(records.word)),
                "work": In(records.layouts.pe),
                "start": In(1),
                "full": In(2),
                "o": Out(records.lanes),
                "finish": Out(records.finish),
                "compute": Out(1),
                "macs": Out(bits_for(config.macs_per_pe)),
                "blocked": Out(1),
                "busy": Out(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        i: Any = self.i
        self.valid = Signal()
        self.marker: Any = Signal(self.records.marker)
        self.bank = Signal()
        occupied, go = Signal(), Signal()
        m.d.comb += [
            occupied.eq(self.full.bit_select(self.bank, 1)),
            self.blocked.eq((self.valid | self.marker.window) & occupied),
            go.eq(~self.blocked),
            i.ready.eq(go),
            self.compute.eq(self.valid & go),
            self.busy.eq(self.valid | self.marker.window),
        ]
        with m.If(go):
            m.d.sync += [
                self.valid.eq(i.valid & i.payload.hit),
                self.marker.eq(Mux(i.valid, i.payload.marker.as_value(), 0)),
            ]
        base, limit = self.build_place(m, go)
        taken = Signal()
        m.d.comb += taken.eq(go & i.valid & i.payload.hit)
        addresses = self.build_addresses(m, taken, base, limit)
        self.build_lanes(m, taken, addresses, limit)
        return m

    def build_place(self, m: Module, go: Signal) -> tuple[Value, Signal]:
        """First psum of the next cycle's window in the SPad; the first one after this window."""
        c = self.config
        work: Any = self.work
        finish: Any = self.finish
        half = c.psum_depth // 2
        base = Signal(bits_for(c.psum_depth), reset_less=True)
        limit = Signal.like(base)
        next_bank, next_base = Signal(), Signal.like(base)
        m.d.comb += [
            next_bank.eq(self.bank),
            next_base.eq(limit),
        ]
        with m.If(self.marker.drain):
            m.d.comb += next_bank.eq(~self.bank & (limit <= half))
        with m.If(self.marker.drain | self.marker.block):
            m.d.comb += next_base.eq(Mux(next_bank, half, 0))
        with m.If(self.start):
            m.d.comb += [next_bank.eq(0), next_base.eq(0)]
        with m.If(self.start | (go & self.marker.window)):
            m.d.sync += [
                self.bank.eq(next_bank),
                base.eq(next_base),
                limit.eq(next_base + work.psums),
            ]
        m.d.comb += [
            finish.valid.eq(go & self.marker.drain),
            finish.bank.eq(self.bank),
            finish.end.eq(limit),
            finish.chain.eq(work.chain),
        ]
        # The word that is taken while a window ends belongs to the next one.
        return Mux(self.marker.window, next_base, base), limit

    def build_addresses(self, m: Module, taken: Signal, base: Value, limit: Signal) -> list[Value]:
        """Psum address of every multiplier; a column goes on where its last word ended."""
        c = self.config
        i: Any = self.i
        bits = self.records.psum_bits
        count = c.macs_per_pe if c.sparse else 1
        registers = [Signal(bits, name=f"address_{n}", reset_less=True) for n in range(count)]
        addresses: list[Value] = [*registers]
        if not c.sparse:
            addresses = [(registers[0] + n)[:bits] for n in range(c.macs_per_pe)]
        following, origin = Signal(bits), Signal(bits)
        m.d.comb += [
            # Beyond the limit it stays beyond, however long a malformed column is.
            following.eq(Mux(addresses[-1] >= limit, limit, addresses[-1] + 1)),
            origin.eq(Mux(i.payload.first, base, following)),
        ]
        offset: Any = 0
        for n, register in enumerate(registers):
            if c.sparse:
                offset = offset + i.payload.pairs[n].count + (n > 0)
            with m.If(taken):
                m.d.sync += register.eq(origin + offset)
        return addresses

    def build_lanes(self, m: Module, taken: Signal, addresses: list[Value], limit: Signal) -> None:
        """Operands and products of every multiplier."""
        c = self.config
        i: Any = self.i
        o: Any = self.o
        work: Any = self.work
        value = Signal(c.iact_bits, reset_less=True)
        nonzero = [~zero(i.payload.pairs[n].value) for n in range(c.macs_per_pe)]
        loads = taken if c.sparse else taken & ~zero(i.payload.value)
        with m.If(loads):
            m.d.sync += value.eq(i.payload.value)
        working, beyond = Signal(c.macs_per_pe), Signal(c.macs_per_pe)
        operand = Signal(signed(c.iact_bits + 1))
        is_signed = Signal()  # from the descriptor, which is far
        stage = m.d.sync if c.deep_pipeline else m.d.comb
        stage += is_signed.eq(work.iact_signed)
        m.d.comb += operand.eq(Mux(is_signed, value.as_signed(), value))
        for n, address in enumerate(addresses):
            pair = i.payload.pairs[n]
            weight = Signal(pair.value.shape(), name=f"weight_{n}", reset_less=True)
            active = Signal(name=f"active_{n}", reset_less=True)
            with m.If(taken):
                m.d.sync += active.eq(loads & nonzero[n])
            with m.If(loads):
                m.d.sync += weight.eq(pair.value)
            m.d.comb += [
                working[n].eq(self.compute & active),
                beyond[n].eq(working[n] & (address >= limit)),
                o[n].active.eq(working[n] & ~beyond[n]),
                o[n].address.eq(address),
                o[n].product.eq(operand * weight),
            ]
        m.d.comb += [
            self.macs.eq(sum(working[n] for n in range(c.macs_per_pe))),
            self.fault.eq(beyond.any()),
        ]
