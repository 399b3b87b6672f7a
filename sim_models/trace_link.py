"""The link to DRAM that all masters share, over the layers of a program."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Mapping, Spread
from rowmesh.rtl.axi.signatures import MAX_BEATS, beat_bytes
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.dma.burst_planner import FIFO_BEATS
from rowmesh.rtl.layouts import PARAM_WORDS
from rowmesh.sim_models.trace_work import BlockTrace, TraceWork

__all__ = [
    "MEMORY",
    "Ahead",
    "Link",
    "by_master",
    "read_ahead",
    "weight_beats",
    "weight_size",
    "weight_words",
]

Times = NDArray[np.float64]

#: From a request to its first word: planner, master, memory (20 cycles), buffer.
MEMORY = 28.0


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a layer reads while the one before it still runs, in beats, by master.

    Parameters
    ----------
    params : ndarray
        The first chunk of parameters.
    weights : ndarray
        Until the buffers of the loaders are full.
    more_weights : ndarray
        What follows when idle PEs have taken what they have room for.
    """

    params: Times
    weights: Times
    more_weights: Times


class Link:
    """What memory moves for all masters, reads and writes, first come, first served.

    Time is cut into pieces in which memory moves one longest burst. What is asked for takes the
    room that is left from then on, so memory rests only while nobody asks. It answers low masters
    first, so what is asked for at the same time is asked for in the order of the masters.

    Parameters
    ----------
    config : Config
    bytes_per_cycle : float
        Over all masters and both directions.

    Attributes
    ----------
    rate : float
        Beats a cycle; infinite if masters cannot use them all.
    narrow : bool
        Masters could move more together than memory does.
    ahead : Ahead, optional
        What was read for the layer that begins.
    there : float
        When the last of it comes, in cycles of that layer.
    beats : ndarray
        Moved in this layer, by master.
    """

    def __init__(self, config: Config, bytes_per_cycle: float) -> None:
        self.rate = bytes_per_cycle / beat_bytes(config)
        if self.rate >= 2 * config.axi_masters:  # all read and write in every cycle
            self.rate = math.inf
        self.ahead: Ahead | None = None
        self.narrow = self.rate < config.axi_masters
        self.there = 0.0
        self.beats = np.zeros(config.axi_masters)
        self._begin = 0.0  # of the layer, since that of the program
        # Beats of every piece of time: of all, read by each master.
        self._moved: list[float] = []
        self._read: list[list[float]] = [[] for _ in range(config.axi_masters)]

    def read(self, master: int, beats: float, at: float) -> float:
        """When a master has read so many beats from `at` on (in the layer): one a cycle at most."""
        self.beats[master] += beats
        return self._move(beats, at, self._read[master])

    def write(self, beats: float, at: float) -> float:
        """When all masters together have written so many beats, from `at` on."""
        self.beats += beats / len(self.beats)
        return self._move(beats, at, None)

    def _move(self, beats: float, at: float, port: list[float] | None) -> float:
        if beats <= 0 or math.isinf(self.rate):
            return at
        most = min(MAX_BEATS, MAX_BEATS / self.rate)  # of a port
        place, passed = divmod(max(0.0, at + self._begin) * self.rate, MAX_BEATS)
        index = int(place)
        while True:
            for pieces in (self._moved, self._moved if port is None else port):
                pieces += [0.0] * (index + 1 - len(pieces))
            begin = max(passed, self._moved[index])
            take = min(beats, MAX_BEATS - begin)
            if port is not None:
                take = min(take, most - max(port[index], passed * most / MAX_BEATS))
            if take > 0:
                self._moved[index] += take
                beats -= take
                end = begin + take
                if port is not None:
                    port[index] += take
                    end = max(end, port[index] * MAX_BEATS / most)
                if beats <= 0:
                    return (index * MAX_BEATS + end) / self.rate - self._begin
            index, passed = index + 1, 0.0

    def end_layer(self, cycles: float) -> None:
        """Another layer begins after so many cycles of this one."""
        self._begin += cycles
        self.beats[:] = 0
        self.there -= cycles


def by_master(config: Config, values: Times) -> Times:
    """Sums over the clusters of each master; the first axis is the cluster row."""
    total: Times = values.reshape(config.axi_masters, -1).sum(axis=1)
    return total


def weight_beats(mapping: Mapping) -> float:
    """Beats of a weight word."""
    c = mapping.config
    bits = c.weight_dense_word_bits if mapping.dense else c.weight_word_bits
    return bits / c.axi_data_bits


def weight_size(mapping: Mapping, block: BlockTrace) -> Times:
    """Weight words of a block by PE, addresses included."""
    size = block.load.astype(float)
    return (
        size if mapping.dense else size + -(-mapping.cols // mapping.config.weight_addrs_per_word)
    )


def weight_words(mapping: Mapping, block: BlockTrace, size: Times) -> Times:
    """Words that the loaders send for a block, with the word that says how many they are."""
    moved: Times = (size + 1) * block.active.any(axis=-1)
    if mapping.horizontal is Spread.SPACE:
        moved = moved[:, :1]
    return moved[..., :1] if mapping.output_cols == 1 else moved


def read_ahead(work: TraceWork) -> Ahead:
    """What a layer reads while the one before it still runs.

    An idle PE takes its first block and as much of the next one as fits beside it. Room in a buffer
    is asked for again when it holds a whole burst.
    """
    m, c = work.mapping, work.config
    total = taken = first = np.asarray(0.0)
    for number, (_, _, block) in enumerate(_all_blocks(work)):
        words = weight_words(m, block, weight_size(m, block))
        if number == 1:
            over = np.maximum(0, first + block.load - c.weight_data_depth)
            words_taken = _until_full(m, words, over)
        else:
            words_taken = words if number == 0 else np.zeros_like(words)
        taken = taken + words_taken.sum(axis=-1)
        total, first = total + words.sum(axis=-1), block.load.astype(float)
        if number and (total - taken >= FIFO_BEATS / weight_beats(m)).all():
            break
    beats = np.ceil(total * weight_beats(m))
    buffered = np.minimum(beats, FIFO_BEATS)
    freed = taken * weight_beats(m) // MAX_BEATS * MAX_BEATS
    params = np.zeros(work.shape[:2])
    channels = min(m.param_groups * m.m0 * m.output_cols, m.block_rounds * m.slot_outputs)
    params[: 1 if m.chained else None] = channels * PARAM_WORDS * WORD_BYTES / beat_bytes(c)
    return Ahead(
        weights=by_master(c, buffered),
        params=by_master(c, params),
        more_weights=by_master(c, np.minimum(beats - buffered, freed)),
    )


def _all_blocks(work: TraceWork) -> Iterator[tuple[int, int, BlockTrace]]:
    for rounds in work.phases:
        for tiles in rounds:
            yield from work.blocks(tiles)


def _until_full(mapping: Mapping, words: Times, over: Times) -> Times:
    """Of a block's words, those that come while PEs have room; columns that are dealt in turn."""
    if mapping.horizontal is Spread.SPACE:
        over = over.max(axis=1, keepdims=True)
    if mapping.output_cols == 1:
        over = over.max(axis=-1, keepdims=True)
    blocked = np.cumsum(over > 0, axis=-1) - (over > 0) > 0
    return np.where(blocked, 0, words - over)
