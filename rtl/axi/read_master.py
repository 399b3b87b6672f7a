"""One AXI4 read port for many DMA channels."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.arbiter import merge
from rowmesh.rtl.axi.issue import BurstIssue
from rowmesh.rtl.axi.signatures import (
    BURST_INCR,
    CACHE_BUFFERABLE,
    RESP_OKAY,
    axi4_read_signature,
    beat_bytes,
    burst_layout,
)
from rowmesh.rtl.codes import FAULT_BITS, Fault
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import ADDRESS_BITS
from rowmesh.rtl.noc.hop import connect_deep

__all__ = ["OUTSTANDING", "AxiReadMaster"]

#: Bursts that a master has open at most.
OUTSTANDING = 8


class AxiReadMaster(wiring.Component):
    """Share one AXI4 read port among DMA channels, round robin, one ID, in order.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of the port.
    channels : int
        Number of DMA channels.

    Attributes
    ----------
    axi : Out(`axi4_read_signature`)
        The port.
    burst : In(stream of `burst_layout`) x channels
        Bursts aligned to the beat, that do not cross 4 KB.
    data : Out(stream of a beat) x channels
        Beats, in the order of the channel's bursts. A channel asks only for what it has room for:
        a channel that is not ready holds up all others. `valid` falls when the master stops.
    window_base, window_limit : In(32)
        Allowed: base <= first byte of a beat, last byte of it < limit. Whole beats count, so a
        window that is not aligned to a beat shrinks to one that is.
    stop : In(1)
        Issue nothing new; what is open is finished and thrown away. Hold until `quiet`; the
        channels must be reset before it falls.
    quiet : Out(1)
        Nothing is open, no address waits.
    fault : Out(`Fault`)
        One cycle long: `AXI_WINDOW` (the burst was not issued) or `AXI_RESPONSE` (the beat was
        not delivered). After it the master behaves as if stopped, until `stop` has come and gone.

    Notes
    -----
    Not reset by a soft reset of the array. 3 cycles from a burst to the address on the bus, a
    burst every 2 cycles; 1 cycle from the bus to the channel, a beat every cycle. Combinational
    from `data.ready` to `rready`; the address comes from registers. With `config.deep_pipeline` 4
    cycles, a burst every 3, 2 cycles for a beat, and `rready` comes from registers too.
    """

    def __init__(self, config: Config, channels: int) -> None:
        self.bytes, self.deep = beat_bytes(config), config.deep_pipeline
        self.channels = channels
        bits = config.axi_data_bits
        super().__init__(
            {
                "axi": Out(axi4_read_signature(bits)),
                "burst": In(stream.Signature(burst_layout())).array(channels),
                "data": Out(stream.Signature(bits)).array(channels),
                "window_base": In(ADDRESS_BITS),
                "window_limit": In(ADDRESS_BITS),
                "stop": In(1),
                "quiet": Out(1),
                "fault": Out(FAULT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi: Any = self.axi
        m.submodules.issue = issue = BurstIssue(self.channels, self.bytes, deep=self.deep)
        for port, inner in zip(self.burst, issue.burst, strict=True):
            wiring.connect(m, wiring.flipped(port), inner)
        m.submodules.order = order = fifo.SyncFIFO(
            width=bits_for(self.channels - 1), depth=OUTSTANDING
        )
        m.d.comb += [
            issue.window_base.eq(self.window_base),
            issue.window_limit.eq(self.window_limit),
            issue.stop.eq(self.stop),
            issue.room.eq(order.w_rdy),
            order.w_en.eq(issue.opened),
            order.w_data.eq(issue.channel),
            axi.arvalid.eq(issue.address.valid),
            axi.araddr.eq(issue.address.payload.address),
            axi.arlen.eq(issue.address.payload.length),
            axi.arsize.eq(self.bytes.bit_length() - 1),
            axi.arburst.eq(BURST_INCR),
            axi.arcache.eq(CACHE_BUFFERABLE),
            issue.address.ready.eq(axi.arready),
        ]

        # One register for the beat; the oldest open burst says whose it is.
        answer = data.StructLayout({"data": len(axi.rdata), "resp": len(axi.rresp), "last": 1})
        came: Any = stream.Signature(answer).create(path=("came",))
        r: Any = stream.Signature(answer).flip().create(path=("r",))
        waiting = connect_deep(m, self.deep, "r_hop", came, r)
        m.d.comb += [
            came.valid.eq(axi.rvalid),
            came.payload.data.eq(axi.rdata),
            came.payload.resp.eq(axi.rresp),
            came.payload.last.eq(axi.rlast),
            axi.rready.eq(came.ready),
        ]
        beat = Signal.like(axi.rdata)
        full, last, bad = Signal(), Signal(), Signal()
        taken = Signal()
        wanted = []
        for i, port in enumerate(self.data):
            mine = order.r_data == i
            wanted.append(mine & port.ready)
            m.d.comb += [
                port.payload.eq(beat),
                port.valid.eq(full & mine & ~bad & ~issue.off),
            ]
        m.d.comb += [
            taken.eq(full & (issue.off | bad | merge(wanted))),
            r.ready.eq(~full | taken),
            order.r_en.eq(taken & last),
        ]
        with m.If(r.ready):
            m.d.sync += full.eq(r.valid)
        with m.If(r.ready & r.valid):
            m.d.sync += [
                beat.eq(r.payload.data),
                last.eq(r.payload.last),
                bad.eq(r.payload.resp != RESP_OKAY),
            ]

        m.d.comb += [
            issue.open.eq(order.r_rdy | waiting | full),
            issue.bad_response.eq(full & bad & ~issue.off),
            self.quiet.eq(~issue.pending & ~issue.open),
        ]
        window = Mux(issue.outside, Fault.AXI_WINDOW, Fault.NONE)
        m.d.sync += self.fault.eq(Mux(issue.bad_response, Fault.AXI_RESPONSE, window))
        return m
