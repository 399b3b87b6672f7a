"""The shell as a whole: parameters, ports, registers as written down. `make sim-shell` runs it."""

import re
from pathlib import Path

import pytest

from rowmesh.rtl.axi.signatures import axi4_signature
from rowmesh.rtl.config import load_config
from rowmesh.rtl.control.registers import registers_table
from rowmesh.rtl.shell import bus
from rowmesh.rtl.shell.shell import MOST_BLOCK_BYTES, Shell
from rowmesh.rtl.shell.shell_registers import shell_registers

TINY = load_config("tiny")
GOOD = {"clock_hz": 25_000_000, "memory_bytes": 65536}


def _made(**parameters: object) -> Shell:
    shell = Shell(TINY, **{**GOOD, **parameters})  # type: ignore[arg-type]
    shell._MustUse__used = True
    return shell


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"memory_bytes": 0}, r"memory_bytes = 0: must be within 4096\.\.1048576 .*block"),
        ({"memory_bytes": 2 << 20}, r"memory_bytes = 2097152: must be within 4096\.\.1048576"),
        ({"memory_bytes": 5000}, "memory_bytes = 5000: must be a multiple of 4096"),
        ({"memory_bytes": 65536.0}, "memory_bytes = 65536.0: must be an integer"),
        ({"memory_bytes": 1 << 32, "memory": "axi"}, r"memory_bytes = 4294967296: must be within"),
        ({"memory": "sdram"}, "memory = 'sdram': must be one of block, axi"),
        ({"clock_hz": 0}, "clock_hz = 0: must be positive"),
        ({"clock_hz": "25"}, "clock_hz = '25': must be an integer"),
        ({"baud": 10_000_000}, r"baud = 1e\+07: a clock of 2.5e\+07 Hz allows at most 6.25e\+06"),
        ({"baud": True}, "baud = True: must be an integer"),
    ],
)
def test_bad_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _made(**parameters)


@pytest.mark.parametrize("config", ["tiny", "demo", "eyeriss_v2"])
def test_ports(config: str) -> None:
    made = [
        Shell(load_config(config), **GOOD, memory=memory)  # type: ignore[arg-type]
        for memory in ("block", "axi")
    ]
    for shell in made:
        shell._MustUse__used = True
    block, axi = (set(shell.signature.members) for shell in made)
    assert block == {"rx", "tx", "leds"}
    bits = load_config(config).axi_data_bits
    assert axi - block == {f"m_axi_{name}" for name in axi4_signature(bits).members}
    assert made[1].m_axi_rdata.shape().width == bits


def test_most_memory() -> None:
    assert _made(memory_bytes=MOST_BLOCK_BYTES).memory_bytes == 1 << 20
    most = bus.MEMORY_LIMIT
    assert _made(memory_bytes=most, memory="axi").memory_bytes == most


def test_documentation() -> None:
    """docs/shell.md says what the code does."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "shell.md").read_text(encoding="utf-8")
    assert registers_table(shell_registers().values()) in text
    for name in ("REGISTERS_BASE", "SHELL_BASE"):
        assert f"0x{getattr(bus, name):08X}" in text, name
    found = re.search(r"(\d+) ms", text)
    assert found is not None and int(found[1]) == round(1000 * bus.TIMEOUT_SECONDS)
