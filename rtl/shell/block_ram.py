"""The memory of a board whose networks fit block RAM, as an AXI4 slave."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from rowmesh.rtl.axi.signatures import (
    BURST_INCR,
    RESP_DECERR,
    RESP_OKAY,
    RESP_SLVERR,
    axi4_signature,
)
from rowmesh.rtl.config import bits_for

__all__ = ["PAGE_BYTES", "BlockRam"]

#: No burst crosses this (AXI), so the first address of a burst says whether all of it exists.
PAGE_BYTES = 4096


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
    data come 2 cycles after the address, straight from the memory, without an output register; a
    write response the cycle after the last beat. Combinational from `rready` to the memory's
    enable, and from `bready` to `wready`. Contents survive a reset.
    """

    def __init__(self, data_bits: int, size: int) -> None:
        if size < PAGE_BYTES or size % PAGE_BYTES:
            raise ValueError(f"size = {size}: must be a multiple of {PAGE_BYTES} bytes")
        self.bytes, self.size = data_bits // 8, size
        self.data_bits = data_bits
        super().__init__({"axi": In(axi4_signature(data_bits))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi: Any = self.axi
        depth = self.size // self.bytes
        memory: Any = Memory(shape=self.data_bits, depth=depth, init=[])
        m.submodules.memory = memory
        read: Any = memory.read_port()
        write: Any = memory.write_port(granularity=8)

        # Write: one burst at a time, its response beside the next one.
        w_busy, w_response, w_id = Signal(), Signal(2), Signal()
        w_word = Signal(bits_for(depth - 1))
        writes = Signal()
        m.d.comb += [
            axi.awready.eq(~w_busy),
            axi.wready.eq(w_busy & (~axi.bvalid | axi.bready)),
            writes.eq(axi.wvalid & axi.wready & (w_response == RESP_OKAY)),
            write.addr.eq(w_word),
            write.data.eq(axi.wdata),
            write.en.eq(axi.wstrb & writes.replicate(self.bytes)),
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

        # Read: address, memory.
        r_busy, r_response, r_id = Signal(), Signal(2), Signal()
        r_word = Signal.like(w_word)
        left = Signal(8)
        moves, collides, reads = Signal(), Signal(), Signal()
        m.d.comb += [
            axi.arready.eq(~r_busy),
            collides.eq(writes & (w_word == r_word)),
            moves.eq(~axi.rvalid | axi.rready),
            reads.eq(r_busy & moves & ~collides),
            read.addr.eq(r_word),
            read.en.eq(reads & (r_response == RESP_OKAY)),
            axi.rdata.eq(read.data),
        ]
        with m.If(axi.arready & axi.arvalid):
            m.d.sync += [r_busy.eq(1), left.eq(axi.arlen), r_id.eq(axi.arid)]
            self._begin(m, "r", r_word, r_response)
        with m.If(moves):
            m.d.sync += axi.rvalid.eq(0)
        with m.If(reads):
            m.d.sync += [
                r_word.eq(r_word + 1),
                left.eq(left - 1),
                axi.rvalid.eq(1),
                axi.rlast.eq(left == 0),
                axi.rresp.eq(r_response),
                axi.rid.eq(r_id),
            ]
            with m.If(left == 0):
                m.d.sync += r_busy.eq(0)
        return m

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
