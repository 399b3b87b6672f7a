"""Cuts the requests of many DMA channels into bursts."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.arbiter import RoundRobin
from rowmesh.rtl.axi.signatures import MAX_BEATS, beat_bytes, burst_layout
from rowmesh.rtl.config import WORD_BYTES, Config, bits_for
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.spad import Spad

__all__ = ["FIFO_BEATS", "BurstPlanner", "burst_note"]

#: Beats that a channel buffers: two of the longest bursts.
FIFO_BEATS = 32
#: Address bits within a word.
WORD_SHIFT = WORD_BYTES.bit_length() - 1


def burst_note(config: Config) -> data.StructLayout:
    """What the words side of a channel must know about a burst."""
    lane_bits = bits_for(beat_bytes(config) // WORD_BYTES - 1)
    return data.StructLayout(
        {
            "ends": 1,  # last burst of the request
            "length": MAX_BEATS.bit_length() - 1,
            "first": lane_bits,  # first and last lane that hold wanted words
            "last": lane_bits,
        }
    )


class BurstPlanner(wiring.Component):
    """Plan one burst at a time: for the channels in turn that have a request and room.

    A burst ends where 16 beats of address end, so it never crosses 4 KB; it is asked for only
    when there is room for all of it. What is left of the requests lies in a memory.

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
    cancel : In, one bit a channel
        Pulse: drop what is left of the request. A burst that waits for the master is asked for.
    room : In x channels, freed : In, one bit a channel
        Beats that the channel can take, and that they have just become more.
    burst : Out(stream of `burst_layout`) x channels
        To the master.
    begins, asks : Out, one bit a channel
        Pulses: a request of some words is taken; `burst` is.
    note : Out(`burst_note`)
        What to know about that burst.

    Notes
    -----
    2 cycles from a request to its first burst, a burst every 2 cycles and one more for a request.
    `burst` follows registers and the memory through two adders; with `config.deep_pipeline` it
    comes from registers, and every burst takes a cycle more. `request.ready` comes from registers.
    """

    def __init__(self, config: Config, channels: int) -> None:
        self.channels = channels
        self.deep = config.deep_pipeline
        self.lanes = beat_bytes(config) // WORD_BYTES
        request = Layouts(config).dma_request
        address_bits, words_bits = request["address"].width, request["words"].width
        #: What is left of a request: address of its next word, and how many.
        self.rest = data.StructLayout({"word": address_bits - WORD_SHIFT, "left": words_bits})
        super().__init__(
            {
                "request": In(stream.Signature(request)).array(channels),
                "cancel": In(channels),
                "room": In(range(FIFO_BEATS + 1)).array(channels),
                "freed": In(channels),
                "burst": Out(stream.Signature(burst_layout())).array(channels),
                "begins": Out(channels),
                "asks": Out(channels),
                "note": Out(burst_note(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = RoundRobin(self.channels)
        m.submodules.rests = rests = Spad(self.rest.size, self.channels)
        ports: Any = rests
        active = Signal(self.channels)  # some words of the request are left
        chosen = Signal(self.channels)  # one-hot
        number = Signal(range(self.channels))  # of the chosen channel
        request = self._multiplex(m, chosen, number)
        follows, fits = self._plan(m, self.rest(ports.read[0].data), number)
        takes, asked, offered, retries = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            arbiter.requests.eq(self._eligible(m, active, chosen, takes, retries)),
            ports.read[0].address.eq(number),
            ports.write[0].address.eq(number),
            ports.write[0].enable.eq(takes | asked),
            ports.write[0].data.eq(Mux(takes, request, follows)),
            self.asks.eq(Mux(asked, chosen, 0)),
            self.begins.eq(Mux(takes & (request.left != 0), chosen, 0)),
        ]
        for i in range(self.channels):
            m.d.comb += [
                self.request[i].ready.eq(takes & chosen[i]),
                self.burst[i].valid.eq(offered & chosen[i]),
            ]

        plan = "READ" if self.deep else "PLAN"  # the plan comes from registers
        live = (active & chosen).any()
        with m.FSM(name="state"):
            with m.State("CHOOSE"):
                m.d.comb += arbiter.next.eq(1)
                m.d.sync += chosen.eq(arbiter.grant)
                with m.If(arbiter.requests.any()):
                    m.next = "TAKE"
                with m.If((arbiter.grant & active).any()):
                    m.next = plan
            with m.State("TAKE"):
                m.d.comb += takes.eq(1)
                m.next = plan
            if self.deep:
                with m.State("READ"):
                    m.next = "PLAN"
            with m.State("PLAN"):
                ready = Cat(port.ready for port in self.burst)
                m.d.comb += [
                    offered.eq(live & fits),
                    asked.eq(offered & (ready & chosen).any()),
                    retries.eq(live & ~fits),
                ]
                with m.If(asked | ~offered):
                    m.next = "CHOOSE"

        cancelled = Signal()  # the chosen request, while its burst waits for the master
        cancels = cancelled | (self.cancel & chosen).any()
        m.d.sync += cancelled.eq(offered & ~asked & cancels)
        for i in range(self.channels):
            with m.If(takes & chosen[i]):
                m.d.sync += active[i].eq(self.begins[i])
            with m.Elif(offered & chosen[i]), m.If(asked & (self.note.ends | cancels)):
                m.d.sync += active[i].eq(0)
            with m.Elif(self.cancel[i]):
                m.d.sync += active[i].eq(0)
        return m

    def _multiplex(self, m: Module, chosen: Signal, number: Signal) -> Any:
        """The request of the chosen channel."""
        request: Any = Signal(self.rest)
        merged: Any = 0
        for i, port in enumerate(self.request):
            words = Cat(port.payload.address[WORD_SHIFT:], port.payload.words)
            merged = merged | Mux(chosen[i], words, 0)
            with m.If(chosen[i]):
                m.d.comb += number.eq(i)
        m.d.comb += request.as_value().eq(merged)
        return request

    def _eligible(
        self, m: Module, active: Signal, chosen: Signal, takes: Signal, retries: Signal
    ) -> Any:
        """Channels with a new request, or with some words left and perhaps room."""
        blocked = Signal(self.channels)  # no beat was freed since there was no room
        freed = Signal(self.channels)
        stage = m.d.sync if self.deep else m.d.comb  # as old as the room that was seen
        stage += freed.eq(self.freed)
        for i in range(self.channels):
            with m.If(freed[i] | (takes & chosen[i])):
                m.d.sync += blocked[i].eq(0)
            with m.Elif(retries & chosen[i]):
                m.d.sync += blocked[i].eq(1)
        asks = Signal(self.channels)  # a cycle old: the next choice is further away
        stage += asks.eq(Cat(port.valid for port in self.request))
        return (active & ~blocked) | (~active & asks)

    def _plan(self, m: Module, rest: Any, number: Signal) -> tuple[Any, Any]:
        """The next burst of what is left; what is left then; whether there is room for it."""
        lane_bits = self.lanes.bit_length() - 1  # of an address
        most = MAX_BEATS * self.lanes  # words of a burst
        low_bits = most.bit_length() - 1
        low = rest.word[:low_bits]
        note: Any = self.note
        follows: Any = Signal(self.rest)
        address = Signal.like(self.burst[0].payload.address)
        end, last = Signal(len(rest.left) + 1), Signal(low_bits)
        ends, length, fits = Signal(), Signal.like(note.length), Signal()
        stage = m.d.sync if self.deep else m.d.comb
        m.d.comb += [
            end.eq(low + rest.left),
            ends.eq(end <= most),
            last.eq(Mux(ends, end[:low_bits] - 1, most - 1)),
            length.eq(last[lane_bits:] - low[lane_bits:]),
        ]
        room = Signal.like(self.room[0])  # less than there is, if old
        m.d.comb += fits.eq(note.length < room)
        stage += [
            room.eq(Array(self.room)[number]),
            note.ends.eq(ends),
            note.length.eq(length),
            note.first.eq(low & (self.lanes - 1)),
            note.last.eq(last & (self.lanes - 1)),
            follows.word.eq(Cat(Const(0, low_bits), rest.word[low_bits:] + 1)),
            follows.left.eq(end - most),
            address.eq(Cat(Const(0, WORD_SHIFT + lane_bits), rest.word[lane_bits:])),
        ]
        for port in self.burst:
            m.d.comb += [port.payload.address.eq(address), port.payload.length.eq(note.length)]
        return follows, fits
