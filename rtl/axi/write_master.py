"""One AXI4 write port for many DMA channels."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.arbiter import merge
from rowmesh.rtl.axi.issue import BurstIssue
from rowmesh.rtl.axi.signatures import (
    BURST_INCR,
    CACHE_BUFFERABLE,
    RESP_OKAY,
    axi4_write_signature,
    beat_bytes,
    burst_layout,
    write_beat_layout,
)
from rowmesh.rtl.codes import FAULT_BITS, Fault
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.layouts import ADDRESS_BITS

__all__ = ["OPEN_DATA", "OUTSTANDING", "AxiWriteMaster"]

#: Bursts that a master has open at most, and those of them that still lack data.
OUTSTANDING, OPEN_DATA = 8, 4


class AxiWriteMaster(wiring.Component):
    """Share one AXI4 write port among DMA channels, round robin, one ID, in order.

    Parameters
    ----------
    config : Config
        `axi_data_bits` is the width of the port.
    channels : int
        Number of DMA channels.

    Attributes
    ----------
    axi : Out(`axi4_write_signature`)
        The port.
    burst : In(stream of `burst_layout`) x channels
        Bursts aligned to the beat, that do not cross 4 KB. Only when the channel holds all of it.
    data : In(stream of `write_beat_layout`) x channels
        The beats of the bursts.
    done : Out(1) x channels
        Pulse: one burst of the channel has its response.
    window_base, window_limit : In(32)
        Allowed: base <= first byte of a beat, last byte of it < limit. Whole beats count, so a
        window that is not aligned to a beat shrinks to one that is.
    stop : In(1)
        Issue nothing new. What is open is finished with strobes of zero, without the channels.
        Hold until `quiet`; the channels must be reset before it falls.
    quiet : Out(1)
        Nothing is open, no address or data waits.
    fault : Out(`Fault`)
        One cycle long: `AXI_WINDOW` (the burst was not issued) or `AXI_RESPONSE`. After it the
        master behaves as if stopped, until `stop` has come and gone.

    Notes
    -----
    Not reset by a soft reset of the array. 3 cycles from a burst to the address on the bus, a
    burst every 2 cycles; 1 cycle from the channel to the bus, a beat every cycle. Combinational
    from `wready` to `data.ready`; addresses and data come from registers.
    """

    def __init__(self, config: Config, channels: int) -> None:
        self.bytes, self.deep = beat_bytes(config), config.deep_pipeline
        self.channels = channels
        super().__init__(
            {
                "axi": Out(axi4_write_signature(config.axi_data_bits)),
                "burst": In(stream.Signature(burst_layout())).array(channels),
                "data": In(stream.Signature(write_beat_layout(config))).array(channels),
                "done": Out(1).array(channels),
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
        channel_bits = bits_for(self.channels - 1)
        m.submodules.issue = issue = BurstIssue(self.channels, self.bytes, deep=self.deep)
        for port, inner in zip(self.burst, issue.burst, strict=True):
            wiring.connect(m, wiring.flipped(port), inner)
        # Whose data and whose responses come next.
        m.submodules.data_order = data_order = fifo.SyncFIFO(
            width=channel_bits + 8, depth=OPEN_DATA
        )
        m.submodules.order = order = fifo.SyncFIFO(width=channel_bits, depth=OUTSTANDING)
        m.d.comb += [
            issue.window_base.eq(self.window_base),
            issue.window_limit.eq(self.window_limit),
            issue.stop.eq(self.stop),
            issue.room.eq(order.w_rdy & data_order.w_rdy),
            order.w_en.eq(issue.opened),
            order.w_data.eq(issue.channel),
            data_order.w_en.eq(issue.opened),
            data_order.w_data.eq(Cat(issue.length, issue.channel)),
            axi.awvalid.eq(issue.address.valid),
            axi.awaddr.eq(issue.address.payload.address),
            axi.awlen.eq(issue.address.payload.length),
            axi.awsize.eq(self.bytes.bit_length() - 1),
            axi.awburst.eq(BURST_INCR),
            axi.awcache.eq(CACHE_BUFFERABLE),
            issue.address.ready.eq(axi.awready),
        ]

        # Data: beats of the oldest burst that lacks some.
        index = Signal(8)
        length, channel = data_order.r_data[:8], data_order.r_data[8:]
        free, offered, moves, ends = Signal(), Signal(), Signal(), Signal()
        words, strobes, valids = [], [], []
        for i, port in enumerate(self.data):
            mine = channel == i
            valids.append(mine & port.valid)
            words.append(Mux(mine, port.payload.data, 0))
            strobes.append(Mux(mine & ~issue.off, port.payload.strobe, 0))
            m.d.comb += port.ready.eq(mine & data_order.r_rdy & free & ~issue.off)
        m.d.comb += [
            free.eq(~axi.wvalid | axi.wready),
            offered.eq(merge(valids) | issue.off),
            moves.eq(free & data_order.r_rdy & offered),
            ends.eq(index == length),
            data_order.r_en.eq(moves & ends),
        ]
        with m.If(free):
            m.d.sync += axi.wvalid.eq(moves)
        with m.If(moves):
            m.d.sync += [
                axi.wdata.eq(merge(words)),
                axi.wstrb.eq(merge(strobes)),
                axi.wlast.eq(ends),
                index.eq(Mux(ends, 0, index + 1)),
            ]

        # Responses.
        bad = axi.bresp != RESP_OKAY
        for i, done in enumerate(self.done):
            mine = order.r_data == i
            m.d.sync += done.eq(axi.bvalid & ~bad & mine & ~issue.off)
        m.d.comb += [
            axi.bready.eq(1),
            order.r_en.eq(axi.bvalid),
            issue.bad_response.eq(axi.bvalid & bad & ~issue.off),
            issue.open.eq(order.r_rdy | data_order.r_rdy | axi.wvalid),
            self.quiet.eq(~issue.pending & ~issue.open),
        ]
        window = Mux(issue.outside, Fault.AXI_WINDOW, Fault.NONE)
        m.d.sync += self.fault.eq(Mux(issue.bad_response, Fault.AXI_RESPONSE, window))
        return m
