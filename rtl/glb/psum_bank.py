"""Accumulates tiles of psums from the array and hands them to the post-processing."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codes import FAULT_BITS, Fault
from rowmesh.rtl.config import PSUM_LANES, Config
from rowmesh.rtl.glb.glb_memory import GlbMemory
from rowmesh.rtl.layouts import Layouts

__all__ = ["PsumBank"]

SLOTS = 2


class PsumBank(wiring.Component):
    """Receive tiles, each as `passes` equal sequences of psums that are added up.

    Two slots of half the bank take turns, on and on over all descriptors; a tile waits until its
    slot is free. A `single` tile has the whole bank, waits until both slots are free and leaves
    the turn as it is. A tile that is complete is "full" until it is released.

    Parameters
    ----------
    config
        `glb_psum_words` words of two psums.

    Attributes
    ----------
    desc : In(stream of `Layouts.psum_bank`)
        Taken with the last beat. One with a zero in it is empty.
    psum : In(stream of `Layouts.psum_beat`)
        Words of a tile in ascending order, pass after pass.
    full : Out(1)
        The oldest tile is complete. In the cycle after `release` it means the next tile.
    read_address : In(stream of word address)
        Reads of the oldest tile, from its first word on; taken only while `full`.
    read_data : Out(`Layouts.psum_beat`)
        The word of a read, in the cycle after it was taken.
    release : In(1)
        Pulse: done with the oldest tile. After its last read was taken, and only while `full`.
    fault : Out(`Fault`)
        PSUM_OVERFLOW from the first sum that does not fit on (with `config.deep_pipeline` a cycle
        later), until a reset.
    busy : Out(1)
        A descriptor is at work or a tile not yet released.

    Notes
    -----
    One beat a cycle, stored or added, and two cycles between tiles; tiles of one word have two
    cycles a pass, because a word is read two cycles after it came at the earliest. A tile is full
    2 cycles after its last beat. Reads: one a cycle, but for those in which a beat is added.
    Combinational from `psum.valid` to `read_address.ready`; `psum.ready`, `full` and `fault` come
    from registers, `read_data` from the memory.
    """

    def __init__(self, config: Config) -> None:
        self.words = config.glb_psum_words
        self.psum_bits = config.psum_bits
        self.deep = config.deep_pipeline
        self.layouts = layouts = Layouts(config)
        super().__init__(
            {
                "desc": In(stream.Signature(layouts.psum_bank)),
                "psum": In(stream.Signature(layouts.psum_beat)),
                "full": Out(1),
                "read_address": In(stream.Signature(layouts.psum_word_bits)),
                "read_data": Out(layouts.psum_beat),
                "release": In(1),
                "fault": Out(FAULT_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = GlbMemory(self.layouts.psum_beat.size, self.words)
        claim, single, adding, settled = Signal(), Signal(), Signal(), Signal()
        free, upper, read_base, used = self._build_slots(m, claim, single)
        address, ends, idle = self._build_sequence(m, free, upper, claim, single, adding, settled)
        taken = Signal()
        m.d.comb += taken.eq(self.psum.valid & self.psum.ready)
        complete = self._build_sum(m, memory, taken, address, adding, ends, settled)
        self._build_reads(m, memory, taken & adding, address, read_base)

        tiles = Signal(range(SLOTS + 1))  # that are complete
        m.d.sync += tiles.eq(tiles + complete - self.release)
        m.d.comb += [self.full.eq(tiles != 0), self.busy.eq(~idle | used)]
        return m

    def _build_slots(self, m: Module, claim: Any, single: Any) -> tuple[Any, Any, Any, Any]:
        """Who holds which slot: may a tile claim its own, is that the upper; base of the oldest.

        Tiles are claimed and released in the same order, so a turn on either side is enough.
        """
        used = Signal(SLOTS)
        write_turn, read_turn = Signal(), Signal()
        whole = Signal()  # the tile that is in is `single`
        free = Signal()
        m.d.comb += free.eq(Mux(single, used == 0, ~used.bit_select(write_turn, 1)))
        with m.If(claim):
            m.d.sync += whole.eq(single)
            with m.If(~single):
                m.d.sync += write_turn.eq(~write_turn)
        with m.If(self.release & ~whole):
            m.d.sync += read_turn.eq(~read_turn)
        for slot in range(SLOTS):
            with m.If(claim & (single | (write_turn == slot))):
                m.d.sync += used[slot].eq(1)
            with m.Elif(self.release & (whole | (read_turn == slot))):
                m.d.sync += used[slot].eq(0)
        return free, write_turn & ~single, self._base(read_turn & ~whole), used.any()

    def _base(self, upper: Any) -> Any:
        """First word of a slot."""
        return Mux(upper, self.words // SLOTS, 0)

    def _build_sequence(
        self, m: Module, free: Any, upper: Any, claim: Any, single: Any, adding: Any, settled: Any
    ) -> tuple[Any, Any, Any]:
        """Descriptor to beats: address of the next beat, is it the last of its tile; idle."""
        job: Any = self.desc.payload
        tiles = Signal.like(job.tiles, reset_less=True)  # not yet claimed
        in_upper = Signal(reset_less=True)
        address = Signal(self.layouts.psum_word_bits, reset_less=True)
        words = Signal.like(job.words, reset_less=True)
        passes = Signal.like(job.passes, reset_less=True)
        wanted = job.words.any() & job.passes.any() & job.tiles.any()
        pass_ends, ends, tiny = Signal(), Signal(), Signal()
        m.d.comb += [
            single.eq(job.single),
            pass_ends.eq(words == 1),
            ends.eq(pass_ends & (passes == 1)),
        ]
        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                m.d.comb += self.desc.ready.eq(~wanted)
                m.d.sync += tiles.eq(job.tiles)
                with m.If(self.desc.valid & wanted):
                    m.next = "CLAIM"
            with m.State("CLAIM"):
                m.d.comb += claim.eq(free)
                m.d.sync += [
                    in_upper.eq(upper),
                    address.eq(self._base(upper)),
                    words.eq(job.words),
                    passes.eq(job.passes),
                    adding.eq(0),
                    tiny.eq(job.words == 1),
                ]
                with m.If(free):
                    m.d.sync += tiles.eq(tiles - 1)
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                # What is added to must be in the memory.
                m.d.comb += self.psum.ready.eq(~adding | ~tiny | settled)
                with m.If(self.psum.valid & self.psum.ready):
                    m.d.sync += [words.eq(words - 1), address.eq(address + 1)]
                    with m.If(pass_ends):
                        m.d.sync += [
                            words.eq(job.words),
                            address.eq(self._base(in_upper)),
                            passes.eq(passes - 1),
                            adding.eq(1),
                        ]
                    with m.If(ends):
                        m.next = "CLAIM"
                        with m.If(tiles == 0):
                            m.d.comb += self.desc.ready.eq(1)
                            m.next = "IDLE"
        return address, ends, state.ongoing("IDLE")

    def _build_sum(
        self,
        m: Module,
        memory: GlbMemory,
        taken: Any,
        address: Any,
        adding: Any,
        ends: Any,
        settled: Any,
    ) -> Any:
        """Read, then add and write. Pulses when the last word of a tile is written."""
        beat: Any = Signal(self.layouts.psum_beat, reset_less=True)
        target = Signal.like(address, reset_less=True)
        adds, final = Signal(reset_less=True), Signal(reset_less=True)
        writes = Signal()
        wrong = Signal(PSUM_LANES)
        stage = m.d.sync if self.deep else m.d.comb
        m.d.sync += [
            writes.eq(taken),
            target.eq(address),
            final.eq(ends),
            beat.eq(self.psum.payload),
            adds.eq(adding),
        ]
        stored: Any = self.layouts.psum_beat(memory.read_data)
        sums: Any = Signal(self.layouts.psum_beat)
        for lane in range(PSUM_LANES):
            total = Signal(signed(self.psum_bits + 1), name=f"total_{lane}")
            m.d.comb += [
                total.eq(beat[lane] + Mux(adds, stored[lane], 0)),
                sums[lane].eq(total),
            ]
            stage += wrong[lane].eq(writes & (total[-1] != total[-2]))
        with m.If(wrong.any()):
            m.d.sync += self.fault.eq(Fault.PSUM_OVERFLOW)
        m.d.comb += [
            settled.eq(~writes),
            memory.write_enable.eq(writes),
            memory.write_address.eq(target),
            memory.write_data.eq(sums),
        ]
        return writes & final

    def _build_reads(
        self, m: Module, memory: GlbMemory, adds: Any, address: Any, base: Any
    ) -> None:
        """Reads of the post-processing, whenever the accumulation leaves the port free."""
        m.d.comb += [
            self.read_address.ready.eq(self.full & ~adds),
            memory.read_enable.eq(adds | (self.read_address.valid & self.full)),
            memory.read_address.eq(Mux(adds, address, self.read_address.payload + base)),
            self.read_data.eq(memory.read_data),
        ]
