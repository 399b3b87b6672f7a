"""Tiles of a layer's output, and the rounds in which the clusters work through them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from rowmesh.gen.mapping import Mapping

__all__ = ["Loop", "Phase", "Round", "Tile", "factor", "phases"]

#: (count, stride) of one level of an affine nest.
Loop = tuple[int, int]
#: Psum groups that one descriptor of a PE counts.
MOST_GROUPS = (1 << 16) - 1


@dataclass(frozen=True)
class Tile:
    """Convolution outputs of one cluster in one round, before pooling.

    Column j of the PEs computes `rows` rows from ``row + j * step`` on (all columns the same rows
    when they differ in output channels). `block`: which part of the channels.
    """

    row: int
    rows: int
    step: int
    cols: int
    left: int
    width: int
    block: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """What descriptors that do not carry addresses depend on."""
        return (self.rows, self.cols, self.width)


#: One tile a slot; None where the slot has nothing to do.
Round = tuple[Tile | None, ...]


@dataclass(frozen=True)
class Phase:
    """Consecutive rounds in which every slot keeps its tile shape; None is an idle slot.

    Slot ``b * space_slots + s`` has the s-th tile in space and the b-th blocks of channels; some
    slots have a block less than others and pause for a round.
    """

    rounds: tuple[Round, ...]

    @property
    def first(self) -> Round:
        """The first tile of every slot."""
        return tuple(
            next((tile for tile in tiles if tile is not None), None)
            for tiles in zip(*self.rounds, strict=True)
        )

    def count(self, slot: int) -> int:
        """Tiles of a slot."""
        return sum(tiles[slot] is not None for tiles in self.rounds)


def _columns(mapping: Mapping) -> list[tuple[int, int]]:
    """Cut the output columns into (start, width), exactly."""
    task = mapping.task
    total, step = task.used_size[1], task.pool_step(1, mapping.width)
    starts = range(0, task.output.width * task.pool_stride[1], step)
    return [(at, min(mapping.width, total - at)) for at in starts]


def _row_tiles(mapping: Mapping) -> list[tuple[int, int, int]]:
    """Cut the output rows into (start, rows a column, columns), exactly."""
    task = mapping.task
    pool, stride = task.pool[0], task.pool_stride[0]
    most = task.pooled(0, mapping.rows)
    out: list[tuple[int, int, int]] = []
    at = 0  # output rows
    while at < task.output.height:
        left = task.output.height - at
        shapes = product(range(1, most + 1), range(1, mapping.spatial_cols + 1))
        rows, cols = max(
            (s for s in shapes if s[0] * s[1] <= left), key=lambda s: (s[0] * s[1], s[1])
        )
        out.append((at * stride, (rows - 1) * stride + pool, cols))
        at += rows * cols
    return out


def phases(mapping: Mapping) -> list[Phase]:
    """All rounds of a mapping, grouped into phases."""
    tiles = [
        Tile(row, rows, mapping.task.pool_step(0, rows), cols, left, width)
        for left, width in _columns(mapping)
        for row, rows, cols in _row_tiles(mapping)
    ]
    # Equal shapes next to each other: fewer phases, and no slot waits for a larger tile.
    tiles.sort(key=lambda tile: (-tile.rows * tile.cols * tile.width, tile.left, tile.row))
    slots = mapping.space_slots
    rounds = [
        tuple(tiles[at + i] if at + i < len(tiles) else None for i in range(slots))
        for at in range(0, len(tiles), slots)
    ]
    per_round = mapping.block_rounds * mapping.groups * max(1, mapping.passes)
    most = max(1, MOST_GROUPS // per_round)
    grouped: list[list[Round]] = []
    shape = None
    for one in rounds:
        this = tuple(tile.shape if tile else None for tile in one)
        if this == shape and len(grouped[-1]) < most:
            grouped[-1].append(one)
        else:
            grouped.append([one])
            shape = this
    return [Phase(_with_blocks(mapping, group)) for group in grouped]


def _with_blocks(mapping: Mapping, rounds: Sequence[Round]) -> tuple[Round, ...]:
    """Every tile once for each block of its slot."""
    out = []
    for tiles in rounds:
        for turn in range(mapping.block_rounds):
            blocks = range(turn * mapping.block_slots, (turn + 1) * mapping.block_slots)
            out.append(
                tuple(
                    replace(tile, block=block) if tile and block < mapping.task.blocks else None
                    for block in blocks
                    for tile in tiles
                )
            )
    return tuple(out)


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
