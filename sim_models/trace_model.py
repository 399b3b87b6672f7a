"""Cycles of a layer for the data of a run: when every PE reads, multiplies and sends its psums.

The formula of `cycle_model` knows mean densities; here the segments, windows and weight blocks of
every PE have the sizes that the data give them, and times follow from each other: a segment is
sent when its reader is ready and all PEs that take it have room, a window is computed when its
segments and its weights are there and a bank of psums is free, psums leave when all PEs of their
chain have theirs. Nothing is fitted: the constants are latencies of the blocks.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Mapping, Spread
from rowmesh.gen.tile_work import LayerMemory, TileWork
from rowmesh.gen.tiling import Tile
from rowmesh.rtl.axi.read_master import OUTSTANDING
from rowmesh.rtl.axi.signatures import MAX_BEATS
from rowmesh.rtl.codes import Unit

from rowmesh.rtl.config import PSUM_LANES, WORD_BYTES
from rowmesh.rtl.dma.burst_planner import FIFO_BEATS
from rowmesh.rtl.layouts import CONFIG_BITS, RLC_PAIRS, Layouts
from rowmesh.sim_models.trace_work import BlockTrace, TraceWork

DEBUG = False
__all__ = ["traced_cycles"]

Times = NDArray[np.float64]

#: From a descriptor of a loader to the first word in a bank: request, burst, memory, buffer.
_MEMORY = 28.0
#: Cycles for which a burst of one beat is open.
_OPEN = 24.0
#: From a reader's start to its first segment; beats that wait between a reader and a PE.
_READER = 6.0
_SLACK = 3.0
#: From the last read of a descriptor to the first of the next, besides its words.
_SWITCH = 4.0
#: A link between clusters.
_HOP = 1.0
#: From a pair in the decoder to its first weight word.
_LOOKUP = 2.0
#: From the last weight word of a group to its first psums on the way out.
_DRAIN = 3.0
#: From the last psums on the way out of the PEs to those words of post-processing.
_FULL = 9.0
#: Between two tiles of post-processing.
_POST = 12.0
#: From the last psum word to the response of the memory, and the end of the wait.
_TAIL = 50.0
#: From the last word of post-processing until the writer takes another descriptor.
_WRITER = 10.0
#: Cycles of the burst planner for a request.
_REQUEST = 3.0
#: Columns between the decoder and the multipliers.
_AHEAD = 3.0


def traced_cycles(
    mapping: Mapping,
    filled: NDArray[np.bool_],
    sent: Sequence[tuple[Unit, int]],
    bytes_per_cycle: float = math.inf,
) -> float:
    """Cycles of a layer.

    Parameters
    ----------
    mapping : Mapping
    filled : ndarray of bool
        As in `TraceWork`.
    sent : sequence of (Unit, int)
        As in `CompiledLayer`.
    bytes_per_cycle : float
        What the memory moves, over all masters and both directions.
    """
    return _Layer(mapping, filled, sent, bytes_per_cycle).run()


class _Program:
    """When descriptors reach their units: one instruction a cycle, in order.

    A port holds the descriptor after the one at work, so that the n-th one waits for the end of
    the (n-2)-th.

    Parameters
    ----------
    sent : sequence of (Unit, int)
        As in `CompiledLayer`.
    """

    def __init__(self, sent: Sequence[tuple[Unit, int]]) -> None:
        self.sent = sent
        self.places: dict[Unit, list[int]] = {}
        for at, (unit, _) in enumerate(sent):
            self.places.setdefault(unit, []).append(at)
        self.times: list[float] = []
        self.slip = 0.0
        #: Ends of the descriptors of a unit, in their order.
        self.ends: dict[Unit, list[float]] = {unit: [] for unit in self.places}
        #: Of those that know it: the descriptor whose end the one at this place waits for.
        self.waits: dict[int, float] = {}

    def at(self, unit: Unit, number: int) -> float:
        """Time at which descriptor `number` of a unit is complete."""
        place = self.places[unit][number]
        while len(self.times) <= place:
            here = len(self.times)
            kind, mark = self.sent[here]
            after = self.waits.get(here, 0.0)
            if kind in (Unit.POST, Unit.OUT_WRITER, Unit.IACT_LOADER):
                index = bisect_left(self.places[kind], here) - 2
                ends = self.ends[kind]
                if 0 <= index < len(ends):
                    after = ends[index]
            time = max(mark + self.slip, after)
            self.slip = time - mark
            self.times.append(time)
        return self.times[place]


def _first_burst(beats: float) -> float:
    """Mean length of the first of the bursts of so many beats, which end where an address does."""
    if beats >= MAX_BEATS:
        return (MAX_BEATS + 1) / 2
    whole = (MAX_BEATS + 1 - beats) / MAX_BEATS
    return whole * beats + (1 - whole) * beats / 2


class _Layer:
    """Times of all units; arrays have the axes cluster row, cluster column, PE row, PE column."""

    def __init__(
        self,
        mapping: Mapping,
        filled: NDArray[np.bool_],
        sent: Sequence[tuple[Unit, int]],
        bytes_per_cycle: float,
    ) -> None:
        self.m, self.c = mapping, mapping.config
        self.work = work = TraceWork(mapping, filled)
        task = mapping.task
        self.tiles = TileWork(mapping, LayerMemory(task.input, task.output, task.second, {}, {}))
        self.program = _Program(sent)
        shape = work.shape
        planes = filled.reshape(-1, WORD_BYTES, *filled.shape[1:])
        entries = planes.sum(axis=1)
        #: Cycles of the run-length decoder for a word, and words in DRAM for one.
        self.coded = float((entries + ~planes[:, -1]).mean())
        self.coded_size = float(entries.mean()) / RLC_PAIRS
        self.decode, self.mac = np.zeros(shape), np.zeros(shape)
        self.drained = [np.zeros(shape), np.zeros(shape)]  # ends of the last drains, newest first
        self.row_done = [np.zeros(shape), np.zeros(shape)]
        self.taken, self.released = np.zeros(shape), np.zeros(shape)
        self.last_load = np.zeros(shape)
        self.weights = np.zeros(shape[:3])  # a router has sent a block
        self.fetched = np.full(shape[0], -1e9)  # weights from memory, by cluster row
        self.fetched_all = -1e9
        self.weight_beats = np.zeros(shape[0])
        self.written = 0.0  # beats
        #: Beats a cycle of all masters, reads and writes.
        self.rate = bytes_per_cycle * 8 / self.c.axi_data_bits
        depth = self.c.iact_words
        self.stored = deque([np.zeros(shape)] * (depth + 1), maxlen=depth + 1)
        self.freed = deque([np.zeros(shape)] * (depth + 1), maxlen=depth + 1)
        self.reader = np.zeros(shape[:3])
        self.posted: list[Times] = [np.zeros(shape[:2]), np.zeros(shape[:2])]
        self.last_group = np.zeros(shape[:2])
        self.loaded: list[Times] = []
        self.read: list[Times] = []
        self.loads = 0
        y, x = np.indices(shape[:2])
        hops = np.zeros(shape[:2])
        self.shared: list[int] = []
        if mapping.vertical is Spread.OUTPUTS:
            hops = hops + y
            self.shared.append(0)
        if mapping.horizontal is Spread.OUTPUTS:
            hops = hops + x
            self.shared.append(1)
        self.hops = hops[..., None]
        k = np.arange(shape[2])[:, None]
        self.depth = k + (y * (shape[2] + 1))[..., None, None] * mapping.chained
        self.readers_sent = 0
        self.switch = self.copying(Unit.IACT_READER) + _SWITCH
        self.part_ends: list[list[float]] = [[] for _ in range(mapping.depth)]
        self.part_begun = [0] * mapping.depth

    # -- the order of the work -----------------------------------------------------------------

    def run(self) -> float:
        m = self.m
        number = 0
        queue = [tiles for rounds in self.work.phases for tiles in rounds]
        self._request(queue, 0)
        for index, rounds in enumerate(self.work.phases):
            if index:
                self._barrier()
            at = self.program.at(Unit.WEIGHT_LOADER, index)
            if at > 0:  # else while the layer before still ran
                self.weights = np.maximum(self.weights, at + _MEMORY)
            for tiles in rounds:
                size = -(-m.passes // m.folds)
                self._plan_readers(tiles)
                for group, number_pass, block in self.work.blocks(tiles):
                    load = number * m.loads + (
                        group * m.folds + number_pass // size if m.folds > 1 else 0
                    )
                    if load >= self.loads:
                        self._begin_load(queue, load)
                    self._next_parts(group * m.passes + number_pass)
                    self._load_weights(block)
                    last = number_pass == m.passes - 1
                    self._compute(block, first=number_pass == 0, last=last)
                    if last:
                        self._post(tiles)
                self.program.ends[Unit.OUT_WRITER].append(float(self.posted[0].max()) + _WRITER)
                number += 1
        self.read.append(self.reader)
        return float(self.posted[0].max()) + _TAIL

    def copying(self, unit: Unit) -> int:
        """Cycles in which a descriptor is copied, a word each, when the one before is done."""
        return -(-Layouts(self.c).descriptor(unit).size // CONFIG_BITS)

    def _barrier(self) -> None:
        """Another phase begins in a cluster when all of its PEs are done."""
        done = np.maximum(self.mac, self.decode).max(axis=(2, 3), keepdims=True) + 5
        self.decode = np.maximum(self.decode, done)

    # -- iacts ---------------------------------------------------------------------------------

    def _spread(self, times: Times) -> Times:
        """The latest over all clusters that share a reader."""
        for axis in self.shared:
            times = np.broadcast_to(times.max(axis=axis, keepdims=True), times.shape)
        return times

    def _request(self, queue: list[tuple[Tile | None, ...]], load: int) -> None:
        """When load `load` of the layer is in the banks."""
        m, c = self.m, self.c
        if load >= len(queue) * m.loads:
            return
        number, part = divmod(load, m.loads)
        tiles = queue[number]
        shape = self.work.shape
        own = np.zeros(shape[:3])
        beats = np.zeros(shape[0])
        requests = np.zeros(shape[:2])
        lanes = c.axi_data_bits // 64
        known: dict[tuple[int, int], tuple[float, float, float]] = {}
        for y, x, k in np.ndindex(shape[:3]):
            tile = tiles[self.work.slot[y, x, k, 0]]
            if tile is None or any((y, x)[axis] for axis in self.shared):
                continue
            position = int(self.work.position[y, x, k, 0])
            key = (id(tile), position)
            if key not in known:
                d = self.tiles.loader(tile, position, part % m.folds, 0)
                line = d["left"] + d["words"] + d["right"]
                rows = d["planes"] * d["rows"]
                cost = d["planes"] * (d["top"] + d["rows"] + d["bottom"]) * line
                size = d["words"] / lanes
                if d["compressed"]:
                    cost += rows * d["words"] * (self.coded - 1)
                    slot = size * WORD_BYTES / RLC_PAIRS
                    if slot > FIFO_BEATS:
                        cost += rows * _MEMORY
                    # The first burst is asked for before it is known where the chunk ends.
                    size = max(size * self.coded_size + 1, _first_burst(slot))
                size = math.ceil(size + (0.5 if rows > 1 and lanes > 1 else 0))
                known[key] = (cost, rows * max(size, _OPEN / OUTSTANDING), rows)
            words, moved, asks = known[key]
            own[y, x, k] = words
            beats[y] += moved
            requests[y, x] += asks
        begin = self.program.at(Unit.IACT_LOADER, load)
        slots = m.bank_slots
        free = self.read[load - slots] if load >= slots else np.zeros(shape[:3])
        before = self.loaded[-1] if self.loaded else np.zeros(shape[:3])
        asks = np.maximum(begin, before) + self.copying(Unit.IACT_LOADER)
        now = max(1.0, float(asks.max()), float(self.weights.max()))
        used = np.minimum(0.9, self.weight_beats / now)
        all_used = (self.weight_beats.sum() + self.written) / now
        share = beats.sum() / max(self.rate - all_used, 0.1 * self.rate)
        moving = np.maximum(beats / (1 - used), share)[:, None, None]
        asked = (requests * _REQUEST)[..., None]
        if DEBUG: print("   req", load, "own", own.max(), "beats", beats[:2], "used", used[:1], "share", share, "moving", moving.max(), "asked", asked.max(), "asks", asks.max(), "written", self.written)
        # What fits their buffers is there before the bank is free.
        buffers = FIFO_BEATS * np.count_nonzero(own, axis=(1, 2))[:, None, None]
        there = asks + _MEMORY + np.maximum(moving, asked)
        there = np.maximum(there, free + np.maximum(moving - buffers, 0))
        self.loaded.append(np.maximum(there, np.maximum(free, asks + _MEMORY) + own))
        self.program.ends[Unit.IACT_LOADER].append(float(self.loaded[-1].max()))

    def _begin_load(self, queue: list[tuple[Tile | None, ...]], load: int) -> None:
        """The readers go on with another load; the one after it is asked for."""
        if load:
            self.read.append(self.reader)
        self.loads = load + 1
        if len(self.loaded) <= load:
            self._request(queue, load)
        self.reader = np.maximum(self.reader, self.loaded[load] + _READER)
        if self.m.bank_slots > 1:
            self._request(queue, load + 1)

    def _plan_readers(self, tiles: tuple[Tile | None, ...]) -> None:
        """Where in a round the readers take another descriptor: see `LayerSchedule._readers`."""
        m = self.m
        size = -(-m.passes // m.folds)
        tile = next(tile for tile in tiles if tile is not None)
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for load in range(m.loads):
            group, fold = divmod(load, m.folds)
            start = group * m.passes + min(m.passes, fold * size)
            for position in range(m.depth):
                ends = [start, start]
                parts = self.tiles.readers(tile, position, load % m.folds, 0)
                for index, (_, items) in enumerate(parts):
                    key = (ends[-2], 3 * load + min(index, 2))
                    found.setdefault(key, []).append((ends[-1], position))
                    ends.append(ends[-1] + items)
        self.parts: dict[int, list[tuple[int, int]]] = {}
        for key in sorted(found):
            for item, position in found[key]:
                self.parts.setdefault(item, []).append((position, self.readers_sent))
                count = self.part_ends[position]
                count.append(math.inf)
            self.readers_sent += 1

    def _next_parts(self, item: int) -> None:
        """Readers whose next descriptor begins with this item of the round."""
        for position, event in self.parts.get(item, ()):
            ends = self.part_ends[position]
            mask = self.work.position[..., 0] == position
            now = float(self.reader[mask].max())
            number = self.part_begun[position]
            if number:
                ends[number - 1] = now
            self.part_begun[position] += 1
            place = self.program.places[Unit.IACT_READER][event]
            if number >= 2 and place >= len(self.program.times):
                self.program.waits[place] = max(
                    self.program.waits.get(place, 0.0), ends[number - 2]
                )
            at = self.program.at(Unit.IACT_READER, event)
            ready = np.maximum(self.reader, at + _READER) + self.switch
            self.reader = np.where(mask, ready, self.reader)

    def _arrive(self, block: BlockTrace, row: int, q: int) -> tuple[Times, Times]:
        """First and last word of a segment of all PEs: when they are in the SPads."""
        words = block.words[..., row, q].astype(float)
        cycles = block.cycles[..., row, q]
        total = np.cumsum(np.stack(self.stored), axis=0)
        free = np.stack(self.freed)
        depth = self.c.iact_words
        # A word may come when all words before those that fit are gone.
        room = np.where(words + total > depth, free, 0).max(axis=0)
        soon = np.where(1 + total > depth, free, 0).max(axis=0)
        ahead = self.row_done[1] + 1
        room, soon = np.maximum(room, ahead), np.maximum(soon, ahead)
        slack = _SLACK + 2 * self.hops
        first, last = np.empty_like(room), np.empty_like(room)
        slots = range(self.m.spatial_cols) if self.m.output_cols == 1 else [slice(None)]
        for j in slots:
            there = words[..., j] > 0
            wait = np.where(there, room[..., j], 0)
            wait = wait if isinstance(j, int) else wait.max(axis=-1)
            busy = cycles[..., j] if isinstance(j, int) else cycles[..., j].max(axis=-1)
            begin = self.reader
            end = np.maximum(begin + busy, self._spread(wait - slack))
            self.reader = np.where(busy > 0, end, begin)
            late = _HOP * (1 + self.hops)
            if not isinstance(j, int):
                begin, end, late = begin[..., None], end[..., None], late[..., None]
            first[..., j] = np.maximum(begin + 1 + late, soon[..., j])
            last[..., j] = np.maximum(end + late, room[..., j])
        self.stored.appendleft(words)
        self.freed.appendleft(np.zeros_like(words))
        return np.minimum(first, last), last

    # -- weights -------------------------------------------------------------------------------

    def _load_weights(self, block: BlockTrace) -> None:
        """When the block is in the SPads."""
        m, c = self.m, self.c
        header = 0 if m.dense else -(-m.cols // max(1, c.weight_addrs_per_word))
        size = block.load + header
        there = block.active.any(axis=-1)
        shared = m.horizontal is Spread.SPACE
        bits = c.weight_dense_word_bits if m.dense else c.weight_word_bits
        sent = size[:, :1] if shared else size
        moved = (sent if m.output_cols > 1 else sent[..., :1]) + 1
        moved = moved * there[:, : moved.shape[1], :, : moved.shape[3]]
        beats = moved.sum(axis=(1, 2, 3)) * bits / c.axi_data_bits
        self.fetched = np.maximum(self.fetched, self.weights.max(axis=(1, 2)) - 60) + beats
        self.fetched_all = max(self.fetched_all, self.weights.max() - 60) + beats.sum() / self.rate
        self.weight_beats += beats
        over = np.maximum(0, self.last_load + block.load - c.weight_data_depth)
        room = np.where(over > 0, self.released + over + 1, 0)
        self.arrived = np.zeros(self.work.shape)
        for j in range(m.output_cols) if m.output_cols > 1 else [slice(None)]:
            def all_of(times: Times) -> Times:
                times = times[..., j] if isinstance(j, int) else times.max(axis=-1)
                if shared:
                    times = np.broadcast_to(times.max(axis=1, keepdims=True), times.shape)
                return times
            begin = np.maximum(self.weights, all_of(np.where(there, self.taken + 1, 0)))
            end = np.maximum(begin + all_of(size), all_of(np.where(there, room, 0)))
            end = np.maximum(end, np.maximum(self.fetched, self.fetched_all)[:, None, None])
            self.weights = end + 1
            self.arrived[..., j] = end if isinstance(j, int) else end[..., None]
        self.last_load = block.load

    # -- PEs -----------------------------------------------------------------------------------

    def _compute(self, block: BlockTrace, *, first: bool, last: bool) -> None:
        """All rows of windows of a block."""
        m = self.m
        rows, windows = block.work.shape[4:6]
        mean = _AHEAD * block.load / np.maximum(1, block.columns) - 1
        begun = np.maximum(self.decode + 1, self.arrived + 1)
        any_row = block.active.any(axis=-1)
        self.decode = np.where(any_row, begun, self.decode)
        self.taken = np.where(any_row, begun, self.taken)
        self.new_tile = first
        for row in range(rows):
            arrived: deque[tuple[Times, Times]] = deque(maxlen=m.segments)
            for q in range(windows + m.segments - 1):
                arrived.append(self._arrive(block, row, q))
                if q >= m.segments - 1:
                    self._window(block, row, q - m.segments + 1, arrived, mean, q)
                    if not m.in_pe or (last and row == rows - 1 and q == windows + m.segments - 2):
                        self._drain(block, row, q - m.segments + 1)
            self.row_done = [self.decode, self.row_done[0]]
        self.released = np.where(any_row, self.mac, self.released)

    def _window(
        self,
        block: BlockTrace,
        row: int,
        window: int,
        arrived: Sequence[tuple[Times, Times]],
        mean: Times,
        q: int,
    ) -> None:
        """Read the segments of a window and multiply."""
        m = self.m
        live = block.active[..., row] & (window < block.windows)
        group = m.m0 * (block.work.shape[4] * block.work.shape[5] if m.in_pe else 1)
        free = self.drained[1 if group <= self.c.psum_depth // 2 else 0] - 1
        mac = np.maximum(self.mac, np.where(live, free, 0))
        decode = self.decode
        for t in range(m.segments):
            entries = block.pairs[..., row, window + t]
            work = block.work[..., row, window, t]
            begin = np.maximum(decode, arrived[t][0])
            dropped = block.beyond[..., row, window] if t == m.segments - 1 else 0
            read = np.maximum(begin + entries, arrived[t][1] + 2 - entries % 2) - dropped
            done = np.maximum(mac, begin + _LOOKUP) + work
            mac = np.where(work > 0, np.maximum(done, read + _LOOKUP), mac)
            decode = np.where(live, np.maximum(read, mac - mean) + dropped, decode)
            if t == 0 or window == block.work.shape[5] - 1:
                self.freed[m.segments - 1 - t] = decode
        self.decode = decode
        self.mac = np.where(live, np.maximum(mac, decode + _LOOKUP), self.mac)

    def _drain(self, block: BlockTrace, row: int, window: int) -> None:
        """Psums leave when all PEs of the chain have them."""
        m = self.m
        live = block.active[..., row] & (window < block.windows)
        beats = m.m0 / PSUM_LANES
        if m.in_pe:
            beats *= block.work.shape[4] * block.work.shape[5]
        axes = (0, 2) if m.chained else (2,)
        ready = np.where(live, np.maximum(self.mac + _DRAIN, self.drained[0] + 1), 0)
        ready = ready + self.depth  # a beat passes a PE a cycle
        begin = ready.max(axis=axes, keepdims=True)
        if self.new_tile:
            slot = self.posted[0 if m.single_bank_slot else 1][..., None, None]
            begin = np.maximum(begin, slot)
        end = begin + beats - 1 - self.depth
        self.drained = [
            np.where(live, end, self.drained[0]),
            np.where(live, self.drained[0], self.drained[1]),
        ]

    def _post(self, tiles: tuple[Tile | None, ...]) -> None:
        """Post-processing of a finished group."""
        m, task = self.m, self.m.task
        sizes = [
            task.pooled(0, tile.rows) * task.pooled(1, tile.width) * m.columns(tile.cols)
            if tile
            else 0
            for tile in tiles
        ]
        words = np.asarray(sizes)[self.work.slot[:, :, 0, 0]] * math.prod(task.pool) * m.m0 / 2
        outputs = words.sum() / math.prod(task.pool) * PSUM_LANES / task.word_psums
        self.written += outputs * WORD_BYTES * 8 / self.c.axi_data_bits
        full = self.drained[0].max(axis=(2, 3))
        if m.chained:
            full = np.broadcast_to(full.max(axis=0, keepdims=True), full.shape)
        adding: Times | float = 0.0
        if m.passes > 1 and not m.in_pe:
            # A bank that adds cannot be read.
            largest = max((t.rows * t.width for t in tiles if t), default=0) * m.m0 / PSUM_LANES
            period = np.maximum(np.maximum(full - self.last_group, words), 1.0)
            adding = np.minimum(1.0, largest * (m.passes - 1) / period)
        self.last_group = full
        asked = self.program.at(Unit.POST, len(self.program.ends[Unit.POST]))
        asked += self.copying(Unit.POST)
        begin = np.maximum(np.maximum(full + _FULL, asked), self.posted[0] + _POST)
        end = np.where(words > 0, begin + words * (1 + adding), self.posted[0])
        self.posted = [end, self.posted[0]]
        self.program.ends[Unit.POST].append(float(end.max()))
