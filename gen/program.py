"""Programs: descriptors become a short list of masked writes, and a binary with its header.

Header, 64-bit little-endian words (low half, high half): magic, version; hash of the configuration,
number of instructions; CRC-32 (zlib) of the instructions, number of all words; 0, 0.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.plan import Masks, Write, masks_for, plan, runs
from rowmesh.gen.rectangles import Box, Grid, Place
from rowmesh.rtl.codes import Opcode, Unit
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.config_node import unit_counts
from rowmesh.rtl.control.registers import HEADER_WORDS, PROGRAM_MAGIC, PROGRAM_VERSION
from rowmesh.rtl.layouts import CONFIG_BITS, Layouts
from rowmesh.rtl.packing import descriptor_words

__all__ = ["Instance", "Program", "ProgramError"]

Instance = Place
#: Of an axis of a box, what sets its mask.
_MASKS = Opcode.ROWS, Opcode.COLS, Opcode.UNITS
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
        self._masks: Masks = (None, None, None)
        self._steps: tuple[int, int] | None = None
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

    def __len__(self) -> int:
        return len(self._words)

    # -- instructions --------------------------------------------------------------------------

    def _emit(self, opcode: Opcode, data: int = 0, **fields: int) -> None:
        layout: Any = self._layouts.instruction
        fields |= {"data": data, "opcode": int(opcode)}
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
        for writes in plan(grid, wanted, held):
            for box, chosen in runs(writes, self._masks):
                self._write_box(unit, box, chosen)
        for place, values in descriptors.items():
            shadow[place] = packed[id(values)]

    def _write_box(self, unit: Unit, box: Box, writes: Sequence[Write]) -> None:
        """Writes to one box, or to its instances one by one where that takes no more words."""
        masks = masks_for(box, self._masks)
        changed = [
            (opcode, new)
            for opcode, new, old in zip(_MASKS, masks, self._masks, strict=True)
            if new is not None and new != old
        ]
        # Of a plain value nothing depends on the steps; those that are set come first.
        writes = sorted(writes, key=lambda w: (w.ramp.steps not in ((0, 0), self._steps), w.ramp))
        steps = {write.ramp.steps for write in writes} - {(0, 0), self._steps}
        singles = sum(write.need.bit_count() for write in writes)
        if singles <= len(writes) + len(changed) + len(steps):
            for write in writes:
                self._write_singles(unit, write)
            return
        for opcode, mask in changed:
            self._emit(opcode, mask)
        self._masks = masks
        number = box[2].bit_length() - 1 if box[2].bit_count() == 1 else None
        for write in writes:
            self._write_masked(unit, write, number)

    def _write_masked(self, unit: Unit, write: Write, number: int | None) -> None:
        ramp = write.ramp
        fields = {"unit": int(unit), "index": write.word, "go": int(write.go)}
        if ramp.steps == (0, 0):
            opcode = Opcode.WRITE if number is None else Opcode.WRITE_NUMBER
        else:
            opcode = Opcode.RAMP if number is None else Opcode.RAMP_NUMBER
            if ramp.steps != self._steps:
                self._step(*ramp.steps)
        self._emit(opcode, ramp.base, number=number or 0, **fields)

    def _write_singles(self, unit: Unit, write: Write) -> None:
        for place in self._grids[unit].places(write.need):
            row, col, number = place
            self._emit(
                Opcode.ONE,
                write.ramp.at(place),
                unit=unit,
                index=write.word,
                go=write.go,
                row=row,
                col=col,
                number=number,
            )

    def _step(self, row_step: int, col_step: int) -> None:
        layout: Any = self._layouts.steps
        fields = {"row_step": row_step, "col_step": col_step, "opcode": int(Opcode.STEP)}
        self._words.append(
            sum(
                (value & (1 << layout[name].width) - 1) << layout[name].offset
                for name, value in fields.items()
            )
        )
        self._steps = row_step, col_step

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
