"""The far end of UARTBone in Python, after LiteX's `Stream2Wishbone`, and a shell around it."""

from collections.abc import Callable

from rowmesh.gen.driver import Bus
from rowmesh.gen.errors import RowmeshError

__all__ = ["ShellModel", "UartBoneModel"]

#: Read of a word, by byte address; write of one.
Read = Callable[[int], int]
Write = Callable[[int, int], None]


class UartBoneModel:
    """Bytes in, bytes out.

    Parameters
    ----------
    read, write : callable
        The bus: 32-bit words by byte address.

    Attributes
    ----------
    sum : int
        Of data XOR word address over all words moved.
    abandoned : int
        Commands that were dropped.
    """

    def __init__(self, read: Read, write: Write) -> None:
        self._read, self._write = read, write
        self._bytes = bytearray()
        self.sum = self.abandoned = 0

    def silence(self) -> None:
        """The host was silent for longer than the timeout."""
        self.abandoned += bool(self._bytes)
        self._bytes.clear()

    def feed(self, received: bytes) -> bytes:
        """Take bytes of the host; return the answer."""
        answer = bytearray()
        for byte in received:
            self._bytes.append(byte)
            answer += self._step()
        return bytes(answer)

    def _step(self) -> bytes:
        if len(self._bytes) < 6:
            return b""
        command, count = self._bytes[:2]
        word = int.from_bytes(self._bytes[2:6], "big") % (1 << 30)
        if command not in (1, 2, 3, 4):
            self.abandoned += 1
            self._bytes.clear()
            return b""
        step = int(command < 3)
        if command in (1, 3) and count:
            have = len(self._bytes) - 6
            if have and have % 4 == 0:
                done = have // 4 - 1
                self._move(word + step * done, int.from_bytes(self._bytes[-4:], "big"))
            if have < 4 * count:
                return b""
        self._bytes.clear()
        if command in (1, 3):
            return b""
        answer = b""
        for n in range(count):
            answer += self._move(word + step * n, None).to_bytes(4, "big")
        return answer

    def _move(self, word: int, data: int | None) -> int:
        word %= 1 << 30
        if data is None:
            data = self._read(4 * word)
        else:
            self._write(4 * word, data)
        self.sum = (self.sum + (data ^ word)) % (1 << 32)
        return data


class ShellModel:
    """A board: any machine with registers and memory behind the shell's addresses.

    The numbers are those of docs/shell.md.

    Parameters
    ----------
    machine : Bus
    memory_bytes : int
        What the board says that it has.
    """

    def __init__(self, machine: Bus, memory_bytes: int) -> None:
        self.machine = machine
        self.bone = UartBoneModel(self._read, self._write)
        self.errors = 0
        self._own: dict[int, Callable[[], int]] = {
            0x00: lambda: int.from_bytes(b"RWSH", "little"),
            0x04: lambda: 1,
            0x08: lambda: memory_bytes,
            0x0C: lambda: 12_000_000,
            0x10: lambda: 115_200,
            0x14: lambda: int(machine.wait_irq(0)),
            0x18: lambda: self.bone.sum,
            0x1C: lambda: self.errors,
        }

    def exchange(self, received: bytes) -> bytes:
        """Bytes of the host, and what goes back."""
        return self.bone.feed(received)

    def _read(self, address: int) -> int:
        try:
            if address < 0xF000_0000:
                return int.from_bytes(self.machine.read_memory(address, 4), "little")
            if address < 0xF000_1000:
                return self.machine.read_register(address - 0xF000_0000)
            return self._own[address - 0xF000_1000]()
        except (KeyError, RowmeshError):
            return self._bus_error()

    def _write(self, address: int, value: int) -> None:
        try:
            if address < 0xF000_0000:
                self.machine.write_memory(address, value.to_bytes(4, "little"))
            elif address < 0xF000_1000:
                self.machine.write_register(address - 0xF000_0000, value)
            elif address == 0xF000_101C:
                self.errors = 0
            else:
                self._bus_error()
        except (KeyError, RowmeshError):
            self._bus_error()

    def _bus_error(self) -> int:
        self.errors += 1 << 24
        return 0xFFFF_FFFF
