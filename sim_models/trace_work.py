"""What the PEs of a layer do under a mapping, counted from the data of a run."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Item, Mapping, Spread
from rowmesh.gen.tiling import Tile, phases
from rowmesh.rtl.config import IACT_PAIRS, WORD_BYTES

__all__ = ["BlockTrace", "TraceWork", "column_words", "pairs"]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockTrace:
    """One weight block of every PE with the rows of iacts that it meets.

    Arrays begin with the axes cluster row, cluster column, PE row, PE column.

    Parameters
    ----------
    pairs, words, cycles : ndarray, shape (..., rows, segments of a row)
        (count, value) pairs of a segment, words that it takes in the iact SPad, cycles for which
        its reader sends it.
    beyond : ndarray, shape (..., rows, windows)
        Pairs at the end of a window that are read and dropped.
    work : ndarray, shape (..., rows, windows, segments of a window)
        Weight words of the columns that the non-zero iacts of a window meet.
    load, columns : ndarray
        Weight words of the block, and its columns with any.
    active : ndarray of bool, shape (..., rows)
        PEs that have this row of windows.
    windows : ndarray of int
        Windows of a row.
    """

    pairs: Ints
    words: Ints
    cycles: Ints
    beyond: Ints
    work: Ints
    load: Ints
    columns: Ints
    active: Bools
    windows: Ints


def pairs(filled: Bools, max_run: int) -> Ints:
    """(count, value) pairs of each vector along the last axis.

    Parameters
    ----------
    filled : ndarray of bool
        Where values are not zero.
    max_run : int
        Zeros that a count can say.
    """
    total: Ints = filled.sum(axis=-1, dtype=np.int64)
    if filled.shape[-1] <= max_run + 1:
        return total
    index = np.arange(1, filled.shape[-1] + 1)
    before = np.maximum.accumulate(np.where(filled, index, 0), axis=-1)
    before = np.concatenate([np.zeros_like(before[..., :1]), before[..., :-1]], axis=-1)
    # A run of zeros that one count cannot say takes explicit zeros.
    total += np.where(filled, (index - before - 1) // (max_run + 1), 0).sum(axis=-1)
    return total


def column_words(mapping: Mapping) -> Ints:
    """Words of every weight column: (groups of M0, R, parts of S, parts of C, columns)."""
    config, weights = mapping.config, mapping.task.weights
    outputs, taps, width, channels = weights.shape
    c0, s0, m0 = mapping.c0, mapping.s0, mapping.m0
    total = mapping.task.blocks * mapping.block_outputs
    pad = [(0, total - outputs), (0, 0), (0, -width % s0), (0, -channels % c0)]
    filled = np.pad(weights != 0, pad)
    shape = (total // m0, m0, taps, filled.shape[2] // s0, s0, filled.shape[3] // c0, c0)
    split = filled.reshape(shape).transpose(0, 2, 3, 5, 4, 6, 1)
    split = split.reshape(*split.shape[:4], s0 * c0, m0)
    if mapping.dense:
        return np.full(split.shape[:-1], -(-m0 // config.macs_per_pe))
    return -(-pairs(split, config.max_run) // config.macs_per_pe)


class TraceWork:
    """The work of all PEs, block by block.

    Parameters
    ----------
    mapping : Mapping
    filled : ndarray of bool, shape (channels, height, width)
        Where the stored bytes of the input are not zero; with a second tensor, plane by plane in
        turn.
    """

    def __init__(self, mapping: Mapping, filled: Bools) -> None:
        self.mapping, self.config, self.task = mapping, mapping.config, mapping.task
        c = self.config
        self.shape = (c.cluster_rows, c.cluster_cols, mapping.pe_rows, self._cols)
        self.words = column_words(mapping)
        height, width = filled.shape[1:]
        below = self.task.used_size[0] + mapping.rows * (mapping.spatial_cols + 1)
        right = self.task.used_size[1] + mapping.width + mapping.task.stride[1]
        taps, cols = self.task.weights.shape[1:3]
        need = (
            below * self.task.stride[0] + taps * self.task.dilation[0],
            right * self.task.stride[1] + cols * self.task.dilation[1] + mapping.c0,
        )
        self.pad = self.task.pad
        border = [
            (0, 2 * mapping.c0 + WORD_BYTES),
            (self.pad[0], max(0, need[0] - height)),
            (self.pad[1], max(0, need[1] - width)),
        ]
        self.filled = np.pad(filled, border, constant_values=bool(self.task.pad_value))
        self.filled[filled.shape[0] :] = False
        y, x, k, j = np.indices(self.shape)
        vertical, horizontal = mapping.vertical, mapping.horizontal
        part = {spread: np.zeros_like(y) for spread in Spread}
        part[vertical] = y
        part[horizontal] = part[horizontal] * c.cluster_cols + x
        self.slot = part[Spread.GROUPS] * mapping.space_slots + part[Spread.SPACE]
        self.outputs = part[Spread.OUTPUTS]
        self.position = part[Spread.CHAIN] * mapping.pe_rows + k
        self.column = j

    @property
    def _cols(self) -> int:
        return max(self.mapping.spatial_cols, self.mapping.output_cols)

    @cached_property
    def phases(self) -> list[list[tuple[Tile | None, ...]]]:
        """Rounds of tiles, phase by phase."""
        return [list(phase.rounds) for phase in phases(self.mapping)]

    def blocks(self, tiles: tuple[Tile | None, ...]) -> Iterator[tuple[int, int, BlockTrace]]:
        """Group, pass and work of the blocks of one round, in the order of the PEs."""
        m = self.mapping
        by_pass = [_Patch(self, tiles, p) for p in range(m.passes)]
        for group in range(m.groups):
            for p, patch in enumerate(by_pass):
                yield group, p, patch.block(group)


class _Patch:
    """The iacts that meet one part of the window in a round of tiles."""

    def __init__(self, trace: TraceWork, tiles: tuple[Tile | None, ...], number: int) -> None:
        self.trace = trace
        m, task = trace.mapping, trace.task
        some = [tile for tile in tiles if tile is not None]
        rows = max(tile.rows for tile in some)
        width = max(tile.width for tile in some)
        at = trace.slot

        def each(values: list[int]) -> Ints:
            return np.asarray(values)[at]

        has = each([tile is not None for tile in tiles]).astype(bool)
        shape = each([tile.rows if tile else 0 for tile in tiles])
        wide = each([tile.width if tile else 0 for tile in tiles])
        if m.output_cols == 1:
            has &= trace.column < each([tile.cols if tile else 0 for tile in tiles])
        self.tile_block = each([tile.block if tile else 0 for tile in tiles])
        row = each([tile.row if tile else 0 for tile in tiles])
        if m.output_cols == 1:
            row = row + trace.column * each([tile.step if tile else 0 for tile in tiles])
        left = each([tile.left if tile else 0 for tile in tiles])
        items = [m.row_items(position)[number] for position in range(m.depth)]
        self.real = np.asarray([item is not None for item in items])[trace.position]
        used = [item or Item(0, 0, 0) for item in items]
        self.r = np.asarray([item.r for item in used])[trace.position]
        self.s = np.asarray([item.s for item in used])[trace.position]
        self.c = np.asarray([item.c for item in used])[trace.position]

        planes = task.block_planes * (2 if task.second is not None else 1)
        channel = self.tile_block * planes * WORD_BYTES + self.c
        y = (row[..., None] + np.arange(rows)) * task.stride[0] + self.r[..., None] * task.dilation[
            0
        ]
        self.count = width + m.segments - 1
        pixel = np.arange(self.count)[:, None] * task.stride[1] + np.arange(m.pixels)
        x = (left * task.stride[1] + self.s * task.dilation[1])[..., None, None] + pixel
        c = channel[..., None] + np.arange(m.c0)
        found = trace.filled[
            c[..., None, None, None, :],
            y[..., :, None, None, None],
            x[..., None, :, :, None],
        ]  # (..., rows, segments, pixels, c0)
        # Channels of another block are no part of this one's planes.
        inside = (self.c[..., None] + np.arange(m.c0)) < planes * WORD_BYTES
        found &= inside[..., None, None, None, :]
        if not trace.config.sparse:
            found[...] = True
        self.active = has[..., None] & (np.arange(rows) < shape[..., None])
        self.windows = np.where(has, wide, 0)
        there = self.active[..., None] & (
            np.arange(self.count) < (wide + m.segments - 1)[..., None, None]
        )
        size = min(m.c0, WORD_BYTES)
        parts = found.reshape(*found.shape[:-1], -1, size)
        cycles = np.maximum(1, -(-parts.sum(axis=-1) // IACT_PAIRS)).sum(axis=(-1, -2))
        flat = found.reshape(*found.shape[:-2], -1)
        self.flat = flat
        self.beyond = flat[..., m.segments - 1 :, m.cols - (m.segments - 1) * m.c0 * m.pixels :].sum(
            axis=-1
        )
        count = pairs(flat, trace.config.max_run)
        self.pairs = np.where(there, np.maximum(count, 1), 0)
        self.words = np.where(there, np.maximum(1, -(-count // IACT_PAIRS)), 0)
        self.cycles = np.where(there, np.maximum(cycles, self.words), 0)

    def block(self, group: int) -> BlockTrace:
        """With the weights of one group of psums."""
        trace = self.trace
        m = trace.mapping
        first = self.tile_block * m.block_outputs + trace.outputs * m.slot_outputs
        first = first // m.m0 + group * m.output_cols
        if m.output_cols > 1:
            first = first + trace.column
        words = trace.words[first, self.r, self.s // m.s0, self.c // m.c0]
        words = np.where(self.real[..., None], words, 0)
        load = words.sum(axis=-1)
        rows = self.flat.shape[-3]
        width = self.count - m.segments + 1
        size = m.c0 * m.pixels
        work = np.empty((*trace.shape, rows, width, m.segments), np.int64)
        for t in range(m.segments):
            part = words[..., t * size : (t + 1) * size]
            window = self.flat[..., t : t + width, : part.shape[-1]]
            work[..., t] = np.einsum(
                "...rwp,...p->...rw", window, part.astype(np.float32), optimize=True
            )
        inside = self.active[..., None] & (np.arange(width) < self.windows[..., None, None])
        work *= inside[..., None]
        return BlockTrace(
            self.pairs, self.words, self.cycles, self.beyond * inside, work, load, np.count_nonzero(words, axis=-1), self.active, self.windows
        )
