"""The memory of a board whose networks fit block RAM, as an AXI4 slave."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In

from rowmesh.rtl.axi.signatures import (
    BURST_INCR,
    RESP_DECERR,
    RESP_OKAY,
    RESP_SLVERR,
    axi4_signature,
)
from rowmesh.rtl.config import bits_for
from rowmesh.rtl.shell.ram_chain import BANK_BYTES, RamChain

__all__ = ["PAGE_BYTES", "BlockRam"]

#: No burst crosses this (AXI), so the first address of a burst says whether all of it exists.
PAGE_BYTES = 4096
#: What comes with the data of a beat.
_BEAT = data.StructLayout({"last": 1, "response": 2, "id": 1})


class BlockRam(wiring.Component):
    """Memory from address 0 on, with a read and a write port of its own.

    Bursts as the project's masters issue them: INCR, whole beats, first address aligned to the
    beat. Others get SLVERR, bursts behind the memory DECERR; neither has an effect, and all beats
    of a failed read say so.

    Parameters
    ----------
    data_bits : int
        Of a beat.
    size : int
        Bytes, a multiple of `PAGE_BYTES`.
    bank_bytes : int
        Of a bank: see `RamChain`.

    Attributes
    ----------
    axi : In(`axi4_signature`)
        The port. IDs come back; everything is in order.

    Raises
    ------
    ValueError
        `size` is no multiple of a page.

    Notes
    -----
    A burst takes its beats and 1 cycle; reads and writes go on side by side, but for a read of the
    word that is written, which waits a cycle: block RAM need not say what such a read gives. Read
    data come `RamChain.latency` + 1 cycles after the address, from a queue of distributed RAM that
    has room for all that is under way; a write response the cycle after the last beat.
    Combinational from `bready` to `wready`. Contents survive a reset.
    """

    def __init__(self, data_bits: int, size: int, bank_bytes: int = BANK_BYTES) -> None:
        if size < PAGE_BYTES or size % PAGE_BYTES:
            raise ValueError(f"size = {size}: must be a multiple of {PAGE_BYTES} bytes")
        self.bytes, self.size = data_bits // 8, size
        self.data_bits, self.bank_bytes = data_bits, bank_bytes
        super().__init__({"axi": In(axi4_signature(data_bits))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi: Any = self.axi
        depth = self.size // self.bytes
        m.submodules.memory = memory = RamChain(
            self.data_bits, depth, self.bank_bytes // self.bytes
        )

        # Write: one burst at a time, its response beside the next one.
        w_busy, w_response, w_id = Signal(), Signal(2), Signal()
        w_word = Signal(bits_for(depth - 1))
        writes = Signal()
        m.d.comb += [
            axi.awready.eq(~w_busy),
            axi.wready.eq(w_busy & (~axi.bvalid | axi.bready)),
            writes.eq(axi.wvalid & axi.wready & (w_response == RESP_OKAY)),
            memory.write_address.eq(w_word),
            memory.write_data.eq(axi.wdata),
            memory.write_enable.eq(axi.wstrb & writes.replicate(self.bytes)),
        ]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(axi.awready & axi.awvalid):
            m.d.sync += [w_busy.eq(1), w_id.eq(axi.awid)]
            self._begin(m, "w", w_word, w_response)
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += w_word.eq(w_word + 1)
            with m.If(axi.wlast):
                m.d.sync += [
                    w_busy.eq(0),
                    axi.bvalid.eq(1),
                    axi.bresp.eq(w_response),
                    axi.bid.eq(w_id),
                ]

        self._build_reads(m, memory, writes, w_word)
        return m

    def _build_reads(self, m: Module, memory: RamChain, writes: Signal, w_word: Signal) -> None:
        """Address, memory, and a place in a queue for every word that is under way."""
        axi: Any = self.axi
        m.submodules.queue = queue = fifo.SyncFIFO(
            width=self.data_bits + _BEAT.size, depth=memory.latency + 2
        )
        busy, response, beat_id = Signal(), Signal(2), Signal()
        word = Signal.like(w_word)
        left = Signal(8)
        collides, reads = Signal(), Signal()
        room = Signal(range(queue.depth + 1), init=queue.depth)
        beats = [Signal(_BEAT, name=f"beat_{n}") for n in range(memory.latency)]
        there = Signal(memory.latency)
        out: Any = data.View(_BEAT, queue.r_data[self.data_bits :])
        m.d.comb += [
            axi.arready.eq(~busy),
            collides.eq(writes & (w_word == word)),
            reads.eq(busy & (room != 0) & ~collides),
            memory.read_address.eq(word),
            memory.read_enable.eq(reads & (response == RESP_OKAY)),
            queue.w_en.eq(there[-1]),
            queue.w_data.eq(Cat(memory.read_data, beats[-1])),
            axi.rvalid.eq(queue.r_rdy),
            axi.rdata.eq(queue.r_data),
            axi.rlast.eq(out.last),
            axi.rresp.eq(out.response),
            axi.rid.eq(out.id),
            queue.r_en.eq(axi.rready),
        ]
        with m.If(axi.arready & axi.arvalid):
            m.d.sync += [busy.eq(1), left.eq(axi.arlen), beat_id.eq(axi.arid)]
            self._begin(m, "r", word, response)
        with m.If(reads):
            m.d.sync += [word.eq(word + 1), left.eq(left - 1)]
            with m.If(left == 0):
                m.d.sync += busy.eq(0)
        first: Any = beats[0]
        m.d.sync += [
            room.eq(room - reads + (axi.rvalid & axi.rready)),
            there.eq(Cat(reads, there)),
            first.last.eq(left == 0),
            first.response.eq(response),
            first.id.eq(beat_id),
        ]
        for before, after in pairwise(beats):
            m.d.sync += after.eq(before)

    def _begin(self, m: Module, letter: str, word: Signal, response: Signal) -> None:
        """Keep what a burst begins with."""
        address, size, burst = (
            getattr(self.axi, f"a{letter}{name}") for name in ("addr", "size", "burst")
        )
        beat_size = self.bytes.bit_length() - 1
        aligned = address[:beat_size] == 0 if beat_size else 1
        m.d.sync += [word.eq(address[beat_size:]), response.eq(RESP_OKAY)]
        with m.If((size != beat_size) | (burst != BURST_INCR) | ~aligned):
            m.d.sync += response.eq(RESP_SLVERR)
        with m.If(address[PAGE_BYTES.bit_length() - 1 :] >= self.size // PAGE_BYTES):
            m.d.sync += response.eq(RESP_DECERR)
