"""Requests of 32-bit words to the accelerator's memory."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.signatures import BURST_INCR, CACHE_BUFFERABLE, axi4_signature
from rowmesh.rtl.shell.bus import request_layout, response_layout
from rowmesh.rtl.shell.single_access import build_single_access

__all__ = ["MemoryPort"]


class MemoryPort(wiring.Component):
    """AXI4 master: a beat for each word of the host, whose strobes select the word.

    Parameters
    ----------
    data_bits : int
        Of a beat, 32 or more.

    Attributes
    ----------
    request : In(stream of `request_layout`), response : Out(stream of `response_layout`)
        The next request is taken after the response to the one before.
    axi : Out(`axi4_signature`)
        The port.

    Notes
    -----
    Latency and paths: see `build_single_access`. Addresses and write data come from registers;
    combinational from `rdata` to `response`.
    """

    def __init__(self, data_bits: int) -> None:
        self.data_bits = data_bits
        super().__init__(
            {
                "request": In(stream.Signature(request_layout())),
                "response": Out(stream.Signature(response_layout())),
                "axi": Out(axi4_signature(data_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi: Any = self.axi
        held = build_single_access(m, self.request, self.response, axi)
        words = self.data_bits // 32
        lane_bits = words.bit_length() - 1
        lane = held.address[:lane_bits]
        m.d.comb += [
            axi.wdata.eq(held.data.replicate(words)),
            axi.wstrb.word_select(lane, 4).eq(0b1111),
            axi.wlast.eq(1),
            self.response.payload.data.eq(axi.rdata.word_select(lane, 32)),
        ]
        for letter in "wr":
            for name, value in (
                ("addr", held.address[lane_bits:] << lane_bits + 2),
                ("size", lane_bits + 2),
                ("burst", BURST_INCR),
                ("cache", CACHE_BUFFERABLE),
            ):
                m.d.comb += getattr(axi, f"a{letter}{name}").eq(value)
        return m
