"""The handshakes of an AXI master that does one access at a time, full or Lite."""

from typing import Any

from amaranth.hdl import Module, Signal

from rowmesh.rtl.axi.signatures import RESP_OKAY
from rowmesh.rtl.shell.bus import request_layout

__all__ = ["build_single_access"]


def build_single_access(m: Module, request: Any, response: Any, port: Any) -> Any:
    """Take a request, put it on the bus, hand the answer back, and only then take the next one.

    1 cycle from the request to the bus, none back: valid of addresses and write data come from
    registers; combinational from the bus's responses to `response`, and from its ready back.

    Parameters
    ----------
    m : Module
    request, response : streams of `request_layout` and `response_layout`
        The caller drives `response.payload.data`.
    port : AXI4 or AXI4-Lite master
        The caller drives addresses, data and strobes.

    Returns
    -------
    View of `request_layout`
        The request under way.
    """
    held: Any = Signal(request_layout())
    for valid, ready in (
        (port.awvalid, port.awready),
        (port.wvalid, port.wready),
        (port.arvalid, port.arready),
    ):
        with m.If(ready):
            m.d.sync += valid.eq(0)
    with m.FSM():
        with m.State("IDLE"):
            m.d.comb += request.ready.eq(1)
            m.d.sync += held.eq(request.payload)
            with m.If(request.valid):
                write = request.payload.write
                m.d.sync += [port.awvalid.eq(write), port.wvalid.eq(write), port.arvalid.eq(~write)]
                with m.If(write):
                    m.next = "WRITE"
                with m.Else():
                    m.next = "READ"
        for state, letter in (("WRITE", "b"), ("READ", "r")):
            valid, ready = getattr(port, f"{letter}valid"), getattr(port, f"{letter}ready")
            with m.State(state):
                m.d.comb += [
                    response.valid.eq(valid),
                    response.payload.error.eq(getattr(port, f"{letter}resp") != RESP_OKAY),
                    ready.eq(response.ready),
                ]
                with m.If(valid & ready):
                    m.next = "IDLE"
    return held
