"""Whom the words of a program reach, and which addresses a loop nest has."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rowmesh.rtl.codes import Opcode
from rowmesh.rtl.layouts import CONFIG_BITS

__all__ = ["FLAT", "nest_addresses", "reached"]

#: Steps of a plain write.
FLAT = {"row_step": 0, "col_step": 0}


def reached(
    opcode: Opcode,
    masks: Mapping[Opcode, int],
    fields: Mapping[str, int],
    steps: Mapping[str, int],
) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Instances (cluster row, cluster column, number) that a write is for, and their word."""
    rows, cols, numbers = (masks[axis] for axis in (Opcode.ROWS, Opcode.COLS, Opcode.UNITS))
    if opcode is Opcode.ONE:
        rows, cols = 1 << fields["row"], 1 << fields["col"]
    if opcode in (Opcode.ONE, Opcode.WRITE_NUMBER, Opcode.RAMP_NUMBER):
        numbers = 1 << fields["number"]
    for y in _ones(rows):
        for x in _ones(cols):
            value = fields["data"] + y * steps["row_step"] + x * steps["col_step"]
            for number in _ones(numbers):
                yield (y, x, number), value % (1 << CONFIG_BITS)


def _ones(mask: int) -> Iterator[int]:
    """Numbers of the bits that are set."""
    return (bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def nest_addresses(base: int, loops: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """All addresses of an affine nest, level 0 innermost."""
    out = np.asarray([base], np.int64)
    for count, stride in loops:
        out = (np.arange(count, dtype=np.int64)[:, None] * stride + out).reshape(-1)
    return out
