"""The whole accelerator in a cocotb simulation, as a bus that the host's own driver runs on.

`Board` is what `rowmesh.gen.driver` calls a `Bus`. The driver blocks, so it runs in a thread of
cocotb's bridge (`Board.drive`), and time passes only while it waits for the bus.
"""

import random
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import cocotb
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, First, RisingEdge
from cocotbext.axi import (
    AxiBus,
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiSlave,
)

from rowmesh.rtl.config import Config
from rowmesh.verif.dma_harness import SlaveMemory, pauses, watch_address
from rowmesh.verif.stream import quiet, reset, start_clock

__all__ = ["Board", "Dram"]

P = ParamSpec("P")
T = TypeVar("T")


class Dram(SlaveMemory):
    """The memory of all masters.

    Attributes
    ----------
    response : AxiResp
        How accesses to `bad` are answered: SLVERR or DECERR.
    fetched, written : list of (address, length)
        All reads, and all writes with a strobe, those that failed included.
    """

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))
        self.response = AxiResp.SLVERR
        self.fetched: list[tuple[int, int]] = []
        self.written: list[tuple[int, int]] = []

    async def read(self, address: int, length: int) -> bytes:
        """Bytes for a beat."""
        self.fetched.append((address, length))
        return await super().read(address, length)

    async def write(self, address: int, content: bytes) -> None:
        """Take the bytes of a beat that its strobes select."""
        self.written.append((address, len(content)))
        await super().write(address, content)


class Board:
    """Clock, reset, an AXI4-Lite host, and one memory behind all AXI4 masters.

    Parameters
    ----------
    dut
        `rowmesh.rtl.top.Top`.
    config : Config
        What it was built from.
    size : int
        Bytes of memory.
    pause : float
        Probability of a pause in a cycle, on every channel of every port, each on its own.
    patience : int
        Cycles that `wait_irq` waits: the seconds of the driver say nothing about a simulation.

    Attributes
    ----------
    dram : Dram
    """

    def __init__(
        self, dut: Any, config: Config, size: int, *, pause: float = 0.0, patience: int = 50_000
    ) -> None:
        self.dut, self.config, self.pause, self.patience = dut, config, pause, patience
        self.dram = Dram(size)
        self.rng = random.Random(cocotb.RANDOM_SEED)

    async def start(self) -> None:
        """Start the clock and everything around the device, and reset all of it."""
        dut = self.dut
        quiet(dut)
        start_clock(dut)
        dut.rst.value = 0
        host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self._host = host
        ports = [host]
        for i in range(self.config.axi_masters):
            bus = AxiBus.from_prefix(dut, f"m{i}_axi")
            slave = AxiSlave(bus, dut.clk, dut.rst, target=self.dram)
            self._answer(slave.read_if.r_channel, "rresp")
            self._answer(slave.write_if.b_channel, "bresp")
            ports.append(slave)
        if self.pause:
            for port in ports:
                channels = (
                    port.write_if.aw_channel,
                    port.write_if.w_channel,
                    port.write_if.b_channel,
                    port.read_if.ar_channel,
                    port.read_if.r_channel,
                )
                for channel in channels:
                    channel.set_pause_generator(pauses(self.rng, self.pause))
        await reset(dut)
        for i in range(self.config.axi_masters):
            for letter in "rw":
                cocotb.start_soon(watch_address(dut, f"m{i}_axi_a{letter}"))

    def _answer(self, channel: Any, field: str) -> None:
        """Let failed accesses have the memory's response; the slave model knows only SLVERR."""
        send = channel.send

        async def send_response(transaction: Any) -> None:
            if getattr(transaction, field) != AxiResp.OKAY:
                setattr(transaction, field, self.dram.response)
            await send(transaction)

        channel.send = send_response

    async def drive(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking code that uses this board as its bus, while the simulation goes on."""
        return await bridge(function)(*args, **kwargs)

    async def cycles(self, count: int) -> None:
        """Let time pass."""
        await ClockCycles(self.dut.clk, count)

    # -- the bus of the driver -----------------------------------------------------------------

    def read_register(self, offset: int) -> int:
        """Read a 32-bit register over AXI4-Lite."""
        return int(resume(self._host.read_dword)(offset))

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register over AXI4-Lite."""
        resume(self._host.write_dword)(offset, value)

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of memory."""
        return bytes(self.dram.content[address : address + size])

    def write_memory(self, address: int, content: bytes) -> None:
        """Set bytes of memory."""
        self.dram.content[address : address + len(content)] = content

    def wait_irq(self, timeout: float) -> bool:
        """Wait for the interrupt; false when it has not come within `patience` cycles."""
        return resume(self._irq)()

    async def _irq(self) -> bool:
        if int(self.dut.irq.value):
            return True
        limit = ClockCycles(self.dut.clk, self.patience)
        return await First(RisingEdge(self.dut.irq), limit) is not limit
