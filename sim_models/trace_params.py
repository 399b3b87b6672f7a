"""When the parameters of output channels are there for post-processing."""

from rowmesh.rtl.axi.signatures import beat_bytes
from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import PARAM_WORDS
from rowmesh.sim_models.trace_link import MEMORY, Link
from rowmesh.sim_models.trace_program import ProgramTimes
from rowmesh.sim_models.trace_work import TraceWork

__all__ = ["ParamTimes"]


class ParamTimes:
    """The two halves of the parameter memory, for all clusters alike.

    A chunk is the parameters of some groups of psums: `ParamLoader` takes a word of them a cycle,
    once the half is free and the words have come; post-processing waits for the whole chunk. A
    layer with one chunk loads it once, others load a chunk ahead, as `LayerSchedule._post` does.

    Parameters
    ----------
    work : TraceWork
    program : ProgramTimes
        Knows the ends of post-processing.
    link : Link
    """

    def __init__(self, work: TraceWork, program: ProgramTimes, link: Link) -> None:
        self.program, self.link = program, link
        self._ahead = link.ahead is not None
        m, c = work.mapping, work.config
        self._size = m.param_groups * m.m0 * m.output_cols
        self._channels = m.block_rounds * m.slot_outputs
        self._groups = m.param_groups
        #: Tiles of post-processing and chunks until the parameters begin again.
        self._period = m.block_rounds * m.groups
        self._chunks = -(-self._period // self._groups)
        # Words that come for one of all clusters: in the loader, at a master.
        by_master = c.cluster_cols * (1 if m.chained else c.rows_per_axi_master)
        self._word_beats = by_master * WORD_BYTES / beat_bytes(c)
        self._word = max(1.0, self._word_beats)
        self._masters = range(1 if m.chained else c.axi_masters)
        self._loaded: list[float] = []

    def ready(self, number: int) -> float:
        """When tile `number` of post-processing has its parameters."""
        period, group = divmod(number, self._period)
        chunk = period * self._chunks + group // self._groups if self._chunks > 1 else 0
        while len(self._loaded) <= chunk:
            self._load(len(self._loaded))
        return self._loaded[chunk]

    def _first(self, chunk: int) -> int:
        """The first tile of post-processing that reads a chunk."""
        period, part = divmod(chunk, self._chunks)
        return period * self._period + part * self._groups

    def _load(self, chunk: int) -> None:
        """The next chunk: sent before the first tile of the one before it."""
        program = self.program
        asked = program.asked(Unit.PARAM_LOADER)
        if chunk:
            asked = program.at(Unit.PARAM_LOADER, self._first(chunk - 1) + 1)
        begin = asked + program.copying(Unit.PARAM_LOADER) + MEMORY
        if chunk:
            begin = max(begin, self._loaded[-1] + 1)
        if chunk > 1:  # the half is free
            begin = max(begin, program.ends[Unit.POST][self._first(chunk - 1) - 1])
        channels = min(self._size, self._channels - chunk % self._chunks * self._size)
        words = channels * PARAM_WORDS
        if chunk == 0 and self._ahead:
            come = self.link.there
        else:
            beats = words * self._word_beats
            come = max(self.link.read(master, beats, begin) for master in self._masters)
        self._loaded.append(max(come, begin + words * self._word))
