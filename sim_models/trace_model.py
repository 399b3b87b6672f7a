"""Cycles of a layer for the data of a run: when every PE reads, multiplies and sends its psums.

The formula of `cycle_model` knows mean densities; here the segments, windows and weight blocks of
every PE have the sizes that the data give them, and times follow from each other: a segment is
sent when its reader is ready and all PEs that take it have room, a window is computed when its
segments and its weights are there and a bank of psums is free, psums leave when all PEs of their
chain have theirs. The constants are latencies of the blocks, as they are documented there and
measured on the RTL; none belongs to a network or a configuration.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Mapping, Spread
from rowmesh.gen.tiling import Round
from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import PSUM_LANES
from rowmesh.rtl.control.controller import settle_cycles
from rowmesh.sim_models.trace_link import MEMORY, Ahead, Link, read_ahead, weight_size
from rowmesh.sim_models.trace_memory import LayerTraffic
from rowmesh.sim_models.trace_order import cycles_in_order
from rowmesh.sim_models.trace_params import ParamTimes
from rowmesh.sim_models.trace_program import ProgramTimes
from rowmesh.sim_models.trace_readers import ReaderTimes
from rowmesh.sim_models.trace_work import BlockTrace, TraceWork

__all__ = ["trace_layers"]

Times = NDArray[np.float64]

#: From a pair in the decoder to its first weight word.
_LOOKUP = 2.0
#: From the last weight word of a group to its first psums on the way out.
_DRAIN = 3.0
#: From the last psums on the way out of the PEs to those words of post-processing.
_FULL = 9.0
#: Between two tiles of post-processing.
_POST = 12.0
#: Part of the cycles in which a bank can add at most.
_BUSY = 0.97
#: From the last word of post-processing until the writer takes another descriptor.
_WRITER = 10.0
#: Between two descriptors of a PE.
_PHASE = 5.0
#: Tiles of post-processing that a cluster may be ahead of the last one: a port has the descriptor
#: at work and the next.
_AHEAD = 2
#: From a word of post-processing to its beat on the bus.
_WRITE = 8.0
#: From the last beat to the response of the memory (20 cycles), and to the writer.
_ANSWER = 24.0
#: From the last psum word to the response of the memory (20 cycles), and the end of the wait.
_TAIL = 50.0


class _LayerTrace(NamedTuple):
    """What a layer takes.

    Parameters
    ----------
    cycles : float
    overlap : float
        Cycles of them behind its last descriptor: the next layer's begin to be sent.
    """

    cycles: float
    overlap: float


def trace_layers(
    layers: Iterable[tuple[Mapping, NDArray[np.bool_], Sequence[tuple[Unit, int]]]],
    bytes_per_cycle: float = math.inf,
) -> Iterator[float]:
    """Cycles of layers that follow each other in a program.

    A layer reads weights and parameters of the next one, so each is looked at one ahead.

    Parameters
    ----------
    layers : iterable of (Mapping, ndarray of bool, sequence of (Unit, int))
        Each with where the stored bytes of its input are not zero (see `TraceWork`), and the order
        of its descriptors (see `CompiledLayer`).
    bytes_per_cycle : float
        What the memory moves, over all masters and both directions.
    """
    link: Link | None = None
    overlap = math.inf
    works = ((TraceWork(mapping, filled), filled, sent) for mapping, filled, sent in layers)
    now = next(works, None)
    while now is not None:
        work, filled, sent = now
        now = next(works, None)
        link = link or Link(work.config, bytes_per_cycle)
        layer = _Layer(work, filled, sent, link, overlap)
        trace = layer.run(now and now[0])
        if link.narrow and layer.independent:
            unlimited = Link(work.config, math.inf)
            trace = layer.in_order(trace, _Layer(work, filled, sent, unlimited, overlap).run(None))
        link.end_layer(trace.cycles)
        overlap = trace.overlap
        yield trace.cycles


class _Layer:
    """Times of all units; arrays have the axes cluster row, cluster column, PE row, PE column."""

    def __init__(
        self,
        work: TraceWork,
        filled: NDArray[np.bool_],
        sent: Sequence[tuple[Unit, int]],
        link: Link,
        overlap: float,
    ) -> None:
        self.work = work
        mapping = work.mapping
        self.m, self.c = mapping, work.config
        self.program = ProgramTimes(self.c, sent, overlap)
        uses = (mapping.vertical, mapping.horizontal)
        shared = [axis for axis, use in enumerate(uses) if use is Spread.OUTPUTS]
        self.params = ParamTimes(work, self.program, link)
        self.traffic = LayerTraffic(work, filled, self.program, shared, link, self.params)
        link.ahead = None
        self.readers = ReaderTimes(work, self.program, self.traffic, shared)
        shape = work.shape
        # Of every PE: the last pair read, the last weight word read, ends of the last two drains.
        self.decode, self.mac = np.zeros(shape), np.zeros(shape)
        self.drained = [np.zeros(shape), np.zeros(shape)]
        # Weights: the block was taken, the one before released; words of the one before.
        self.taken, self.released, self.last_load = (np.zeros(shape) for _ in range(3))
        self.weights = np.zeros(shape[:3])  # a router has sent the last block
        # Of every cluster: ends of the last two tiles of post-processing, first psums of a tile.
        self.posted = [np.zeros(shape[:2]), np.zeros(shape[:2])]
        self.tile_begin = np.zeros(shape[:2])
        self.written = 0.0  # the last word is in memory
        y, k = np.indices(shape)[[0, 2]]
        # From the end of a PE's drain to that of the top one: a beat passes a PE a cycle.
        self.below = k + y * (shape[2] + 1) * mapping.chained

    def run(self, following: TraceWork | None) -> _LayerTrace:
        """All blocks of all rounds, in the order of the PEs; then `following` begins."""
        self.following = following if math.isfinite(self.traffic.link.rate) else None
        for index, rounds in enumerate(self.work.phases):
            if index:
                done = np.maximum(self.mac, self.decode).max(axis=(2, 3), keepdims=True)
                self.decode = np.maximum(self.decode, done + _PHASE)
            at = self.program.at(Unit.WEIGHT_LOADER, index)
            if at > 0:  # else they were asked for while the layer before still ran
                self.weights = np.maximum(self.weights, at + MEMORY)
            for tiles in rounds:
                self.readers.begin_round(tiles)
                for group, number, block in self.work.blocks(tiles):
                    self.readers.begin_block(group, number, float(self.weights.max()))
                    self._compute(block, self._load_weights(block), group, number)
                    if number == self.m.passes - 1:
                        self._post(tiles)
                ended = max(float(self.posted[0].max()), self.written - _WRITE)
                self.program.ends[Unit.OUT_WRITER].append(ended + _WRITER)
        answered = self.written + _ANSWER + settle_cycles(self.c)
        cycles = max(float(self.posted[0].max()) + _TAIL, answered)
        return _LayerTrace(cycles, self.program.overlap(cycles))

    @property
    def independent(self) -> bool:
        """Whether masters share nothing but the memory and the program."""
        return self.m.vertical in (Spread.SPACE, Spread.GROUPS)

    def in_order(self, trace: _LayerTrace, unlimited: _LayerTrace) -> _LayerTrace:
        """Where memory answers one master before the other: see `cycles_in_order`.

        Parameters
        ----------
        trace : _LayerTrace
            With all masters alike.
        unlimited : _LayerTrace
            With all the bandwidth that they can use.
        """
        ends = MEMORY + _TAIL
        tiles = len(self.program.places[Unit.POST])
        ordered = ends + cycles_in_order(
            self.traffic.demands(), self.traffic.link.rate, unlimited.cycles - ends, tiles, _AHEAD
        )
        cycles = max(trace.cycles, ordered)
        return _LayerTrace(cycles, self.program.overlap(cycles))

    # -- weights -------------------------------------------------------------------------------

    def _load_weights(self, block: BlockTrace) -> Times:
        """When the block is in the SPads."""
        m, c = self.m, self.c
        size = weight_size(m, block)
        live = block.active.any(axis=-1)
        fetched = self.traffic.weights(block, size, self.weights)
        # Words that find no room beside the block before come when that one is released.
        over = np.maximum(0, self.last_load + block.load - c.weight_data_depth)
        room = np.where(live & (over > 0), self.released + over + 1, 0)
        may_come = np.where(live, self.taken + 1, 0)
        arrived = np.zeros(self.work.shape)
        for columns in self._columns(m.output_cols > 1):
            begin = np.maximum(self.weights, self._router(may_come[..., columns]))
            end = begin + self._router(size[..., columns])
            end = np.maximum(np.maximum(end, self._router(room[..., columns])), fetched)
            self.weights = end + 1
            arrived[..., columns] = end[..., None]
        self.last_load = block.load.astype(float)
        return arrived

    def _columns(self, dealt: bool) -> Iterator[slice]:
        """PE columns that get a block at the same time."""
        if not dealt:
            yield slice(None)
        else:
            yield from (slice(j, j + 1) for j in range(self.work.shape[3]))

    def _router(self, times: Times) -> Times:
        """The latest of the PEs that a weight router serves."""
        latest: Times = times.max(axis=-1)
        if self.m.horizontal is Spread.SPACE:
            latest = np.broadcast_to(latest.max(axis=1, keepdims=True), latest.shape)
        return latest

    # -- PEs -----------------------------------------------------------------------------------

    def _compute(self, block: BlockTrace, arrived: Times, group: int, number: int) -> None:
        """All rows of windows of a block."""
        m = self.m
        rows, windows = block.work.shape[4:6]
        live = block.active.any(axis=-1)
        begun = np.maximum(self.decode, arrived) + 1
        self.decode = np.where(live, begun, self.decode)
        self.taken = np.where(live, begun, self.taken)
        for row in range(rows):
            segments: deque[tuple[Times, Times]] = deque(maxlen=m.segments)
            for last in range(windows + m.segments - 1):
                segments.append(self.readers.arrive(block, row, last))
                window = last - m.segments + 1
                if window < 0:
                    continue
                self._window(block, row, window, segments)
                if not m.in_pe:
                    self._drain(block, row, window, number == 0)
            self.readers.end_row(self.decode)
        if m.in_pe and number == m.passes - 1:
            self._drain(block, rows - 1, windows - 1, True)
        self.released = np.where(live, self.mac, self.released)

    def _window(
        self,
        block: BlockTrace,
        row: int,
        window: int,
        arrived: Sequence[tuple[Times, Times]],
    ) -> None:
        """Read the segments of a window and multiply."""
        m = self.m
        rows, windows = block.work.shape[4:6]
        live = block.active[..., row] & (window < block.windows)
        group = m.m0 * (rows * windows if m.in_pe else 1)
        free = self.drained[1 if group <= self.c.psum_depth // 2 else 0] - 1
        mac = np.maximum(self.mac, np.where(live, free, 0))
        decode = self.decode
        for t, (first, last) in enumerate(arrived):
            entries = block.pairs[..., row, window + t]
            delay = block.delays[..., row, window, t]
            begin = np.maximum(decode, first)
            late = last + 2 - entries % 2  # the last word comes only now
            read = np.maximum(np.maximum(begin + delay[0, 0], mac + delay[0, 1]), late)
            done = np.maximum(begin + delay[1, 0], mac + delay[1, 1])
            working = block.work[..., row, window, t] > 0
            mac = np.where(working, np.maximum(done, late + _LOOKUP), mac)
            decode = np.where(live, read, decode)
            if t == 0 or window == windows - 1:
                self.readers.free(m.segments - 1 - t, decode)
        self.decode = decode
        self.mac = np.where(live, np.maximum(mac, decode + _LOOKUP), self.mac)

    def _drain(self, block: BlockTrace, row: int, window: int, new_tile: bool) -> None:
        """Psums leave when all PEs of the chain have them; a beat passes a PE a cycle."""
        m = self.m
        live = block.active[..., row] & (window < block.windows)
        beats = m.m0 / PSUM_LANES
        if m.in_pe:
            beats *= block.work.shape[4] * block.work.shape[5]
        ready = np.maximum(self.mac + _DRAIN, self.drained[0] + 1) + self.below
        ready = np.where(live, ready, 0)
        begin = ready.max(axis=(0, 2) if m.chained else 2, keepdims=True)
        if new_tile:
            begin = np.maximum(begin, self.posted[not m.single_bank_slot][..., None, None])
            if row == 0 and window == 0:
                self.tile_begin = begin.min(axis=(2, 3))
        end = begin + beats - 1 - self.below
        self.drained = [
            np.where(live, end, self.drained[0]),
            np.where(live, self.drained[0], self.drained[1]),
        ]

    # -- post-processing -----------------------------------------------------------------------

    def _post(self, tiles: Round) -> None:
        """Post-processing of the tiles that are complete."""
        m, task = self.m, self.m.task
        pixels = [
            task.pooled(0, t.rows) * task.pooled(1, t.width) * m.columns(t.cols) if t else 0
            for t in tiles
        ]
        values = np.asarray(pixels)[self.work.slot[:, :, 0, 0]] * m.m0
        words = values / PSUM_LANES * math.prod(task.pool)
        full = self.drained[0].max(axis=(2, 3))
        if m.chained:
            full = np.broadcast_to(full.max(axis=0, keepdims=True), full.shape)
        if m.passes > 1 and not m.in_pe and not m.single_bank_slot:
            words = self._shared_reads(tiles, words, full)
        number = len(self.program.ends[Unit.POST])
        asked = self.program.at(Unit.POST, number) + self.program.copying(Unit.POST)
        asked = max(asked, self.params.ready(number))
        begin = np.maximum(np.maximum(full + _FULL, asked), self.posted[0] + _POST)
        end = np.where(words > 0, begin + words, self.posted[0])
        first = float(begin.min(where=words > 0, initial=math.inf)) + _WRITE
        if self.following and number + 1 == len(self.program.places[Unit.POST]):
            self._end(tiles, first, read_ahead(self.following))
        else:
            self.written = max(self.written, self.traffic.write(tiles, first))
        self.posted = [end, self.posted[0]]
        self.program.ends[Unit.POST].append(float(end.max()))

    def _end(self, tiles: Round, first: float, ahead: Ahead) -> None:
        """The last outputs, from `first` on, and what is read for the next layer beside them.

        Memory answers low masters first, so where they could move more than it does, their PEs are
        idle and take weights of the next layer while others wait for their last iacts.
        """
        idle = float(np.maximum(self.mac, self.decode).max())
        self.traffic.read_ahead(ahead, float(self.weights.max()))
        if self.traffic.link.narrow:
            self.traffic.read_more(ahead, idle)
        self.written = max(self.written, self.traffic.write(tiles, first))
        if not self.traffic.link.narrow:
            self.traffic.read_more(ahead, idle)

    def _shared_reads(self, tiles: Round, words: Times, full: Times) -> Times:
        """Cycles of reading words from banks that receive the next tile: one that adds is not read.

        The first pass of a tile is stored, all others are added.
        """
        m = self.m
        beats = max(t.rows * t.width for t in tiles if t) * m.m0 / PSUM_LANES
        period = np.maximum(full - self.tile_begin, beats * m.passes)
        early = np.minimum(words, period / m.passes)
        late = words - early
        adding = np.minimum(_BUSY, beats * m.passes / period)
        # When the next tile is complete, nothing more is added until this one is gone.
        most = words + beats * (m.passes - 1)
        total: Times = np.minimum(early + late / (1 - adding), most)
        return total
