"""The search for the mapping of a layer with the fewest predicted cycles."""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.mapping import Mapping, Spread
from rowmesh.gen.task import ConvTask
from rowmesh.gen.tile_work import reader_parts
from rowmesh.gen.tiling import phases
from rowmesh.rtl.config import IACT_PAIRS, WORD_BYTES, Config
from rowmesh.sim_models.cycle_model import BlockWords, predicted_cycles, program_words
from rowmesh.sim_models.weight_words import column_words

__all__ = ["best_mapping"]


#: Cycles for tiles of another shape.
_PHASE = 170.0
#: Outputs with padding, over those without.
_MOST_PADDING = 1.25

#: Part of non-zero weights above which coded weights cannot save a cycle worth their bytes.
_FULL = 0.95


class _Blocks:
    """Sizes of a layer's weight blocks: computed once for all mappings with the same blocks."""

    def __init__(self, config: Config, task: ConvTask) -> None:
        self.config, self.task = config, task
        self.words: dict[tuple[int, int, int, bool], NDArray[np.int64]] = {}
        self.known: dict[tuple[int | bool, ...], BlockWords] = {}

    def __call__(self, mapping: Mapping) -> BlockWords:
        """Sizes of the blocks of a mapping."""
        key = (mapping.c0, mapping.s0, mapping.m0, mapping.dense)
        together = (mapping.channels_first, mapping.depth, mapping.output_cols)
        known = self.known.get((*key, *together))
        if known is None:
            if key not in self.words:
                words = column_words(self.config, self.task.weights, key[:3], dense=key[3])
                self.words[key] = words.sum(axis=-1)
            known = self.known[*key, *together] = self._sizes(mapping, self.words[key])
        return known

    def _sizes(self, mapping: Mapping, words: NDArray[np.int64]) -> BlockWords:
        """What `BlockWords` says, from the words of all blocks."""
        order = (0, 1, 2, 3) if mapping.channels_first else (0, 3, 1, 2)
        items = words.transpose(order).reshape(len(words), -1)
        missing = mapping.depth * mapping.passes - items.shape[1]
        items = np.pad(items, ((0, -len(items) % mapping.output_cols), (0, missing)))
        steps = items.reshape(-1, mapping.output_cols, mapping.depth, mapping.passes)
        busiest = steps.max(axis=(1, 2)).mean()
        return BlockWords(int(words.max()), float(words.mean()), float(busiest))


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _paddings(config: Config, task: ConvTask) -> list[int]:
    """Numbers of output words worth a look: as they are, and padded so that more clusters share."""
    words = task.block_words
    if task.blocks > 1:
        return [words]
    sizes = {
        -(-words // (1 << k)) << k for k in range((config.clusters * config.pe_cols).bit_length())
    }
    return sorted(size for size in sizes if size <= words * _MOST_PADDING)


def _encodings(config: Config, task: ConvTask) -> list[bool]:
    """Whether weights may be sent raw, coded, or both are worth a look."""
    if not config.sparse:
        return [True]
    density = np.count_nonzero(task.weights) / task.weights.size
    smaller = density * config.weight_pair_bits > config.weight_bits
    return [False] if not smaller else [True] if density > _FULL else [False, True]


def _candidates(config: Config, task: ConvTask, small: bool) -> Iterator[Mapping]:
    """Every mapping worth a look, before capacities are checked; `small`: the lowest tiles only."""
    for dense in _encodings(config, task):
        yield from _coded_candidates(config, task, small, dense)


def _coded_candidates(
    config: Config, task: ConvTask, small: bool, dense: bool
) -> Iterator[Mapping]:
    """The candidates with weights of one form."""
    _, _, taps, _ = task.weights.shape
    height, width = task.output.height, task.output.width
    parts = [1 << k for k in range(width.bit_length() + 1)] if small else [*range(1, 9), 16]
    widths = sorted({-(-width // n) for n in parts})
    planes = -(-task.channels // WORD_BYTES)
    c_sizes = [c for c in (1, 2, 4, 8) if c <= planes * WORD_BYTES]
    c_sizes += [c for c in range(16, config.weight_addr_depth + 1, 8) if c <= task.channels]
    outputs = [(planes, m) for planes in _paddings(config, task) for m in _divisors(planes)]
    splits = sorted({1, taps} if task.dilation[1] == 1 else {1})
    spreads = [spread for spread in Spread if task.blocks > 1 or spread is not Spread.GROUPS]
    vertical = [Spread.SPACE] if config.cluster_rows == 1 else spreads
    horizontal = [Spread.SPACE] if config.cluster_cols == 1 else spreads
    for c0, s0 in itertools.product(c_sizes, splits):
        if c0 > 1 and c0 // 2 >= task.channels:
            continue
        for (planes, m_words), v, h in itertools.product(outputs, vertical, horizontal):
            if h is Spread.CHAIN:
                continue
            for cols, by_outputs in itertools.product(range(1, config.pe_cols + 1), (False, True)):
                if by_outputs and cols == 1:
                    continue
                top = -(-height // (1 if by_outputs else cols))
                heights = {1} if small else {1, 2, 3, 4, 6, 8, top}
                for rows in sorted(heights):
                    if rows > top:
                        continue
                    for w in widths:
                        for first in (True, False):
                            yield Mapping(
                                config=config,
                                task=task,
                                c0=c0,
                                s0=s0,
                                m0=m_words * task.word_psums,
                                spatial_cols=1 if by_outputs else cols,
                                output_cols=cols if by_outputs else 1,
                                vertical=v,
                                horizontal=h,
                                rows=(rows - 1) * task.pool_stride[0] + task.pool[0],
                                width=(w - 1) * task.pool_stride[1] + task.pool[1],
                                channels_first=first,
                                planes=planes,
                                dense=dense,
                            )


def _fits(mapping: Mapping, words: BlockWords) -> bool:
    """Whether every capacity of the machine is kept, but for that of the iact banks."""
    config = mapping.config
    slots = mapping.output_slots * mapping.output_cols * mapping.m0
    retained = (mapping.segments - 1) * mapping.segment_words
    psums = mapping.rows * mapping.width * mapping.m0
    return (
        mapping.cols <= config.weight_addr_depth
        and mapping.m0 <= config.psum_depth
        and mapping.block_outputs % slots == 0
        and mapping.m0 * mapping.output_cols <= config.param_depth // 2
        and mapping.segments < config.iact_addr_depth
        and retained + 1 <= config.iact_words
        and mapping.cols < 1 << 8
        and words.largest <= config.weight_data_depth
        and psums <= config.glb_psum_count
        and not (mapping.chained and config.pe_rows > config.glb_iact_banks)
    )


def best_mapping(config: Config, task: ConvTask) -> tuple[Mapping, float, str]:
    """The mapping with the fewest predicted cycles.

    Returns
    -------
    mapping, cycles, limit
        The mapping, its predicted cycles and the unit that limits it.

    Raises
    ------
    RowmeshError
        No mapping fits: names the layer and the parameters to change, with what they need.
    """
    blocks = _Blocks(config, task)
    density = task.input.density
    best: tuple[Mapping, float, str] | None = None
    most = math.inf  # cycles of the best, with those of the check of its program
    # Inputs in parts only where nothing else fits: they are loaded again for every output group.
    for small in (False, True):
        for mapping in _candidates(config, task, small):
            if mapping.cols > config.weight_addr_depth or mapping.m0 > config.psum_depth:
                continue
            words = blocks(mapping)
            if not _fits(mapping, words):
                continue
            cycles, limit = predicted_cycles(mapping, words, density, most)
            if cycles >= most:
                continue
            if mapping.tile_words > config.glb_iact_words:
                folded = _fold(mapping) if small else None
                if folded is None:
                    continue
                mapping = folded
            cycles, limit = _cycles(mapping, words)
            with_check = cycles + program_words(mapping, reader_parts(mapping))
            if with_check < most:
                best, most = (mapping, cycles, limit), with_check
        if best is not None:
            return best
    raise RowmeshError(f"layer {task.name}: no tile fits: {_shortage(config, task, blocks)}")


def _cycles(mapping: Mapping, words: BlockWords) -> tuple[float, str]:
    """Predicted cycles, with the schedule of the mapping known; the limiting unit."""
    density, parts = mapping.task.input.density, reader_parts(mapping)
    cycles, limit = predicted_cycles(mapping, words, density, parts=parts)
    return cycles + _PHASE * (len(phases(mapping)) - 1), limit


def _shortage(config: Config, task: ConvTask, blocks: _Blocks) -> str:
    """What to raise so that the smallest tile fits."""
    best: dict[str, int] = {}
    for mapping in _candidates(config, task, small=True):
        if mapping.m0 > task.word_psums or mapping.columns(mapping.spatial_cols) > 1:
            continue
        if mapping.output_slots > 1 or mapping.block_slots > 1 or mapping.chained:
            continue
        words = blocks(mapping)
        needs = {
            "weight_addr_depth": mapping.cols,
            "weight_data_depth": words.largest,
            "iact_addr_depth": mapping.segments + 1,
            "iact_data_depth": IACT_PAIRS * ((mapping.segments - 1) * mapping.segment_words + 1),
            "glb_psum_count": mapping.rows * mapping.width * mapping.m0,
            "glb_iact_bytes": WORD_BYTES
            * dataclasses.replace(mapping, folds=mapping.passes).tile_words,
        }
        short = {name: need for name, need in needs.items() if need > getattr(config, name)}
        if not best or (len(short), sum(short.values())) < (len(best), sum(best.values())):
            best = short
    return ", ".join(
        f"{name} = {getattr(config, name)} must be at least {need}" for name, need in best.items()
    )


def _fold(mapping: Mapping) -> Mapping | None:
    """The mapping in the fewest folds whose tile fits a bank, or None."""
    low, high = 1, mapping.passes  # the tile shrinks with more folds: bisect
    best = None
    while low <= high:
        folds = (low + high) // 2
        trial = dataclasses.replace(mapping, folds=folds)
        if trial.tile_words <= mapping.config.glb_iact_words:
            best, high = trial, folds - 1
        else:
            low = folds + 1
    return best
