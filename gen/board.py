"""A board with the shell behind a serial port, as the bus that the driver uses."""

import os
import time
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.driver import DeviceError
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.uartbone import UartBone
from rowmesh.rtl.shell.baud import DEFAULT_BAUD
from rowmesh.rtl.shell.bus import REGISTERS_BASE, SHELL_BASE, TIMEOUT_SECONDS
from rowmesh.rtl.shell.shell_registers import (
    ERRORS,
    SHELL_MAGIC,
    SHELL_VERSION,
    shell_registers,
)

__all__ = ["SerialBoard"]

#: Seconds without an answer after which there is none: of the first one, and then of a board that
#: has answered once (a simulation of one is slow).
_FIRST_PATIENCE, _PATIENCE = 3.0, 30.0
#: Bytes of memory that are written between two looks at the link: a buffer of the system, about.
_BLOCK_BYTES = 4096
#: How often a wait looks whether it has ended, in seconds.
_POLL = 0.25


class SerialBoard:
    """Registers, memory and interrupt of a `rowmesh.rtl.shell.shell.Shell`.

    Every transfer of memory is checked: the shell adds up the words that it moved, and counts what
    went wrong.

    Parameters
    ----------
    port : str
        Name of a serial port, or a URL that pyserial knows.
    baud : int
        Bits a second.

    Attributes
    ----------
    memory_bytes, clock_hz : int
        What the shell says of itself.

    Raises
    ------
    RowmeshError
        No pyserial, no such port.
    DeviceError
        No answer, or not from a shell of this version.
    """

    def __init__(self, port: str, baud: int = DEFAULT_BAUD, *, patience: float = _PATIENCE) -> None:
        self.port = port
        self._line = _open(port, baud)
        self._link = UartBone(self._line, port, baud, _FIRST_PATIENCE)
        self._registers = shell_registers()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Bring the link to a known state, and see who is there."""
        # The shell drops what somebody else left unfinished.
        time.sleep(1.5 * TIMEOUT_SECONDS)
        self._line.reset_input_buffer()
        for name, expected, meaning in (
            ("MAGIC", SHELL_MAGIC, "this is no rowmesh board"),
            ("VERSION", SHELL_VERSION, "this program is for another version of the shell"),
        ):
            value = self._own(name)
            if value != expected:
                raise DeviceError(
                    f"{self.port}: {name} of the shell reads 0x{value:08x}, "
                    f"not 0x{expected:08x}: {meaning}"
                )
        self._link.patience = _PATIENCE
        self.memory_bytes, self.clock_hz = self._own("MEMORY_BYTES"), self._own("CLOCK_HZ")
        self._write(SHELL_BASE + self._registers["ERRORS"].offset, np.zeros(1, np.uint32))
        self._link.sum = 0
        # The sum counts the word that reads it, after that.
        self._link.sum = (self._own("LINK_SUM") + self._link.sum) % (1 << 32)
        self._check()

    def close(self) -> None:
        """Close the port."""
        self._line.close()

    def __enter__(self) -> "SerialBoard":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, address: int) -> int:
        return int(self._guarded(lambda: self._link.read(address, 1))[0])

    def _write(self, address: int, words: NDArray[np.uint32]) -> None:
        self._guarded(lambda: self._link.write(address, words))

    def _own(self, name: str) -> int:
        return self._read(SHELL_BASE + self._registers[name].offset)

    def _guarded(self, access: Any) -> Any:
        """Let what pyserial raises be one line."""
        try:
            return access()
        except OSError as error:
            raise DeviceError(f"{self.port}: {_reason(error)}") from None

    def _check(self) -> None:
        """See that all words that were moved came as they were sent.

        Raises
        ------
        DeviceError
            They did not.
        """
        expected = self._link.sum
        first = self._registers["LINK_SUM"].offset
        assert self._registers["ERRORS"].offset == first + 4
        found, errors = self._guarded(lambda: self._link.read(SHELL_BASE + first, 2))
        register = self._registers["ERRORS"]
        counted = {name: register.extract(name, int(errors)) for name in ERRORS}
        told = ", ".join(f"{count} {name}" for name, count in counted.items() if count)
        if told:
            raise DeviceError(f"{self.port}: errors of the link: {told}")
        if found != expected:
            raise DeviceError(
                f"{self.port}: bytes were lost or damaged on the way "
                f"(sum 0x{found:08x}, not 0x{expected:08x})"
            )

    def check_room(self, size: int) -> None:
        """Refuse a network that needs more memory than there is.

        Raises
        ------
        RowmeshError
            Names both sizes.
        """
        if size > self.memory_bytes:
            raise RowmeshError(
                f"the network needs {size} bytes of memory, the board has {self.memory_bytes}"
            )

    # -- the bus of the driver -----------------------------------------------------------------

    def read_register(self, offset: int) -> int:
        """Read a register of the accelerator."""
        return self._read(REGISTERS_BASE + offset)

    def write_register(self, offset: int, value: int) -> None:
        """Write a register of the accelerator."""
        self._write(REGISTERS_BASE + offset, np.array([value], np.uint32))

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of memory."""
        self._inside(address, size)
        if not size:
            return b""
        first, end = address // 4, -(-(address + size) // 4)
        words = self._guarded(lambda: self._link.read(4 * first, end - first))
        self._check()
        at = address - 4 * first
        content: bytes = words.astype("<u4").tobytes()
        return content[at : at + size]

    def write_memory(self, address: int, content: bytes) -> None:
        """Set bytes of memory."""
        self._inside(address, len(content))
        if not content:
            return
        end = address + len(content)
        before = self.read_memory(address - address % 4, address % 4)
        behind = self.read_memory(end, -end % 4)
        words = np.frombuffer(before + content + behind, "<u4").astype(np.uint32)
        step = _BLOCK_BYTES // 4
        for at in range(0, len(words), step):
            self._write(address - address % 4 + 4 * at, words[at : at + step])
            self._check()

    def wait_irq(self, timeout: float) -> bool:
        """Ask for the interrupt until it comes or `timeout` seconds have passed."""
        deadline = time.monotonic() + timeout
        while not self._own("STATUS"):
            if time.monotonic() > deadline:
                return False
        return True

    def _inside(self, address: int, size: int) -> None:
        if not 0 <= address <= address + size <= self.memory_bytes:
            raise DeviceError(
                f"memory access 0x{address:x}+0x{size:x} is outside the board's "
                f"{self.memory_bytes} bytes"
            )


def _open(port: str, baud: int) -> Any:
    """The port, open."""
    try:
        import serial
    except ImportError:
        raise RowmeshError(
            "a board needs the package pyserial: pip install 'rowmesh[board]'"
        ) from None
    try:
        return serial.serial_for_url(port, baud, timeout=_POLL)
    except (OSError, ValueError) as error:
        raise RowmeshError(f"cannot open the serial port {port}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What a person wants to know: the system's words, without what pyserial says around them."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)
