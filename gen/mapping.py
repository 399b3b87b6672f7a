"""Mapping: how one convolution is spread over PEs, clusters and time; the search for the best one.

Levels, outer to inner: DRAM (rounds of tiles), GLB (one tile a cluster), NoC (PE rows, PE columns,
cluster rows, cluster columns), SPad (items: the part of the window that one PE holds at once).
"""

import enum
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.task import ConvTask
from rowmesh.rtl.config import IACT_PAIRS, PSUM_LANES, WORD_BYTES, Config

__all__ = ["Item", "Mapping", "Spread", "best_mapping"]


class Spread(enum.StrEnum):
    """What a dimension of the cluster mesh is used for."""

    SPACE = "space"  # different output positions; weights shared along a cluster row
    OUTPUTS = "outputs"  # different output channels; iacts shared
    CHAIN = "chain"  # different parts of the window, summed northwards (cluster rows only)


@dataclass(frozen=True)
class Item:
    """Part of a window for one PE: filter row `r`, columns ``s ..``, channels ``c ..``."""

    r: int
    s: int
    c: int


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
        Output channels of a PE at once (M0), a multiple of eight.
    spatial_cols, output_cols : int
        PE columns that differ in output rows, or in output channels (one of them is 1).
    vertical, horizontal : Spread
        Use of cluster rows and of cluster columns.
    rows, width : int
        Largest tile of one PE column: output rows x output columns.
    channels_first : bool
        Items in the order channels inside filter rows, or the other way round.
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

    @cached_property
    def items(self) -> list[Item]:
        """Parts of the window, in the order in which PEs get them."""
        task = self.task
        _, taps, cols, _ = task.weights.shape
        channels = range(0, task.input.channels, self.c0)
        splits = range(0, cols, self.s0)
        if self.channels_first:
            return [Item(r, s, c) for r in range(taps) for s in splits for c in channels]
        return [Item(r, s, c) for c in channels for r in range(taps) for s in splits]

    @property
    def chained(self) -> bool:
        """Whether psums go through all cluster rows."""
        return self.vertical is Spread.CHAIN and self.config.cluster_rows > 1

    @property
    def pe_rows(self) -> int:
        """PE rows of a cluster in use; a chain needs all of them."""
        c = self.config
        return c.pe_rows if self.chained else min(c.pe_rows, c.glb_iact_banks, len(self.items))

    @property
    def depth(self) -> int:
        """PEs that add into one psum at once."""
        return self.pe_rows * (self.config.cluster_rows if self.chained else 1)

    @property
    def passes(self) -> int:
        """Items that one PE handles in turn."""
        return -(-len(self.items) // self.depth)

    def row_items(self, position: int) -> list[Item | None]:
        """Items of the PE at `position` from the top of the chain; None is a dummy of zeros."""
        part: list[Item | None] = list(
            self.items[position * self.passes : (position + 1) * self.passes]
        )
        return part + [None] * (self.passes - len(part))

    # -- output channels -----------------------------------------------------------------------

    @property
    def output_slots(self) -> int:
        """Clusters that differ in output channels."""
        return (self.config.cluster_rows if self.vertical is Spread.OUTPUTS else 1) * (
            self.config.cluster_cols if self.horizontal is Spread.OUTPUTS else 1
        )

    @property
    def space_slots(self) -> int:
        """Clusters that differ in output positions."""
        return (self.config.cluster_rows if self.vertical is Spread.SPACE else 1) * (
            self.config.cluster_cols if self.horizontal is Spread.SPACE else 1
        )

    @property
    def padded_outputs(self) -> int:
        """Output channels, padded to whole words."""
        return self.task.output.planes * WORD_BYTES

    @property
    def slot_outputs(self) -> int:
        """Output channels of one cluster."""
        return self.padded_outputs // self.output_slots

    @property
    def groups(self) -> int:
        """Groups of output channels that a cluster handles in turn for one tile."""
        return self.slot_outputs // (self.m0 * self.output_cols)

    # -- tiles ---------------------------------------------------------------------------------

    @property
    def in_pe(self) -> bool:
        """Whether passes accumulate in the PE, because the whole tile fits its psum SPad."""
        psums = self.rows * self.width * self.m0
        return self.passes > 1 and psums <= self.config.psum_depth // 2

    @property
    def single_bank_slot(self) -> bool:
        """Whether a psum tile needs the whole bank."""
        return self.rows * self.width * self.m0 > self.config.glb_psum_count // 2

    def row_box(self, position: int) -> tuple[range, range]:
        """Planes and filter rows that the PE at `position` reads."""
        used = [item for item in self.row_items(position) if item] or [Item(0, 0, 0)]
        low, high = min(i.c for i in used), max(i.c for i in used) + self.c0 - 1
        high = min(high, self.task.input.planes * WORD_BYTES - 1)
        taps = [i.r for i in used]
        return (
            range(low // WORD_BYTES, high // WORD_BYTES + 1),
            range(min(taps), max(taps) + 1),
        )

    def input_rows(self, rows: int, taps: range) -> int:
        """Input rows of a tile of a bank (all spatial PE columns)."""
        stride, dilation = self.task.stride[0], self.task.dilation[0]
        return (self.spatial_cols * rows - 1) * stride + (len(taps) - 1) * dilation + 1

    def input_width(self, width: int) -> int:
        """Input pixels of a row of a tile."""
        taps = self.task.weights.shape[2]
        return (width - 1) * self.task.stride[1] + (int(taps) - 1) * self.task.dilation[1] + 1

    @cached_property
    def tile_words(self) -> int:
        """Largest tile in an iact bank, 64-bit words."""
        most = 0
        for position in range(self.depth):
            planes, taps = self.row_box(position)
            words = len(planes) * self.input_rows(self.rows, taps) * self.input_width(self.width)
            most = max(most, words)
        # The last segment of a row may reach past the window where U does not divide S.
        return most + self.task.stride[1] - 1

    @property
    def bank_slots(self) -> int:
        """Tiles that an iact bank holds at once."""
        return 2 if 2 * self.tile_words <= self.config.glb_iact_words else 1

    @property
    def rounds(self) -> int:
        """Rounds of tiles, one tile a space slot."""
        height, width = self.task.used_size
        tiles = -(-height // (self.rows * self.spatial_cols)) * -(-width // self.width)
        return -(-tiles // self.space_slots)

    def describe(self) -> str:
        """One line for reports."""
        cols = f"E{self.spatial_cols}" if self.output_cols == 1 else f"M{self.output_cols}"
        return (
            f"C0={self.c0} S0={self.s0} M0={self.m0} rows={self.pe_rows} cols={cols} "
            f"clusters={self.vertical}/{self.horizontal} tile={self.rows}x{self.width} "
            f"passes={self.passes} rounds={self.rounds}"
        )


class _Columns:
    """Weight words of every column of every block, by (c0, s0, m0): computed once each."""

    def __init__(self, config: Config, task: ConvTask) -> None:
        self.config, self.task = config, task
        self.known: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def words(self, c0: int, s0: int, m0: int) -> NDArray[np.int64]:
        """Words of shape (groups of m0, R, S parts, C parts, columns)."""
        key = (c0, s0, m0)
        if key not in self.known:
            weights = self.task.weights
            outputs, taps, cols, channels = weights.shape
            pad = [
                (0, -outputs % m0),
                (0, 0),
                (0, -cols % s0),
                (0, -channels % c0),
            ]
            padded = np.pad(weights != 0, pad)
            shape = (-1, m0, taps, padded.shape[2] // s0, s0, padded.shape[3] // c0, c0)
            split = padded.reshape(shape)
            if self.config.sparse:
                pairs = _pairs(split, self.config.max_run)
            else:
                pairs = np.full((split.shape[0], *split.shape[2:]), m0)
            words = -(-pairs // self.config.macs_per_pe)
            parts = words.transpose(0, 1, 2, 4, 3, 5)
            self.known[key] = parts.reshape(*parts.shape[:4], s0 * c0).astype(np.int64)
        return self.known[key]


def _pairs(filled: NDArray[np.bool_], max_run: int) -> NDArray[np.int64]:
    """(count, value) pairs of columns: axis 1 is the position, True where the value is not zero."""
    index = np.arange(1, filled.shape[1] + 1).reshape(1, -1, *[1] * (filled.ndim - 2))
    before = np.maximum.accumulate(np.where(filled, index, 0), axis=1)
    before = np.concatenate([np.zeros_like(before[:, :1]), before[:, :-1]], axis=1)
    # A run of zeros that one count cannot say takes explicit zeros.
    pairs: NDArray[np.int64] = np.where(filled, 1 + (index - before - 1) // (max_run + 1), 0)
    return pairs.sum(axis=1)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _candidates(config: Config, task: ConvTask) -> Iterator[Mapping]:
    """Every mapping worth a look, before capacities are checked."""
    _, _, taps, _ = task.weights.shape
    planes = task.output.planes
    height, width = task.used_size
    widths = sorted({-(-width // (parts * task.pool[1])) * task.pool[1] for parts in range(1, 9)})
    c_sizes = [c for c in (1, 2, 4, 8) if c <= task.input.planes * WORD_BYTES]
    c_sizes += [c for c in range(16, config.weight_addr_depth + 1, 8) if c <= task.input.channels]
    splits = sorted({1, taps} if task.dilation[1] == 1 else {1})
    vertical = [Spread.SPACE] if config.cluster_rows == 1 else list(Spread)
    horizontal = [Spread.SPACE] if config.cluster_cols == 1 else [Spread.SPACE, Spread.OUTPUTS]
    for c0, s0 in itertools.product(c_sizes, splits):
        if c0 > 1 and c0 // 2 >= task.input.channels:
            continue
        for m_planes, v, h in itertools.product(_divisors(planes), vertical, horizontal):
            for cols, by_outputs in itertools.product(range(1, config.pe_cols + 1), (False, True)):
                if by_outputs and cols == 1:
                    continue
                step = task.pool[0]
                top = -(-height // (step * (1 if by_outputs else cols))) * step
                for rows in sorted({step * k for k in (1, 2, 3, 4, 6, 8)} | {top}):
                    if rows > top:
                        continue
                    for w in widths:
                        for first in (True, False):
                            yield Mapping(
                                config=config,
                                task=task,
                                c0=c0,
                                s0=s0,
                                m0=m_planes * WORD_BYTES,
                                spatial_cols=1 if by_outputs else cols,
                                output_cols=cols if by_outputs else 1,
                                vertical=v,
                                horizontal=h,
                                rows=rows,
                                width=w,
                                channels_first=first,
                            )


def _fits(mapping: Mapping, words: NDArray[np.int64]) -> bool:
    """Whether every capacity of the machine is kept."""
    config = mapping.config
    slots = mapping.output_slots * mapping.output_cols * mapping.m0
    retained = (mapping.segments - 1) * mapping.segment_words
    psums = mapping.rows * mapping.width * mapping.m0
    return (
        mapping.cols <= config.weight_addr_depth
        and mapping.m0 <= config.psum_depth
        and mapping.padded_outputs % slots == 0
        and mapping.slot_outputs <= config.param_depth // 2
        and mapping.segments < config.iact_addr_depth
        and retained + 1 <= config.iact_words
        and mapping.cols < 1 << 8
        and int(words.sum(axis=-1).max()) <= config.weight_data_depth
        and psums <= config.glb_psum_count
        and not (mapping.chained and config.pe_rows > config.glb_iact_banks)
        and mapping.tile_words <= config.glb_iact_words
    )


def predicted_cycles(
    mapping: Mapping, words: NDArray[np.int64], density: float
) -> tuple[float, str]:
    """Cycles of the layer and the limiting unit, by the throughput of every unit.

    Parameters
    ----------
    mapping
        The mapping.
    words : ndarray, shape (groups, R, S parts, C parts, columns)
        Weight words of every column.
    density : float
        Part of the iacts that is not zero.
    """
    config = mapping.config
    windows = mapping.rows * mapping.width
    groups, passes = mapping.groups, mapping.passes
    block_words = words.sum(axis=-1)
    mean_block = float(block_words.mean())
    blocks = groups * passes
    load = mean_block + mapping.cols / max(1, config.weight_addrs_per_word) + 1
    fits_twice = 2 * int(block_words.max()) <= config.weight_data_depth and (
        2 * mapping.cols <= config.weight_addr_depth
    )
    steps = mapping.rows * (mapping.width + mapping.segments - 1)
    lookups = max(1.0, mapping.segment_words * density)
    busiest = float(block_words.mean(axis=0).max())
    compute = windows * (max(busiest * density, lookups * mapping.segments) + 1.0) + (
        0.0 if fits_twice else load
    )
    units = {
        "PE": blocks * compute,
        "iact NoC": blocks
        * steps
        * mapping.spatial_cols
        * max(mapping.pixels * -(-mapping.c0 // WORD_BYTES), lookups),
        "weight NoC": blocks * mapping.output_cols * load,
        "psum NoC": (1 if mapping.in_pe else passes) * groups * windows * mapping.m0 / PSUM_LANES,
        "post": groups
        * windows
        * mapping.m0
        * max(mapping.spatial_cols, mapping.output_cols)
        / PSUM_LANES,
        "DRAM": _dram_words(mapping, blocks, load) * 64 / config.axi_data_bits,
    }
    limit = max(units, key=lambda name: units[name])
    overhead = 60.0
    return mapping.rounds * (units[limit] + overhead) + units["post"] + 300.0, limit


def _dram_words(mapping: Mapping, blocks: int, load: float) -> float:
    """64-bit words that one AXI master moves in a round."""
    config, task = mapping.config, mapping.task
    clusters = config.cluster_cols * config.rows_per_axi_master
    iact_sources = 1 if mapping.horizontal is Spread.OUTPUTS else clusters
    weight_sources = 1 if mapping.horizontal is Spread.SPACE else clusters
    iacts = mapping.pe_rows * mapping.tile_words * iact_sources
    pool = task.pool[0] * task.pool[1]
    outputs = mapping.rows * mapping.width * mapping.spatial_cols * mapping.slot_outputs
    weights = blocks * mapping.output_cols * mapping.pe_rows * load * weight_sources
    return iacts + weights * config.weight_word_bits / 64 + clusters * outputs / (pool * WORD_BYTES)


def best_mapping(config: Config, task: ConvTask) -> tuple[Mapping, float, str]:
    """The mapping with the fewest predicted cycles.

    Returns
    -------
    mapping, cycles, limit
        The mapping, its predicted cycles and the unit that limits it.

    Raises
    ------
    RowmeshError
        No mapping fits: names the layer and the parameters to change.
    """
    columns = _Columns(config, task)
    density = 1.0 if task.input.stored_zero else 0.5
    best: tuple[Mapping, float, str] | None = None
    for mapping in _candidates(config, task):
        if mapping.cols > config.weight_addr_depth or mapping.m0 > config.psum_depth:
            continue
        words = columns.words(mapping.c0, mapping.s0, mapping.m0)
        if not _fits(mapping, words):
            continue
        cycles, limit = predicted_cycles(mapping, words, density)
        if best is None or cycles < best[1]:
            best = (mapping, cycles, limit)
    if best is None:
        raise RowmeshError(
            f"layer {task.name}: no tile fits the configuration {config.cluster_rows}x"
            f"{config.cluster_cols} clusters; raise glb_iact_bytes ({config.glb_iact_bytes}), "
            f"glb_psum_count ({config.glb_psum_count}), weight_data_depth "
            f"({config.weight_data_depth}) or param_depth ({config.param_depth})"
        )
    return best
