"""Drivers, monitors and scoreboards of rowmesh's streams, for cocotb.

Timing on both simulators: agents drive at the falling edge of the clock and sample in the
read-only phase of the same time step, when everything combinational has settled. Nothing moves
between then and the rising edge, so what was sampled is what the rising edge transfers.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Event, FallingEdge, ReadOnly, RisingEdge

from rowmesh.verif.fields import unpack

__all__ = [
    "Scoreboard",
    "StreamDriver",
    "StreamMonitor",
    "quiet",
    "reset",
    "start_clock",
]

# -- clock and reset ----------------------------------------------------------------------------


def start_clock(dut: Any, period_ns: int = 10) -> None:
    """Start ``dut.clk``, made by the simulator and not by Python."""
    # Low first: at an edge at time 0 Icarus has not computed any next state yet.
    Clock(dut.clk, period_ns, unit="ns", impl="gpi").start(start_high=False)


def quiet(dut: Any) -> None:
    """Let the agents of cocotbext not tell of every transfer."""
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)


async def reset(dut: Any, cycles: int = 2) -> None:
    """Hold ``dut.rst`` for some cycles; ends at a falling edge with the reset released."""
    await FallingEdge(dut.clk)
    dut.rst.value = 1
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


# -- agents -------------------------------------------------------------------------------------


class _Agent:
    """What a driver and a monitor have in common.

    Parameters
    ----------
    dut
        Device under test, with ports ``<name>__payload``, ``__valid`` and ``__ready``.
    name : str
        Name of the stream.
    clk
        Clock handle; ``dut.clk`` by default.
    rng : random.Random
        Source of the stalls; by default seeded from the bench's seed and the name.
    stall_probability : float
        Chance of a cycle without progress; may be changed at any time.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        clk: Any = None,
        rng: random.Random | None = None,
        stall_probability: float = 0.0,
    ) -> None:
        self.name = name
        self.stall_probability = stall_probability
        self._clk = dut.clk if clk is None else clk
        self._rst = getattr(dut, "rst", None)
        self._rng = random.Random(f"{cocotb.RANDOM_SEED} {name}") if rng is None else rng
        self._payload = getattr(dut, f"{name}__payload", None)  # absent when it has no bits
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready", None)  # absent when always ready
        self._changed = Event()

    def _stalls(self) -> bool:
        return self._rng.random() < self.stall_probability

    def _in_reset(self) -> bool:
        return self._rst is not None and bool(self._rst.value)

    def _step(self) -> None:
        self._changed.set()
        self._changed.clear()


class StreamDriver(_Agent):
    """Sends payloads into an input stream of the device, in order.

    See `_Agent` for the parameters. A payload that was once valid stays until its transfer; a
    reset keeps it for after the reset.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        clk: Any = None,
        rng: random.Random | None = None,
        stall_probability: float = 0.0,
    ) -> None:
        super().__init__(dut, name, clk, rng, stall_probability)
        self.sent = 0
        self._queue: deque[int] = deque()
        self._queued = 0
        self._valid.value = 0
        if self._payload is not None:
            self._payload.value = 0
        cocotb.start_soon(self._run())

    def put(self, *payloads: int) -> None:
        """Queue payloads and go on at once."""
        self._queue.extend(payloads)
        self._queued += len(payloads)

    async def send(self, payload: int) -> None:
        """Queue one payload and wait until the device has taken it."""
        self.put(payload)
        last = self._queued
        while self.sent < last:
            await self._changed.wait()

    async def send_all(self, payloads: Iterable[int]) -> None:
        """Queue payloads and wait until the device has taken them all."""
        self.put(*payloads)
        await self.drain()

    async def drain(self) -> None:
        """Wait until the device has taken everything queued so far."""
        last = self._queued
        while self.sent < last:
            await self._changed.wait()

    def clear(self) -> None:
        """Forget what is queued (for a reset in the middle)."""
        self._queued -= len(self._queue)
        self._queue.clear()

    async def _run(self) -> None:
        presented = False
        while True:
            await FallingEdge(self._clk)
            if not self._queue:
                presented = False
            elif not presented:
                presented = not self._stalls()
            self._valid.value = int(presented)
            if presented and self._payload is not None:
                self._payload.value = self._queue[0]
            await ReadOnly()
            if self._in_reset():
                presented = False
            elif presented and (self._ready is None or bool(self._ready.value)):
                # Counted at the rising edge, where the transfer is.
                await RisingEdge(self._clk)
                if presented and self._queue:
                    self._queue.popleft()
                    self.sent += 1
                presented = False
                self._step()


class StreamMonitor(_Agent):
    """Takes payloads from an output stream of the device and watches the protocol.

    See `_Agent` for the parameters.

    Attributes
    ----------
    received : list of int
        Payloads transferred so far.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        clk: Any = None,
        rng: random.Random | None = None,
        stall_probability: float = 0.0,
        callback: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(dut, name, clk, rng, stall_probability)
        self.received: list[int] = []
        self._taken = 0
        self._callback = callback
        if self._ready is not None:
            self._ready.value = 0
        cocotb.start_soon(self._run())

    async def receive(self) -> int:
        """Wait for the next payload not yet returned by this method."""
        while len(self.received) <= self._taken:
            await self._changed.wait()
        self._taken += 1
        return self.received[self._taken - 1]

    async def wait_for(self, count: int) -> list[int]:
        """Wait until `count` payloads have been received in all; return the list."""
        while len(self.received) < count:
            await self._changed.wait()
        return self.received

    async def _run(self) -> None:
        held: int | None = None
        while True:
            await FallingEdge(self._clk)
            ready = not self._stalls()
            if self._ready is not None:
                self._ready.value = int(ready)
            await ReadOnly()
            if self._in_reset():
                held = None
                continue
            valid = bool(self._valid.value)
            payload = 0
            if valid and self._payload is not None:
                payload = int(self._payload.value)
            if held is not None:
                assert valid, f"stream {self.name}: valid fell before the transfer"
                assert payload == held, (
                    f"stream {self.name}: payload changed before the transfer, "
                    f"0x{held:x} to 0x{payload:x}"
                )
            held = payload if valid else None
            if valid and (ready or self._ready is None):
                held = None
                await RisingEdge(self._clk)
                self.received.append(payload)
                if self._callback is not None:
                    self._callback(payload)
                self._step()


