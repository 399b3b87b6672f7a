"""Accumulates tiles of psums from the array and hands them to the post-processing."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.codes import FAULT_BITS, Fault
from rowmesh.rtl.config import PSUM_LANES, Config
from rowmesh.rtl.glb.glb_memory import GlbMemory
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.noc.hop import Hop

__all__ = ["PsumBank"]

SLOTS = 2
#: Stages between the read of a word and its write.
SUM_STAGES = 2


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
    read_data : Out(stream of `Layouts.psum_beat`)
        Their data, in order.
    release : In(1)
        Pulse: done with the oldest tile. After its last read was taken, and only while `full`.
    fault : Out(`Fault`)
        PSUM_OVERFLOW from the first sum that does not fit on, until a reset.
    busy : Out(1)
        A descriptor is at work or a tile not yet released.

    Notes
    -----
    One beat a cycle, stored or added, and two cycles between tiles; tiles of one or two words
    have three cycles a pass, because a word is read three cycles after it came at the earliest.
    A tile is full 3 cycles after its last beat. Reads: latency 2 cycles, one a cycle, but for those
    in which a beat is added. Combinational from `psum.valid` and `read_data.ready` to
    `read_address.ready`; `psum.ready`, `full`, `read_data` and `fault` come from registers.
    """

    def __init__(self, config: Config) -> None:
        self.words = config.glb_psum_words
        self.psum_bits = config.psum_bits
        self.layouts = layouts = Layouts(config)
        super().__init__(
            {
                "desc": In(stream.Signature(layouts.psum_bank)),
                "psum": In(stream.Signature(layouts.psum_beat)),
                "full": Out(1),
                "read_address": In(stream.Signature(layouts.psum_word_bits)),
                "read_data": Out(stream.Signature(layouts.psum_beat)),
                "release": In(1),
                "fault": Out(FAULT_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = GlbMemory(self.layouts.psum_beat.size, self.words)
        claim, single, adding, settled = Signal(), Signal(), Signal(), Signal()
        free, base, read_base, used = self._build_slots(m, claim, single)
        address, ends, idle = self._build_sequence(m, free, base, claim, single, adding, settled)
        taken = Signal()
        m.d.comb += taken.eq(self.psum.valid & self.psum.ready)
        complete = self._build_sum(m, memory, taken, address, adding, ends, settled)
        self._build_reads(m, memory, taken & adding, address, read_base)

        tiles = Signal(range(SLOTS + 1))  # that are complete
        m.d.sync += tiles.eq(tiles + complete - self.release)
        m.d.comb += [self.full.eq(tiles != 0), self.busy.eq(~idle | used)]
        return m

    def _build_slots(self, m: Module, claim: Any, single: Any) -> tuple[Any, Any, Any, Any]:
        """Who holds which slot: may a tile claim its slot; base of that one and of the oldest.

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
        half = self.words // SLOTS
        base = Mux(write_turn & ~single, half, 0)
        return free, base, Mux(read_turn & ~whole, half, 0), used.any()

    def _build_sequence(
        self, m: Module, free: Any, base: Any, claim: Any, single: Any, adding: Any, settled: Any
    ) -> tuple[Any, Any, Any]:
        """Descriptor to beats: address of the next beat, is it the last of its tile; idle."""
        job: Any = self.desc.payload
        tiles = Signal.like(job.tiles, reset_less=True)  # not yet claimed
        start = Signal(self.layouts.psum_word_bits, reset_less=True)
        address = Signal.like(start)
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
                    start.eq(base),
                    address.eq(base),
                    words.eq(job.words),
                    passes.eq(job.passes),
                    adding.eq(0),
                    tiny.eq(job.words <= SUM_STAGES),
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
                            address.eq(start),
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
        """Read, add, write: a stage each. Pulses when the last word of a tile is written."""
        beat: Any = Signal(self.layouts.psum_beat, reset_less=True)
        sums: Any = Signal(self.layouts.psum_beat, reset_less=True)
        stage = data.StructLayout({"address": len(address), "ends": 1, "valid": 1})
        read: Any = Signal(stage)
        added: Any = Signal(stage)
        adds = Signal()
        m.d.sync += [
            read.valid.eq(taken),
            read.address.eq(address),
            read.ends.eq(ends),
            beat.eq(self.psum.payload),
            adds.eq(adding),
            added.eq(read),
        ]
        stored: Any = self.layouts.psum_beat(memory.read_data)
        for lane in range(PSUM_LANES):
            total = Signal(signed(self.psum_bits + 1), name=f"total_{lane}")
            m.d.comb += total.eq(beat[lane] + Mux(adds, stored[lane], 0))
            m.d.sync += sums[lane].eq(total)
            with m.If(read.valid & (total[-1] != total[-2])):
                m.d.sync += self.fault.eq(Fault.PSUM_OVERFLOW)
        m.d.comb += [
            settled.eq(~read.valid & ~added.valid),
            memory.write_enable.eq(added.valid),
            memory.write_address.eq(added.address),
            memory.write_data.eq(sums),
        ]
        return added.valid & added.ends

    def _build_reads(
        self, m: Module, memory: GlbMemory, adds: Any, address: Any, base: Any
    ) -> None:
        """Reads of the post-processing, whenever the accumulation leaves the port free."""
        m.submodules.hop = hop = Hop(self.layouts.psum_beat)
        reads, landing = Signal(), Signal()
        # The hop holds two words: no read without a place for its word.
        waiting = landing & hop.o.valid | ~hop.i.ready
        m.d.comb += [
            self.read_address.ready.eq(self.full & ~adds & (~waiting | self.read_data.ready)),
            reads.eq(self.read_address.valid & self.read_address.ready),
            memory.read_enable.eq(adds | reads),
            memory.read_address.eq(Mux(adds, address, self.read_address.payload + base)),
            hop.i.valid.eq(landing),
            hop.i.payload.eq(memory.read_data),
        ]
        m.d.sync += landing.eq(reads)
        connect(m, hop.o, flipped(self.read_data))
