"""The driver against a device of plain Python that knows the register map as documented."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from rowmesh.gen.driver import Accelerator, DeviceError, DeviceFault
from rowmesh.gen.program import Program, ProgramError
from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import PRESETS

CONFIG = PRESETS["demo"]()
IDLE, RUNNING, PAUSED, DONE, FAULT = (1 << i for i in range(5))
# Offsets as in the manual.
CONTROL, STATUS, FAULT_CODE, FAULT_LAYER, FAULT_INDEX = 0x10, 0x14, 0x18, 0x1C, 0x20
IRQ_ENABLE, IRQ_STATUS, PROGRAM, PROGRAM_WORDS = 0x24, 0x28, 0x2C, 0x30
CYCLES_LOW, CYCLES_HIGH, LAYER, SELECT, VALUE = 0x44, 0x48, 0x4C, 0x50, 0x54
# One bit of row, one of column, four of PE, three of entry, in the order in which they follow.
SELECTIONS = [
    row | col << 1 | pe << 2 | entry << 6
    for row in range(2)
    for col in range(2)
    for pe in range(12)
    for entry in (0, 1, 2, 3, 4, 5, 7)
]


class Device:
    """A bus with a device behind it; `behaviour` is what a start or a continue leads to."""

    def __init__(self) -> None:
        self.registers = {0x0: 0x484D5752, 0x4: 2, 0x8: CONFIG.hash, STATUS: IDLE}
        self.memory = bytearray(4096)
        self.log: list[tuple[int, int]] = []
        self.behaviour: Callable[[], None] = lambda: self.end(DONE, 1)
        self.resets = 0

    def end(self, status: int, irq: int) -> None:
        """The machine comes to a state and raises its interrupt."""
        self.registers[STATUS] = status
        self.registers[IRQ_STATUS] = self.registers.get(IRQ_STATUS, 0) | irq

    def read_register(self, offset: int) -> int:
        if offset == VALUE:
            selected = self.registers[SELECT]
            at = SELECTIONS.index(selected)
            self.registers[SELECT] = SELECTIONS[(at + 1) % len(SELECTIONS)]
            return selected * 3 + 1
        return self.registers.get(offset, 0)

    def write_register(self, offset: int, value: int) -> None:
        self.log.append((offset, value))
        if offset == IRQ_STATUS:
            self.registers[offset] = self.registers.get(offset, 0) & ~value
        elif offset == CONTROL:
            if value & 2:
                self.resets += 1
                self.registers[STATUS] = IDLE
            if value & 1 or value & 8:
                self.registers[STATUS] = RUNNING
                self.behaviour()
        else:
            self.registers[offset] = value

    def read_memory(self, address: int, size: int) -> bytes:
        return bytes(self.memory[address : address + size])

    def write_memory(self, address: int, content: bytes) -> None:
        self.memory[address : address + len(content)] = content

    def wait_irq(self, timeout: float) -> bool:
        pending = self.registers.get(IRQ_STATUS, 0) & self.registers.get(IRQ_ENABLE, 0)
        return bool(pending)


def program() -> bytes:
    built = Program(CONFIG)
    built.layer(0)
    built.end()
    return built.to_bytes()


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0x0, 0, "MAGIC reads 0x00000000, not 0x484d5752: this is no rowmesh"),
        (0x4, 7, "VERSION reads 0x00000007, not 0x00000002: this driver is for another"),
        (0x8, 1, "CONFIG_HASH reads 0x00000001, .* built from another configuration"),
    ],
)
def test_identify(offset: int, value: int, message: str) -> None:
    device = Device()
    device.registers[offset] = value
    with pytest.raises(DeviceError, match=message):
        Accelerator(device, CONFIG)


def test_run() -> None:
    device = Device()
    accelerator = Accelerator(device, CONFIG)
    with pytest.raises(DeviceError, match="no program"):
        accelerator.run()
    accelerator.set_windows(read=(0, 4096), write=(1024, 2048))
    assert device.log == [(0x34, 0), (0x38, 4096), (0x3C, 1024), (0x40, 2048)]
    content = program()
    accelerator.load(content, 512)
    assert device.read_memory(512, len(content)) == content
    assert device.registers[PROGRAM] == 512
    assert device.registers[PROGRAM_WORDS] == len(content) // 8
    # Left over from a run before: it must not end this one.
    device.registers[IRQ_STATUS] = 7
    device.registers |= {CYCLES_LOW: 5, CYCLES_HIGH: 2}
    assert accelerator.run() == (2 << 32) + 5
    assert not device.wait_irq(0)


def test_bad_programs_do_not_reach_the_device() -> None:
    device = Device()
    accelerator = Accelerator(device, CONFIG)
    content = bytearray(program())
    content[-1] ^= 1
    with pytest.raises(ProgramError, match="CRC"):
        accelerator.load(bytes(content), 0)
    with pytest.raises(ValueError, match="program address 0x4: must be a multiple of 8"):
        accelerator.choose(4, 6)
    assert not any(device.memory) and not device.log


@pytest.mark.parametrize("code", [Fault.PSUM_OVERFLOW, Fault.AXI_WINDOW, 15])
def test_fault(code: int) -> None:
    device = Device()
    accelerator = Accelerator(device, CONFIG)
    accelerator.load(program(), 0)
    device.registers |= {FAULT_CODE: code, FAULT_LAYER: 3, FAULT_INDEX: 77}
    device.behaviour = lambda: device.end(FAULT, 2)
    name = Fault(code).name if code < 13 else "code 15"
    with pytest.raises(DeviceFault, match=f"fault {name} in layer 3, instruction 77") as caught:
        accelerator.run()
    assert (caught.value.code, caught.value.layer, caught.value.index) == (code, 3, 77)
    accelerator.soft_reset()
    assert device.resets == 1
    device.behaviour = lambda: device.end(DONE, 1)
    accelerator.run()


def test_single_step() -> None:
    device = Device()
    accelerator = Accelerator(device, CONFIG)
    accelerator.load(program(), 0)
    layers = [0, 1, 2]
    device.registers[LAYER] = -1

    def step() -> None:
        device.registers[LAYER] += 1
        last = device.registers[LAYER] == layers[-1]
        device.end(DONE if last else PAUSED, 1 if last else 4)

    device.behaviour = step
    seen: list[int] = []
    accelerator.run(paused=seen.append)
    assert seen == [0, 1]
    assert [value for offset, value in device.log if offset == CONTROL] == [5, 12, 12]


def test_hangs_are_reported() -> None:
    device = Device()
    accelerator = Accelerator(device, CONFIG)
    accelerator.load(program(), 0)
    device.behaviour = lambda: None
    with pytest.raises(DeviceError, match="no end within 0.01 s: RUNNING, layer 0"):
        accelerator.run(timeout=0.01)
    with pytest.raises(DeviceError, match="a program runs already"):
        accelerator.run()
    device.registers[STATUS] = 3
    with pytest.raises(DeviceError, match="STATUS reads 0x3"):
        _ = accelerator.state


def test_soft_reset_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    accelerator = Accelerator(device, CONFIG)
    monkeypatch.setattr(device, "write_register", lambda offset, value: None)
    device.registers[STATUS] = RUNNING
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"soft reset: still RUNNING after 0.05 s"):
        accelerator.soft_reset(timeout=0.05)
    assert time.monotonic() - start < 5


def test_counters() -> None:
    device = Device()
    device.registers[SELECT] = SELECTIONS[5]
    values = Accelerator(device, CONFIG).counters()
    assert values.shape == (2, 2, 12, 8)
    row, col, pe, entry = np.indices(values.shape)
    expected = (row | col << 1 | pe << 2 | entry << 6) * 3 + 1
    np.testing.assert_array_equal(values, np.where(entry == 6, 0, expected))
    assert device.log == [(SELECT, 0)]
