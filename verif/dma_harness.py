"""What the DMA benches have in common: devices under test, and the memory behind them."""

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from amaranth.hdl import Module, ResetInserter
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import RisingEdge

from rowmesh.rtl.axi.read_master import AxiReadMaster
from rowmesh.rtl.axi.signatures import (
    axi4_read_signature,
    axi4_write_signature,
    beat_bytes,
    burst_layout,
    write_beat_layout,
)
from rowmesh.rtl.axi.write_master import AxiWriteMaster
from rowmesh.rtl.codes import FAULT_BITS
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.dma.read_channels import ReadChannels
from rowmesh.rtl.dma.write_channel import WriteChannel, run_word_layout
from rowmesh.rtl.layouts import ADDRESS_BITS, WORD_BITS, Layouts
from rowmesh.verif.fields import pack, unpack
from rowmesh.verif.stream import StreamDriver, StreamMonitor

__all__ = [
    "BurstReads",
    "BurstWrites",
    "LoaderDut",
    "ReadDut",
    "SlaveMemory",
    "WriteDut",
    "WriterDut",
    "pause_port",
    "pauses",
    "read_word_layout",
    "request",
    "watch_address",
]


def read_word_layout() -> data.StructLayout:
    """A word of a `ReadDut` with its channel's `ends`."""
    return data.StructLayout({"word": WORD_BITS, "ends": 1})


# -- devices under test -------------------------------------------------------------------------


def _channel_ports(config: Config, channels: int, axi: wiring.Signature) -> dict[str, Any]:
    """Ports of a device of one master and its channels; `soft_reset` is for the channels."""
    return {
        "axi": Out(axi),
        "request": In(stream.Signature(Layouts(config).dma_request)).array(channels),
        "soft_reset": In(1),
        "window_base": In(ADDRESS_BITS),
        "window_limit": In(ADDRESS_BITS),
        "stop": In(1),
        "quiet": Out(1),
        "fault": Out(FAULT_BITS),
    }


def _build_master(m: Module, dut: Any, master: Any) -> None:
    """Add the master; connect all but its channels."""
    m.submodules.master = master
    connect(m, master.axi, flipped(dut.axi))
    m.d.comb += [
        master.window_base.eq(dut.window_base),
        master.window_limit.eq(dut.window_limit),
        master.stop.eq(dut.stop),
        dut.quiet.eq(master.quiet),
        dut.fault.eq(master.fault),
    ]


