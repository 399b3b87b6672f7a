"""Programs: descriptors become a short list of masked writes, and a binary with its header.

Header, 64-bit little-endian words (low half, high half): magic, version; hash of the configuration,
number of instructions; CRC-32 (zlib) of the instructions, number of all words; 0, 0.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.rectangles import Box, Grid
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.config_node import unit_counts
from rowmesh.rtl.control.registers import HEADER_WORDS, PROGRAM_MAGIC, PROGRAM_VERSION
from rowmesh.rtl.layouts import CONFIG_BITS, Layouts, Opcode, Unit, descriptor_words

__all__ = ["Instance", "Program", "ProgramError"]

#: Cluster row, cluster column, number of the unit in the cluster.
Instance = tuple[int, int, int]
_HEADER = struct.Struct("<IIIIIIQ")
_WORD_BYTES = 8


class ProgramError(RowmeshError):
    """A binary that is no program of this machine."""


class Program:
    """Builds a program.

    Keeps what the descriptor ports of all units hold, and sends only words that change. At the
    beginning nothing is known about them, so a program runs after any other.

    Parameters
    ----------
    config : Config
        The machine.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._layouts = Layouts(config)
        self._words: list[int] = []
        self._masks: dict[Opcode, int] = {}
        self._grids: dict[Unit, Grid] = {}
        self._shadows: dict[Unit, NDArray[np.int64]] = {}
        for unit, count in unit_counts(config).items():
            words = -(-self._layouts.descriptor(unit).size // CONFIG_BITS)
            self._grids[unit] = Grid(config.cluster_rows, config.cluster_cols, count)
            shape = (config.cluster_rows, config.cluster_cols, count, words)
            self._shadows[unit] = np.full(shape, -1, np.int64)
        self._selected: list[tuple[int, int, int]] = []

    @property
    def instructions(self) -> tuple[int, ...]:
        """The 64-bit instruction words so far."""
        return tuple(self._words)

    # -- instructions --------------------------------------------------------------------------

    def _emit(
        self, opcode: Opcode, data: int = 0, unit: int = 0, index: int = 0, go: bool = False
    ) -> None:
        layout: Any = self._layouts.instruction
        fields = {"data": data, "go": int(go), "index": index, "unit": unit, "opcode": int(opcode)}
        self._words.append(sum(value << layout[name].offset for name, value in fields.items()))

    def wait(self) -> None:
        """Wait until all output writers are done."""
        self._emit(Opcode.WAIT)

    def layer(self, number: int) -> None:
        """Say which layer comes now.

        Raises
        ------
        ValueError
            More than 16 bits.
        """
        if not 0 <= number < 1 << 16:
            raise ValueError(f"layer {number}: must be within 0..65535")
        self._emit(Opcode.LAYER, number)

    def end(self) -> None:
        """End the program once all units are idle."""
        self._emit(Opcode.END)

    def select(self, rows: Iterable[int], cols: Iterable[int], units: Iterable[int]) -> None:
        """Choose what `write` is for: these rows, columns and numbers, all combinations."""
        numbers = list(units)
        columns = list(cols)
        self._selected = [(y, x, i) for y in rows for x in columns for i in numbers]

    def write(self, unit: Unit, values: Mapping[str, Any]) -> None:
        """Give one descriptor to all selected instances."""
        self.write_all(unit, dict.fromkeys(self._selected, values))

    # -- many descriptors ----------------------------------------------------------------------

    def write_all(self, unit: Unit, descriptors: Mapping[Instance, Mapping[str, Any]]) -> None:
        """Give every instance its descriptor and start it.

        Parameters
        ----------
        unit : Unit
            Kind of unit.
        descriptors : mapping
            By (cluster row, cluster column, number); values as `descriptor_words` takes them.

        Raises
        ------
        ValueError
            There is no such instance, or a value does not fit.
        """
        if not descriptors:
            return
        grid, shadow = self._grids[unit], self._shadows[unit]
        packed: dict[int, tuple[int, ...]] = {}
        layout = self._layouts.descriptor(unit)
        wanted: dict[int, tuple[int, ...]] = {}
        held: dict[int, list[int]] = {}
        for place, values in descriptors.items():
            bit = grid.bit(place, unit.name)
            if id(values) not in packed:
                packed[id(values)] = tuple(descriptor_words(layout, values))
            wanted[bit] = packed[id(values)]
            held[bit] = shadow[place].tolist()
        for box, index, value, go in _plan(grid, wanted, held):
            for opcode, mask in zip((Opcode.ROWS, Opcode.COLS, Opcode.UNITS), box, strict=True):
                if self._masks.get(opcode) != mask:
                    self._masks[opcode] = mask
                    self._emit(opcode, mask)
            self._emit(Opcode.WRITE, value, int(unit), index, go)
        for place, values in descriptors.items():
            shadow[place] = packed[id(values)]

    # -- binary --------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The program as it lies in DRAM."""
        body = b"".join(word.to_bytes(_WORD_BYTES, "little") for word in self._words)
        count = len(self._words)
        header = _HEADER.pack(
            PROGRAM_MAGIC,
            PROGRAM_VERSION,
            self.config.hash,
            count,
            zlib.crc32(body),
            count + HEADER_WORDS,
            0,
        )
        return header + body

    @staticmethod
    def from_bytes(config: Config, binary: bytes) -> tuple[int, ...]:
        """Check a binary as the hardware does.

        Returns
        -------
        tuple of int
            The instructions.

        Raises
        ------
        ProgramError
            Says what is wrong.
        """
        if len(binary) < _HEADER.size:
            raise ProgramError(f"program of {len(binary)} bytes: shorter than its header")
        magic, version, config_hash, count, crc, total, reserved = _HEADER.unpack_from(binary)
        if magic != PROGRAM_MAGIC:
            raise ProgramError(f"program magic is 0x{magic:08x}, not 0x{PROGRAM_MAGIC:08x}")
        if version != PROGRAM_VERSION or reserved:
            raise ProgramError(f"program version is {version}, not {PROGRAM_VERSION}")
        if config_hash != config.hash:
            raise ProgramError(
                f"program is for configuration 0x{config_hash:08x}, not 0x{config.hash:08x}"
            )
        end = total * _WORD_BYTES
        if count == 0 or total != count + HEADER_WORDS or end > len(binary):
            raise ProgramError(
                f"program length: {count} instructions, {total} words, {len(binary)} bytes"
            )
        body = binary[_HEADER.size : end]
        if zlib.crc32(body) != crc:
            raise ProgramError(f"program CRC is 0x{zlib.crc32(body):08x}, not 0x{crc:08x}")
        return struct.unpack(f"<{count}Q", body)


#: Box of instances, index of the word, its value, whether it is the last.
_Write = tuple[Box, int, int, bool]


def _plan(
    grid: Grid, wanted: Mapping[int, tuple[int, ...]], held: Mapping[int, list[int]]
) -> list[_Write]:
    """Writes that bring `held` to `wanted` and start every instance once.

    Every instance has its last word written, with go, by exactly one box; the other words come
    before. The last word is the one that makes the fewest writes.
    """
    words = len(next(iter(wanted.values())))
    groups: list[dict[int, int]] = []  # of every word: value to instances
    needed: list[int] = []  # instances that do not hold it
    for index in range(words):
        by_value: dict[int, int] = {}
        need = 0
        for bit, descriptor in wanted.items():
            by_value[descriptor[index]] = by_value.get(descriptor[index], 0) | bit
            if held[bit][index] != descriptor[index]:
                need |= bit
        groups.append(by_value)
        needed.append(need)
    paints = [_paint(grid, groups[i], needed[i]) for i in range(words)]
    lasts = [
        [(box, value) for value, bits in groups[i].items() for box in grid.split(bits)]
        for i in range(words)
    ]
    last = min(range(words), key=lambda i: (len(lasts[i]) - len(paints[i]), -len(paints[i])))
    writes = [
        (level, box, index, value)
        for index in range(words)
        if index != last
        for level, box, value in paints[index]
    ]
    # Boxes of one word may overlap only at rising levels; otherwise equal masks come together.
    writes.sort()
    result: list[_Write] = [(box, index, value, False) for _, box, index, value in writes]
    return result + [(box, last, value, True) for box, value in sorted(lasts[last])]


def _paint(grid: Grid, groups: Mapping[int, int], needed: int) -> list[tuple[int, Box, int]]:
    """Writes of one word: (level, box, value), in an order in which the last one wins.

    A box may cover instances that another value will be written to later, so one wide write
    and some exceptions replace many narrow ones.
    """
    values = [value for value, bits in groups.items() if bits & needed]
    values.sort(key=lambda value: -(groups[value] & needed).bit_count())
    plain = [
        (0, box, value)
        for value in values
        for box in grid.cover(groups[value] & needed, groups[value])
    ]
    later = needed
    layered: list[tuple[int, Box, int]] = []
    for level, value in enumerate(values):
        later &= ~groups[value]
        boxes = grid.cover(groups[value] & needed, groups[value] | later)
        layered += [(level, box, value) for box in boxes]
    return layered if len(layered) < len(plain) else plain
