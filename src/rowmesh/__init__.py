"""Generator of Eyeriss-v2-like sparse DNN accelerators, with compiler and verification.

`compile` and `run` take a network file; `Accelerator` drives a machine by its registers and memory
alone. Nothing heavy is imported before a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rowmesh.gen.api import CompiledNetwork, compile, run
    from rowmesh.gen.driver import Accelerator, Bus, DeviceFault
    from rowmesh.gen.errors import RowmeshError
    from rowmesh.rtl.config import Config, load_config

__all__ = [
    "Accelerator",
    "Bus",
    "CompiledNetwork",
    "Config",
    "DeviceFault",
    "RowmeshError",
    "compile",
    "load_config",
    "run",
]

_HOMES = {
    "Accelerator": "rowmesh.gen.driver",
    "Bus": "rowmesh.gen.driver",
    "CompiledNetwork": "rowmesh.gen.api",
    "Config": "rowmesh.rtl.config",
    "DeviceFault": "rowmesh.gen.driver",
    "RowmeshError": "rowmesh.gen.errors",
    "compile": "rowmesh.gen.api",
    "load_config": "rowmesh.rtl.config",
    "run": "rowmesh.gen.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
