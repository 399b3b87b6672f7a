"""Requests to AXI4-Lite."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.signatures import axi_lite_signature
from rowmesh.rtl.shell.bus import request_layout, response_layout
from rowmesh.rtl.shell.single_access import build_single_access

__all__ = ["LiteMaster"]


class LiteMaster(wiring.Component):
    """AXI4-Lite master of 32 bits.

    Parameters
    ----------
    addr_bits : int
        Of a byte address; higher bits of the request do not count.

    Attributes
    ----------
    request : In(stream of `request_layout`), response : Out(stream of `response_layout`)
        The next request is taken after the response to the one before.
    bus : Out(`axi_lite_signature`)
        The port.

    Notes
    -----
    Latency and paths: see `build_single_access`. Address and data come from registers.
    """

    def __init__(self, addr_bits: int) -> None:
        self.addr_bits = addr_bits
        super().__init__(
            {
                "request": In(stream.Signature(request_layout())),
                "response": Out(stream.Signature(response_layout())),
                "bus": Out(axi_lite_signature(addr_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bus: Any = self.bus
        held = build_single_access(m, self.request, self.response, bus)
        m.d.comb += [
            bus.awaddr.eq(held.address << 2),
            bus.araddr.eq(held.address << 2),
            bus.wdata.eq(held.data),
            bus.wstrb.eq(0b1111),
            self.response.payload.data.eq(bus.rdata),
        ]
        return m
