"""When the readers of the iact banks send their segments, and when PEs have them."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.tiling import Round
from rowmesh.rtl.codes import Unit
from rowmesh.sim_models.trace_memory import LayerTraffic
from rowmesh.sim_models.trace_program import ProgramTimes
from rowmesh.sim_models.trace_work import BlockTrace, TraceWork

__all__ = ["ReaderTimes"]

Times = NDArray[np.float64]

#: From the descriptor or the tile to the first beat: nest, bank, encoder.
_START = 6.0
#: From the last read of a descriptor to the first of the next, besides its copying.
_SWITCH = 1.0
#: Beats that wait between a reader and a PE, and on every link between clusters.
_WAITING, _LINK = 3.0, 2.0
#: Cycles in which the iact SPad goes on to another row.
_ROW = 2.0
#: Cycles of a router.
_HOP = 1.0


class ReaderTimes:
    """Readers, routers and iact SPads of one layer.

    Parameters
    ----------
    work : TraceWork
    program : ProgramTimes
    traffic : LayerTraffic
        Says when the banks are full.
    shared : sequence of int
        Axes of clusters that have the same reader.
    """

    def __init__(
        self,
        work: TraceWork,
        program: ProgramTimes,
        traffic: LayerTraffic,
        shared: Sequence[int],
    ) -> None:
        self.work, self.program, self.traffic = work, program, traffic
        self.m, self.shared = work.mapping, shared
        shape = work.shape
        self.at = np.zeros(shape[:3])  # the last beat that a reader has sent
        self._ends: list[Times] = []  # of the loads: the banks are free
        self._loads = self._round = 0
        hops = sum((np.indices(shape[:3])[axis] for axis in shared), np.zeros(shape[:3]))
        self._waiting = _WAITING + _LINK * hops
        self._late = _HOP * (1 + hops)
        self._switch = _SWITCH + program.copying(Unit.IACT_READER)
        # By position of the chain: ends of its descriptors; how many were sent in all.
        self._part_ends: list[list[float]] = [[] for _ in range(self.m.depth)]
        self._sent = 0
        self._parts: dict[int, list[tuple[int, int]]] = {}
        # Words of the last segments and when they were freed, newest first; ends of two rows.
        self._depth = work.config.iact_words
        none = [np.zeros(shape)] * (self._depth + 1)
        self._words = deque(none, maxlen=self._depth + 1)
        self._freed = deque(none, maxlen=self._depth + 1)
        self._rows = [np.zeros(shape), np.zeros(shape)]
        self._arrived = np.zeros(shape)

    # -- descriptors ---------------------------------------------------------------------------

    def begin_round(self, tiles: Round) -> None:
        """Plan which descriptor begins with which block, as `LayerSchedule._readers` does."""
        m = self.m
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for load in range(m.loads):
            start = self._first_block(load)
            for position in range(m.depth):
                ends = [start, start]
                for index, items in enumerate(self.traffic.parts(tiles, load, position)):
                    key = (ends[-2], 3 * load + min(index, 2))
                    found.setdefault(key, []).append((ends[-1], position))
                    ends.append(ends[-1] + items)
        self._parts = {}
        for key in sorted(found):
            for block, position in found[key]:
                self._parts.setdefault(block, []).append((position, self._sent))
            self._sent += 1
        self._round += 1

    def _first_block(self, load: int) -> int:
        """Blocks of a round before those of its load."""
        group, fold = divmod(load, self.m.folds)
        size = -(-self.m.passes // self.m.folds)
        return group * self.m.passes + min(self.m.passes, fold * size)

    def begin_block(self, group: int, number: int, now: float) -> None:
        """Take loads and descriptors that begin with this block."""
        m = self.m
        block = group * m.passes + number
        for load in range(m.loads):
            if self._first_block(load) == block:
                self._begin_load((self._round - 1) * m.loads + load, now)
        for position, event in self._parts.get(block, ()):
            self._begin_part(position, event)

    def _begin_load(self, load: int, now: float) -> None:
        """Go on with another load; the one after it is asked for when there is room."""
        slots = self.m.bank_slots
        if load:
            self._ends.append(self.at)
        ahead = min(load + slots, len(self.traffic.rounds) * self.m.loads)
        for number in range(len(self.traffic.loaded), ahead):
            free = self._ends[number - slots] if number >= slots else np.zeros_like(self.at)
            self.traffic.request(number, free, now)
        loaded = self._latest(self.traffic.loaded[load])
        self.at = np.maximum(self.at, loaded + _START)

    def _begin_part(self, position: int, event: int) -> None:
        """Go on with another descriptor."""
        here = self.work.position[..., 0] == position
        ends = self._part_ends[position]
        if ends:
            ends[-1] = float(self.at[here].max())
        ends.append(math.inf)
        place = self.program.places[Unit.IACT_READER][event]
        if len(ends) > 2:
            before = self.program.waits.get(place, 0.0)
            self.program.waits[place] = max(before, ends[-3])
        begin = self.program.at(Unit.IACT_READER, event) + _START
        self.at = np.where(here, np.maximum(self.at, begin) + self._switch, self.at)

    # -- segments ------------------------------------------------------------------------------

    def _latest(self, times: Times) -> Times:
        """Over all clusters that share a reader."""
        for axis in self.shared:
            times = np.broadcast_to(times.max(axis=axis, keepdims=True), times.shape)
        return times

    def arrive(self, block: BlockTrace, row: int, number: int) -> tuple[Times, Times]:
        """When the first and the last word of a segment are in the SPads."""
        words = block.words[..., row, number]
        cycles = block.cycles[..., row, number]
        before = np.cumsum(np.stack(self._words), axis=0)
        freed = np.stack(self._freed)
        # A word may come when all words before those that fit are gone, and one row ahead.
        room = np.where(words + before > self._depth, freed, 0).max(axis=0)
        soon = np.where(1 + before > self._depth, freed, 0).max(axis=0)
        opens = self._rows[1] + _ROW
        if number == 0:
            opens = np.maximum(opens, self._arrived + _ROW)
        room, soon = np.maximum(room, opens), np.maximum(soon, opens)
        wanted = np.where(words > 0, room, 0)
        first, last = np.empty_like(room), np.empty_like(room)
        spatial = self.m.output_cols == 1
        for j in range(self.m.spatial_cols):
            columns = slice(j, j + 1) if spatial else slice(None)
            takes = cycles[..., columns].max(axis=-1)
            begin = self.at
            end = self._latest(wanted[..., columns].max(axis=-1) - self._waiting)
            end = np.maximum(begin + takes, end)
            self.at = np.where(takes > 0, end, begin)
            begin, end = ((times + self._late)[..., None] for times in (begin, end))
            first[..., columns] = np.maximum(begin + 1, soon[..., columns])
            last[..., columns] = np.maximum(end, room[..., columns])
        self._words.appendleft(words.astype(float))
        self._freed.appendleft(np.zeros_like(room))
        self._arrived = last
        return np.minimum(first, last), last

    def free(self, age: int, times: Times) -> None:
        """The segment that came as the last but `age` is not needed any more."""
        self._freed[age] = times

    def end_row(self, times: Times) -> None:
        """A row of windows was read."""
        self._rows = [times, self._rows[0]]
