"""Bytes that a layer moves to and from DRAM, counted from its descriptors."""

import math
from collections.abc import Mapping
from typing import Any

from rowmesh.gen.program import Program
from rowmesh.gen.schedule import Descriptors
from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import PARAM_WORDS

__all__ = ["Traffic"]


class Traffic:
    """Passes descriptors on and counts what they move.

    A run-length coded row counts as a raw one: its size depends on the data.

    Parameters
    ----------
    program : Program
        Gets every descriptor.

    Attributes
    ----------
    bytes_read, bytes_written : int
    sent : list of (Unit, int)
        For every call: whose descriptors, and how many instructions the program had behind them.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.bytes_read = self.bytes_written = 0
        self.sent: list[tuple[Unit, int]] = []

    def write_all(self, unit: Unit, descriptors: Descriptors) -> None:
        """Give descriptors to instances."""
        self.program.write_all(unit, descriptors)
        self.sent.append((unit, len(self.program)))
        words = WORD_BYTES * sum(_words(unit, values) for values in descriptors.values())
        if unit is Unit.OUT_WRITER:
            self.bytes_written += words
        else:
            self.bytes_read += words


def _words(unit: Unit, values: Mapping[str, Any]) -> int:
    """64-bit words of one descriptor."""
    match unit:
        case Unit.IACT_LOADER:
            return int(values["planes"] * values["rows"] * values["words"])
        case Unit.WEIGHT_LOADER:
            return int(values["words"] * values["repeats"])
        case Unit.PARAM_LOADER:
            return int(values["channels"] * PARAM_WORDS)
        case Unit.OUT_WRITER:
            return int(values["words"] * math.prod(loop["count"] for loop in values["loops"]))
    return 0
