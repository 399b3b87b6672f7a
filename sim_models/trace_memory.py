"""What a layer moves to and from DRAM, and when it is there."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Spread
from rowmesh.gen.tile_work import LayerMemory, TileWork
from rowmesh.gen.tiling import Round
from rowmesh.rtl.axi.read_master import OUTSTANDING
from rowmesh.rtl.axi.signatures import MAX_BEATS
from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.dma.burst_planner import FIFO_BEATS
from rowmesh.rtl.layouts import PARAM_WORDS, RLC_PAIRS, Layouts
from rowmesh.sim_models.trace_program import ProgramTimes
from rowmesh.sim_models.trace_work import BlockTrace, TraceWork

__all__ = ["MEMORY", "LayerTraffic"]

Times = NDArray[np.float64]

#: From a request to its first word: planner, master, memory (20 cycles), buffer.
MEMORY = 28.0
#: Cycles for which a burst of one beat is open.
_OPEN = 24.0
#: Cycles of the burst planner for a request and its burst.
_REQUEST = 3.0
#: Cycles of an iact loader between two tiles, besides copying its descriptor.
_TILE = 3.0
#: Beats that a weight loader has ahead on the average: its buffer is filled burst by burst.
_WEIGHTS_AHEAD = FIFO_BEATS - MAX_BEATS / 2
#: Part of the bandwidth that is reached where nothing else limits a layer: no master always has
#: a burst open. Measured on fully connected layers.
_REACHED = 0.975
#: Of the bandwidth, what is left for iacts in any case.
_LEAST = 0.1


class LayerTraffic:
    """Loads of iacts and weights of one layer; arrays begin with cluster row, cluster column.

    Weights go before iacts: an iact bank is filled a tile ahead, weights come when they are used.

    Parameters
    ----------
    work : TraceWork
    filled : ndarray of bool
        As in `TraceWork`.
    program : ProgramTimes
    shared : sequence of int
        Axes of clusters whose iacts come from the first of them.
    bytes_per_cycle : float
        What the memory moves, over all masters and both directions.

    Attributes
    ----------
    loaded : list of ndarray, shape (cluster rows, cluster columns, PE rows)
        By load: when it is in the banks.
    """

    def __init__(
        self,
        work: TraceWork,
        filled: NDArray[np.bool_],
        program: ProgramTimes,
        shared: Sequence[int],
        bytes_per_cycle: float,
    ) -> None:
        self.m, self.c, self.work, self.program = work.mapping, work.config, work, program
        task = self.m.task
        self.tiles = TileWork(self.m, LayerMemory(task.input, task.output, task.second, {}, {}))
        self.shared = shared
        self.rounds = [tiles for rounds in work.phases for tiles in rounds]
        self.loaded: list[Times] = []
        planes = filled.reshape(-1, WORD_BYTES, *filled.shape[1:])
        entries = planes.sum(axis=1)
        # Cycles of the run-length decoder for a word, and words in DRAM for one.
        self._decoding = float((entries + ~planes[:, -1]).mean())
        self._coded_size = float(entries.mean()) / RLC_PAIRS
        self._weight_bits = (
            self.c.weight_dense_word_bits if self.m.dense else self.c.weight_word_bits
        )
        self._beat_bytes = self.c.axi_data_bits // 8
        self._slot_bits = Layouts(self.c).tile_bits + 3
        self._lanes = self._beat_bytes / WORD_BYTES
        #: Beats a cycle of all masters.
        self._rate = bytes_per_cycle / self._beat_bytes
        masters = self.c.axi_masters
        self._weight_beats = np.zeros(masters)
        asked = program.at(Unit.WEIGHT_LOADER, 0) + MEMORY
        self._weights_at = np.full(masters, asked)  # the last ones, by master
        # What the masters had brought before a block, and when it was sent.
        self._used: deque[tuple[Times, Times]] = deque()
        self._all_weights_at = asked  # as far as all masters together bring them
        self._written_beats = self._others = 0.0
        self._served = np.zeros((self.c.cluster_rows, 1, 1))  # loads so far have come, by master

    def _by_master(self, values: Times) -> Times:
        """Sums over the clusters of each master; the first axis is the cluster row."""
        total: Times = values.reshape(self.c.axi_masters, -1).sum(axis=1)
        return total

    def _of_master(self, values: Times) -> Times:
        """For every cluster row, that of its master, with axes for columns and PE rows."""
        return np.repeat(values, self.c.rows_per_axi_master)[:, None, None]

    def request(self, load: int, free: Times, now: float) -> None:
        """Find out when a load is in the banks.

        Parameters
        ----------
        load : int
            Its number in the layer; the next one that was not requested.
        free : ndarray
            When the banks have room for it.
        now : float
            Cycles in which the weights so far were moved.
        """
        words, beats, requests, open_beats = self._sizes(load)
        begin = self.program.at(Unit.IACT_LOADER, load)
        before = self.loaded[-1] if self.loaded else np.zeros_like(words)
        asks = np.maximum(begin, before + _TILE) + self.program.copying(Unit.IACT_LOADER)
        if self.m.task.input.compressed:  # the size of a slot is divided out
            asks = asks + self._slot_bits
        passed = max(1.0, float(asks.max()), now)
        others = self._weight_beats.sum() + self._written_beats
        lately, self._others = others - self._others, others
        used = np.minimum(1 - _LEAST, self._weight_beats / passed)
        total = self._by_master(beats)
        if self.m.bank_slots > 1:  # beside the work on the tile before
            share = (total.sum() + lately) / self._rate
        else:
            share = total.sum() / max(self._rate - others / passed, _LEAST * self._rate)
        port = self._of_master(self._by_master(open_beats) / (1 - used))
        planning = (requests.sum(axis=2) * _REQUEST)[..., None]
        port = np.maximum(port, planning)
        if load == 0:
            late = self.program.asked(Unit.WEIGHT_LOADER) - float(asks.min())
            late += self.program.copying(Unit.WEIGHT_LOADER)
            # Bursts come in order, so a long one holds up all that were asked for behind it.
            port = port + self._first_beats(requests, late)
        # What fits their buffers is there before the bank is free.
        buffers = self._of_master(self._by_master(np.where(words > 0, float(FIFO_BEATS), 0.0)))
        first = self._earliest(np.where(words > 0, asks, math.inf)) + MEMORY
        first = np.maximum(first, self._served)
        self._served = first + port.max(axis=(1, 2), keepdims=True)
        there = np.maximum(first + port * self._order(requests), asks + MEMORY + share)
        moving = np.maximum(port, share)
        there = np.maximum(there, free + np.maximum(moving - buffers, 0))
        self.loaded.append(np.maximum(there, np.maximum(free, asks + MEMORY) + words))
        self.program.ends[Unit.IACT_LOADER].append(float(self.loaded[-1].max()))

    def _earliest(self, times: Times) -> Times:
        """The first of each master, for every cluster row."""
        first = times.reshape(self.c.axi_masters, -1).min(axis=1)
        return self._of_master(np.where(np.isfinite(first), first, 0.0))

    def _order(self, requests: Times) -> Times:
        """Part of a load after which the last burst of a bank has come: they take turns."""
        by_master = requests.reshape(self.c.axi_masters, -1)
        asking = by_master > 0
        later: NDArray[np.int64] = np.cumsum(asking[:, ::-1], axis=1)[:, ::-1] - asking
        banks = np.maximum(1, asking.sum(axis=1, keepdims=True))
        part: Times = 1 - later / banks / np.maximum(1, by_master)
        return part.reshape(requests.shape)

    def _first_beats(self, requests: Times, late: float) -> Times:
        """Beats of the first weights and parameters that come before a bank's first tile.

        They are asked for `late` cycles after the tile, or before it: while the layer before still
        ran. Then their bursts go first, else they take turns with it. Weights come until PEs have
        two blocks and the buffers are full. A burst is no longer than its request: a row of iacts,
        the weights for a round.
        """
        m, c = self.m, self.c
        blocks = [
            self._weight_words(block, self.weight_size(block)).sum(axis=-1)
            for _, _, block in self.work.blocks(self.rounds[0])
        ]
        beats_of = self._weight_bits / c.axi_data_bits
        region = np.sum(blocks, axis=0) * beats_of
        two = np.sum(blocks[:2], axis=0) * beats_of
        weights = np.where(two > 0, np.minimum(two + FIFO_BEATS, region * len(self.rounds)), 0)
        channels = min(m.param_groups * m.m0 * m.output_cols, m.slot_outputs)
        params = np.full((c.cluster_rows, 1), c.cluster_cols * channels * PARAM_WORDS / self._lanes)
        busy = max(1, np.count_nonzero(requests) / c.axi_masters)  # banks that ask
        # Beats that the channels need, and those of a burst.
        channels_of: list[tuple[Times, Times]] = [
            (weights, np.minimum(region, MAX_BEATS)),
            (params, np.full_like(params, MAX_BEATS)),
        ]
        out = np.zeros_like(requests)
        for place in np.ndindex(requests.shape):
            turns = max(0.0, float(requests[place]) - max(0.0, late) / _REQUEST / busy)
            first = place[0] // c.rows_per_axi_master * c.rows_per_axi_master
            mine = slice(first, first + c.rows_per_axi_master)
            for need, burst in channels_of:
                out[place] += np.minimum(need, turns * burst)[mine].sum()
        return np.maximum(0, out + min(0.0, late))

    def _sizes(self, load: int) -> tuple[Times, Times, Times, Times]:
        """Of every bank: see `_size`."""
        number, part = divmod(load, self.m.loads)
        out = np.zeros((4, *self.work.shape[:3]))
        known: dict[tuple[int, int], tuple[float, float, float, float]] = {}
        for place in np.ndindex(self.work.shape[:3]):
            tile = self.rounds[number][self.work.slot[*place, 0]]
            if tile is None or any(place[axis] for axis in self.shared):
                continue
            position = int(self.work.position[*place, 0])
            key = (id(tile), position)
            if key not in known:
                desc = self.tiles.loader(tile, position, part % self.m.folds, 0)
                known[key] = self._size(desc)
            out[:, *place] = known[key]
        return out[0], out[1], out[2], out[3]

    def _size(self, desc: dict[str, int]) -> tuple[float, float, float, float]:
        """Of a loader's descriptor: cycles of writing the bank, beats, requests, cycles of a port.

        A port has some bursts open at most, so that short ones take longer than their beats.
        """
        rows = desc["planes"] * desc["rows"]
        line = desc["left"] + desc["words"] + desc["right"]
        cycles: float = desc["planes"] * (desc["top"] + desc["rows"] + desc["bottom"]) * line
        lanes = self._lanes
        beats = desc["words"] / lanes
        if desc["compressed"]:
            cycles += rows * desc["words"] * (self._decoding - 1)
            slot = beats * WORD_BYTES / RLC_PAIRS
            if 2 * slot > FIFO_BEATS:  # the next row is asked for when this one has ended
                cycles += rows * MEMORY
            # What is asked for before it is known where a chunk ends is dropped.
            beats = min(slot, beats * self._coded_size + FIFO_BEATS)
        # A row begins anywhere in a beat.
        beats = 1 + max(0.0, beats - 1 / lanes) if rows > 1 else math.ceil(beats)
        # A request is cut where the beats of the longest burst end.
        bursts = 1 + (beats - 1) / MAX_BEATS
        port = max(beats, (bursts * (_OPEN - 1) + beats) / OUTSTANDING)
        return cycles, rows * beats, rows, rows * port

    def weight_size(self, block: BlockTrace) -> Times:
        """Weight words of a block by PE, addresses included."""
        size = block.load.astype(float)
        return size if self.m.dense else size + -(-self.m.cols // self.c.weight_addrs_per_word)

    def weights(self, block: BlockTrace, size: Times, begin: Times) -> Times:
        """When memory has brought the weights of a block, by PE row of each cluster.

        Parameters
        ----------
        block : BlockTrace
        size : ndarray of int, by PE
            Weight words, addresses included.
        begin : ndarray
            When the routers have sent the block before.
        """
        c = self.c
        moved = self._weight_words(block, size)
        beats = self._by_master(moved * self._weight_bits / c.axi_data_bits) / _REACHED
        self._weight_beats += beats
        used = begin.reshape(c.axi_masters, -1).max(axis=1)
        self._used.append((self._weight_beats.copy(), used))
        ahead = self._by_master(np.where(moved > 0, _WEIGHTS_AHEAD, 0.0))
        # A word is asked for when one of those before it has left the buffer.
        while len(self._used) > 1 and (self._used[0][0] < self._weight_beats - ahead).all():
            self._used.popleft()
        free = np.full(c.axi_masters, -math.inf)
        for total, time in self._used:
            free = np.where(total < self._weight_beats - ahead, time + MEMORY, free)
        self._weights_at = np.maximum(self._weights_at, free) + beats
        self._all_weights_at = max(self._all_weights_at, free.max()) + beats.sum() / self._rate
        return self._of_master(np.maximum(self._weights_at, self._all_weights_at))

    def _weight_words(self, block: BlockTrace, size: Times) -> Times:
        """Words that the loaders send for a block, with the word that says how many they are."""
        moved: Times = (size + 1) * block.active.any(axis=-1)
        if self.m.horizontal is Spread.SPACE:
            moved = moved[:, :1]
        return moved[..., :1] if self.m.output_cols == 1 else moved

    def write(self, words: float) -> None:
        """Output words of all clusters go to memory."""
        self._written_beats += words * WORD_BYTES / self._beat_bytes

    def parts(self, tiles: Round, load: int, position: int) -> list[int]:
        """Items of the reader's descriptors for a load of a round, at a position of the chain."""
        tile = next(tile for tile in tiles if tile is not None)
        parts = self.tiles.readers(tile, position, load % self.m.folds, 0)
        return [items for _, items in parts]
