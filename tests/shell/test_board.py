"""`--backend board`: the driver over a serial port, against a shell in Python."""

import builtins
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rowmesh.gen import uartbone
from rowmesh.gen.api import run_graph
from rowmesh.gen.board import SerialBoard
from rowmesh.gen.driver import DeviceError
from rowmesh.gen.errors import RowmeshError
from rowmesh.rtl.config import load_config
from rowmesh.rtl.control.registers import register_map
from rowmesh.sim_models import golden
from rowmesh.sim_models.model_machine import ModelMachine
from rowmesh.verif.serial_port import serial_port
from rowmesh.verif.top_work import sparse_image, two_layers
from rowmesh.verif.uartbone_model import ShellModel, UartBoneModel

CONFIG = load_config("tiny")
SIZE = 40960


class Counting(ModelMachine):
    """The model has no time: let its counters go on with every look all the same."""

    looks = 0

    def read_register(self, offset: int) -> int:
        registers = register_map(CONFIG)
        if offset not in (registers[name].offset for name in ("COUNTER_VALUE", "CYCLES_LOW")):
            return super().read_register(offset)
        self.looks += 1
        return self.looks


@pytest.fixture
def shell() -> ShellModel:
    return ShellModel(Counting(CONFIG, SIZE), SIZE)


@pytest.fixture
def port(shell: ShellModel) -> Iterator[str]:
    with serial_port(shell, idle=0.05) as name:
        yield name


def _run(port: str, config: Any = CONFIG) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    graph = two_layers(rng)
    images = np.concatenate([sparse_image(rng, graph, 0.5)["x"] for _ in range(2)])
    lines: list[str] = []
    values = {"x": images}
    made = run_graph(graph, config, values, "board", lines.append, port=port)
    assert any("40960 bytes of memory, 12 MHz" in line for line in lines), lines
    assert made.record is not None and made.record.simulator == "board"
    expected = golden.run(graph, values, config.rounding)
    for name, array in made.values.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    return made.values


def test_network_equals_golden(port: str) -> None:
    assert {"y", "z"} <= set(_run(port))


@pytest.mark.parametrize("address", [0, 1, 4094, 8189])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1019, 1020, 1021, 5000])
def test_memory(shell: ShellModel, port: str, address: int, size: int) -> None:
    """Any bytes, and no others."""
    memory = np.random.default_rng(size).integers(0, 256, SIZE).astype(np.uint8)
    machine: Any = shell.machine
    machine.memory[:] = memory
    content = np.random.default_rng(address).integers(0, 256, size).astype(np.uint8).tobytes()
    with SerialBoard(port) as board:
        assert board.read_memory(address, size) == memory[address : address + size].tobytes()
        board.write_memory(address, content)
    memory[address : address + size] = np.frombuffer(content, np.uint8)
    np.testing.assert_array_equal(machine.memory, memory)


def test_outside(port: str) -> None:
    with SerialBoard(port) as board:
        with pytest.raises(DeviceError, match="outside the board's 40960 bytes"):
            board.read_memory(SIZE - 4, 5)
        with pytest.raises(DeviceError, match="outside"):
            board.write_memory(SIZE, b"x")


def test_bus_errors_are_told(shell: ShellModel, port: str) -> None:
    with SerialBoard(port) as board:
        board.read_register(0xFFC)
        with pytest.raises(DeviceError, match="errors of the link: 1 bus"):
            board.write_memory(0, bytes(4))
    with SerialBoard(port) as board:
        board.write_memory(0, bytes(4))


class _Damage:
    """A line that changes a bit, or drops a byte, of what the host sends."""

    def __init__(self, shell: ShellModel) -> None:
        self.shell, self.at, self.drop = shell, -1, False

    def exchange(self, received: bytes) -> bytes:
        data = bytearray(received)
        if 0 <= self.at < len(data):
            if self.drop:
                del data[self.at]
            else:
                data[self.at] ^= 4
            self.at = -1
        return self.shell.exchange(bytes(data))


