"""Fills an iact bank: one tile a descriptor."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codec.rlc_decoder import RlcDecoder
from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.control.agu import Agu
from rowmesh.rtl.dma.border import Border
from rowmesh.rtl.layouts import ADDRESS_BITS, RLC_PAIRS, WORD_BITS, Layouts
from rowmesh.rtl.nest import Nest

__all__ = ["IactLoader"]


class IactLoader(wiring.Component):
    """Bring one tile into the bank: rows of DRAM words, plain or RLC coded, and a constant border.

    Rows are requested ahead, even while the bank has no room for the tile. For a coded row all of
    its slot is requested (``ceil(8 words / 5)`` words) and the rest dropped when it is decoded.

    Parameters
    ----------
    config : Config
        `glb_iact_bytes` gives the width of an address.

    Attributes
    ----------
    desc : In(stream of `Layouts.iact_loader`)
        A tile; taken when it is written. Rows and their number must fit the bank.
    request : Out(stream of `Layouts.dma_request`), data : In(stream of 64), cancel : Out(1)
        To the `ReadChannels`.
    write : Out(stream of address, data)
        Words of the tile to ascending addresses from `dest`.
    tiles : In(4)
        Tiles in the bank; right at the latest 2 cycles after `tile_written`.
    tile_written : Out(1)
        Pulse, the cycle after the last word: the tile is there.
    busy : Out(1)
        A tile is under way.
    fault : Out(`Fault`)
        `RLC_FORMAT`, until a reset.

    Notes
    -----
    A word a cycle, also across rows (coded rows: see `RlcDecoder`); 3 cycles between tiles,
    `words_bits` more before the first request of a coded one. Combinational from `data` to `write`
    and back.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self.desc_layout = layouts.iact_loader
        self.address_bits = layouts.iact_loader["dest"].width
        #: Width of a request: ``8 n + 4``, whose fifth is the worst case of a chunk of n words.
        self.words_bits = layouts.tile_bits + 3
        entry = data.StructLayout({"address": self.address_bits, "data": WORD_BITS})
        super().__init__(
            {
                "desc": In(stream.Signature(self.desc_layout)),
                "request": Out(stream.Signature(layouts.dma_request)),
                "data": In(stream.Signature(WORD_BITS)),
                "cancel": Out(1),
                "write": Out(stream.Signature(entry)),
                "tiles": In(4),
                "tile_written": Out(1),
                "busy": Out(1),
                "fault": Out(FAULT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        job: Any = self.desc.payload
        m.submodules.decoder = decoder = RlcDecoder(len(job.words))
        begin, asks = Signal(), Signal()
        self._requests(m, job, begin, asks)

        # -- where the next word goes
        m.submodules.cols = cols = Border(len(job.left), len(job.words))
        m.submodules.rows = rows = Border(len(job.top), len(job.rows))
        address = Signal(self.address_bits, reset_less=True)
        planes = Signal.like(job.planes, reset_less=True)  # still to fill, this one included
        moves, in_body, plane_ends = Signal(), Signal(), Signal()
        m.d.comb += [
            cols.before.eq(job.left),
            cols.body.eq(job.words),
            cols.after.eq(job.right),
            rows.before.eq(job.top),
            rows.body.eq(job.rows),
            rows.after.eq(job.bottom),
            in_body.eq(rows.inside & cols.inside),
            cols.step.eq(moves),
            rows.step.eq(moves & cols.ends),
            plane_ends.eq(cols.ends & rows.ends),
        ]

        # -- what goes there
        entry: Any = self.write.payload
        writing = Signal()
        open_chunk = Signal()  # the decoder has the row's chunk
        wanted = writing & in_body
        m.d.comb += [
            self.write.valid.eq(
                writing & Mux(in_body, Mux(job.compressed, decoder.o.valid, self.data.valid), 1)
            ),
            entry.address.eq(address),
            entry.data.eq(
                Mux(
                    in_body,
                    Mux(job.compressed, decoder.o.payload, self.data.payload),
                    job.pad.replicate(WORD_BYTES),
                )
            ),
            moves.eq(self.write.valid & self.write.ready),
            decoder.i.payload.eq(self.data.payload),
            decoder.i.valid.eq(self.data.valid & job.compressed),
            decoder.o.ready.eq(wanted & job.compressed & self.write.ready),
            self.data.ready.eq(Mux(job.compressed, decoder.i.ready, wanted & self.write.ready)),
            decoder.chunk.payload.eq(job.words),
            decoder.chunk.valid.eq(
                writing & rows.inside & job.compressed & (job.words != 0) & ~open_chunk
            ),
            self.cancel.eq(decoder.drained),
            self.fault.eq(decoder.fault),
        ]
        with m.If(decoder.chunk.valid & decoder.chunk.ready):
            m.d.sync += open_chunk.eq(1)
        with m.If(moves):
            m.d.sync += address.eq(address + 1)
            with m.If(cols.ends):
                m.d.sync += open_chunk.eq(0)
            with m.If(plane_ends):
                m.d.sync += planes.eq(planes - 1)

        with m.FSM(name="state") as state:
            m.d.comb += self.busy.eq(~state.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += [cols.begin.eq(1), rows.begin.eq(1)]
                m.d.sync += [address.eq(job.dest), planes.eq(job.planes)]
                with m.If(self.desc.valid):
                    m.d.comb += begin.eq(1)
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(self.tiles < job.slots):
                m.next = "WRITE"
                with m.If(cols.empty | rows.empty | (planes == 0)):
                    m.next = "WRITTEN"
            with m.State("WRITE"):
                m.d.comb += writing.eq(1)
                with m.If(moves & plane_ends & (planes == 1)):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                m.d.comb += [self.tile_written.eq(~asks), self.desc.ready.eq(~asks)]
                with m.If(~asks):
                    m.next = "IDLE"
        return m

    def _requests(self, m: Module, job: Any, begin: Signal, asks: Signal) -> None:
        """Request the rows of the tile, from `begin` on; `asks` until the last is taken."""
        nest = Nest([len(job.rows), len(job.planes)], stride=job.row_stride.shape())
        m.submodules.agu = agu = Agu(nest, {"dram": ("step", ADDRESS_BITS)})
        words = Signal(self.words_bits, reset_less=True)  # of a row in DRAM
        rest = Signal(range(RLC_PAIRS), reset_less=True)
        steps = Signal(range(self.words_bits + 1))
        waits, starts = Signal(), Signal()
        loops: Any = agu.loops
        base: Any = agu.base
        request: Any = self.request.payload
        m.d.comb += [
            loops.level_0.count.eq(job.rows),
            loops.level_0.step.eq(job.row_stride),
            loops.level_1.count.eq(job.planes),
            loops.level_1.step.eq(job.plane_step),
            base.dram.eq(job.base),
            starts.eq(waits & (steps == 0)),
            agu.start.eq(starts & (job.words != 0)),
            asks.eq(waits | agu.busy),
            self.request.valid.eq(agu.o.valid),
            request.address.eq(agu.o.payload.address.dram),
            request.words.eq(words),
            agu.o.ready.eq(self.request.ready),
        ]
        # The slot of a coded row: 8 n + 4 divided by 5, a bit a cycle.
        wider = Cat(words[-1], rest)
        with m.If(steps != 0):
            fits = wider >= RLC_PAIRS
            m.d.sync += [
                steps.eq(steps - 1),
                words.eq(Cat(fits, words[:-1])),
                rest.eq(Mux(fits, wider - RLC_PAIRS, wider)),
            ]
        with m.If(starts):
            m.d.sync += waits.eq(0)
        with m.If(begin):
            m.d.sync += [
                waits.eq(1),
                rest.eq(0),
                steps.eq(Mux(job.compressed, self.words_bits, 0)),
                words.eq(Mux(job.compressed, Cat(Const(RLC_PAIRS - 1, 3), job.words), job.words)),
            ]
