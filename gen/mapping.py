"""Mapping: how one convolution is spread over PEs, clusters and time.

Levels, outer to inner: DRAM (rounds of tiles), GLB (one tile a cluster), NoC (PE rows, PE columns,
cluster rows, cluster columns), SPad (items: the part of the window that one PE holds at once).
"""

import enum
from dataclasses import dataclass
from functools import cached_property, lru_cache

from rowmesh.gen.task import ConvTask
from rowmesh.rtl.config import IACT_PAIRS, WORD_BYTES, Config

__all__ = ["Item", "Mapping", "Spread"]

#: Planes and filter rows.
Box = tuple[range, range]


class Spread(enum.StrEnum):
    """What a dimension of the cluster mesh is used for."""

    SPACE = "space"  # different output positions; weights shared along a cluster row
    GROUPS = "groups"  # different blocks of groups of channels; nothing is shared
    OUTPUTS = "outputs"  # different output channels; iacts shared
    CHAIN = "chain"  # different parts of the window, summed northwards (cluster rows only)


@dataclass(frozen=True)
class Item:
    """Part of a window for one PE: filter row `r`, columns ``s ..``, channels ``c ..``."""

    r: int
    s: int
    c: int


@lru_cache(4096)
def _items(shape: tuple[int, ...], c0: int, s0: int, channels_first: bool) -> tuple[Item, ...]:
    """Items of a window of shape (R, S, C)."""
    taps, cols, depth = shape
    channels, splits = range(0, depth, c0), range(0, cols, s0)
    if channels_first:
        return tuple(Item(r, s, c) for r in range(taps) for s in splits for c in channels)
    return tuple(Item(r, s, c) for c in channels for r in range(taps) for s in splits)


