"""Bench of `Bridge` against a model of LiteX's `Stream2Wishbone`."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.rtl.shell.bus import request_layout, response_layout
from rowmesh.verif.fields import pack, unpack
from rowmesh.verif.stream import StreamDriver, StreamMonitor, reset, start_clock
from rowmesh.verif.uartbone_model import UartBoneModel

__all__: list[str] = []

WRITES, READS, FIXED_WRITES, FIXED_READS = 1, 2, 3, 4


def head(command: int, count: int, word: int) -> bytes:
    """The first six bytes of a command."""
    return bytes([command, count]) + word.to_bytes(4, "big")


class Bus:
    """What the bridge reaches: words, counted accesses, and addresses without anything."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.words: dict[int, int] = {}
        self.accesses: list[tuple[int, int | None]] = []
        self._answers = StreamDriver(dut, "response", stall_probability=stall)
        StreamMonitor(dut, "request", stall_probability=stall, callback=self._access)

    def _access(self, payload: int) -> None:
        request = unpack(request_layout(), payload)
        address = 4 * request["address"]
        if request["write"]:
            self.write(address, request["data"])
            self._answers.put(0)
        else:
            answer = {"data": self.read(address), "error": int(address >= 1 << 31)}
            self._answers.put(pack(response_layout(), answer))

    def read(self, address: int) -> int:
        """Words that were not written read as something that depends on the address."""
        self.accesses.append((address, None))
        return self.words.get(address, (address * 0x9E3779B1 + 7) % (1 << 32))

    def write(self, address: int, value: int) -> None:
        """Keep a word."""
        self.accesses.append((address, value))
        self.words[address] = value


class Bench:
    """Bridge, bus, and a model with a bus of its own."""

    def __init__(self, dut: Any, stall: float) -> None:
        self.dut = dut
        self.driver = StreamDriver(dut, "i", stall_probability=stall)
        self.monitor = StreamMonitor(dut, "o", stall_probability=stall)
        self.bus = Bus(dut, stall)
        self.mirror = Mirror()
        self.model = UartBoneModel(self.mirror.read, self.mirror.write)
        self.answer = b""
        self.abandoned = self.failed = 0

    async def start(self) -> None:
        """Clock, reset, watch the pulses."""
        start_clock(self.dut)
        self.dut.rst.value = 1
        await reset(self.dut)
        cocotb.start_soon(self._count())

    async def _count(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            await ReadOnly()
            self.abandoned += int(self.dut.abandoned.value)
            self.failed += int(self.dut.failed.value)

    async def send(self, content: bytes) -> None:
        """Send bytes, and tell the model."""
        self.answer += self.model.feed(content)
        await self.driver.send_all(content)

    async def silence(self) -> None:
        """Be silent for longer than the timeout."""
        for _ in range(int(os.environ["TIMEOUT"]) + 20):
            await FallingEdge(self.dut.clk)
        self.model.silence()

    async def check(self) -> None:
        """Compare all that happened."""
        await self.monitor.wait_for(len(self.answer))
        for _ in range(30):
            await FallingEdge(self.dut.clk)
        assert bytes(self.monitor.received) == self.answer
        assert self.bus.accesses == self.mirror.accesses
        assert int(self.dut.sum.value) == self.model.sum
        assert self.abandoned == self.model.abandoned


class Mirror(Bus):
    """The same bus without a device."""

    def __init__(self) -> None:
        self.words = {}
        self.accesses = []


async def begin(dut: Any, stall: float) -> Bench:
    """A bench that runs."""
    random.seed(cocotb.RANDOM_SEED)
    bench = Bench(dut, stall)
    await bench.start()
    return bench


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def commands(dut: Any, stall: float) -> None:
    """All commands, any length, any address; writes and reads meet."""
    bench = await begin(dut, stall)
    for count in (1, 2, 3, 0, 7, 255, *(random.randint(0, 12) for _ in range(12))):
        word = random.choice([5, 1 << 20, (1 << 30) - 2, random.getrandbits(30)])
        if random.random() < 0.5 and count < 20:
            command = random.choice([WRITES, FIXED_WRITES])
            await bench.send(head(command, count, word) + random.randbytes(4 * count))
        await bench.send(head(random.choice([READS, FIXED_READS]), count, word))
    await bench.check()
    assert bench.failed == sum(
        value is None and address >= 1 << 31 for address, value in bench.bus.accesses
    )
    assert bench.failed


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def unknown_commands(dut: Any) -> None:
    """They take a length and an address with them, and no more."""
    bench = await begin(dut, 0.2)
    for command in (0, 5, 0x55, 0xFF, 0x80, 0x81):
        await bench.send(head(command, 3, 17))
        await bench.send(head(WRITES, 1, 9) + random.randbytes(4) + head(READS, 1, 9))
    await bench.check()
    assert bench.abandoned == 6


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def silence_drops_what_is_not_complete(dut: Any) -> None:
    """After a pause the next byte begins a command, wherever the one before ended."""
    bench = await begin(dut, 0.0)
    whole = head(WRITES, 2, 100) + random.randbytes(8)
    for length in range(1, len(whole)):
        await bench.send(whole[:length])
        await bench.silence()
        await bench.send(head(READS, 2, 100))
        await bench.monitor.wait_for(len(bench.answer))
    # Garbage of any length, then silence.
    for _ in range(10):
        await bench.send(random.randbytes(random.randint(1, 40)).replace(b"\x02", b"\x01"))
        await bench.silence()
    await bench.send(head(READS, 1, 100))
    await bench.check()
    assert bench.abandoned >= len(whole) - 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def slow_hosts(dut: Any) -> None:
    """Every byte begins the time anew: a command may take longer than the timeout."""
    bench = await begin(dut, 0.0)
    pause = int(os.environ["TIMEOUT"]) - 5
    for byte in head(WRITES, 2, 8) + random.randbytes(8) + head(READS, 2, 8):
        await bench.send(bytes([byte]))
        for _ in range(pause):
            await FallingEdge(dut.clk)
    await bench.check()
    assert bench.abandoned == 0 and len(bench.answer) == 8


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_in_a_command(dut: Any) -> None:
    """The next byte begins a command."""
    bench = await begin(dut, 0.0)
    for length in range(1, 10):
        await bench.driver.send_all(head(WRITES, 3, 8)[:length] + bytes(max(0, length - 6)))
        await reset(dut)
        bench.model.sum = 0
        await bench.send(head(READS, 1, length))
        await bench.monitor.wait_for(len(bench.answer))
    await bench.check()
