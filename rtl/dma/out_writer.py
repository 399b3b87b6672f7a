"""Writes the output words of a cluster to DRAM."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.signatures import burst_layout, write_beat_layout
from rowmesh.rtl.codec.rlc_encoder import RlcEncoder
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.agu import Agu
from rowmesh.rtl.dma.write_channel import WriteChannel
from rowmesh.rtl.layouts import ADDRESS_BITS, WORD_BITS, Layouts

__all__ = ["OutWriter"]


class OutWriter(wiring.Component):
    """Write runs of words to the addresses of a loop nest, plain or each as one RLC chunk.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of a beat.

    Attributes
    ----------
    desc : In(stream of `Layouts.out_writer`)
        The runs; taken when the words of the one before are in.
    word : In(stream of 64)
        Output words, taken only while a descriptor runs.
    burst : Out(stream of `burst_layout`), beat : Out(stream of `write_beat_layout`), done : In(1)
        To the `AxiWriteMaster`.
    busy : Out(1)
        A descriptor waits or runs, or a response is missing.

    Notes
    -----
    A word a cycle (coded: see `RlcEncoder`), 2 cycles between runs, 3 between descriptors; a coded
    run begins when the one before is in the buffer. `burst` and `beat` come from registers.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.desc_layout = Layouts(config).out_writer
        super().__init__(
            {
                "desc": In(stream.Signature(self.desc_layout)),
                "word": In(stream.Signature(WORD_BITS)),
                "burst": Out(stream.Signature(burst_layout())),
                "beat": Out(stream.Signature(write_beat_layout(config))),
                "done": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        job: Any = Signal(self.desc_layout)
        loops: Any = job.loops
        m.submodules.agu = agu = Agu(loops.shape(), {"dram": ("stride", ADDRESS_BITS)})
        m.submodules.encoder = encoder = RlcEncoder()
        m.submodules.channel = channel = WriteChannel(self.config)
        wiring.connect(m, channel.burst, wiring.flipped(self.burst))
        wiring.connect(m, channel.beat, wiring.flipped(self.beat))

        request: Any = channel.request.payload
        run: Any = channel.data.payload
        plain: Any = encoder.i.payload
        coded: Any = encoder.o.payload
        base: Any = agu.base
        left = Signal.like(job.words)  # of the run
        in_run = Signal()
        compressed = Signal()  # of the run that the channel writes
        m.d.comb += [
            agu.loops.eq(loops),
            base.dram.eq(job.base),
            request.address.eq(agu.o.payload.address.dram),
            # The end of a chunk is known from its `last`.
            request.words.eq(Mux(job.compressed, ~0, job.words)),
            plain.word.eq(self.word.payload),
            plain.last.eq(left == 1),
            encoder.i.valid.eq(self.word.valid & in_run & compressed),
            encoder.o.ready.eq(channel.data.ready & compressed),
            channel.data.valid.eq(Mux(compressed, encoder.o.valid, self.word.valid & in_run)),
            run.word.eq(Mux(compressed, coded.word, self.word.payload)),
            run.last.eq(Mux(compressed, coded.last, plain.last)),
            self.word.ready.eq(in_run & Mux(compressed, encoder.i.ready, channel.data.ready)),
            channel.done.eq(self.done),
        ]
        with m.FSM(name="state") as state:
            m.d.comb += self.busy.eq(~state.ongoing("IDLE") | channel.busy | self.desc.valid)
            with m.State("IDLE"):
                m.d.comb += self.desc.ready.eq(1)
                m.d.sync += job.eq(self.desc.payload)
                with m.If(self.desc.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += agu.start.eq(job.words != 0)
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += [
                    channel.request.valid.eq(agu.o.valid),
                    agu.o.ready.eq(channel.request.ready),
                ]
                m.d.sync += left.eq(job.words)
                with m.If(~agu.busy):
                    m.next = "IDLE"
                with m.Elif(channel.request.ready):
                    m.d.sync += compressed.eq(job.compressed)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += in_run.eq(1)
                with m.If(self.word.valid & self.word.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "ADDRESS"
        return m
