"""The fast simulation as a bus: Verilated accelerator with memory in C++, driven from Python."""

import ctypes
import time
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.generate import TOP
from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import Config
from rowmesh.rtl.top import Top
from rowmesh.verif.builds import build_directory
from rowmesh.verif.verilator_library import build_verilator_library

__all__ = ["FastMachine", "build_library"]

_SIGNATURES = {
    "rowmesh_new": (
        ctypes.c_void_p,
        [ctypes.c_size_t, ctypes.c_uint, ctypes.c_double, ctypes.c_double, ctypes.c_uint64],
    ),
    "rowmesh_free": (None, [ctypes.c_void_p]),
    "rowmesh_memory": (ctypes.c_void_p, [ctypes.c_void_p]),
    "rowmesh_reset": (None, [ctypes.c_void_p]),
    "rowmesh_write": (None, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32]),
    "rowmesh_read": (ctypes.c_uint32, [ctypes.c_void_p, ctypes.c_uint32]),
    "rowmesh_run": (ctypes.c_int64, [ctypes.c_void_p, ctypes.c_uint64]),
    "rowmesh_bytes_read": (ctypes.c_uint64, [ctypes.c_void_p]),
    "rowmesh_bytes_written": (ctypes.c_uint64, [ctypes.c_void_p]),
    "rowmesh_cycles": (ctypes.c_uint64, [ctypes.c_void_p]),
}


@cache
def build_library(config: Config) -> Path:
    """Generate, Verilate and compile the accelerator with the harness; kept by content."""
    work = build_directory() / "fast" / f"{config.hash:08x}"
    work.mkdir(parents=True, exist_ok=True)
    verilog = work / f"{TOP}.v"
    verilog.write_text(emit(Top(config), TOP), encoding="utf-8")
    masters = " ".join(f"X({i})" for i in range(config.axi_masters))
    (work / "masters.h").write_text(
        f"#define MASTERS(X) {masters}\n#define BEAT_BYTES {config.axi_data_bits // 8}\n",
        encoding="utf-8",
    )
    harness = work / "harness.cpp"
    harness.write_bytes((Path(__file__).parent / "harness.cpp").read_bytes())
    blocks = ["pe", "cluster"] if config.pes > 16 else []
    # Small machines take longer to compile than to run.
    optimize = "-O2" if blocks else "-O1"
    return build_verilator_library([verilog], [harness], work, TOP, blocks, optimize=optimize)


#: Cycles between two looks at the clock on the wall.
_CHUNK = 10_000


class FastMachine:
    """A simulated board: registers, memory and an interrupt.

    Parameters
    ----------
    config : Config
        What to build.
    memory_bytes : int
        DRAM size; accesses beyond get an AXI error response.
    latency : int
        Cycles from an accepted address to its first beat (reads) or response (writes).
    bytes_per_cycle : float
        Limit over all masters and both directions; 0 is unlimited.
    stall : float
        Probability with which each AXI channel pauses in a cycle.
    seed : int
        Of the pauses.
    """

    def __init__(
        self,
        config: Config,
        memory_bytes: int,
        *,
        latency: int = 20,
        bytes_per_cycle: float = 0.0,
        stall: float = 0.0,
        seed: int = 1,
    ) -> None:
        self._library = ctypes.CDLL(str(build_library(config)))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
        size = -(-memory_bytes // 4096) * 4096
        self._handle = self._library.rowmesh_new(size, latency, bytes_per_cycle, stall, seed)
        pointer = ctypes.cast(
            self._library.rowmesh_memory(self._handle), ctypes.POINTER(ctypes.c_uint8)
        )
        #: The DRAM, shared with the simulation.
        self.memory: NDArray[np.uint8] = np.ctypeslib.as_array(pointer, shape=(size,))

    def close(self) -> None:
        """Free the simulation."""
        if self._handle:
            self._library.rowmesh_free(self._handle)
            self._handle = None

    def read_register(self, offset: int) -> int:
        """Read a 32-bit register over AXI4-Lite."""
        return int(self._library.rowmesh_read(self._handle, offset))

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register over AXI4-Lite."""
        self._library.rowmesh_write(self._handle, offset, value)

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of DRAM."""
        self._check(address, size)
        return self.memory[address : address + size].tobytes()

    def write_memory(self, address: int, data: bytes) -> None:
        """Set bytes of DRAM."""
        self._check(address, len(data))
        self.memory[address : address + len(data)] = np.frombuffer(data, np.uint8)

    def wait_irq(self, timeout: float) -> bool:
        """Run until the interrupt; False when it has not come within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self.run_cycles(_CHUNK):
            if time.monotonic() > deadline:
                return False
        return True

    def run_cycles(self, limit: int) -> bool:
        """Run until the interrupt; False after `limit` cycles without it."""
        return int(self._library.rowmesh_run(self._handle, limit)) >= 0

    def reset(self) -> None:
        """Pulse the reset of the whole accelerator."""
        self._library.rowmesh_reset(self._handle)

    @property
    def cycles(self) -> int:
        """Cycles simulated so far."""
        return int(self._library.rowmesh_cycles(self._handle))

    @property
    def bytes_read(self) -> int:
        """Bytes that all masters read so far."""
        return int(self._library.rowmesh_bytes_read(self._handle))

    @property
    def bytes_written(self) -> int:
        """Bytes that all masters wrote so far (strobes counted)."""
        return int(self._library.rowmesh_bytes_written(self._handle))

    def _check(self, address: int, size: int) -> None:
        if not 0 <= address <= address + size <= len(self.memory):
            raise RowmeshError(f"memory access {address:#x}+{size:#x} is outside the DRAM")
