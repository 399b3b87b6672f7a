"""Fills one half of the parameter memory."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import BIAS_BITS, MULTIPLIER_BITS, SHIFT_BITS, WORD_BITS, Layouts

__all__ = ["ParamLoader"]


class ParamLoader(wiring.Component):
    """Read bias, multiplier and shift of a descriptor's channels into a free half.

    Parameters
    ----------
    config : Config
        `param_depth` channels, both halves together.

    Attributes
    ----------
    desc : In(stream of `Layouts.param_loader`)
        Taken when the one before is loaded.
    request : Out(stream of `Layouts.dma_request`), data : In(stream of 64)
        To the `ReadChannels`. Two words a channel: bias and multiplier, then the shift.
    param : Out(stream of index, param)
        A channel's parameters and its number within the half.
    loaded : Out(1)
        Pulse, the cycle after the last channel.
    half_free : In(1)
        Parameters may be sent; right at the latest 2 cycles after `loaded`.
    busy : Out(1)
        A descriptor is under way.

    Notes
    -----
    A channel every 2 cycles. The words are requested before the half is free. Combinational from
    `data` to `param` and back.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self.desc_layout = layouts.param_loader
        self.index_bits = bits_for(config.param_depth // 2 - 1)
        entry = data.StructLayout({"index": self.index_bits, "param": layouts.param})
        super().__init__(
            {
                "desc": In(stream.Signature(self.desc_layout)),
                "request": Out(stream.Signature(layouts.dma_request)),
                "data": In(stream.Signature(WORD_BITS)),
                "param": Out(stream.Signature(entry)),
                "loaded": Out(1),
                "half_free": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        desc: Any = self.desc.payload
        request: Any = self.request.payload
        entry: Any = self.param.payload
        left = Signal.like(desc.channels, reset_less=True)
        index = Signal(self.index_bits, reset_less=True)
        first = Signal(BIAS_BITS + MULTIPLIER_BITS, reset_less=True)
        m.d.comb += [
            request.address.eq(desc.base),
            request.words.eq(desc.channels << 1),
            entry.index.eq(index),
            entry.param.bias.eq(first[:BIAS_BITS]),
            entry.param.multiplier.eq(first[BIAS_BITS:]),
            entry.param.shift.eq(self.data.payload[:SHIFT_BITS]),
        ]
        with m.FSM(name="state") as state:
            m.d.comb += self.busy.eq(~state.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += [
                    self.request.valid.eq(self.desc.valid),
                    self.desc.ready.eq(self.request.ready),
                ]
                m.d.sync += [left.eq(desc.channels), index.eq(0)]
                with m.If(self.desc.valid & self.request.ready):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(self.half_free):
                m.next = "FIRST"
                with m.If(left == 0):
                    m.next = "LOADED"
            with m.State("FIRST"):
                m.d.comb += self.data.ready.eq(1)
                m.d.sync += first.eq(self.data.payload)
                with m.If(self.data.valid):
                    m.next = "SECOND"
            with m.State("SECOND"):
                m.d.comb += [
                    self.param.valid.eq(self.data.valid),
                    self.data.ready.eq(self.param.ready),
                ]
                with m.If(self.data.valid & self.param.ready):
                    m.d.sync += [index.eq(index + 1), left.eq(left - 1)]
                    m.next = "FIRST"
                    with m.If(left == 1):
                        m.next = "LOADED"
            with m.State("LOADED"):
                m.d.comb += self.loaded.eq(1)
                m.next = "IDLE"
        return m