@lru_cache(4096)
def _boxes(
    shape: tuple[int, ...], c0: int, s0: int, channels_first: bool, depth: int, folds: int
) -> tuple[Box, ...]:
    """Planes and filter rows of every position of a chain and fold, folds innermost."""
    items = _items(shape, c0, s0, channels_first)
    passes = -(-len(items) // depth)
    size = -(-passes // folds)
    top = -(-shape[2] // WORD_BYTES) * WORD_BYTES - 1
    out = []
    for position in range(depth):
        row = items[position * passes : (position + 1) * passes]
        for fold in range(folds):
            used = row[fold * size : (fold + 1) * size] or (Item(0, 0, 0),)
            channels, taps = [item.c for item in used], [item.r for item in used]
            high = min(max(channels) + c0 - 1, top)
            planes = range(min(channels) // WORD_BYTES, high // WORD_BYTES + 1)
            out.append((planes, range(min(taps), max(taps) + 1)))
    return tuple(out)


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """One way to run a task.

    Parameters
    ----------
    config, task
        The machine and the layer.
    c0, s0 : int
        Channels and filter columns of an item (C0, and the part of S).
    m0 : int
        Psums of a position that a PE makes at once (M0), a multiple of `ConvTask.word_psums`.
    spatial_cols, output_cols : int
        PE columns that differ in output rows, or in output channels (one of them is 1).
    vertical, horizontal : Spread
        Use of cluster rows and of cluster columns.
    rows, width : int
        Largest tile of one PE column: rows x columns of the convolution, before pooling.
    channels_first : bool
        Items in the order channels inside filter rows, or the other way round.
    planes : int
        Output words of a position in one block: those of the task, and some of padding behind the
        tensor where that lets more PEs work.
    dense : bool
        Weights lie and travel as raw values: always in a dense machine.
    folds : int
        Parts of the items of a PE whose inputs are in the iact banks at different times.
    """

    config: Config
    task: ConvTask
    c0: int
    s0: int
    m0: int
    spatial_cols: int
    output_cols: int
    vertical: Spread
    horizontal: Spread
    rows: int
    width: int
    channels_first: bool
    planes: int
    dense: bool = False
    folds: int = 1

    # -- the window in a PE --------------------------------------------------------------------

    @property
    def cols(self) -> int:
        """Columns of a weight block, K."""
        return self.c0 * self.s0

    @property
    def segments(self) -> int:
        """Segments of a window, T."""
        return -(-self.s0 // self.task.stride[1])

    @property
    def pixels(self) -> int:
        """Pixels of a segment."""
        return self.s0 if self.segments == 1 else self.task.stride[1]

    @property
    def segment_words(self) -> int:
        """SPad words of a dense segment."""
        return -(-self.c0 * self.pixels // IACT_PAIRS)

    @property
    def items(self) -> tuple[Item, ...]:
        """Parts of the window, in the order in which PEs get them."""
        return _items(self.task.weights.shape[1:], self.c0, self.s0, self.channels_first)

    @cached_property
    def chained(self) -> bool:
        """Whether psums go through all cluster rows."""
        return self.vertical is Spread.CHAIN and self.config.cluster_rows > 1

    @cached_property
    def pe_rows(self) -> int:
        """PE rows of a cluster in use; a chain needs all of them."""
        c = self.config
        return c.pe_rows if self.chained else min(c.pe_rows, c.glb_iact_banks, len(self.items))

    @cached_property
    def depth(self) -> int:
        """PEs that add into one psum at once."""
        return self.pe_rows * (self.config.cluster_rows if self.chained else 1)

    @cached_property
    def passes(self) -> int:
        """Items that one PE handles in turn."""
        return -(-len(self.items) // self.depth)

    def row_items(self, position: int) -> list[Item | None]:
        """Items of the PE at `position` from the top of the chain; None is a dummy of zeros."""
        part: list[Item | None] = list(
            self.items[position * self.passes : (position + 1) * self.passes]
        )
        return part + [None] * (self.passes - len(part))

    def fold_items(self, position: int, fold: int) -> list[Item | None]:
        """The part of `row_items` that meets the tile of one fold."""
        size = -(-self.passes // self.folds)
        return self.row_items(position)[fold * size : (fold + 1) * size]

    # -- output channels -----------------------------------------------------------------------

    def _slots(self, use: Spread) -> int:
        return (self.config.cluster_rows if self.vertical is use else 1) * (
            self.config.cluster_cols if self.horizontal is use else 1
        )

    @property
    def output_slots(self) -> int:
        """Clusters that differ in output channels of a block."""
        return self._slots(Spread.OUTPUTS)

    @property
    def space_slots(self) -> int:
        """Clusters that differ in output positions."""
        return self._slots(Spread.SPACE)

    @property
    def block_slots(self) -> int:
        """Clusters that differ in blocks."""
        return self._slots(Spread.GROUPS)

    @property
    def block_rounds(self) -> int:
        """Blocks that one cluster handles in turn, for the same output positions."""
        return -(-self.task.blocks // self.block_slots)

    def slot_blocks(self, slot: int) -> range:
        """Blocks of one block slot, in their order."""
        return range(slot, self.task.blocks, self.block_slots)

    @property
    def block_outputs(self) -> int:
        """Psums of a position in one block, padding included."""
        return self.planes * self.task.word_psums

    @property
    def slot_outputs(self) -> int:
        """Psums of a position that one cluster makes of a block."""
        return self.block_outputs // self.output_slots

    @property
    def groups(self) -> int:
        """Groups of psums of a block that a cluster handles in turn for one tile."""
        return self.slot_outputs // (self.m0 * self.output_cols)

    @property
    def param_groups(self) -> int:
        """Groups whose parameters are in one half of the parameter memory."""
        half = self.config.param_depth // 2
        return min(self.block_rounds * self.groups, half // (self.m0 * self.output_cols))

    # -- tiles ---------------------------------------------------------------------------------

    def columns(self, spatial: int) -> int:
        """PE columns at work on a tile that has `spatial` columns in space."""
        return spatial if self.output_cols == 1 else self.output_cols

    @property
    def in_pe(self) -> bool:
        """Whether passes accumulate in the PE, because the whole tile fits its psum SPad."""
        psums = self.rows * self.width * self.m0
        return self.passes > 1 and psums <= self.config.psum_depth // 2

    @property
    def single_bank_slot(self) -> bool:
        """Whether a psum tile needs the whole bank."""
        return self.rows * self.width * self.m0 > self.config.glb_psum_count // 2

    @property
    def loads(self) -> int:
        """Tiles that an iact bank gets in a round."""
        return 1 if self.folds == 1 else self.folds * self.groups

    def row_box(self, position: int, fold: int) -> Box:
        """Planes and filter rows that the PE at `position` reads in one fold."""
        return self._boxes[position * self.folds + fold]

    @cached_property
    def _boxes(self) -> tuple[Box, ...]:
        """The `row_box` of every position and fold."""
        return _boxes(
            self.task.weights.shape[1:],
            self.c0,
            self.s0,
            self.channels_first,
            self.depth,
            self.folds,
        )

    def input_rows(self, rows: int, taps: int) -> int:
        """Input rows of a tile of a bank (all spatial PE columns) for `taps` filter rows."""
        stride, dilation = self.task.stride[0], self.task.dilation[0]
        all_rows = (self.spatial_cols - 1) * self.task.pool_step(0, rows) + rows
        return (all_rows - 1) * stride + (taps - 1) * dilation + 1

    def input_width(self, width: int) -> int:
        """Input pixels of a row of a tile."""
        taps = self.task.weights.shape[2]
        return (width - 1) * self.task.stride[1] + (int(taps) - 1) * self.task.dilation[1] + 1

    @cached_property
    def tile_words(self) -> int:
        """Largest tile in an iact bank, 64-bit words."""
        sizes = {(len(planes), len(taps)) for planes, taps in self._boxes}
        most = max(planes * self.input_rows(self.rows, taps) for planes, taps in sizes)
        # The last segment of a row may reach past the window where U does not divide S.
        return most * self.input_width(self.width) + self.task.stride[1] - 1

    @property
    def bank_slots(self) -> int:
        """Tiles that an iact bank holds at once."""
        return 2 if 2 * self.tile_words <= self.config.glb_iact_words else 1

    @property
    def rounds(self) -> int:
        """Rounds of tiles, one tile a slot."""
        task = self.task
        down = -(-task.output.height // (task.pooled(0, self.rows) * self.spatial_cols))
        across = -(-task.output.width // task.pooled(1, self.width))
        return -(-down * across // self.space_slots) * self.block_rounds

    def describe(self) -> str:
        """One line for reports."""
        cols = f"E{self.spatial_cols}" if self.output_cols == 1 else f"M{self.output_cols}"
        return (
            f"C0={self.c0} S0={self.s0} M0={self.m0} rows={self.pe_rows} cols={cols} "
            f"clusters={self.vertical}/{self.horizontal} tile={self.rows}x{self.width} "
            f"passes={self.passes} rounds={self.rounds}"
            + (f" folds={self.folds}" if self.loads > 1 else "")
            + (" raw weights" if self.dense and self.config.sparse else "")
        )
