"""Bench of `AxiWriteMaster` with `WriteChannel`s: real bursts, early ends, faults and stopping."""

import logging
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiSlaveWrite, AxiWriteBus

from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.dma.write_channel import run_word_layout
from rowmesh.rtl.layouts import WORD_BITS
from rowmesh.verif.dma_harness import SlaveMemory, pauses, request, watch_address
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import wake
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import StreamDriver, reset, start_clock

__all__: list[str] = []

SIZE = 1 << 16


class Bench:
    """The device, a memory of random bytes, and what every test does with them."""

    def __init__(self, dut: Any, pause: float = 0.0) -> None:
        self.dut = dut
        self.config = bench_config()
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.memory = SlaveMemory(self.rng.randbytes(SIZE))
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.channels = 0
        while hasattr(dut, f"request__{self.channels}__valid"):
            self.channels += 1
        self.faults: list[int] = []
        self.pause = pause

    async def start(self, stall: float = 0.0) -> None:
        """Clock, reset, the memory on the bus, drivers."""
        dut = self.dut
        start_clock(dut)
        wake(dut)
        dut.window_base.value = 0
        dut.window_limit.value = SIZE
        dut.stop.value = 0
        dut.soft_reset.value = 0
        self.requests = [
            StreamDriver(dut, f"request__{i}", stall_probability=stall)
            for i in range(self.channels)
        ]
        self.data = [
            StreamDriver(dut, f"data__{i}", stall_probability=stall) for i in range(self.channels)
        ]
        await reset(dut)
        bus = AxiWriteBus.from_prefix(dut, "axi_")
        self.slave = AxiSlaveWrite(bus, dut.clk, dut.rst, target=self.memory)
        if self.pause:
            for channel in (self.slave.aw_channel, self.slave.w_channel, self.slave.b_channel):
                channel.set_pause_generator(pauses(self.rng, self.pause))
        cocotb.start_soon(watch_address(dut, "axi__aw"))
        cocotb.start_soon(self._watch_faults())

    async def _watch_faults(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            if fault := int(self.dut.fault.value):
                self.faults.append(fault)

    def put(self, i: int, address: int, words: list[int], limit: int) -> bytes:
        """Queue a run of `words` on channel `i` that may have `limit`; its bytes in memory."""
        self.requests[i].put(request(address, limit, self.config))
        for k, word in enumerate(words):
            # At the limit `last` changes nothing.
            last = k == len(words) - 1 and (len(words) < limit or self.rng.random() < 0.5)
            self.data[i].put(pack(run_word_layout(), {"word": word, "last": int(last)}))
        return b"".join(word.to_bytes(WORD_BYTES, "little") for word in words)

    def random_runs(self, i: int, count: int) -> dict[int, bytes]:
        """Queue runs in the channel's own part of the memory that do not overlap."""
        part = SIZE // self.channels // WORD_BYTES * WORD_BYTES
        at, end = i * part, (i + 1) * part
        runs = {}
        for _ in range(count):
            at += WORD_BYTES * self.rng.choice([0, 1, 2, 5, self.rng.randrange(80)])
            length = self.rng.choice([1, 1, 2, 3, 8, 16, 17, self.rng.randrange(1, 120)])
            if at + length * WORD_BYTES > end:
                break
            if self.rng.random() < 0.1:
                self.requests[i].put(request(at, 0, self.config))  # a run of no words
            words = [self.rng.getrandbits(WORD_BITS) for _ in range(length)]
            runs[at] = self.put(i, at, words, length + self.rng.choice([0, 0, 3, 1 << 20]))
            at += length * WORD_BYTES
        return runs

    def busy(self) -> int:
        """Number of busy channels."""
        return sum(int(getattr(self.dut, f"busy__{i}").value) for i in range(self.channels))

    async def cycles(self, count: int) -> None:
        """Let time pass."""
        for _ in range(count):
            await FallingEdge(self.dut.clk)

    async def drain(self) -> None:
        """Until all is sent and answered."""
        for driver in [*self.requests, *self.data]:
            await driver.drain()
        await self.cycles(1)
        for _ in range(3000):
            if not self.busy():
                return
            await FallingEdge(self.dut.clk)
        raise AssertionError("a channel stays busy")

    async def recover(self) -> None:
        """What the controller does after a fault: stop, wait for quiet, soft reset."""
        dut = self.dut
        dut.stop.value = 1
        for driver in [*self.requests, *self.data]:
            driver.clear()
        # The channels may be reset before all is quiet: the master needs them no more.
        await self.cycles(2)
        early = self.rng.random() < 0.5
        dut.soft_reset.value = int(early)
        for _ in range(3000):
            await FallingEdge(dut.clk)
            if int(dut.quiet.value):
                break
        else:
            raise AssertionError("the master does not become quiet")
        dut.soft_reset.value = 1
        await self.cycles(2)
        dut.soft_reset.value = 0
        await FallingEdge(dut.clk)
        assert not self.busy()
        dut.stop.value = 0
        await FallingEdge(dut.clk)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("pause", "stall"), [(0.0, 0.0), (0.5, 0.0), (0.2, 0.6)]))
