"""The processing element."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.codes import ACTIVITY_BITS, FAULT_BITS, Activity, Fault
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.noc.hop import connect_deep
from rowmesh.rtl.noc.stage import Stage
from rowmesh.rtl.pe.drain import Drain
from rowmesh.rtl.pe.iact_decode import IactDecode
from rowmesh.rtl.pe.iact_spad import IactSpad
from rowmesh.rtl.pe.mac import Mac
from rowmesh.rtl.pe.operand_spad import OperandSpad
from rowmesh.rtl.pe.psum_spad import PsumSpad
from rowmesh.rtl.pe.records import Records
from rowmesh.rtl.pe.sequencer import Sequencer
from rowmesh.rtl.pe.weight_fetch import WeightFetch
from rowmesh.rtl.pe.weight_spad import WeightSpad

__all__ = ["Pe"]


class Pe(wiring.Component):
    """Sparse multiply-accumulate of sliding windows of iacts with columns of weights.

    ::

        iact -> IactSpad -> IactDecode -> WeightSpad -> WeightFetch -> Mac -> PsumSpad -> Drain
                                     ^                                     ^-- psum_in

    For each non-zero iact its column of weights, `macs_per_pe` weights a cycle, into the psums of
    the window. Everything before the multipliers runs ahead of them; the ends of windows, psum
    groups and weight blocks travel with the iacts, so nothing stops between them. The next
    descriptor is taken when the products of the last one are on their way; its drain may go on.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    desc : In(stream of Layouts.pe)
        Work; no count is zero. ``segments * segment_cols`` reaches `cols`, and
        ``(segments - 1) * segment_cols`` does not.
    iact, weight, psum_in : In(stream)
        Segments, blocks, psums of the PE below (taken only with `chain`).
    psum_out : Out(stream)
        Psums, two a beat.
    iact_source : Out
        `iact_source` of the running descriptor.
    busy : Out(1)
        A descriptor runs or its psums have not left.
    activity : Out
        `Activity` of this cycle.
    macs : Out
        Multipliers with two non-zero operands in this cycle.
    fault : Out
        A `Fault` for at least one cycle, or 0. What the PE computes after a fault is undefined, but
        it writes to none of its memories out of range; a reset brings it back.

    Notes
    -----
    One weight word a cycle; 6 cycles from an iact to its psum, 8 to `psum_out`, and 3 more with
    `config.deep_pipeline`, which cuts the paths from the lookup to the words, from the words to the
    multipliers (also that of ready) and from the products to the psums. All outputs come from
    registers through at most a few gates; the only combinational path through the PE is
    `psum_out.ready` to `psum_in.ready`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.records = Records(config)
        layouts = self.records.layouts
        psum = stream.Signature(layouts.psum_beat)
        super().__init__(
            {
                "desc": In(stream.Signature(layouts.pe)),
                "iact": In(stream.Signature(layouts.iact_beat)),
                "weight": In(stream.Signature(layouts.weight_beat)),
                "psum_in": In(psum),
                "psum_out": Out(psum),
                "iact_source": Out(layouts.pe["iact_source"].shape),
                "busy": Out(1),
                "activity": Out(ACTIVITY_BITS),
                "macs": Out(bits_for(config.macs_per_pe)),
                "fault": Out(FAULT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        m.submodules.sequencer = sequencer = Sequencer(c)
        m.submodules.operand_spad = operands = OperandSpad(c)
        m.submodules.iact_spad = iact_spad = IactSpad(c)
        m.submodules.iact_decode = decode = IactDecode(c)
        m.submodules.weight_spad = weight_spad = WeightSpad(c)
        m.submodules.weight_fetch = fetch = WeightFetch(c)
        m.submodules.mac = mac = Mac(c)
        m.submodules.psum_spad = psum_spad = PsumSpad(c)
        m.submodules.drain = drain = Drain(c)

        connect(m, iact_spad.write, operands.iact_write)
        connect(m, iact_spad.read, operands.iact_read)
        if c.sparse:
            connect(m, weight_spad.ends_write, operands.ends_write)
            for ends, port in zip(weight_spad.ends_read, operands.ends_read, strict=True):
                connect(m, ends, port)
        connect(m, flipped(self.iact), iact_spad.iact)
        connect(m, flipped(self.weight), weight_spad.weight)
        connect(m, decode.o, weight_spad.i)
        waiting: Any = decode.o.valid | fetch.busy | mac.busy
        waiting = waiting | connect_deep(m, c.deep_pipeline, "word", fetch.o, mac.i)
        if c.deep_pipeline:
            m.submodules.column = column = Stage(self.records.column)
            connect(m, weight_spad.o, column.i)
            connect(m, column.o, fetch.i)
            m.d.sync += weight_spad.release.eq(fetch.release)
            waiting = waiting | column.o.valid
        else:
            connect(m, weight_spad.o, fetch.i)
            m.d.comb += weight_spad.release.eq(fetch.release)
        connect(m, flipped(self.psum_in), drain.psum_in)
        connect(m, drain.psum_out, flipped(self.psum_out))
        m.d.comb += [
            sequencer.segment_end.eq(decode.segment_end),
            sequencer.lookup_ready.eq(weight_spad.lookup_ready),
            sequencer.loaded.eq(weight_spad.loaded),
            weight_spad.take.eq(sequencer.take),
            weight_spad.more.eq(sequencer.more),
            weight_spad.address.eq(fetch.address),
            fetch.word.eq(weight_spad.word),
            iact_spad.running.eq(sequencer.running),
            iact_spad.row_done.eq(decode.segment_end & sequencer.row_end),
            iact_spad.final_row.eq(sequencer.final_row),
            iact_spad.step.eq(decode.step),
            iact_spad.free.eq(sequencer.free),
            iact_spad.rewind.eq(decode.segment_end & sequencer.marker.window),
            decode.active.eq(sequencer.active),
            decode.marker.eq(sequencer.marker),
            decode.valid.eq(iact_spad.valid),
            decode.word.eq(iact_spad.word),
            mac.full.eq(drain.full),
            psum_spad.i.eq(mac.o),
            psum_spad.pair.eq(drain.pair),
            psum_spad.take.eq(drain.take),
            drain.finish.eq(mac.finish),
            drain.psums.eq(psum_spad.psums),
        ]
        units: list[Any] = [iact_spad, decode, weight_spad, mac]
        work = self.build_work(m, sequencer, waiting, drain)
        m.d.comb += sequencer.work.eq(work)
        for unit in units:
            m.d.comb += [unit.work.eq(work), unit.start.eq(sequencer.start)]
        self.build_status(m, sequencer, mac, drain)
        self.build_fault(m, decode, weight_spad, mac, psum_spad, drain)
        return m

    def build_work(self, m: Module, sequencer: Any, waiting: Any, drain: Any) -> Signal:
        """Begin a descriptor when the one before has been computed; take it at its end."""
        desc: Any = self.desc
        begun = Signal()
        self.computing = Signal()
        m.d.comb += [
            # The first group begins in the lower bank, and could reach into the upper one.
            sequencer.start.eq(desc.valid & ~begun & ~drain.full[1]),
            self.computing.eq(begun),
            desc.ready.eq(begun & ~sequencer.running & ~waiting),
            self.iact_source.eq(desc.payload.iact_source),
        ]
        with m.If(sequencer.start):
            m.d.sync += begun.eq(1)
        with m.If(desc.ready):
            m.d.sync += begun.eq(0)
        work: Signal = desc.payload
        return work

    def build_status(self, m: Module, sequencer: Any, mac: Any, drain: Any) -> None:
        """Say what this cycle is spent on."""
        m.d.comb += [self.busy.eq(self.computing | drain.busy), self.macs.eq(mac.macs)]
        with m.If(~self.busy):
            m.d.comb += self.activity.eq(Activity.IDLE)
        with m.Elif(mac.compute):
            m.d.comb += self.activity.eq(Activity.COMPUTE)
        with m.Elif(mac.blocked):
            m.d.comb += self.activity.eq(Activity.PSUM_STALL)
        with m.Elif(~sequencer.running):
            m.d.comb += self.activity.eq(Activity.DONE)
        with m.Elif(~sequencer.active):
            m.d.comb += self.activity.eq(Activity.WEIGHT_STALL)
        with m.Else():
            m.d.comb += self.activity.eq(Activity.IACT_STALL)

    def build_fault(
        self, m: Module, decode: Any, weight_spad: Any, mac: Any, psum_spad: Any, drain: Any
    ) -> None:
        """Report the fault of this cycle in the next one."""
        m.d.sync += self.fault.eq(Fault.NONE)
        with m.If(weight_spad.fault | mac.fault):
            m.d.sync += self.fault.eq(Fault.WEIGHT_FORMAT)
        with m.If(decode.fault):
            m.d.sync += self.fault.eq(Fault.IACT_FORMAT)
        with m.If(psum_spad.overflow | drain.overflow):
            m.d.sync += self.fault.eq(Fault.PSUM_OVERFLOW)
