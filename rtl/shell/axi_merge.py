"""Several AXI4 masters on one slave."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.arbiter import RoundRobin, merge
from rowmesh.rtl.axi.read_master import OUTSTANDING
from rowmesh.rtl.axi.signatures import axi4_signature
from rowmesh.rtl.config import bits_for
from rowmesh.rtl.noc.hop import Hop

__all__ = ["AxiMerge", "channel_layout"]


_ADDRESS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot")
_CHANNELS = {
    "aw": tuple(f"aw{name}" for name in _ADDRESS),
    "w": ("wdata", "wstrb", "wlast"),
    "ar": tuple(f"ar{name}" for name in _ADDRESS),
    "r": ("rid", "rdata", "rresp", "rlast"),
    "b": ("bid", "bresp"),
}


def channel_layout(data_bits: int, channel: str) -> data.StructLayout:
    """Payload of a channel (``aw``, ``w``, ``ar``, ``r``, ``b``): its signals but the handshake."""
    members = axi4_signature(data_bits).members
    return data.StructLayout({name: members[name].shape for name in _CHANNELS[channel]})


class AxiMerge(wiring.Component):
    """Round robin among masters, for reads and writes apart, in order.

    Data of writes go in the order of their addresses, one burst behind the other, so a master that
    has put an address on the bus must bring its data without waiting for another master; and the
    one whose read data come must take them. The accelerator's masters do.

    Parameters
    ----------
    data_bits : int
        Width of all ports.
    count : int
        Masters.

    Attributes
    ----------
    i : In(`axi4_signature`) x count
        From the masters. At most `OUTSTANDING` bursts are open in each direction, over all.
    o : Out(`axi4_signature`)
        To the slave, which must answer in order.

    Notes
    -----
    1 cycle, and a burst or a beat every cycle. Everything passes registers (`Hop`), which cut all
    paths between the masters and the slave.
    """

    def __init__(self, data_bits: int, count: int) -> None:
        self.data_bits, self.count = data_bits, count
        super().__init__(
            {
                "i": In(axi4_signature(data_bits)).array(count),
                "o": Out(axi4_signature(data_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        r_order = self._addresses(m, "ar", 1)[0]
        w_order, b_order = self._addresses(m, "aw", 2)
        self._write_data(m, w_order)
        self._read_data(m, r_order)
        self._responses(m, b_order)
        return m

    def _ports(self) -> list[Any]:
        ports: Any = self.i
        return list(ports)

    def _hop(self, m: Module, channel: str) -> Any:
        hop = Hop(channel_layout(self.data_bits, channel), eager=True)
        m.submodules[f"{channel}_hop"] = hop
        return hop

    def _send(self, m: Module, channel: str, port: Any, source: Any) -> None:
        """Put a stream on a channel."""
        m.d.comb += [
            getattr(port, f"{channel}valid").eq(source.valid),
            source.ready.eq(getattr(port, f"{channel}ready")),
        ]
        for name, _ in source.payload.shape():
            m.d.comb += getattr(port, name).eq(source.payload[name])

    def _packed(self, channel: str, port: Any) -> Value:
        layout = channel_layout(self.data_bits, channel)
        return Cat(getattr(port, str(name)) for name, _ in layout)

    def _addresses(self, m: Module, channel: str, copies: int) -> list[Any]:
        """Take bursts in turn; the queues say whose they are."""
        hop = self._hop(m, channel)
        bits = bits_for(self.count - 1)
        queues = [fifo.SyncFIFO(width=bits, depth=OUTSTANDING) for _ in range(copies)]
        m.submodules[f"{channel}_arbiter"] = arbiter = RoundRobin(self.count)
        for n, queue in enumerate(queues):
            m.submodules[f"{channel}_order_{n}"] = queue
        room = hop.i.ready
        for queue in queues:
            room = room & queue.w_rdy
        payloads, numbers = [], []
        for index, port in enumerate(self._ports()):
            grant = arbiter.grant[index]
            m.d.comb += getattr(port, f"{channel}ready").eq(grant & room)
            bits_of_port = self._packed(channel, port)
            payloads.append(bits_of_port & grant.replicate(len(bits_of_port)))
            numbers.append(Const(index, bits) & grant.replicate(bits))
        taken = arbiter.requests.any() & room
        m.d.comb += [
            arbiter.requests.eq(Cat(getattr(port, f"{channel}valid") for port in self._ports())),
            arbiter.next.eq(taken),
            hop.i.valid.eq(taken),
            Value.cast(hop.i.payload).eq(merge(payloads)),
        ]
        for queue in queues:
            m.d.comb += [queue.w_en.eq(taken), queue.w_data.eq(merge(numbers))]
        self._send(m, channel, self.o, hop.o)
        return queues

    def _write_data(self, m: Module, order: Any) -> None:
        hop = self._hop(m, "w")
        valids, payloads = [], []
        for index, port in enumerate(self._ports()):
            mine = order.r_rdy & (order.r_data == index)
            bits = self._packed("w", port)
            valids.append(port.wvalid & mine)
            payloads.append(bits & mine.replicate(len(bits)))
            m.d.comb += port.wready.eq(mine & hop.i.ready)
        m.d.comb += [
            hop.i.valid.eq(merge(valids)),
            Value.cast(hop.i.payload).eq(merge(payloads)),
            order.r_en.eq(hop.i.valid & hop.i.ready & hop.i.payload.wlast),
        ]
        self._send(m, "w", self.o, hop.o)

    def _responses(self, m: Module, order: Any) -> None:
        hop = self._hop(m, "b")
        o: Any = self.o
        m.d.comb += [
            hop.i.valid.eq(o.bvalid),
            o.bready.eq(hop.i.ready),
            Value.cast(hop.i.payload).eq(self._packed("b", o)),
        ]
        self._give(m, "b", hop, order)
        m.d.comb += order.r_en.eq(hop.o.valid & hop.o.ready)

    def _give(self, m: Module, channel: str, hop: Any, order: Any) -> None:
        """Answers to the master whose turn it is."""
        wanted = []
        for index, port in enumerate(self._ports()):
            mine = order.r_rdy & (order.r_data == index)
            m.d.comb += getattr(port, f"{channel}valid").eq(hop.o.valid & mine)
            for name, _ in hop.o.payload.shape():
                m.d.comb += getattr(port, name).eq(hop.o.payload[name])
            wanted.append(getattr(port, f"{channel}ready") & mine)
        m.d.comb += hop.o.ready.eq(merge(wanted))

    def _read_data(self, m: Module, order: Any) -> None:
        hop = self._hop(m, "r")
        o: Any = self.o
        m.d.comb += [
            hop.i.valid.eq(o.rvalid),
            o.rready.eq(hop.i.ready),
            Value.cast(hop.i.payload).eq(self._packed("r", o)),
        ]
        self._give(m, "r", hop, order)
        m.d.comb += order.r_en.eq(hop.o.valid & hop.o.ready & hop.o.payload.rlast)
