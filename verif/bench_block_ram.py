"""Bench of `BlockRam`: bursts against a model of the memory, and what does not exist."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge
from cocotbext.axi import AxiBurstType, AxiBus, AxiMaster, AxiResp

from rowmesh.verif.dma_harness import pauses
from rowmesh.verif.stream import quiet, reset, start_clock

__all__: list[str] = []

BYTES = int(os.environ.get("BEAT_BYTES", "8"))
SIZE = int(os.environ.get("SIZE", "12288"))
BANKS = int(os.environ.get("BANKS", "1"))
PAGE = 4096


class Memory:
    """A master, and what the memory must hold."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.master = AxiMaster(AxiBus.from_prefix(dut, "axi_"), dut.clk, dut.rst)
        self.content = bytearray(SIZE)

    async def write(self, address: int, data: bytes) -> None:
        """Write bytes; the master selects them with strobes."""
        answer = await self.master.write(address, data)
        assert answer.resp == AxiResp.OKAY, hex(address)
        self.content[address : address + len(data)] = data

    async def check(self, address: int, size: int) -> None:
        """Read bytes and compare."""
        answer = await self.master.read(address, size)
        assert answer.resp == AxiResp.OKAY, hex(address)
        assert answer.data == bytes(self.content[address : address + size]), hex(address)


async def begin(dut: Any, stall: float = 0.0) -> Memory:
    """Clock, reset, and a memory that is written all over."""
    random.seed(cocotb.RANDOM_SEED)
    quiet(dut)
    start_clock(dut)
    dut.rst.value = 1
    memory = Memory(dut)
    await reset(dut)
    await memory.write(0, random.randbytes(SIZE))
    if stall:
        master = memory.master
        for channel in (
            master.write_if.aw_channel,
            master.write_if.w_channel,
            master.write_if.b_channel,
            master.read_if.ar_channel,
            master.read_if.r_channel,
        ):
            channel.set_pause_generator(pauses(random.Random(random.random()), stall))
    return memory


def place() -> tuple[int, int]:
    """Address of a beat and a number of bytes behind it, of one burst or several."""
    address = random.randrange(SIZE // BYTES) * BYTES
    return address, random.randint(1, min(40 * BYTES, SIZE - address))


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def accesses(dut: Any, stall: float) -> None:
    """Any length, some bytes of a beat, up to the last byte."""
    memory = await begin(dut, stall)
    for _ in range(30):
        address, size = place()
        await memory.write(address, random.randbytes(size))
        await memory.check(*place())
        await memory.check(address, size)
    await memory.check(0, SIZE)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reads_beside_writes(dut: Any) -> None:
    """A word read while it is written is the old one or the new one, byte by byte."""
    memory = await begin(dut, 0.2)
    for _ in range(25):
        address, size = place()
        before, data = bytes(memory.content[address : address + size]), random.randbytes(size)
        writing = cocotb.start_soon(memory.write(address, data))
        reading = cocotb.start_soon(memory.master.read(address, size))
        found = (await reading).data
        await writing
        for old, new, seen in zip(before, data, found, strict=True):
            assert seen in (old, new)
    await memory.check(0, SIZE)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def outside(dut: Any) -> None:
    """DECERR, no effect, and the next access is served."""
    memory = await begin(dut)
    for address in (SIZE, SIZE + PAGE, 1 << 31, (1 << 32) - PAGE):
        answer = await memory.master.write(address, random.randbytes(3 * BYTES))
        assert answer.resp == AxiResp.DECERR
        found = await memory.master.read(address, 5 * BYTES)
        assert found.resp == AxiResp.DECERR
        await memory.check(*place())
    await memory.check(0, SIZE)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def bursts_of_other_kinds(dut: Any) -> None:
    """SLVERR without effect."""
    memory = await begin(dut)
    half = BYTES.bit_length() - 2
    for options in ({"burst": AxiBurstType.FIXED}, {"size": half}):
        answer = await memory.master.write(64, random.randbytes(2 * BYTES), **options)
        assert answer.resp == AxiResp.SLVERR, options
        found = await memory.master.read(64, 2 * BYTES, **options)
        assert found.resp == AxiResp.SLVERR, options
    found = await memory.master.read(64 + BYTES // 2, BYTES // 2)
    assert found.resp == AxiResp.SLVERR
    await memory.check(0, SIZE)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def one_beat_a_cycle(dut: Any) -> None:
    """A burst takes its beats and a few cycles, and one for every bank, in both directions."""
    memory = await begin(dut)
    cycles = 0

    async def count() -> None:
        nonlocal cycles
        while True:
            await FallingEdge(dut.clk)
            cycles += 1

    cocotb.start_soon(count())
    beats = 64
    for access in (
        memory.write(0, random.randbytes(beats * BYTES)),
        memory.check(0, beats * BYTES),
    ):
        before = cycles
        await access
        assert cycles - before < beats + 16 + BANKS, cycles - before


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def contents_survive_a_reset(dut: Any) -> None:
    """And what was open is gone."""
    memory = await begin(dut)
    for _ in range(4):
        reading = cocotb.start_soon(memory.master.read(0, 32 * BYTES))
        for _ in range(random.randint(3, 20)):
            await FallingEdge(dut.clk)
        reading.cancel()
        await reset(dut, 3)
        await memory.check(*place())
    await memory.check(0, SIZE)
