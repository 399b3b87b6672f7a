"""Writes the output words of a cluster to DRAM."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.codec.rlc_encoder import RlcEncoder
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.agu import Agu
from rowmesh.rtl.dma.write_channel import run_word_layout
from rowmesh.rtl.layouts import ADDRESS_BITS, WORD_BITS, Layouts

__all__ = ["OutWriter"]


class OutWriter(wiring.Component):
    """Write runs of words to the addresses of a loop nest, plain or each as one RLC chunk.

    Parameters
    ----------
    config : Config
        Gives the layouts.

    Attributes
    ----------
    desc : In(stream of `Layouts.out_writer`)
        The runs; taken when their words are in.
    word : In(stream of 64)
        Output words, taken only while a descriptor runs.
    request : Out(stream of `Layouts.dma_request`), data : Out(stream of `run_word_layout`)
        To the `WriteChannel`.
    busy : Out(1)
        A descriptor waits or runs. Together with the channel's `busy`: until all responses are in.

    Notes
    -----
    A word a cycle (coded: see `RlcEncoder`), 2 cycles between runs and between descriptors; a
    coded run begins when the one before is in the channel. Combinational from `word` to `data`
    and back.
    """

    def __init__(self, config: Config) -> None:
        self.deep = config.deep_pipeline
        layouts = Layouts(config)
        self.desc_layout = layouts.out_writer
        super().__init__(
            {
                "desc": In(stream.Signature(self.desc_layout)),
                "word": In(stream.Signature(WORD_BITS)),
                "request": Out(stream.Signature(layouts.dma_request)),
                "data": Out(stream.Signature(run_word_layout())),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        job: Any = self.desc.payload
        loops: Any = job.loops
        m.submodules.agu = agu = Agu(loops.shape(), {"dram": ("step", ADDRESS_BITS)})
        m.submodules.encoder = encoder = RlcEncoder(deep=self.deep)

        request: Any = self.request.payload
        run: Any = self.data.payload
        plain: Any = encoder.i.payload
        coded: Any = encoder.o.payload
        base: Any = agu.base
        left = Signal.like(job.words, reset_less=True)  # of the run
        in_run = Signal()
        compressed = Signal(reset_less=True)  # of the run that the channel writes
        m.d.comb += [
            agu.loops.eq(loops),
            base.dram.eq(job.base),
            request.address.eq(agu.o.payload.address.dram),
            # The end of a chunk is known from its `last`.
            request.words.eq(Mux(job.compressed, ~0, job.words)),
            plain.word.eq(self.word.payload),
            plain.last.eq(left == 1),
            encoder.i.valid.eq(self.word.valid & in_run & compressed),
            encoder.o.ready.eq(self.data.ready & compressed),
            self.data.valid.eq(Mux(compressed, encoder.o.valid, self.word.valid & in_run)),
            run.word.eq(Mux(compressed, coded.word, self.word.payload)),
            run.last.eq(Mux(compressed, coded.last, plain.last)),
            self.word.ready.eq(in_run & Mux(compressed, encoder.i.ready, self.data.ready)),
        ]
        with m.FSM(name="state") as state:
            m.d.comb += self.busy.eq(~state.ongoing("IDLE") | self.desc.valid)
            with m.State("IDLE"), m.If(self.desc.valid):
                m.d.comb += agu.start.eq(job.words != 0)
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += [
                    self.request.valid.eq(agu.o.valid),
                    agu.o.ready.eq(self.request.ready),
                ]
                m.d.sync += left.eq(job.words)
                with m.If(~agu.busy):
                    m.d.comb += self.desc.ready.eq(1)
                    m.next = "IDLE"
                with m.Elif(self.request.ready):
                    m.d.sync += compressed.eq(job.compressed)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += in_run.eq(1)
                with m.If(self.word.valid & self.word.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "ADDRESS"
        return m
