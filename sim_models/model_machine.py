"""The program-level model behind registers and memory: the driver runs on it as on hardware."""

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.program import Program, ProgramError
from rowmesh.rtl.codes import Fault, Opcode
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.registers import Access, State, register_map
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.packing import descriptor_values
from rowmesh.sim_models.program_model import ProgramModel, PsumOverflow

__all__ = ["ModelMachine"]

_WORD_BYTES = 8


class ModelMachine:
    """A board without time: a started program has ended, its cycle and activity counters read 0.

    Parameters
    ----------
    config : Config
        The machine.
    memory_bytes : int
        DRAM size.

    Attributes
    ----------
    psum_peak : int
        Largest magnitude of any psum between two units so far.
    """

    def __init__(self, config: Config, memory_bytes: int) -> None:
        self.config = config
        self.memory: NDArray[np.uint8] = np.zeros(memory_bytes, np.uint8)
        self.psum_peak = 0
        self._map = register_map(config)
        self._values = {
            register.offset: register.compose({f.name: f.reset for f in register.fields})
            for register in self._map.registers
        }
        self._strobes = {
            register.offset: sum(
                register.mask(field.name)
                for field in register.fields
                if register.access_of(field) is Access.STROBE
            )
            for register in self._map.registers
        }
        self._pauses: list[int] = []
        self._layer = 0

    # -- bus -----------------------------------------------------------------------------------

    def read_register(self, offset: int) -> int:
        """Read a 32-bit register."""
        return self._values[offset]

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register; a start runs the program to its end."""
        if offset == self._map["IRQ_STATUS"].offset:
            self._values[offset] &= ~value
            return
        self._values[offset] = value & ~self._strobes[offset]
        control = self._map["CONTROL"]
        if offset == control.offset:
            if control.extract("start", value):
                self._start(bool(control.extract("single_step", value)))
            elif control.extract("continue", value):
                self._proceed()

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of DRAM."""
        self._check(address, size)
        return self.memory[address : address + size].tobytes()

    def write_memory(self, address: int, content: bytes) -> None:
        """Set bytes of DRAM."""
        self._check(address, len(content))
        self.memory[address : address + len(content)] = np.frombuffer(content, np.uint8)

    def wait_irq(self, timeout: float) -> bool:
        """Whether an event is pending: without time none can come later."""
        return self._get("IRQ_STATUS") & self._get("IRQ_ENABLE") != 0

    # -- inside --------------------------------------------------------------------------------

    def _get(self, name: str) -> int:
        return self._values[self._map[name].offset]

    def _set(self, name: str, value: int) -> None:
        self._values[self._map[name].offset] = value

    def _check(self, address: int, size: int) -> None:
        if not 0 <= address <= address + size <= len(self.memory):
            raise RowmeshError(f"memory access {address:#x}+{size:#x} is outside the DRAM")

    def _event(self, state: State, event: str) -> None:
        self._set("STATUS", 1 << state)
        self._set("IRQ_STATUS", self._get("IRQ_STATUS") | self._map["IRQ_STATUS"].mask(event))

    def _start(self, single_step: bool) -> None:
        start = self._get("PROGRAM")
        end = start + self._get("PROGRAM_WORDS") * _WORD_BYTES
        try:
            instructions = Program.from_bytes(self.config, self.memory[start:end].tobytes())
        except ProgramError:
            self._fault(Fault.PROGRAM_CRC, 0)
            return
        layout = Layouts(self.config).instruction
        fields = [descriptor_values(layout, word) for word in instructions]
        layers = [f["data"] for f in fields if f["opcode"] == Opcode.LAYER]
        model = ProgramModel(self.config, self.memory)
        try:
            model.run(instructions)
        except PsumOverflow:
            self._fault(Fault.PSUM_OVERFLOW, model.layer)
            return
        finally:
            self.psum_peak = max(self.psum_peak, model.psum_peak)
        self._pauses = layers[:-1] if single_step else []
        self._layer = layers[-1] if layers else 0
        self._proceed()

    def _proceed(self) -> None:
        if self._pauses:
            self._set("LAYER", self._pauses.pop(0))
            self._event(State.PAUSED, "paused")
        else:
            self._set("LAYER", self._layer)
            self._event(State.DONE, "done")

    def _fault(self, code: Fault, layer: int) -> None:
        self._set("FAULT", code)
        self._set("FAULT_LAYER", layer)
        self._event(State.FAULT, "fault")
