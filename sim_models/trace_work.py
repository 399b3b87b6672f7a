"""What the PEs of a layer do under a mapping, counted from the data of a run."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Item, Mapping, Spread
from rowmesh.gen.tiling import Round, Tile, phases
from rowmesh.rtl.config import IACT_PAIRS, WORD_BYTES
from rowmesh.sim_models.weight_words import column_words, pairs

__all__ = ["NEVER", "BlockTrace", "TraceWork", "column_delays"]

#: Earlier than anything.
NEVER = -1e6

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BlockTrace:
    """One weight block of every PE with the rows of iacts that it meets.

    Arrays begin with the axes cluster row, cluster column, PE row, PE column.

    Parameters
    ----------
    pairs, words, cycles : ndarray, shape (..., rows, segments of a row)
        (count, value) pairs of a segment, words that it takes in the iact SPad, cycles for which
        its reader sends it.
    work : ndarray, shape (..., rows, windows, segments of a window)
        Weight words of the columns that the non-zero iacts of a window meet.
    delays : ndarray, shape (2, 2, ..., rows, windows, segments of a window)
        See `column_delays`.
    load : ndarray
        Weight words of the block.
    active : ndarray of bool, shape (..., rows)
        PEs that have this row of windows.
    windows : ndarray of int
        Windows of a row.
    """

    pairs: Ints
    words: Ints
    cycles: Ints
    work: Ints
    delays: NDArray[np.float32]
    load: Ints
    active: Bools
    windows: Ints


class TraceWork:
    """The work of all PEs, block by block.

    Parameters
    ----------
    mapping : Mapping
    filled : ndarray of bool, shape (channels, height, width)
        Where the stored bytes of the input are not zero; with a second tensor, plane by plane in
        turn.

    Attributes
    ----------
    shape : tuple of int
        Cluster rows, cluster columns, PE rows, PE columns at work.
    slot, outputs, position, column : ndarray of int
        By PE: its slot of tiles, output slot, position in the psum chain, PE column.
    """

    def __init__(self, mapping: Mapping, filled: Bools) -> None:
        self.mapping, self.config, self.task = mapping, mapping.config, mapping.task
        c, task = self.config, self.task
        columns = max(mapping.spatial_cols, mapping.output_cols)
        self.shape = (c.cluster_rows, c.cluster_cols, mapping.pe_rows, columns)
        sizes = (mapping.c0, mapping.s0, mapping.m0)
        self.words = column_words(c, task.weights, sizes, dense=mapping.dense)
        missing = task.blocks * mapping.block_outputs // mapping.m0 - len(self.words)
        self.words = np.pad(self.words, [(0, missing), *[(0, 0)] * 4])
        self.filled = self._padded(filled)
        y, x, k, self.column = np.indices(self.shape)
        part = {spread: np.zeros_like(y) for spread in Spread}
        part[mapping.vertical] = y
        part[mapping.horizontal] = part[mapping.horizontal] * c.cluster_cols + x
        self.slot = part[Spread.GROUPS] * mapping.space_slots + part[Spread.SPACE]
        self.outputs = part[Spread.OUTPUTS]
        self.position = part[Spread.CHAIN] * mapping.pe_rows + k

    def _padded(self, filled: Bools) -> Bools:
        """The input with its border, and as much more as any tile may reach for."""
        m, task = self.mapping, self.task
        _, taps, cols, _ = task.weights.shape
        rows = task.used_size[0] + m.rows * (m.spatial_cols + 1)
        width = task.used_size[1] + m.width + m.segments
        below = rows * task.stride[0] + taps * task.dilation[0] - filled.shape[1]
        right = width * task.stride[1] + cols * task.dilation[1] - filled.shape[2]
        border = [(task.pad[0], max(0, below)), (task.pad[1], max(0, right))]
        padded = np.pad(filled, [(0, 0), *border], constant_values=bool(task.pad_value))
        return np.pad(padded, [(0, m.c0 + WORD_BYTES), (0, 0), (0, 0)])

    @cached_property
    def phases(self) -> list[list[Round]]:
        """Rounds of tiles, phase by phase."""
        return [list(phase.rounds) for phase in phases(self.mapping)]

    def blocks(self, tiles: Round) -> Iterator[tuple[int, int, BlockTrace]]:
        """Group, pass and work of the blocks of one round, in the order of the PEs."""
        m = self.mapping
        patches: list[_Patch] = []
        for group, number in product(range(m.groups), range(m.passes)):
            if not group:
                patches.append(_Patch(self, tiles, number))
            yield group, number, patches[number].block(group)


class _Patch:
    """The iacts that meet one pass of every PE in a round of tiles."""

    def __init__(self, trace: TraceWork, tiles: Round, number: int) -> None:
        self.trace, self.m = trace, trace.mapping
        m = self.m

        def each(name: str) -> Ints:
            """A field of its tile, for every PE."""
            values = [getattr(tile, name) if tile else 0 for tile in tiles]
            found: Ints = np.asarray(values, np.int64)[trace.slot]
            return found

        some = [tile for tile in tiles if tile is not None]
        rows, width = _largest(some)
        present = each("cols") > (trace.column if m.output_cols == 1 else 0)
        self.active = present[..., None] & (np.arange(rows) < each("rows")[..., None])
        self.windows = np.where(present, each("width"), 0)
        self.tile_block = each("block")
        items = [m.row_items(position)[number] for position in range(m.depth)]
        self.real = np.asarray([item is not None for item in items])[trace.position]
        used = [item or self._dummy(position, number) for position, item in enumerate(items)]
        self.r, self.s, self.c = (
            np.asarray([getattr(item, axis) for item in used])[trace.position] for axis in "rsc"
        )
        first_row = each("row")
        if m.output_cols == 1:
            first_row = first_row + trace.column * each("step")
        self.segments = self._segments(first_row, each("left"), rows, width)
        self._count(width)

    def _dummy(self, position: int, number: int) -> Item:
        """What a dummy of zeros meets: the start of the tile, see `item_offsets`."""
        m = self.m
        planes, taps = m.row_box(position, number // -(-m.passes // m.folds))
        return Item(taps[0], 0, planes[0] * WORD_BYTES)

    def _segments(self, row: Ints, left: Ints, rows: int, width: int) -> Bools:
        """Where iacts are not zero: shape (..., rows, segments, pixels, C0)."""
        m, task = self.m, self.trace.task
        planes = task.block_planes * (2 if task.second is not None else 1)
        channels = self.c[..., None] + np.arange(m.c0)
        c = self.tile_block[..., None] * planes * WORD_BYTES + channels
        y = (row[..., None] + np.arange(rows)) * task.stride[0]
        y = y + self.r[..., None] * task.dilation[0]
        pixels = np.arange(width + m.segments - 1)[:, None] * task.stride[1] + np.arange(m.pixels)
        x = (left * task.stride[1] + self.s * task.dilation[1])[..., None, None] + pixels
        found: Bools = self.trace.filled[
            c[..., None, None, None, :], y[..., :, None, None, None], x[..., None, :, :, None]
        ]
        if not self.trace.config.sparse:
            return np.ones_like(found)
        # What lies behind the planes of a block is no part of it.
        inside: Bools = channels < planes * WORD_BYTES
        return found & inside[..., None, None, None, :]

    def _count(self, width: int) -> None:
        """Sizes of the segments; they do not depend on the weights."""
        m = self.m
        size = min(m.c0, WORD_BYTES)
        by_word = self.segments.reshape(*self.segments.shape[:-1], -1, size).sum(axis=-1)
        cycles = np.maximum(1, -(-by_word // IACT_PAIRS)).sum(axis=(-1, -2))
        self.flat = self.segments.reshape(*self.segments.shape[:-2], -1)
        count = pairs(self.flat, self.trace.config.max_run)
        number = np.arange(width + m.segments - 1)
        there = self.active[..., None] & (number < (self.windows + m.segments - 1)[..., None, None])
        self.pairs = np.where(there, np.maximum(1, count), 0)
        self.words = np.where(there, np.maximum(1, -(-count // IACT_PAIRS)), 0)
        self.cycles = np.where(there, np.maximum(cycles, self.words), 0)
        self.inside = self.active[..., None] & (np.arange(width) < self.windows[..., None, None])

    def block(self, group: int) -> BlockTrace:
        """With the weights of one group of psums."""
        m, trace = self.m, self.trace
        first = self.tile_block * m.block_outputs + trace.outputs * m.slot_outputs
        first = first // m.m0 + group * m.output_cols
        if m.output_cols > 1:
            first = first + trace.column
        words = trace.words[first, self.r, self.s // m.s0, self.c // m.c0]
        if not m.dense:  # a raw block has all its words, even if they are zero
            words = np.where(self.real[..., None], words, 0)
        width, size = self.inside.shape[-1], m.c0 * m.pixels
        work = np.empty((*self.inside.shape, m.segments), np.int64)
        delays = np.empty((2, 2, *work.shape), np.float32)
        for t in range(m.segments):
            part = words[..., t * size : (t + 1) * size]
            windows = self.flat[..., t : t + width, :]
            used = windows[..., : part.shape[-1]]
            work[..., t] = np.einsum("...rwp,...p->...rw", used, part.astype(np.float32))
            # Pairs that meet no column: explicit zeros, a segment of zeros, columns beyond.
            rest = self.pairs[..., t : t + width] - used.sum(axis=-1)
            last = t == m.segments - 1
            delays[..., t] = column_delays(used, part[..., None, None, :], rest, last=last)
        return BlockTrace(
            pairs=self.pairs,
            words=self.words,
            cycles=self.cycles,
            work=work * self.inside[..., None],
            delays=delays,
            load=words.sum(axis=-1),
            active=self.active,
            windows=self.windows,
        )


def column_delays(found: Bools, words: Ints, rest: Ints, *, last: bool) -> NDArray[np.float32]:
    """Cycles between the decoder and the multipliers for the pairs of a segment.

    A pair is read a cycle; its column waits in one of two places (`WeightFetch`) until the words of
    the columns before have been read; a column without words is dropped on the way there.

    Parameters
    ----------
    found : ndarray of bool, shape (..., columns)
        Where the iact is not zero.
    words : ndarray of int, broadcast to it
        Words of the columns.
    rest : ndarray of int, shape (...)
        Pairs behind them that meet no column.
    last : bool
        Whether a window ends with the segment.

    Returns
    -------
    ndarray, shape (2, 2, ...)
        To (0: the last pair is read, 1: the last word is read), from (0: the last pair before is
        read, 1: the last word before is): the later of the two counts; `NEVER` where nothing
        follows.
    """
    shape = (2, *found.shape[:-1])
    read = np.full(shape, NEVER, np.float32)
    first, second = read.copy(), read.copy()  # ends of the words of the last two columns
    read[0], first[1], second[1] = 0, 0, -1
    for column in range(found.shape[-1]):
        here = found[..., column]
        size = words[..., column]
        hit = here & (size > 0)
        done = np.maximum(first, read + 2) + size
        read = np.where(here, np.maximum(read + 1, second), read)
        second = np.where(hit, first, second)
        first = np.where(hit, done, first)
    read = read + rest
    if last:  # the end of the window travels alone, as a column does
        read = np.where(rest > 0, np.maximum(read, second), read)
    return np.stack([read, first])


def _largest(tiles: list[Tile]) -> tuple[int, int]:
    """Rows and columns of a box that holds any of the tiles."""
    return max(tile.rows for tile in tiles), max(tile.width for tile in tiles)
