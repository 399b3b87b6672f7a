"""The far end of a serial line, for cocotb: bits by time, not by the device's clock."""

import cocotb
from cocotb.handle import LogicObject
from cocotb.triggers import Event, FallingEdge, First, Timer

__all__ = ["UartSink", "UartSource"]


class UartSource:
    """Sends bytes.

    Parameters
    ----------
    line
        Pin that is driven.
    bit_ns : float
        Of a bit; may be changed between bytes.
    """

    def __init__(self, line: LogicObject, bit_ns: float) -> None:
        self.line, self.bit_ns = line, bit_ns
        line.value = 1

    async def level(self, value: int, bits: float) -> None:
        """Hold a level for some bits."""
        self.line.value = value
        # In whole steps of the simulation's time, picoseconds.
        await Timer(round(1000 * bits * self.bit_ns), unit="ps")

    async def send(self, content: bytes, stop: int = 1, gap: float = 0.0) -> None:
        """Send bytes with this stop bit, each followed by an idle line for `gap` bits."""
        for byte in content:
            await self.level(0, 1)
            for n in range(8):
                await self.level(byte >> n & 1, 1)
            await self.level(stop, 1)
            if gap:
                await self.level(1, gap)
        self.line.value = 1


class UartSink:
    """Receives bytes, from the middle of each bit; every frame must have its stop bit.

    Parameters
    ----------
    line
        Pin that is watched.
    bit_ns : float
        Of a bit.

    Attributes
    ----------
    received : bytearray
        All bytes so far.
    """

    def __init__(self, line: LogicObject, bit_ns: float) -> None:
        self.line, self.bit_ns = line, bit_ns
        self.received = bytearray()
        self._changed = Event()
        cocotb.start_soon(self._run())

    async def take(self, count: int, timeout_bits: float = 1000.0) -> bytes:
        """Wait for bytes and forget them; fewer when nothing comes for so many bits."""
        while len(self.received) < count:
            limit = Timer(round(1000 * timeout_bits * self.bit_ns), unit="ps")
            if await First(self._changed.wait(), limit) is limit:
                break
        content = bytes(self.received[:count])
        del self.received[:count]
        return content

    async def _run(self) -> None:
        while True:
            await FallingEdge(self.line)
            await Timer(round(500 * self.bit_ns), unit="ps")
            assert self.line.value == 0, "a start bit shorter than half a bit"
            byte = 0
            for n in range(8):
                await Timer(round(1000 * self.bit_ns), unit="ps")
                byte |= int(self.line.value) << n
            await Timer(round(1000 * self.bit_ns), unit="ps")
            assert self.line.value == 1, "no stop bit"
            self.received.append(byte)
            self._changed.set()
            self._changed.clear()
