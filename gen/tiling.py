"""Tiles of a layer's output, and the rounds in which the clusters work through them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from rowmesh.gen.mapping import Mapping

__all__ = ["Loop", "Phase", "Tile", "factor", "phases"]

#: (count, stride) of one level of an affine nest.
Loop = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """Convolution outputs of one cluster in one round, before pooling.

    Column j of the PEs computes rows ``row + j * rows ..`` (all columns the same rows when they
    differ in output channels).
    """

    row: int
    rows: int
    cols: int
    left: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """What descriptors that do not carry addresses depend on."""
        return (self.rows, self.cols, self.width)


@dataclass(frozen=True)
class Phase:
    """Consecutive rounds in which every space slot keeps its tile shape; None is an idle slot."""

    rounds: tuple[tuple[Tile | None, ...], ...]

    @property
    def first(self) -> tuple[Tile | None, ...]:
        """Tiles of the first round."""
        return self.rounds[0]


def _parts(total: int, largest: int, step: int) -> list[tuple[int, int]]:
    """Cut `total` into (start, length) of at most `largest`, lengths multiples of `step`."""
    return [(at, min(largest, total - at)) for at in range(0, total, largest) if step]


def _row_tiles(mapping: Mapping) -> list[tuple[int, int, int]]:
    """Cut the output rows into (start, rows a column, columns), exactly."""
    height, step = mapping.task.used_size[0], mapping.task.pool[0]
    out: list[tuple[int, int, int]] = []
    at = 0
    while at < height:
        left = height - at
        shapes = product(range(step, mapping.rows + 1, step), range(1, mapping.spatial_cols + 1))
        rows, cols = max(
            (s for s in shapes if s[0] * s[1] <= left), key=lambda s: (s[0] * s[1], s[1])
        )
        out.append((at, rows, cols))
        at += rows * cols
    return out


def phases(mapping: Mapping) -> list[Phase]:
    """All rounds of a mapping, grouped into phases."""
    columns = _parts(mapping.task.used_size[1], mapping.width, mapping.task.pool[1])
    tiles = [
        Tile(row, rows, cols, left, width)
        for left, width in columns
        for row, rows, cols in _row_tiles(mapping)
    ]
    # Equal shapes next to each other: fewer phases, and no slot waits for a larger tile.
    tiles.sort(key=lambda tile: (-tile.rows * tile.cols * tile.width, tile.left, tile.row))
    slots = mapping.space_slots
    rounds = [
        tuple(tiles[at + i] if at + i < len(tiles) else None for i in range(slots))
        for at in range(0, len(tiles), slots)
    ]
    grouped: list[list[tuple[Tile | None, ...]]] = []
    shape = None
    for one in rounds:
        this = tuple(tile.shape if tile else None for tile in one)
        if this == shape:
            grouped[-1].append(one)
        else:
            grouped.append([one])
            shape = this
    return [Phase(tuple(group)) for group in grouped]


def factor(values: Sequence[int], levels: int) -> list[tuple[int, list[Loop]]]:
    """Write a sequence as affine nests one after the other, greedily the longest first.

    Parameters
    ----------
    values
        The sequence.
    levels
        Loops that a nest may have.

    Returns
    -------
    list of (base, loops)
        `loops` innermost first, exactly `levels` of them.
    """
    out: list[tuple[int, list[Loop]]] = []
    at = 0
    while at < len(values):
        loops, length = _longest(values[at:], levels)
        out.append((values[at], loops))
        at += length
    return out


def _longest(values: Sequence[int], levels: int) -> tuple[list[Loop], int]:
    """The longest prefix of `values` that `levels` loops can say."""
    loops: list[Loop] = []
    pattern = [values[0]]
    for _ in range(levels):
        size = len(pattern)
        stride = values[size] - values[0] if len(values) > size else 0
        count = 1
        while (count + 1) * size <= len(values) and all(
            values[count * size + i] == pattern[i] + count * stride for i in range(size)
        ):
            count += 1
        loops.append((count, stride if count > 1 else 0))
        pattern = list(values[: count * size])
    return loops, len(pattern)
