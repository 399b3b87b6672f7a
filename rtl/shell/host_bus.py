"""One bus of requests and responses to the three things that the host reaches."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.arbiter import merge
from rowmesh.rtl.control.registers import ADDR_BITS
from rowmesh.rtl.shell.bus import (
    MEMORY_LIMIT,
    READ_FAILED,
    REGISTERS_BASE,
    request_layout,
    response_layout,
)

__all__ = ["HostBus"]


class HostBus(wiring.Component):
    """Send each request to where its address belongs; one at a time.

    Attributes
    ----------
    request : In(stream of `request_layout`), response : Out(stream of `response_layout`)
        The host: sends the next request after the response.
    memory_request, registers_request, own_request : Out(stream of `request_layout`)
        Below `MEMORY_LIMIT`; the 4 KB from `REGISTERS_BASE` on; everything else.
    memory_response, registers_response, own_response : In(stream of `response_layout`)
        One for each request. What a failed read gives, the host sees as `READ_FAILED`.

    Notes
    -----
    Latency 0. Combinational from the request to the targets, and from their responses back.
    """

    _TARGETS = ("memory", "registers", "own")

    def __init__(self) -> None:
        request, response = stream.Signature(request_layout()), stream.Signature(response_layout())
        members: dict[str, Any] = {"request": In(request), "response": Out(response)}
        for name in self._TARGETS:
            members |= {f"{name}_request": Out(request), f"{name}_response": In(response)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        chosen = {name: Signal(name=f"to_{name}") for name in self._TARGETS}
        address: Any = self.request.payload.address
        page = address[ADDR_BITS - 2 :]
        m.d.comb += [
            chosen["memory"].eq(address < MEMORY_LIMIT // 4),
            chosen["registers"].eq(page == REGISTERS_BASE >> ADDR_BITS),
            chosen["own"].eq(~chosen["memory"] & ~chosen["registers"]),
        ]
        answer = response_layout()
        merged: Any = Signal(answer)
        taken, valids, answers = [], [], []
        for name in self._TARGETS:
            request, response = getattr(self, f"{name}_request"), getattr(self, f"{name}_response")
            m.d.comb += [
                request.valid.eq(self.request.valid & chosen[name]),
                request.payload.eq(self.request.payload),
                response.ready.eq(self.response.ready),
            ]
            taken.append(request.ready & chosen[name])
            valids.append(response.valid)
            answers.append(Value.cast(response.payload) & response.valid.replicate(answer.size))
        m.d.comb += [
            self.request.ready.eq(Cat(taken).any()),
            self.response.valid.eq(Cat(valids).any()),
            Value.cast(merged).eq(merge(answers)),
            self.response.payload.error.eq(merged.error),
            self.response.payload.data.eq(Mux(merged.error, READ_FAILED, merged.data)),
        ]
        return m
