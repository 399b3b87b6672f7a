"""The shell on Verilator as a device on a serial line."""

import ctypes
from pathlib import Path

from rowmesh.gen.verilog import emit
from rowmesh.rtl.shell.shell import Shell
from rowmesh.verif.builds import build_directory
from rowmesh.verif.verilator_library import build_verilator_library

__all__ = ["ShellMachine"]

_SIGNATURES = {
    "shell_new": (ctypes.c_void_p, [ctypes.c_uint]),
    "shell_free": (None, [ctypes.c_void_p]),
    "shell_exchange": (
        ctypes.c_size_t,
        [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint64,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ],
    ),
    "shell_cycles": (ctypes.c_uint64, [ctypes.c_void_p]),
    "shell_bad_stops": (ctypes.c_uint64, [ctypes.c_void_p]),
}
#: Cycles that pass at once when nothing is sent.
_STEP = 2000
_ROOM = 4096


class ShellMachine:
    """A simulated board.

    Parameters
    ----------
    shell : Shell
        With block RAM.
    """

    def __init__(self, shell: Shell) -> None:
        work = build_directory() / "shell" / f"{shell.config.hash:08x}"
        work.mkdir(parents=True, exist_ok=True)
        verilog = work / "shell.v"
        verilog.write_text(emit(shell, "shell"), encoding="utf-8")
        harness = work / "shell.cpp"
        harness.write_bytes((Path(__file__).parent / "shell.cpp").read_bytes())
        library = build_verilator_library([verilog], [harness], work, "shell")
        self._library = ctypes.CDLL(str(library))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        self._handle = self._library.shell_new(shell.divisor)

    def exchange(self, received: bytes) -> bytes:
        """Send bytes into the shell; a few cycles later, return what it has sent."""
        out = ctypes.create_string_buffer(_ROOM)
        count = self._library.shell_exchange(
            self._handle, received, len(received), _STEP, out, _ROOM
        )
        return out.raw[:count]

    def close(self) -> None:
        """Free the simulation."""
        if self._handle:
            self._library.shell_free(self._handle)
            self._handle = None

    @property
    def cycles(self) -> int:
        """Cycles simulated so far."""
        return int(self._library.shell_cycles(self._handle))

    @property
    def bad_stops(self) -> int:
        """Bytes of the shell whose stop bit was not there."""
        return int(self._library.shell_bad_stops(self._handle))
