"""Readers of DRAM: requests of words in, words out."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.axi.signatures import burst_layout
from rowmesh.rtl.config import Config
from rowmesh.rtl.dma.burst_planner import BurstPlanner
from rowmesh.rtl.dma.read_buffer import ReadBuffer
from rowmesh.rtl.layouts import WORD_BITS, Layouts
from rowmesh.rtl.noc.hop import connect_deep

__all__ = ["ReadChannels"]


class ReadChannels(wiring.Component):
    """Split requests into bursts, buffer the beats, hand out 64-bit words.

    All channels share what plans bursts; each has a buffer, for which bursts of the next request
    follow at once.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of a beat.
    channels : int
        Number of channels.

    Attributes
    ----------
    request : In(stream of `Layouts.dma_request`) x channels
        A multiple of 8 as byte address; zero words give nothing.
    data : Out(stream of 64) x channels
        The words of the requests in order.
    ends : Out, one bit a channel
        The word on `data` is the last of its request.
    cancel : In, one bit a channel
        Pulse: drop what is left of the request whose word was taken last (before this cycle).
        Nothing happens when it is complete. `data.valid` may fall after it.
    burst : Out(stream of `burst_layout`) x channels
        To the master.
    beat : In(stream of a beat) x channels
        From the master; always ready for what was asked for.

    Notes
    -----
    See `BurstPlanner` for the way to the master; 2 cycles from a beat to its word, a word a cycle.
    `burst` and `data` follow registers and memories; no combinational path leads through. With
    `config.deep_pipeline` a `Hop` each at `burst` and `beat`, a cycle more.
    """

    def __init__(self, config: Config, channels: int) -> None:
        self.config, self.channels = config, channels
        super().__init__(
            {
                "request": In(stream.Signature(Layouts(config).dma_request)).array(channels),
                "data": Out(stream.Signature(WORD_BITS)).array(channels),
                "ends": Out(channels),
                "cancel": In(channels),
                "burst": Out(stream.Signature(burst_layout())).array(channels),
                "beat": In(stream.Signature(config.axi_data_bits)).array(channels),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        deep = self.config.deep_pipeline
        m.submodules.planner = planner = BurstPlanner(self.config, self.channels)
        for i in range(self.channels):
            buffer: Any = ReadBuffer(self.config)
            m.submodules[f"buffer_{i}"] = buffer
            connect(m, flipped(self.request[i]), planner.request[i])
            connect_deep(m, deep, f"burst_hop_{i}", planner.burst[i], flipped(self.burst[i]))
            connect_deep(m, deep, f"beat_hop_{i}", flipped(self.beat[i]), buffer.beat)
            connect(m, buffer.data, flipped(self.data[i]))
            m.d.comb += [
                buffer.begins.eq(planner.begins[i]),
                buffer.cancel.eq(self.cancel[i]),
                planner.cancel[i].eq(buffer.cancels),
                planner.room[i].eq(buffer.room),
                planner.freed[i].eq(buffer.frees),
                self.ends[i].eq(buffer.ends),
            ]
            # A cycle later is early enough: the next plan of a channel is two cycles away.
            stage = m.d.sync if deep else m.d.comb
            stage += [buffer.asks.eq(planner.asks[i]), buffer.note.eq(planner.note)]
        return m
