"""Streams weight blocks from DRAM to a weight router."""

from math import gcd
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codes import FAULT_BITS, Fault
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import WORD_BITS, Layouts

__all__ = ["WeightLoader"]

#: Requests that are under way at most.
AHEAD = 7


class WeightLoader(wiring.Component):
    """Read a region of packed weight blocks `repeats` times and send the blocks.

    A gearbox cuts the DRAM words into weight words (`weight_dense_word_bits` wide for a dense
    region), from the low bits of the region's first word on, again at every repeat. The length
    word before each block is checked and taken out. What is left of the region after `blocks`
    blocks is dropped.

    Parameters
    ----------
    config : Config
        Widths of the weight words.

    Attributes
    ----------
    desc : In(stream of `Layouts.weight_loader`)
        A region; taken when it is sent.
    request : Out(stream of `Layouts.dma_request`), data : In(stream of 64), ends : In(1),
    cancel : Out(1)
        To the `ReadChannels`.
    weight : Out(stream of `Layouts.weight_beat`)
        The words of the blocks; a raw word in the low bits.
    busy : Out(1)
        A region is under way.
    fault : Out(`Fault`)
        `WEIGHT_FORMAT`, until a reset: a block of no words or of more than a PE can hold, or a
        region that ends within a block. Nothing moves then.

    Notes
    -----
    A weight word a cycle as long as DRAM words come; a cycle for each length word, 2 or 3 cycles
    between repeats. Combinational from `data` to `weight`, and from `data.valid` and
    `weight.ready` to `data.ready`.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self.desc_layout = layouts.weight_loader
        self.sparse_bits = config.weight_word_bits
        self.dense_bits = config.weight_dense_word_bits
        self.longest = config.weight_data_depth + config.weight_addr_depth
        super().__init__(
            {
                "desc": In(stream.Signature(self.desc_layout)),
                "request": Out(stream.Signature(layouts.dma_request)),
                "data": In(stream.Signature(WORD_BITS)),
                "ends": In(1),
                "cancel": Out(1),
                "weight": Out(stream.Signature(layouts.weight_beat)),
                "busy": Out(1),
                "fault": Out(FAULT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        job: Any = self.desc.payload
        repeats = Signal.like(job.repeats, reset_less=True)  # still to do, this one included
        restarts = Signal()
        begun, drops = Signal(), Signal()  # a DRAM word is used in part; take it unused
        word, full, taken, exhausted = self._gearbox(m, job, restarts, begun, drops)

        # Requests for this repeat and the ones after it.
        asked = Signal(range(AHEAD + 1))
        asks, ends, running = Signal(), Signal(), Signal()
        request: Any = self.request.payload
        m.d.comb += [
            self.request.valid.eq(running & (asked != repeats) & (asked != AHEAD)),
            request.address.eq(job.base),
            request.words.eq(job.words),
            asks.eq(self.request.valid & self.request.ready),
        ]
        m.d.sync += asked.eq(asked + asks - ends)

        left = Signal(bits_for(self.longest), reset_less=True)  # words of the block
        blocks = Signal.like(job.blocks, reset_less=True)  # of this repeat
        beat: Any = self.weight.payload
        m.d.comb += [beat.word.eq(word), beat.last.eq(left == 1)]
        with m.FSM(name="state") as state:
            m.d.comb += self.busy.eq(~state.ongoing("IDLE"))
            m.d.comb += running.eq(~state.ongoing("IDLE") & ~state.ongoing("FAULT"))
            with m.State("IDLE"):
                empty = (job.blocks == 0) | (job.repeats == 0)
                m.d.comb += [self.desc.ready.eq(empty), restarts.eq(1)]
                m.d.sync += [repeats.eq(job.repeats), blocks.eq(job.blocks)]
                with m.If(self.desc.valid & ~empty):
                    m.next = "LENGTH"
                    with m.If(job.words == 0):
                        m.d.sync += self.fault.eq(Fault.WEIGHT_FORMAT)
                        m.next = "FAULT"
            with m.State("LENGTH"):
                m.d.comb += taken.eq(full)
                m.d.sync += left.eq(word)
                with m.If(full):
                    m.next = "BLOCK"
                    with m.If((word == 0) | (word > self.longest)):
                        m.d.sync += self.fault.eq(Fault.WEIGHT_FORMAT)
                        m.next = "FAULT"
                with m.Elif(exhausted):
                    m.d.sync += self.fault.eq(Fault.WEIGHT_FORMAT)
                    m.next = "FAULT"
            with m.State("BLOCK"):
                m.d.comb += [
                    self.weight.valid.eq(full),
                    taken.eq(full & self.weight.ready),
                ]
                with m.If(taken):
                    m.d.sync += left.eq(left - 1)
                    with m.If(beat.last):
                        m.d.sync += blocks.eq(blocks - 1)
                        m.next = "LENGTH"
                        with m.If(blocks == 1):
                            m.next = "REPEAT"
                with m.Elif(exhausted):
                    m.d.sync += self.fault.eq(Fault.WEIGHT_FORMAT)
                    m.next = "FAULT"
            with m.State("REPEAT"):
                # Only the request of a word that was taken can be cancelled.
                m.d.comb += drops.eq(begun)
                with m.If(~begun):
                    m.d.comb += [restarts.eq(1), self.cancel.eq(1), ends.eq(1)]
                    m.d.sync += [repeats.eq(repeats - 1), blocks.eq(job.blocks)]
                    m.next = "LENGTH"
                    with m.If(repeats == 1):
                        m.d.comb += self.desc.ready.eq(1)
                        m.next = "IDLE"
            with m.State("FAULT"):
                pass
        return m

    def _gearbox(
        self,
        m: Module,
        job: Any,
        restarts: Signal,
        begun: Signal,
        drops: Signal,
    ) -> tuple[Signal, Signal, Signal, Signal]:
        """Cut DRAM words into weight words.

        Returns
        -------
        word, full, taken, exhausted
            The next weight word and its valid and ready; no further one lies in the region.
        """
        unit = gcd(WORD_BITS, self.sparse_bits, self.dense_bits)
        units, longest = WORD_BITS // unit, self.sparse_bits // unit
        word = Signal(self.sparse_bits, name="word")
        full, taken, exhausted = (
            Signal(name="full"),
            Signal(name="taken"),
            Signal(name="exhausted"),
        )
        payload = self.data.payload
        tail = Signal(self.sparse_bits - unit, reset_less=True)  # end of the DRAM word before
        have = Signal(range(longest))  # units in it
        at = Signal(range(units))  # next unit of the DRAM word; 0 while there is a tail
        final = Signal()  # the DRAM word before was the last of the region
        pops = Signal()
        step = Mux(job.dense, self.dense_bits // unit, self.sparse_bits // unit)
        left = Signal(range(units + longest))  # units of the DRAM word behind this weight word
        cut = Signal(self.sparse_bits)
        m.d.comb += [
            left.eq(units + have - at - step),
            pops.eq(left < step),  # the next weight word needs the next DRAM word
            full.eq(self.data.valid & ~final),
            word.eq(Mux(job.dense, cut[: self.dense_bits], cut)),
            self.data.ready.eq((taken & pops) | drops),
            exhausted.eq(final),
        ]
        with m.Switch(have):
            for n in range(1, longest):
                with m.Case(n):
                    m.d.comb += cut.eq(Cat(tail[: n * unit], payload))
            with m.Default():
                m.d.comb += cut.eq(payload >> (at * unit))
        with m.If(taken):
            m.d.sync += [
                at.eq(Mux(pops, 0, units - left)),
                have.eq(Mux(pops, left, 0)),
                final.eq(pops & self.ends),
            ]
            with m.Switch(left):
                for n in range(1, longest):
                    with m.Case(n):
                        m.d.sync += tail.eq(payload[-n * unit :])
        with m.If(drops):
            m.d.sync += at.eq(0)
        with m.If(restarts):
            m.d.sync += [final.eq(0), at.eq(0), have.eq(0)]
        m.d.comb += begun.eq(at != 0)
        return word, full, taken, exhausted
