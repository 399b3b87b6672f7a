"""The host's end of LiteX's UARTBone protocol: words over a line of bytes."""

import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.driver import DeviceError
from rowmesh.rtl.shell.bridge import Command

__all__ = ["Line", "UartBone"]

#: Words of the longest command.
_MOST_WORDS = 255
#: Bits of a byte on the line.
_FRAME_BITS = 10


class Line(Protocol):
    """What a serial port of pyserial does; `read` gives fewer bytes after its own timeout."""

    def read(self, size: int) -> bytes:
        """Take bytes."""

    def write(self, data: bytes) -> int | None:
        """Send bytes."""

    def reset_input_buffer(self) -> None:
        """Forget what has come."""


class UartBone:
    """Reads and writes of 32-bit words.

    Parameters
    ----------
    line : Line
        A line with nothing under way in either direction.
    name : str
        Of the line, for messages.
    baud : int
        Bits a second: says how long the line needs.
    patience : float
        Seconds without a byte after which there is no answer.

    Attributes
    ----------
    sum : int
        Of data XOR word address over all words moved so far, as the device adds them up.
    """

    def __init__(self, line: Line, name: str, baud: int, patience: float) -> None:
        self.line, self.name, self.baud, self.patience = line, name, baud, patience
        self.sum = 0
        self._unanswered = 0  # bytes sent since the last answer

    def _send(self, data: bytes) -> None:
        self.line.write(data)
        self._unanswered += len(data)

    def _add(self, address: int, words: NDArray[np.uint32]) -> None:
        addresses = np.arange(address // 4, address // 4 + len(words), dtype=np.uint32)
        self.sum = (self.sum + int((words ^ addresses).sum(dtype=np.uint64))) % (1 << 32)

    def _head(self, command: Command, address: int, count: int) -> bytes:
        return bytes([command, count]) + (address // 4).to_bytes(4, "big")

    def write(self, address: int, words: NDArray[np.uint32]) -> None:
        """Write words from a byte address on, a multiple of 4."""
        for at in range(0, len(words), _MOST_WORDS):
            part = words[at : at + _MOST_WORDS]
            head = self._head(Command.WRITE, address + 4 * at, len(part))
            self._send(head + part.astype(">u4").tobytes())
        self._add(address, words)

    def read(self, address: int, count: int) -> NDArray[np.uint32]:
        """Read words from a byte address on, a multiple of 4.

        Raises
        ------
        DeviceError
            No answer, or only a part of one.
        """
        found = bytearray()
        for at in range(0, count, _MOST_WORDS):
            size = min(_MOST_WORDS, count - at)
            self._send(self._head(Command.READ, address + 4 * at, size))
            found += self._receive(4 * size)
        words = np.frombuffer(bytes(found), ">u4").astype(np.uint32)
        self._add(address, words)
        return words

    def _receive(self, size: int) -> bytes:
        found = bytearray()
        # What was sent is perhaps still on its way.
        on_line = _FRAME_BITS * self._unanswered / self.baud
        deadline = time.monotonic() + self.patience + on_line
        while len(found) < size:
            part = self.line.read(size - len(found))
            if part:
                found += part
                deadline = time.monotonic() + self.patience
            elif time.monotonic() > deadline:
                what = f"only {len(found)} of {size} bytes" if found else "no answer"
                raise DeviceError(
                    f"{self.name}: {what} within {self.patience:g} s at {self.baud} baud"
                )
        self._unanswered = 0
        return bytes(found)
