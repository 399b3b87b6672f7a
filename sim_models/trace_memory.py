"""What a layer moves to and from DRAM, and when it is there."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Spread
from rowmesh.gen.tile_work import LayerMemory, Place, TileWork
from rowmesh.gen.tiling import Round
from rowmesh.rtl.axi.read_master import OUTSTANDING
from rowmesh.rtl.axi.signatures import MAX_BEATS, beat_bytes
from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.dma.burst_planner import FIFO_BEATS
from rowmesh.rtl.layouts import PARAM_WORDS, RLC_PAIRS, Layouts
from rowmesh.sim_models.trace_link import (
    MEMORY,
    Ahead,
    Link,
    by_master,
    weight_beats,
    weight_size,
    weight_words,
)
from rowmesh.sim_models.trace_order import Demand
from rowmesh.sim_models.trace_params import ParamTimes
from rowmesh.sim_models.trace_program import ProgramTimes
from rowmesh.sim_models.trace_work import BlockTrace, TraceWork

__all__ = ["LayerTraffic"]

Times = NDArray[np.float64]

#: Cycles for which a burst of one beat is open.
_OPEN = 24.0
#: Cycles of the burst planner for a request and its burst.
_REQUEST = 3.0
#: Cycles of an iact loader between two tiles, besides copying its descriptor.
_TILE = 3.0
#: Beats that a weight loader has ahead on the average: its buffer is filled burst by burst.
_WEIGHTS_AHEAD = FIFO_BEATS - MAX_BEATS / 2
#: Part of a master's bandwidth that is reached where nothing else limits a layer: it does not
#: always have a burst open. Measured on fully connected layers.
_REACHED = 0.975
#: Of a master's beats, what is left for iacts in any case.
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
    link : Link
        Shared by all masters, and by the layers of a program.
    params : ParamTimes
        Its first parameters come before all iacts but those of the first tile.

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
        link: Link,
        params: ParamTimes,
    ) -> None:
        self.m, self.c, self.work, self.program = work.mapping, work.config, work, program
        self.link, self.params = link, params
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
        self._slot_bits = Layouts(self.c).tile_bits + 3
        self._lanes = beat_bytes(self.c) // WORD_BYTES
        masters = self.c.axi_masters
        # By master: weights that were used, and those that were brought, by the layer before too.
        self._weight_beats = np.zeros(masters)
        ahead = link.ahead
        self._brought = ahead.weights + ahead.more_weights if ahead else np.zeros(masters)
        asked = np.full(masters, float(program.at(Unit.WEIGHT_LOADER, 0)))
        # The last ones came, as far as its master, and the link, bring them.
        self._weights_at = asked + MEMORY
        self._come = np.full(masters, link.there if ahead else -math.inf)
        # Weights that the routers had sent, and when.
        self._sent: deque[tuple[Times, Times]] = deque([(np.zeros(masters), asked)])
        self._written = self._others = 0.0
        self._instruction = program.sent[0][1]  # read so far
        self._served = np.zeros((self.c.cluster_rows, 1, 1))  # loads so far have come, by master

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
        self._read_program(self.program.places[Unit.IACT_LOADER][load], begin)
        passed = max(1.0, float(asks.max()), now)
        used = np.minimum(_REACHED - _LEAST, self._weight_beats / passed)
        port = self._of_master(by_master(self.c, open_beats) / (_REACHED - used))
        planning = (requests.sum(axis=2) * _REQUEST)[..., None]
        port = np.maximum(port, planning)
        if load == 0:
            late = self.program.asked(Unit.WEIGHT_LOADER) - float(asks.min())
            late += self.program.copying(Unit.WEIGHT_LOADER)
            # Bursts come in order, so a long one holds up all that were asked for behind it.
            port = port + self._first_beats(requests, late)
        # What fits their buffers is there before the bank is free.
        buffers = self._of_master(by_master(self.c, np.where(words > 0, float(FIFO_BEATS), 0.0)))
        first = self._earliest(np.where(words > 0, asks, math.inf)) + MEMORY
        first = np.maximum(first, self._served)
        self._served = first + port.max(axis=(1, 2), keepdims=True)
        there = np.maximum(first + port * self._order(requests), self._move(beats, asks, free))
        if self.m.bank_slots > 1:  # behind what was moved for the work on the tile before
            others = self._weight_beats.sum() + self._written
            lately, self._others = others - self._others, others
            there = np.maximum(there, asks + MEMORY + (beats.sum() + lately) / self.link.rate)
        there = np.maximum(there, free + np.maximum(port - buffers, 0))
        self.loaded.append(np.maximum(there, np.maximum(free, asks + MEMORY) + words))
        self.program.ends[Unit.IACT_LOADER].append(float(self.loaded[-1].max()))
        if load == 0:
            self.params.ready(0)

    def _move(self, beats: Times, asks: Times, free: Times) -> Times:
        """When the link has moved the beats of a load, for every cluster row.

        What fits their buffers comes before the banks are free.
        """
        c = self.c
        come = np.zeros(c.axi_masters)
        grouped = [values.reshape(c.axi_masters, -1) for values in (beats, asks, free)]
        for master, (wanted, asked, room) in enumerate(zip(*grouped, strict=True)):
            mine = wanted > 0
            if not mine.any():
                continue
            begin = float(asked[mine].min()) + MEMORY
            early = float(np.minimum(wanted, FIFO_BEATS).sum())
            come[master] = self.link.read(master, early, begin)
            rest = float(wanted.sum()) - early
            if rest > 0:
                come[master] = self.link.read(master, rest, max(begin, float(room[mine].min())))
        return self._of_master(come)

    def _read_program(self, place: int, at: float) -> None:
        """Move the program up to a descriptor."""
        instruction = self.program.sent[place][1]
        self.link.read(0, (instruction - self._instruction) / self._lanes, at)
        self._instruction = instruction

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
            weight_words(m, block, weight_size(m, block)).sum(axis=-1)
            for _, _, block in self.work.blocks(self.rounds[0])
        ]
        beats_of = weight_beats(m)
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
        beats = desc["words"] / self._lanes
        if desc["compressed"]:
            cycles += rows * desc["words"] * (self._decoding - 1)
            slot = beats * WORD_BYTES / RLC_PAIRS
            if 2 * slot > FIFO_BEATS:  # the next row is asked for when this one has ended
                cycles += rows * MEMORY
            # What is asked for before it is known where a chunk ends is dropped.
            beats = math.ceil(min(slot, beats * self._coded_size + FIFO_BEATS))
        elif rows:
            loops = [(desc["planes"], desc["plane_stride"]), (desc["rows"], desc["row_stride"])]
            beats = touched_beats(self.c, desc["base"], desc["words"], loops) / rows
        # A request is cut where the beats of the longest burst end.
        bursts = 1 + (beats - 1) / MAX_BEATS
        port = max(beats, (bursts * (_OPEN - 1) + beats) / OUTSTANDING)
        return cycles, rows * beats, rows, rows * port

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
        c, m = self.c, self.m
        words = weight_words(m, block, size).sum(axis=-1)
        loaders = np.maximum(1.0, by_master(c, words > 0))
        self._sent.append((self._weight_beats, begin.reshape(c.axi_masters, -1).max(axis=1)))
        beats = by_master(c, words * weight_beats(m))
        self._weight_beats = self._weight_beats + beats
        self._weights_at = self._weights_at + beats / _REACHED
        new = np.maximum(0, self._weight_beats - self._brought)
        # A word is asked for when one of those before it has left the buffer.
        room = self._weight_beats - beats - loaders * _WEIGHTS_AHEAD
        while len(self._sent) > 2 and (self._sent[1][0] <= room).all():
            self._sent.popleft()
        for master in np.flatnonzero(new > 0).tolist():
            sent, times = zip(*((s[master], t[master]) for s, t in self._sent), strict=True)
            asked = float(np.interp(room[master], sent, times)) + MEMORY
            self._come[master] = self.link.read(master, float(new[master]), asked)
        self._brought = self._brought + new
        return self._of_master(np.maximum(self._weights_at, self._come))

    def write(self, tiles: Round, begin: float) -> float:
        """When the link has moved the output words of a group of all clusters."""
        beats = 0.0
        known: dict[tuple[int, int], float] = {}
        slots, outputs = self.work.slot[:, :, 0, 0], self.work.outputs[:, :, 0, 0]
        for y, x in np.ndindex(slots.shape):
            tile = tiles[slots[y, x]]
            if tile is None or (self.m.chained and y):
                continue
            key = (int(slots[y, x]), int(outputs[y, x]))
            if key not in known:
                place = Place(y=y, x=x, slot=key[0], chain=0, outputs=key[1], blocks=0)
                desc = self.tiles.writer(place, tile)
                loops = [(loop["count"], loop["stride"]) for loop in desc["loops"]]
                known[key] = touched_beats(self.c, desc["base"], desc["words"], loops)
            beats += known[key]
        self._written += beats / self.m.groups
        return self.link.write(beats / self.m.groups, begin)

    def read_ahead(self, ahead: Ahead, sent: float) -> None:
        """Move the parameters of the next layer, and weights until the buffers are full.

        Parameters
        ----------
        ahead : Ahead
        sent : float
            When the weight loaders have sent their last block.
        """
        asked = self.program.at(*self.program.last)
        link = self.link
        self._read_program(len(self.program.sent) - 1, asked)
        there = 0.0
        for master in range(self.c.axi_masters):
            there = max(there, link.read(master, float(ahead.params[master]), asked + MEMORY))
            begin = max(asked, sent) + MEMORY
            there = max(there, link.read(master, float(ahead.weights[master]), begin))
        link.ahead, link.there = ahead, there

    def read_more(self, ahead: Ahead, idle: float) -> None:
        """Move the weights that follow when idle PEs have taken some."""
        for master, beats in enumerate(ahead.more_weights):
            come = self.link.read(master, float(beats), idle + MEMORY)
            self.link.there = max(self.link.there, come)

    def demands(self) -> list[Demand]:
        """What every master has moved, and has room for, once all of the layer was asked for."""
        c, m = self.c, self.m
        tiles = len(self.program.places[Unit.POST])
        loaders = np.ones((c.cluster_rows, c.cluster_cols)) * m.pe_rows
        of_iacts = by_master(c, loaders[:, : 1 if 1 in self.shared else None])
        of_weights = by_master(c, loaders[:, : 1 if m.horizontal is Spread.SPACE else None])
        weights = np.minimum(self._weight_beats / tiles, of_weights * FIFO_BEATS)
        others = np.maximum(0, self.link.beats - self._weight_beats)
        held = weights + np.minimum(others / tiles, of_iacts * FIFO_BEATS)
        return [Demand(*pair) for pair in zip(self.link.beats, held, strict=True)]

    def parts(self, tiles: Round, load: int, position: int) -> list[int]:
        """Items of the reader's descriptors for a load of a round, at a position of the chain."""
        tile = next(tile for tile in tiles if tile is not None)
        parts = self.tiles.readers(tile, position, load % self.m.folds, 0)
        return [items for _, items in parts]


def touched_beats(config: Config, base: int, words: int, loops: Sequence[tuple[int, int]]) -> float:
    """Beats of requests of so many words, from the addresses of a loop nest of (count, stride)."""
    starts = np.asarray([base // WORD_BYTES])
    for count, stride in loops:
        starts = (starts[:, None] + np.arange(count) * (stride // WORD_BYTES)).reshape(-1)
    lanes = beat_bytes(config) // WORD_BYTES
    beats = (starts + words - 1) // lanes - starts // lanes + 1
    return float(beats.sum()) if words else 0.0