# A bit of a word, of the address, a whole byte; the check that follows the write sees all of it.
@pytest.mark.parametrize(("at", "drop"), [(9, False), (5, False), (12, True)])
def test_damage_is_noticed(
    shell: ShellModel, at: int, drop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowmesh.gen.board._PATIENCE", 0.5)
    line = _Damage(shell)
    with serial_port(line, idle=0.05) as port, SerialBoard(port) as board:
        board.write_memory(64, bytes(range(64)))
        line.at, line.drop = at, drop
        with pytest.raises(DeviceError, match="lost or damaged|no answer|only"):
            board.write_memory(64, bytes(range(64)))


def test_no_port() -> None:
    with pytest.raises(
        RowmeshError, match="cannot open the serial port /dev/no-such-tty: No such file"
    ):
        SerialBoard("/dev/no-such-tty")


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def exchange(self, received: bytes) -> bytes:
            return b""

    monkeypatch.setattr("rowmesh.gen.board._FIRST_PATIENCE", 0.3)
    with (
        serial_port(Silent(), idle=0.05) as port,
        pytest.raises(DeviceError, match=f"{port}: no answer within 0.3 s at 9600 baud"),
    ):
        SerialBoard(port, 9600)


def test_half_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def exchange(self, received: bytes) -> bytes:
            return b"RW" if received else b""

    monkeypatch.setattr("rowmesh.gen.board._FIRST_PATIENCE", 0.3)
    with (
        serial_port(Short(), idle=0.05) as port,
        pytest.raises(DeviceError, match="only 2 of 4 bytes"),
    ):
        SerialBoard(port)


def test_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Litex:
        def __init__(self) -> None:
            self.bone = UartBoneModel(lambda address: 0x1234, lambda address, value: None)

        def exchange(self, received: bytes) -> bytes:
            return self.bone.feed(received)

    with (
        serial_port(Litex(), idle=0.05) as port,
        pytest.raises(DeviceError, match="MAGIC of the shell reads 0x00001234, .*no rowmesh"),
    ):
        SerialBoard(port)


def test_wrong_configuration(port: str) -> None:
    other = dataclasses.replace(CONFIG, psum_bits=20)
    with pytest.raises(DeviceError, match="CONFIG_HASH .* built from another configuration"):
        _run(port, other)


def test_network_does_not_fit() -> None:
    shell = ShellModel(ModelMachine(CONFIG, SIZE), 1024)
    with (
        serial_port(shell, idle=0.05) as port,
        pytest.raises(RowmeshError, match=r"needs \d+ bytes of memory, the board has 1024"),
    ):
        _run(port)


def test_no_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "serial":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RowmeshError, match=r"package pyserial: pip install 'rowmesh\[board\]'"):
        SerialBoard("/dev/null")


def test_port_belongs_to_the_backend() -> None:
    graph = two_layers(np.random.default_rng(1))
    for backend, port in (("board", None), ("golden", "/dev/null")):
        with pytest.raises(RowmeshError, match="needs a serial port"):
            run_graph(graph, CONFIG, {}, backend, print, port=port)


def test_unplugged(shell: ShellModel, port: str) -> None:
    board = SerialBoard(port)
    os.close(board._line.fd)
    with pytest.raises(DeviceError, match=f"^{port}: "):
        board.read_register(0)
    board._line.fd = None


def test_commands_are_those_of_litex() -> None:
    """The bytes on the line, as litex/tools/remote/comm_uart.py makes them."""

    class Line:
        sent = b""

        def write(self, data: bytes) -> int:
            self.sent += data
            return len(data)

        def read(self, size: int) -> bytes:
            return bytes.fromhex("01020304")[:size]

        def reset_input_buffer(self) -> None:
            pass

    line = Line()
    bone = uartbone.UartBone(line, "line", 115200, 1.0)
    bone.write(0xF000_1004, np.array([0x11223344, 0x55667788], np.uint32))
    assert line.sent == bytes.fromhex("0102 3c000401 11223344 55667788")
    line.sent = b""
    assert bone.read(0x40, 1).tolist() == [0x01020304]
    assert line.sent == bytes.fromhex("0201 00000010")
