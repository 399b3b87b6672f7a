"""Bench of `AxiReadMaster` with `ReadChannels`: real bursts, cancelling, faults and stopping."""

import logging
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge
from cocotbext.axi import AxiReadBus, AxiSlaveRead

from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.dma.burst_planner import FIFO_BEATS
from rowmesh.verif.dma_harness import (
    SlaveMemory,
    pauses,
    read_word_layout,
    request,
    watch_address,
)
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import wake
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []

SIZE = 1 << 15


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

    async def start(self) -> None:
        """Clock, reset and the memory on the bus."""
        dut = self.dut
        start_clock(dut)
        wake(dut)
        dut.window_base.value = 0
        dut.window_limit.value = SIZE
        dut.stop.value = 0
        dut.soft_reset.value = 0
        for i in range(self.channels):
            for name in (f"cancel__{i}", f"request__{i}__valid", f"data__{i}__ready"):
                getattr(dut, name).value = 0
        await reset(dut)
        bus = AxiReadBus.from_prefix(dut, "axi_")
        self.slave = AxiSlaveRead(bus, dut.clk, dut.rst, target=self.memory)
        if self.pause:
            self.slave.ar_channel.set_pause_generator(pauses(self.rng, self.pause))
            self.slave.r_channel.set_pause_generator(pauses(self.rng, self.pause))
        cocotb.start_soon(watch_address(dut, "axi__ar"))
        cocotb.start_soon(self._watch_faults())

    async def _watch_faults(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            if fault := int(self.dut.fault.value):
                self.faults.append(fault)

    def words(self, address: int, count: int) -> list[int]:
        """Payloads of `data` for a request."""
        content = self.memory.content
        starts = [address + WORD_BYTES * i for i in range(count)]
        return [
            pack(
                read_word_layout(),
                {
                    "word": int.from_bytes(content[at : at + WORD_BYTES], "little"),
                    "ends": i == count - 1,
                },
            )
            for i, at in enumerate(starts)
        ]

    def random_request(self) -> tuple[int, int]:
        """Address and words: short and long, often around a 4 KB boundary, now and then none."""
        count = self.rng.choice([0, 1, 1, 2, 3, 5, 8, 16, 17, 40, self.rng.randrange(150)])
        near = 0x1000 * self.rng.randrange(1, 7) - WORD_BYTES * self.rng.randrange(0, 40)
        address = self.rng.choice([near, WORD_BYTES * self.rng.randrange(SIZE // 16)])
        return address, count

    async def cycles(self, count: int) -> None:
        """Let time pass."""
        for _ in range(count):
            await FallingEdge(self.dut.clk)

    async def recover(self) -> None:
        """What the controller does after a fault: stop, wait for quiet, soft reset."""
        dut = self.dut
        dut.stop.value = 1
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
        dut.stop.value = 0
        await FallingEdge(dut.clk)

    async def check_traffic(self, requests: int, stall: float) -> None:
        """Random requests on all channels; every word must come."""
        boards = []
        for i in range(self.channels):
            driver = StreamDriver(self.dut, f"request__{i}", stall_probability=stall)
            monitor = StreamMonitor(self.dut, f"data__{i}", stall_probability=stall)
            board = Scoreboard(monitor, layout=read_word_layout())
            for _ in range(requests):
                address, count = self.random_request()
                board.expect(*self.words(address, count))
                driver.put(request(address, count, self.config))
            boards.append(board)
        for board in boards:
            await board.finish(timeout=2000)
        assert int(self.dut.quiet.value)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("pause", "stall"), [(0.0, 0.0), (0.5, 0.0), (0.2, 0.6)]))
async def reads_everything(dut: Any, pause: float, stall: float) -> None:
    """All alignments and lengths on all channels at once, whatever the pauses."""
    bench = Bench(dut, pause)
    await bench.start()
    await bench.check_traffic(25, stall)
    assert not bench.faults


@cocotb.test(timeout_time=200, timeout_unit="us")
async def streams_a_word_a_cycle(dut: Any) -> None:
    """One channel: long rows of consecutive requests come without a gap once begun."""
    bench = Bench(dut)
    await bench.start()
    driver = StreamDriver(dut, "request__0")
    monitor = StreamMonitor(dut, "data__0")
    rows, count = 10, 48
    for i in range(rows):
        driver.put(request(8 + 512 * i, count, bench.config))
    await monitor.wait_for(1)
    start = cocotb.utils.get_sim_time("ns")
    await monitor.wait_for(rows * count)
    cycles = (cocotb.utils.get_sim_time("ns") - start) / 10
    # On a 64-bit port the slave model itself leaves a cycle between bursts.
    allowed = 1.15 if bench.config.axi_data_bits == 64 else 1.02
    assert cycles < rows * count * allowed, f"{rows * count} words took {cycles} cycles"


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(pause=[0.0, 0.4])
async def cancels(dut: Any, pause: float) -> None:
    """A cancelled request gives no further word; the next ones, asked for already, all come."""
    bench = Bench(dut, pause)
    await bench.start()
    rng = bench.rng

    async def consume(i: int) -> None:
        driver = StreamDriver(dut, f"request__{i}")
        jobs = []
        for _ in range(25):
            address, count = bench.random_request()
            if count:
                jobs.append((address, count, rng.randrange(1, count + 1)))
                driver.put(request(address, count, bench.config))
        ready, cancel = getattr(dut, f"data__{i}__ready"), getattr(dut, f"cancel__{i}")
        valid, payload = getattr(dut, f"data__{i}__valid"), getattr(dut, f"data__{i}__payload")
        for address, count, wanted in jobs:
            expected = bench.words(address, count)[:wanted]
            while expected:
                await FallingEdge(dut.clk)
                cancel.value = 0
                go = rng.random() < 0.8
                ready.value = int(go)
                await ReadOnly()
                if go and int(valid.value):
                    word = expected.pop(0)
                    assert int(payload.value) == word, f"channel {i}, request 0x{address:x}"
            # A complete request may be cancelled or not.
            await FallingEdge(dut.clk)
            ready.value = 0
            cancel.value = int(wanted < count or rng.random() < 0.5)
        await FallingEdge(dut.clk)
        cancel.value = 0

    tasks = [cocotb.start_soon(consume(i)) for i in range(bench.channels)]
    for task in tasks:
        await task
    await bench.cycles(300)
    assert int(dut.quiet.value)
    assert not bench.faults
    assert not any(int(getattr(dut, f"data__{i}__valid").value) for i in range(bench.channels))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refuses_outside_the_window(dut: Any) -> None:
    """No burst below the base or past the limit is issued, the fault is told, a reset recovers."""
    bench = Bench(dut, 0.2)
    await bench.start()
    # Its ends lie within a burst for the narrow ports: bursts begin and end at round addresses.
    window = range(0x1440, 0x2C40)
    dut.window_base.value, dut.window_limit.value = window.start, window.stop
    driver = StreamDriver(dut, "request__0")
    dut.data__0__ready.value = 1
    for address, count in [(window.start - 64, 8), (window.stop, 1), (window.stop - 128, 64)]:
        bench.memory.touched.clear()
        driver.put(request(window.start, 8, bench.config), request(address, count, bench.config))
        await bench.cycles(100)
        assert bench.faults == [Fault.AXI_WINDOW]
        bench.faults.clear()
        await bench.recover()
        assert all(at in window for at, _ in bench.memory.touched)
    # The whole window is allowed, to its last byte.
    monitor = StreamMonitor(dut, "data__0")
    board = Scoreboard(monitor, bench.words(window.start, 128) + bench.words(window.stop - 64, 8))
    driver.put(request(window.start, 128, bench.config))
    driver.put(request(window.stop - 64, 8, bench.config))
    await board.finish()
    assert not bench.faults


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_error_responses(dut: Any) -> None:
    """A beat with an error response is not delivered, nor anything after it; a reset recovers."""
    bench = Bench(dut, 0.2)
    await bench.start()
    bench.memory.bad = range(0x2100, 0x2140)
    driver = StreamDriver(dut, "request__0")
    monitor = StreamMonitor(dut, "data__0")
    good = (0x2100 - 0x2008) // WORD_BYTES
    driver.put(request(0x2008, 100, bench.config), request(0x4000, 20, bench.config))
    await bench.cycles(600)
    assert bench.faults == [Fault.AXI_RESPONSE]
    assert monitor.received == bench.words(0x2008, 100)[:good]
    driver.clear()
    await bench.recover()
    bench.faults.clear()
    monitor.received.clear()
    board = Scoreboard(monitor, bench.words(0x4000, 20))
    driver.put(request(0x4000, 20, bench.config))
    await board.finish()
    assert not bench.faults


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stops_at_any_time(dut: Any) -> None:
    """Stop ends all traffic without an offence on the bus; after a soft reset all is new."""
    bench = Bench(dut, 0.4)
    await bench.start()
    drivers = [StreamDriver(dut, f"request__{i}") for i in range(bench.channels)]
    monitors = [
        StreamMonitor(dut, f"data__{i}", stall_probability=0.3) for i in range(bench.channels)
    ]
    for _ in range(8):
        boards = []
        for driver, monitor in zip(drivers, monitors, strict=True):
            driver.clear()
            monitor.received.clear()
            boards.append(Scoreboard(monitor))
            for _ in range(6):
                address, count = bench.random_request()
                driver.put(request(address, count, bench.config))
                boards[-1].expect(*bench.words(address, count))
        await bench.cycles(bench.rng.randrange(200))
        # A word that waited falls when everything stops: let the monitors look away.
        for driver, monitor in zip(drivers, monitors, strict=True):
            driver.clear()
            monitor.stall_probability = 0.0
        await bench.cycles(2)
        for board in boards:
            board.check()
        await bench.recover()
        for monitor in monitors:
            monitor.stall_probability = 0.3
    assert not bench.faults


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_stuck_channel_holds_up_nobody(dut: Any) -> None:
    """A channel whose words are not taken asks only for what it can hold."""
    bench = Bench(dut)
    await bench.start()
    for i in range(1, bench.channels):
        stuck = StreamDriver(dut, f"request__{i}")
        stuck.put(*(request(0x800 * k + 0x58, 77, bench.config) for k in range(4)))
    await bench.cycles(300)
    assert int(dut.quiet.value)
    driver, monitor = StreamDriver(dut, "request__0"), StreamMonitor(dut, "data__0")
    driver.put(request(0x2008, 300, bench.config))
    await Scoreboard(monitor, bench.words(0x2008, 300)).finish()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def cancels_what_is_not_asked_for(dut: Any) -> None:
    """After a cancel no further burst of the request goes out."""
    bench = Bench(dut)
    await bench.start()
    driver = StreamDriver(dut, "request__0")
    driver.put(request(0x1000, 2000, bench.config))
    dut.data__0__ready.value = 1
    while not int(dut.data__0__valid.value):
        await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.data__0__ready.value = 0
    dut.cancel__0.value = 1
    await FallingEdge(dut.clk)
    dut.cancel__0.value = 0
    await bench.cycles(500)
    assert len(bench.memory.touched) <= FIFO_BEATS + 16, "beats after the cancel"
    monitor = StreamMonitor(dut, "data__0")
    driver.put(request(0x20, 5, bench.config))
    await Scoreboard(monitor, bench.words(0x20, 5)).finish()