class ReadDut(wiring.Component):  # type: ignore[type-arg]
    """`AxiReadMaster` with its channels."""

    def __init__(self, config: Config, channels: int) -> None:
        self.config, self.channels = config, channels
        words = Out(stream.Signature(read_word_layout())).array(channels)
        ports = _channel_ports(config, channels, axi4_read_signature(config.axi_data_bits))
        super().__init__({**ports, "data": words, "cancel": In(1).array(channels)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        dut: Any = self
        master: Any = AxiReadMaster(self.config, self.channels)
        _build_master(m, dut, master)
        channels: Any = ReadChannels(self.config, self.channels)
        m.submodules.channels = ResetInserter(dut.soft_reset)(channels)
        for i in range(self.channels):
            connect(m, flipped(dut.request[i]), channels.request[i])
            connect(m, channels.burst[i], master.burst[i])
            connect(m, master.data[i], channels.beat[i])
            m.d.comb += [
                channels.cancel[i].eq(dut.cancel[i]),
                dut.data[i].payload.word.eq(channels.data[i].payload),
                dut.data[i].payload.ends.eq(channels.ends[i]),
                dut.data[i].valid.eq(channels.data[i].valid),
                channels.data[i].ready.eq(dut.data[i].ready),
            ]
        return m


class WriteDut(wiring.Component):  # type: ignore[type-arg]
    """`AxiWriteMaster` with its channels."""

    def __init__(self, config: Config, channels: int) -> None:
        self.config, self.channels = config, channels
        words = In(stream.Signature(run_word_layout())).array(channels)
        ports = _channel_ports(config, channels, axi4_write_signature(config.axi_data_bits))
        super().__init__({**ports, "data": words, "busy": Out(1).array(channels)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        dut: Any = self
        master: Any = AxiWriteMaster(self.config, self.channels)
        _build_master(m, dut, master)
        for i in range(self.channels):
            channel: Any = WriteChannel(self.config)
            m.submodules[f"channel_{i}"] = ResetInserter(dut.soft_reset)(channel)
            connect(m, flipped(dut.request[i]), channel.request)
            connect(m, channel.burst, master.burst[i])
            connect(m, channel.beat, master.data[i])
            connect(m, flipped(dut.data[i]), channel.data)
            m.d.comb += [channel.done.eq(master.done[i]), dut.busy[i].eq(channel.busy)]
        return m


class LoaderDut(wiring.Component):  # type: ignore[type-arg]
    """A loader with its read channel: `burst` and `beat` instead of words."""

    def __init__(self, loader: Any, config: Config) -> None:
        self.loader, self.config = loader, config
        inner = ("request", "data", "ends", "cancel")
        super().__init__(
            {
                **{n: port for n, port in loader.signature.members.items() if n not in inner},
                "burst": Out(stream.Signature(burst_layout())),
                "beat": In(stream.Signature(config.axi_data_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        dut: Any = self
        m.submodules.loader = loader = self.loader
        channels: Any = ReadChannels(self.config, 1)
        m.submodules.channels = channels
        connect(m, loader.request, channels.request[0])
        connect(m, channels.data[0], loader.data)
        connect(m, channels.burst[0], flipped(dut.burst))
        connect(m, flipped(dut.beat), channels.beat[0])
        if hasattr(loader, "cancel"):
            m.d.comb += channels.cancel.eq(loader.cancel)
        if hasattr(loader, "ends"):
            m.d.comb += loader.ends.eq(channels.ends)
        _pass_ports(m, dut, loader, ("request", "data", "ends", "cancel"))
        return m


class WriterDut(wiring.Component):  # type: ignore[type-arg]
    """An output writer with its write channel; `busy` of both."""

    def __init__(self, writer: Any, config: Config) -> None:
        self.writer, self.config = writer, config
        inner = ("request", "data")
        super().__init__(
            {
                **{n: port for n, port in writer.signature.members.items() if n not in inner},
                "burst": Out(stream.Signature(burst_layout())),
                "beat": Out(stream.Signature(write_beat_layout(config))),
                "done": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        dut: Any = self
        m.submodules.writer = writer = self.writer
        channel: Any = WriteChannel(self.config)
        m.submodules.channel = channel
        connect(m, writer.request, channel.request)
        connect(m, writer.data, channel.data)
        connect(m, channel.burst, flipped(dut.burst))
        connect(m, channel.beat, flipped(dut.beat))
        _pass_ports(m, dut, writer, ("request", "data", "busy"))
        m.d.comb += [channel.done.eq(dut.done), dut.busy.eq(writer.busy | channel.busy)]
        return m


def _pass_ports(m: Module, dut: Any, inner: Any, but: tuple[str, ...]) -> None:
    for name, member in inner.signature.members.items():
        if name in but:
            continue
        if member.is_signature:
            outer = flipped(getattr(dut, name))
            pair = (getattr(inner, name), outer)
            connect(m, *(pair if member.flow is Out else pair[::-1]))
        elif member.flow is Out:
            m.d.comb += getattr(dut, name).eq(getattr(inner, name))
        else:
            m.d.comb += getattr(inner, name).eq(getattr(dut, name))


# -- memories -----------------------------------------------------------------------------------


class SlaveMemory:
    """Target of a cocotbext-axi slave: bytes, and a range of addresses that answer with an error.

    Attributes
    ----------
    bad : range
        Addresses whose access fails.
    touched : list of (address, length)
        All reads and all writes with a strobe.
    """

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.bad = range(0)
        self.touched: list[tuple[int, int]] = []

    def _check(self, address: int, length: int) -> None:
        self.touched.append((address, length))
        if set(self.bad) & set(range(address, address + length)):
            raise ValueError(f"no memory at 0x{address:x}")

    async def read(self, address: int, length: int) -> bytes:
        """Bytes for a beat."""
        self._check(address, length)
        return bytes(self.content[address : address + length])

    async def write(self, address: int, content: bytes) -> None:
        """Take the bytes of a beat that its strobes select."""
        self._check(address, len(content))
        self.content[address : address + len(content)] = content


class BurstReads:
    """Answers the bursts of one channel from words of memory, after a random while."""

    def __init__(self, dut: Any, config: Config, words: list[int], stall: float) -> None:
        self.words = words
        self.bytes = beat_bytes(config)
        self.bursts = StreamMonitor(dut, "burst", stall_probability=stall, callback=self._answer)
        self.beats = StreamDriver(dut, "beat", stall_probability=stall)

    def _answer(self, payload: int) -> None:
        burst = unpack(burst_layout(), payload)
        address, beats = burst["address"], burst["length"] + 1
        end = address + beats * self.bytes
        assert address % self.bytes == 0 and beats <= 16
        assert address >> 12 == end - 1 >> 12, f"burst 0x{address:x} to 0x{end:x} crosses 4 KB"
        lanes = self.bytes // WORD_BYTES
        for at in range(address // WORD_BYTES, end // WORD_BYTES, lanes):
            beat = self.words[at : at + lanes]
            self.beats.put(sum(word << (WORD_BITS * i) for i, word in enumerate(beat)))


class BurstWrites:
    """Takes the bursts of one channel into words of memory and acknowledges after a while."""

    def __init__(self, dut: Any, config: Config, rng: random.Random, stall: float) -> None:
        self.dut, self.rng, self.stall = dut, rng, stall
        self.bytes = beat_bytes(config)
        self.layout = write_beat_layout(config)
        self.words: dict[int, int] = {}  # word address to word
        self.twice: list[int] = []  # words that were written again
        self._open: list[int] = []  # addresses of the beats to come
        self._left = 0  # bursts without an answer
        self.bursts = StreamMonitor(dut, "burst", stall_probability=stall, callback=self._burst)
        self.beats = StreamMonitor(dut, "beat", stall_probability=1.0, callback=self._beat)
        dut.done.value = 0
        cocotb.start_soon(self._acknowledge())

    def clear(self) -> None:
        """Forget everything, for a reset."""
        self.words.clear()
        self.twice.clear()
        self._open.clear()
        self._left = 0
        self.beats.stall_probability = 1.0

    def _burst(self, payload: int) -> None:
        burst = unpack(burst_layout(), payload)
        address, end = burst["address"], burst["address"] + (burst["length"] + 1) * self.bytes
        assert address % self.bytes == 0 and burst["length"] < 16
        assert address >> 12 == end - 1 >> 12, f"burst 0x{address:x} to 0x{end:x} crosses 4 KB"
        self._open += [*range(address, end - self.bytes, self.bytes), -(end - self.bytes) - 1]
        self.beats.stall_probability = self.stall

    def _beat(self, payload: int) -> None:
        beat = unpack(self.layout, payload)
        address = self._open.pop(0)
        if address < 0:
            address = -address - 1
            self._left += 1
        if not self._open:
            self.beats.stall_probability = 1.0
        for lane in range(self.bytes // WORD_BYTES):
            strobe = beat["strobe"] >> (WORD_BYTES * lane) & 0xFF
            assert strobe in (0, 0xFF)
            if strobe:
                at = address // WORD_BYTES + lane
                if at in self.words:
                    self.twice.append(at)
                self.words[at] = beat["data"] >> (WORD_BITS * lane) & (1 << WORD_BITS) - 1

    async def _acknowledge(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            answers = self._left > 0 and self.rng.random() >= self.stall
            self._left -= answers
            self.dut.done.value = int(answers)


def pauses(rng: random.Random, probability: float) -> Iterator[bool]:
    """For `set_pause_generator` of cocotbext-axi."""
    while True:
        yield rng.random() < probability


def pause_port(port: Any, probability: float) -> None:
    """Pause every channel of a master or slave of cocotbext-axi, each in cycles of its own."""
    for channel in (
        port.write_if.aw_channel,
        port.write_if.w_channel,
        port.write_if.b_channel,
        port.read_if.ar_channel,
        port.read_if.r_channel,
    ):
        channel.set_pause_generator(pauses(random.Random(random.random()), probability))


async def watch_address(dut: Any, channel: str) -> None:
    """Fail when a valid AXI address falls or changes before it is taken, but for a reset.

    Parameters
    ----------
    dut
        Device with the channel.
    channel : str
        What the names of its signals begin with, such as ``axi__ar``.
    """
    valid, ready = getattr(dut, f"{channel}valid"), getattr(dut, f"{channel}ready")
    fields = [getattr(dut, f"{channel}{name}") for name in ("addr", "len")]
    held: list[int] | None = None
    while True:
        await RisingEdge(dut.clk)
        now = [int(field.value) for field in fields]
        if held is not None and not int(dut.rst.value):
            assert int(valid.value), f"{channel}valid fell"
            assert held == now, f"address changed from {held} to {now}"
        held = now if int(valid.value) and not int(ready.value) else None


def request(address: int, words: int, config: Config) -> int:
    """A `dma_request` payload."""
    return pack(Layouts(config).dma_request, {"address": address, "words": words})
