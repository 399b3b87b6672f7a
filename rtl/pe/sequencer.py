"""The loops of a PE's descriptor."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.pe.records import Records

__all__ = ["Sequencer"]

#: Loops, innermost first; all but the groups begin again many times.
LOOPS = ("segments", "windows", "rows", "blocks", "groups")


class Sequencer(wiring.Component):
    """Count segments, windows, rows, weight blocks and psum groups as the iacts are read.

    The one place that knows the order of the work: everything behind it follows the markers.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    work : In(Layouts.pe)
        The running descriptor, stable while `running`.
    start : In(1)
        `work` is new.
    running : Out(1)
        From the cycle after `start` until the last segment has been read.
    active : Out(1)
        A weight block is taken: iacts may be read.
    segment_end : In(1)
        The last pair of a segment is read in this cycle (only while `active`).
    lookup_ready : In(1)
        No column of the block before waits for its lookup.
    loaded : In(1)
        The next weight block is in the SPad.
    take, more : Out(1)
        The next weight block becomes the current one; another one will follow it.
    free : Out(1)
        This segment is not needed after this window.
    marker : Out(Records.marker)
        What ends with this segment.
    row_end, final_row : Out(1)
        The row ends with this segment; there is no row after this one.

    Notes
    -----
    All outputs come from counters, but for `take` (`loaded`, `lookup_ready`).
    """

    def __init__(self, config: Config) -> None:
        self.records = records = Records(config)
        super().__init__(
            {
                "work": In(records.layouts.pe),
                "start": In(1),
                "running": Out(1),
                "active": Out(1),
                "segment_end": In(1),
                "lookup_ready": In(1),
                "loaded": In(1),
                "take": Out(1),
                "more": Out(1),
                "free": Out(1),
                "marker": Out(records.marker),
                "row_end": Out(1),
                "final_row": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        work: Any = self.work
        marker: Any = self.marker
        left = {
            name: Signal(work[name].shape(), name=f"{name}_left", reset_less=True) for name in LOOPS
        }
        last = {name: Signal(name=f"last_{name}") for name in LOOPS}
        m.d.comb += [last[name].eq(left[name] == 1) for name in LOOPS]
        oldest = Signal()

        # ends[name]: this segment is the last one of the loop `name`.
        ends: dict[str, Any] = {}
        below: Any = 1
        for name in LOOPS:
            below = below & last[name]
            ends[name] = below
        m.d.comb += [
            marker.window.eq(ends["segments"]),
            marker.block.eq(ends["rows"]),
            marker.drain.eq(ends["segments"] & ((work.blocks == 1) | ends["blocks"])),
            self.free.eq(oldest | last["windows"]),
            self.row_end.eq(ends["windows"]),
            self.final_row.eq(last["rows"] & last["blocks"] & last["groups"]),
            self.take.eq(self.running & ~self.active & self.loaded & self.lookup_ready),
            self.more.eq(~(last["blocks"] & last["groups"])),
        ]

        with m.If(self.take):
            m.d.sync += self.active.eq(1)
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), oldest.eq(1)]
            m.d.sync += [left[name].eq(work[name]) for name in LOOPS]
        with m.Elif(self.segment_end):
            m.d.sync += oldest.eq(ends["segments"])
            with m.If(ends["rows"]):
                m.d.sync += self.active.eq(0)
            with m.If(ends["groups"]):
                m.d.sync += self.running.eq(0)
            inner: Any = 1
            for name in LOOPS:
                with m.If(inner):
                    m.d.sync += left[name].eq(left[name] - 1)
                    if name != "groups":
                        with m.If(last[name]):
                            m.d.sync += left[name].eq(work[name])
                inner = ends[name]
        return m
