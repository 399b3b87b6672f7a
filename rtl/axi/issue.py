"""What both AXI masters do before the address channel: choose, check, stop."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.arbiter import RoundRobin, merge
from rowmesh.rtl.axi.signatures import burst_layout
from rowmesh.rtl.config import bits_for
from rowmesh.rtl.layouts import ADDRESS_BITS

__all__ = ["BurstIssue"]


class BurstIssue(wiring.Component):
    """Take bursts of the channels in turn, check them against the window, put them on the bus.

    A burst outside the window is dropped. From then on, or from a bad response or `stop` on, the
    issue is `off`: no new address, and the master finishes what is open without effect. It ends
    when `stop` has been high, is low again, and nothing is open.

    Parameters
    ----------
    channels : int
        Number of DMA channels.
    beat_bytes : int
        Bytes of an AXI beat; bursts start at a multiple of it.
    deep : bool
        A cycle for the check alone.

    Attributes
    ----------
    burst : In(stream of `burst_layout`) x channels
        Taken only while not `off`.
    window_base, window_limit : In(32)
        Allowed: base <= first byte of the first beat, last byte of the last beat < limit.
    stop : In(1)
        Issue nothing new.
    bad_response : In(1)
        Pulse: turns the issue off as an address outside the window does.
    room : In(1)
        The master can remember one more burst.
    open : In(1)
        The master waits for something of the bus.
    address : Out(stream of `burst_layout`)
        To the AXI address channel. Once valid it stays, even when `off`.
    opened : Out(1), channel : Out, length : Out(8)
        Pulse, one cycle before `address` becomes valid: the burst of this channel goes out.
    outside : Out(1)
        Pulse: a burst outside the window was dropped.
    pending : Out(1)
        A burst waits in here.
    off : Out(1)
        Nothing is to have an effect.

    Notes
    -----
    Latency 2 cycles, a burst every 2 cycles; 3 if `deep`. Combinational from the channels' valid to
    their ready (through the arbiter), and from `stop` to `off`; `address` comes from registers.
    """

    def __init__(self, channels: int, beat_bytes: int, *, deep: bool = False) -> None:
        self.channels = channels
        self.deep = deep
        self.beat_bytes = beat_bytes
        self.burst_layout = burst_layout()
        super().__init__(
            {
                "burst": In(stream.Signature(self.burst_layout)).array(channels),
                "window_base": In(ADDRESS_BITS),
                "window_limit": In(ADDRESS_BITS),
                "stop": In(1),
                "bad_response": In(1),
                "room": In(1),
                "open": In(1),
                "address": Out(stream.Signature(self.burst_layout)),
                "opened": Out(1),
                "channel": Out(bits_for(channels - 1)),
                "length": Out(8),
                "outside": Out(1),
                "pending": Out(1),
                "off": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        entry = data.StructLayout(
            {"burst": self.burst_layout, "channel": bits_for(self.channels - 1)}
        )
        chosen: Any = Signal(entry)
        waiting = Signal()  # `chosen` is there
        halted, stopped = Signal(), Signal()
        m.d.comb += [
            self.pending.eq(waiting | self.address.valid),
            self.off.eq(halted | self.stop),
        ]

        # Choose.
        m.submodules.arbiter = arbiter = RoundRobin(self.channels)
        takes = Signal()
        m.d.comb += [
            takes.eq(~waiting & ~self.off),
            arbiter.requests.eq(Cat(port.valid for port in self.burst)),
            arbiter.next.eq(takes),
        ]
        offered = []
        for i, port in enumerate(self.burst):
            grant = arbiter.grant[i]
            m.d.comb += port.ready.eq(takes & grant)
            bits = Cat(Value.cast(port.payload), Const(i, bits_for(self.channels - 1)))
            offered.append(bits & grant.replicate(entry.size))
        with m.If(takes):
            m.d.sync += [Value.cast(chosen).eq(merge(offered)), waiting.eq(arbiter.requests.any())]

        # Check.
        first = chosen.burst.address
        end = Signal(ADDRESS_BITS + 1)
        inside, checked = Signal(), Signal()
        stage = m.d.sync if self.deep else m.d.comb
        stage += [
            checked.eq(waiting),
            inside.eq((first >= self.window_base) & (end <= self.window_limit)),
        ]
        m.d.comb += [
            end.eq(first + (chosen.burst.length + 1) * self.beat_bytes),
            self.channel.eq(chosen.channel),
            self.length.eq(chosen.burst.length),
        ]
        allowed = waiting & checked & ~self.off
        m.d.comb += [
            self.outside.eq(allowed & ~inside),
            self.opened.eq(
                allowed & inside & self.room & (self.address.ready | ~self.address.valid)
            ),
        ]
        with m.If(self.address.ready):
            m.d.sync += self.address.valid.eq(0)
        with m.If(self.opened):
            m.d.sync += [self.address.valid.eq(1), self.address.payload.eq(chosen.burst)]
        with m.If(self.opened | self.outside | self.off):
            m.d.sync += waiting.eq(0)

        # Stop.
        with m.If(self.stop):
            m.d.sync += [halted.eq(1), stopped.eq(1)]
        with m.Elif(self.outside | self.bad_response):
            m.d.sync += halted.eq(1)
        with m.Elif(stopped & ~self.pending & ~self.open):
            m.d.sync += [halted.eq(0), stopped.eq(0)]
        return m
