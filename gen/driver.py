"""The host's side: registers and memory only, so that it drives a simulation or a board."""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.program import Program
from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.control.counters import COUNTER_ENTRIES, COUNTER_ENTRY_BITS
from rowmesh.rtl.control.registers import HEADER_WORDS, MAGIC, VERSION, State, register_map

__all__ = ["Accelerator", "Bus", "DeviceError", "DeviceFault"]


class Bus(Protocol):
    """What a host needs: 32-bit registers, memory that the accelerator sees, an interrupt."""

    def read_register(self, offset: int) -> int:
        """Read a register."""

    def write_register(self, offset: int, value: int) -> None:
        """Write a register."""

    def read_memory(self, address: int, size: int) -> bytes:
        """Read bytes of memory."""

    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes to memory."""

    def wait_irq(self, timeout: float) -> bool:
        """Wait for the interrupt; false when it did not come within `timeout` seconds."""


class DeviceError(RowmeshError):
    """The device is not what it should be, or does not answer as it should."""


class DeviceFault(DeviceError):
    """A run ended with a fault.

    Attributes
    ----------
    code : int
        `Fault`, or a number that this driver does not know.
    layer, index : int
        Layer, and instruction of the program.
    """

    def __init__(self, code: int, layer: int, index: int) -> None:
        self.code, self.layer, self.index = code, layer, index
        known = code in list(Fault)
        name = Fault(code).name if known else f"code {code}"
        super().__init__(f"fault {name} in layer {layer}, instruction {index}")


class Accelerator:
    """One accelerator behind a bus.

    Parameters
    ----------
    bus : Bus
        The way to it.
    config : Config
        What it must have been built from.

    Raises
    ------
    DeviceError
        It is something else; the message says what.
    """

    def __init__(self, bus: Bus, config: Config) -> None:
        self.bus, self.config = bus, config
        self._map = register_map(config)
        self._program: tuple[int, int] | None = None
        self.identify()

    def _read(self, name: str) -> int:
        return self.bus.read_register(self._map[name].offset)

    def _write(self, name: str, value: int) -> None:
        self.bus.write_register(self._map[name].offset, value)

    def identify(self) -> None:
        """Check that the device is a rowmesh of this version and configuration.

        Raises
        ------
        DeviceError
            Names the register, what it reads and what was expected.
        """
        for name, expected, meaning in (
            ("MAGIC", MAGIC, "this is no rowmesh accelerator"),
            ("VERSION", VERSION, "this driver is for another register map"),
            ("CONFIG_HASH", self.config.hash, "it was built from another configuration"),
        ):
            value = self._read(name)
            if value != expected:
                raise DeviceError(f"{name} reads 0x{value:08x}, not 0x{expected:08x}: {meaning}")

    @property
    def state(self) -> State:
        """What the controller does.

        Raises
        ------
        DeviceError
            Not exactly one bit of STATUS is set.
        """
        return self._state()

    def _state(self) -> State:
        value = self._read("STATUS")
        for state in State:
            if value == 1 << state:
                return state
        raise DeviceError(f"STATUS reads 0x{value:x}: exactly one bit must be set")

    # -- before a run --------------------------------------------------------------------------

    def load(self, binary: bytes, address: int) -> None:
        """Check a program, write it to memory and choose it.

        Raises
        ------
        ProgramError
            It is damaged or for another configuration.
        """
        words = len(Program.from_bytes(self.config, binary)) + HEADER_WORDS
        self.bus.write_memory(address, binary)
        self.choose(address, words)

    def choose(self, address: int, words: int) -> None:
        """Choose a program that is in memory.

        Parameters
        ----------
        address : int
            Byte address, a multiple of 8.
        words : int
            64-bit words of the program, header included.
        """
        if address % WORD_BYTES:
            raise ValueError(f"program address 0x{address:x}: must be a multiple of {WORD_BYTES}")
        self._write("PROGRAM", self._map["PROGRAM"].compose({"address": address}))
        self._write("PROGRAM_WORDS", self._map["PROGRAM_WORDS"].compose({"words": words}))
        self._program = (address, words)

    def set_windows(self, read: tuple[int, int], write: tuple[int, int]) -> None:
        """Say which bytes may be read and written: (first, first behind).

        Nothing may be accessed before this was called. `read` must hold the program.
        """
        for kind, (base, limit) in (("READ", read), ("WRITE", write)):
            for name, value in ((f"{kind}_BASE", base), (f"{kind}_LIMIT", limit)):
                self._write(name, self._map[name].compose({"address": value}))

    # -- a run ---------------------------------------------------------------------------------

    def run(self, timeout: float = 10.0, paused: Callable[[int], None] | None = None) -> int:
        """Run the chosen program to its end.

        Parameters
        ----------
        timeout : float
            Seconds in all.
        paused : callable, optional
            Single step: called with the number of each finished layer but the last.

        Returns
        -------
        int
            Cycles.

        Raises
        ------
        DeviceFault
            The run ended with a fault. `soft_reset` or the next run recovers.
        DeviceError
            No program, a run under way, or no end in time.
        """
        if self._program is None:
            raise DeviceError("no program: call load or choose first")
        if self.state in (State.RUNNING, State.PAUSED):
            raise DeviceError("a program runs already")
        control = self._map["CONTROL"]
        irq = self._map["IRQ_ENABLE"].compose({"done": 1, "fault": 1, "paused": 1})
        step = int(paused is not None)
        self._write("IRQ_STATUS", irq)
        self._write("IRQ_ENABLE", irq)
        self._write("CONTROL", control.compose({"start": 1, "single_step": step}))
        deadline = time.monotonic() + timeout
        while True:
            # An event between the clear and the wait keeps the interrupt up.
            if not self.bus.wait_irq(max(0.0, deadline - time.monotonic())):
                raise DeviceError(
                    f"no end within {timeout:g} s: {self.state.name}, layer {self._read('LAYER')}"
                )
            self._write("IRQ_STATUS", self._read("IRQ_STATUS"))
            match self._state():
                case State.DONE:
                    return self.cycles
                case State.FAULT:
                    raise DeviceFault(
                        self._read("FAULT"), self._read("FAULT_LAYER"), self._read("FAULT_INDEX")
                    )
                case State.PAUSED if paused is not None:
                    paused(self._read("LAYER"))
                    self._write("CONTROL", control.compose({"continue": 1, "single_step": 1}))
                case State.IDLE:
                    raise DeviceError("the run was ended by a soft reset")

    def soft_reset(self, timeout: float = 1.0) -> None:
        """Bring the device to idle from any state.

        Raises
        ------
        DeviceError
            It does not become idle: the memory system does not finish what is open.
        """
        self._write("CONTROL", self._map["CONTROL"].compose({"soft_reset": 1}))
        deadline = time.monotonic() + timeout
        while self.state is not State.IDLE:
            if time.monotonic() > deadline:
                raise DeviceError(f"soft reset: still {self.state.name} after {timeout:g} s")
        self._write("IRQ_STATUS", self._read("IRQ_STATUS"))

    # -- after a run ---------------------------------------------------------------------------

    @property
    def cycles(self) -> int:
        """Cycles of the last run, or of this one so far."""
        while True:
            high, low = self._read("CYCLES_HIGH"), self._read("CYCLES_LOW")
            if self._read("CYCLES_HIGH") == high:
                return high << 32 | low

    @property
    def beats(self) -> tuple[int, int]:
        """AXI beats read and written in the last run, modulo 2^32."""
        return self._read("BEATS_READ"), self._read("BEATS_WRITTEN")

    def counters(self) -> NDArray[np.int64]:
        """Activity counters of all PEs: [cluster row, cluster column, PE, entry].

        Entries are numbered as `Activity`; the last one counts multiplications. Call it while no
        program runs. The selection moves on by itself, in this order.
        """
        c = self.config
        entries = 1 << COUNTER_ENTRY_BITS
        result = np.zeros((c.cluster_rows, c.cluster_cols, c.pes_per_cluster, entries), np.int64)
        self._write("COUNTER_SELECT", 0)
        for pe in np.ndindex(*result.shape[:-1]):
            for entry in COUNTER_ENTRIES:
                result[*pe, entry] = self._read("COUNTER_VALUE")
        return result