async def writes_everything(dut: Any, pause: float, stall: float) -> None:
    """All alignments and lengths on all channels at once; no byte outside the runs changes."""
    bench = Bench(dut, pause)
    await bench.start(stall)
    expected = bytearray(bench.memory.content)
    for i in range(bench.channels):
        for at, content in bench.random_runs(i, 25).items():
            expected[at : at + len(content)] = content
    await bench.drain()
    # Not busy means that every response is in, so every byte is.
    assert bench.memory.content == expected
    assert int(dut.quiet.value)
    assert not bench.faults


@cocotb.test(timeout_time=200, timeout_unit="us")
async def streams_a_word_a_cycle(dut: Any) -> None:
    """A long run is taken without a gap."""
    bench = Bench(dut)
    await bench.start()
    words = [bench.rng.getrandbits(WORD_BITS) for _ in range(600)]
    content = bench.put(0, 0x1008, words, 600)
    start = cocotb.utils.get_sim_time("ns")
    await bench.data[0].drain()
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 10
    # On a 64-bit port the slave model itself leaves a cycle between bursts.
    allowed = 1.2 if bench.config.axi_data_bits == 64 else 1.02
    assert cycles < 600 * allowed, f"600 words took {cycles} cycles"
    await bench.drain()
    assert bench.memory.content[0x1008 : 0x1008 + len(content)] == content


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refuses_outside_the_window(dut: Any) -> None:
    """Nothing below the base or past the limit is written, the fault is told, a reset recovers."""
    bench = Bench(dut, 0.2)
    await bench.start()
    # Its ends lie within a burst for the narrow ports: bursts begin and end at round addresses.
    window = range(0x1440, 0x2C40)
    dut.window_base.value, dut.window_limit.value = window.start, window.stop
    for address, count in [(window.start - 64, 8), (window.stop, 1), (window.stop - 128, 64)]:
        bench.memory.touched.clear()
        bench.put(0, address, [1] * count, count)
        bench.put(bench.channels - 1, 0x2000, [2] * 8, 8)
        await bench.cycles(200)
        assert bench.faults == [Fault.AXI_WINDOW]
        bench.faults.clear()
        await bench.recover()
        assert all(at in window for at, _ in bench.memory.touched)
    # The whole window is allowed, to its last byte.
    words = [bench.rng.getrandbits(WORD_BITS) for _ in range(len(window) // WORD_BYTES)]
    content = bench.put(0, window.start, words, len(words))
    await bench.drain()
    assert bench.memory.content[window.start : window.stop] == content
    assert not bench.faults


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_error_responses(dut: Any) -> None:
    """The fault of a bad response, and the channel stays busy; a reset recovers."""
    bench = Bench(dut, 0.2)
    await bench.start()
    bench.memory.bad = range(0x2100, 0x2140)
    bench.put(0, 0x2008, [3] * 100, 100)
    await bench.cycles(500)
    assert bench.faults == [Fault.AXI_RESPONSE]
    assert bench.busy() == 1
    bench.faults.clear()
    await bench.recover()
    content = bench.put(0, 0x3008, [bench.rng.getrandbits(WORD_BITS) for _ in range(40)], 40)
    await bench.drain()
    assert bench.memory.content[0x3008 : 0x3008 + len(content)] == content
    assert not bench.faults


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stops_at_any_time(dut: Any) -> None:
    """Stop ends all traffic without an offence on the bus and writes nothing wrong."""
    bench = Bench(dut, 0.4)
    await bench.start(0.2)
    for _ in range(10):
        before = bytes(bench.memory.content)
        wanted = bytearray(before)
        for i in range(bench.channels):
            for at, content in bench.random_runs(i, 8).items():
                wanted[at : at + len(content)] = content
        await bench.cycles(bench.rng.randrange(250))
        await bench.recover()
        after = bytes(bench.memory.content)
        bench.memory.touched.clear()
        await bench.cycles(20)
        assert not bench.memory.touched
        assert all(x in (y, z) for x, y, z in zip(after, before, wanted, strict=True))
    content = bench.put(0, 0x3008, [bench.rng.getrandbits(WORD_BITS) for _ in range(40)], 40)
    await bench.drain()
    assert bench.memory.content[0x3008 : 0x3008 + len(content)] == content
    assert not bench.faults