class Scoreboard:
    """Compares what a monitor receives with what is expected, in order.

    Parameters
    ----------
    monitor : StreamMonitor
        Where the payloads come from; its earlier payloads count too.
    expected : iterable of int
        Payloads, or none yet: see `expect`.
    layout
        Shape by which a message takes payloads apart.
    """

    def __init__(
        self, monitor: StreamMonitor, expected: Iterable[int] = (), layout: Any = None
    ) -> None:
        self.expected = list(expected)
        self._monitor = monitor
        self._layout = layout
        self._checked = 0

    def expect(self, *payloads: int) -> None:
        """Add payloads to what is expected."""
        self.expected.extend(payloads)

    async def finish(self, timeout: int = 10_000, idle: int = 20) -> None:
        """Wait for everything expected, then some idle cycles in which nothing may come.

        Parameters
        ----------
        timeout : int
            Cycles to wait without any progress.
        idle : int
            Cycles to watch at the end.

        Raises
        ------
        AssertionError
            A payload differs, is missing or is too many.
        """
        left = timeout
        while self._checked < len(self.expected):
            before = self._checked
            await RisingEdge(self._monitor._clk)
            self.check()
            left = timeout if self._checked > before else left - 1
            if not left:
                missing = self.expected[self._checked]
                raise AssertionError(
                    f"stream {self._monitor.name}: beat {self._checked} of {len(self.expected)} "
                    f"did not come within {timeout} cycles: {self._show(missing)}"
                )
        for _ in range(idle):
            await RisingEdge(self._monitor._clk)
        self.check()

    def check(self) -> None:
        """Compare what has come so far.

        Raises
        ------
        AssertionError
            Names the stream, the number of the beat, and both values.
        """
        received = self._monitor.received
        while self._checked < len(received):
            index, actual = self._checked, received[self._checked]
            if index >= len(self.expected):
                raise AssertionError(
                    f"stream {self._monitor.name}: beat {index} is one too many "
                    f"({len(self.expected)} expected): {self._show(actual)}"
                )
            if actual != self.expected[index]:
                raise AssertionError(
                    f"stream {self._monitor.name}: beat {index} of {len(self.expected)} differs\n"
                    f"  expected {self._show(self.expected[index])}\n"
                    f"  received {self._show(actual)}\n"
                    f"  before   {[self._show(p) for p in received[max(0, index - 3) : index]]}"
                )
            self._checked += 1

    def _show(self, payload: int) -> str:
        if self._layout is None:
            return f"0x{payload:x}"
        return f"{unpack(self._layout, payload)} (0x{payload:x})"
