"""Fetch a program, check it, execute it, and stop cleanly whatever happens."""

import enum
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC  # type: ignore[import-untyped]
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.codes import FAULT_BITS, Fault, Opcode
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.control.config_issue import ConfigIssue
from rowmesh.rtl.control.header import HeaderCheck
from rowmesh.rtl.control.registers import HEADER_WORDS, LAYER_BITS, State
from rowmesh.rtl.layouts import ADDRESS_BITS, WORD_BITS, Layouts
from rowmesh.rtl.noc.hop import Hop
from rowmesh.rtl.pe.activity_counters import slots

__all__ = ["Controller", "settle_cycles"]


def settle_cycles(config: Config) -> int:
    """Cycles in which a word passes the configuration tree and its effect comes back."""
    return config.cluster_rows + config.cluster_cols + 8


class Phase(enum.IntEnum):
    """What the controller does."""

    READY = 0
    LAUNCH = 1
    HEADER = 2  # take the header
    CHECK = 3  # first pass: CRC
    VERIFY = 4
    RUN = 5  # second pass: execute
    WAITING = 6
    PAUSED = 7
    ENDING = 8
    DRAIN = 9  # words behind END
    STOP = 10  # until the bus masters are quiet
    FLUSH = 11  # reset the array, masters still stopped
    FAULTED = 12
    RESET = 13  # reset the array, masters free again
    RECOVER = 14


class Controller(wiring.Component):
    """Execute the program at `program_address`: `HeaderCheck`, then `Layouts.instruction`s.

    The program is read twice: the first pass only computes its CRC, so that nothing of a damaged
    one is executed. The first fault, of the program or of the machine, stops the masters, waits
    until they are quiet, then keeps the array in reset until a soft reset or the next start.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    start, soft_reset, resume : In(1)
        Commands, one cycle long. A start counts when idle, done, faulted, or during a soft reset
        (it then follows the reset). A soft reset counts at any time.
    single_step : In(1)
        Pause before every LAYER but the first, until `resume`.
    program_address, program_words : In
        Taken with the start and with the header.
    state : Out(5)
        One bit of `State`. FAULT is said only when the masters are quiet.
    events : Out(struct of done, fault, paused)
        Pulses.
    fault_code, fault_layer, fault_index, layer : Out
        First fault, and the layer and instruction (from 0) that it met. Kept until the next
        start or soft reset.
    cycles : Out(64)
        Cycles with `count_enable` of this run.
    request : Out(stream of `Layouts.dma_request`), data : In(stream of 64)
        A `ReadChannels`, which `array_reset` resets.
    config_o : Out(stream of `Layouts.config_write`)
        Root of the configuration tree.
    fault : In(`Fault`)
        Fault of any unit or master in this cycle, else 0.
    array_busy, writers_busy : In(1)
        WAIT and END go on when the flag has been low for `settle_cycles` without a break.
    quiet : In(1)
        No master has anything open; read once `stop` is `settle_cycles` old.
    stop, array_reset : Out(1)
        To the masters; to the array and all DMA channels. `array_reset` begins later and ends
        later, so that masters never see a channel at work beside `stop`.
    count_enable : Out(1)
        High while running and not paused.
    count_clear : Out(1)
        Before that: high as long as it takes to clear the counters of a PE one by one.

    Notes
    -----
    One instruction a cycle, a STEP in two. `request`, `config_o`, `stop`, `array_reset` come from
    registers; a `Hop` cuts `data`. A run begins `launch_cycles` after `start`, from FAULT
    `2 * settle_cycles` later.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layouts = layouts = Layouts(config)
        self.settle = settle_cycles(config)
        self.launch_cycles = slots(config.macs_per_pe)
        request: Any = layouts.dma_request
        self.word_bits = request["words"].width
        super().__init__(
            {
                "start": In(1),
                "soft_reset": In(1),
                "resume": In(1),
                "single_step": In(1),
                "program_address": In(ADDRESS_BITS),
                "program_words": In(self.word_bits),
                "state": Out(len(State)),
                "events": Out(data.StructLayout({"done": 1, "fault": 1, "paused": 1})),
                "fault_code": Out(FAULT_BITS),
                "fault_layer": Out(LAYER_BITS),
                "fault_index": Out(self.word_bits),
                "layer": Out(LAYER_BITS),
                "cycles": Out(64),
                "request": Out(stream.Signature(layouts.dma_request)),
                "data": In(stream.Signature(WORD_BITS)),
                "config_o": Out(stream.Signature(layouts.config_write)),
                "fault": In(FAULT_BITS),
                "array_busy": In(1),
                "writers_busy": In(1),
                "quiet": In(1),
                "stop": Out(1),
                "array_reset": Out(1),
                "count_enable": Out(1),
                "count_clear": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._to_idle = Signal()  # a soft reset: what comes after the stop
        self._again = Signal()  # and start then
        self.phase = Signal(Phase)
        self.timer = Signal(range(max(self.settle, self.launch_cycles) + 1))
        self.left = Signal(self.word_bits)  # words of the request not yet taken
        self.index = Signal(self.word_bits)  # words taken of it
        self.problem = Signal(FAULT_BITS)  # of the program, in this cycle
        self.take = Signal()
        self.finished = Signal()
        self.first = Signal()  # no LAYER yet
        self.resumed = Signal()  # the next LAYER does not pause
        m.submodules.hop = hop = ResetInserter(self.array_reset)(Hop(WORD_BITS))
        connect(m, flipped(self.data), hop.i)
        self.word = hop.o.payload
        self.has_word = hop.o.valid
        m.d.comb += hop.o.ready.eq(self.take)
        m.submodules.crc = self.crc = CRC32_ISO_HDLC(WORD_BITS).create()
        self.header = HeaderCheck(self.config, self.word_bits)
        m.submodules.header = self.header
        m.submodules.issue = self.issue = ConfigIssue(self.config)
        connect(m, self.issue.o, flipped(self.config_o))
        m.d.comb += [
            self.header.number.eq(self.index),
            self.header.word.eq(self.word),
            self.header.limit.eq(self.program_words),
            self.issue.i.payload.eq(self.word),
            self.issue.clear.eq(self.phase == Phase.LAUNCH),
            self.issue.flush.eq(self.phase == Phase.FLUSH),
            self.crc.start.eq(self.phase != Phase.CHECK),
            self.crc.data.eq(self.word),
        ]

        with m.If(self.timer != 0):
            m.d.sync += self.timer.eq(self.timer - 1)
        with m.If(self.take):
            m.d.sync += [self.left.eq(self.left - 1), self.index.eq(self.index + 1)]
        with m.If(self.request.ready):
            m.d.sync += self.request.valid.eq(0)
        m.d.sync += self.events.eq(0)
        with m.Switch(self.phase):
            self._fetch(m)
            self._execute(m)
            self._recover(m)
        self._interrupt(m)
        self._report(m)
        return m

    def _ask(self, m: Module, address: Any, words: Any) -> None:
        """Request words of the program."""
        payload: Any = self.request.payload
        m.d.sync += [
            self.request.valid.eq(1),
            payload.address.eq(address),
            payload.words.eq(words),
            self.left.eq(words),
            self.index.eq(0),
        ]

    # -- header and first pass -----------------------------------------------------------------

    def _fetch(self, m: Module) -> None:
        asked: Any = self.request.payload
        with m.Case(Phase.READY), m.If(self.start):
            m.d.sync += [self.phase.eq(Phase.LAUNCH), self.timer.eq(self.launch_cycles)]
        with m.Case(Phase.LAUNCH):
            self._clear(m)
            m.d.sync += [
                self.cycles.eq(0),
                self.layer.eq(0),
                self.first.eq(1),
                self.resumed.eq(0),
            ]
            with m.If(self.timer == 0):
                m.d.sync += self.count_enable.eq(1)
                with m.If(self.program_words < HEADER_WORDS):
                    m.d.comb += self.problem.eq(Fault.PROGRAM_LENGTH)
                with m.Else():
                    self._ask(m, Cat(Const(0, 3), self.program_address[3:]), HEADER_WORDS)
                    m.d.sync += self.phase.eq(Phase.HEADER)
        with m.Case(Phase.HEADER):
            m.d.comb += [
                self.take.eq(self.has_word),
                self.header.take.eq(self.has_word),
                self.problem.eq(self.header.problem),
            ]
            with m.If(self.has_word & (self.left == 1)):
                body = asked.address + HEADER_WORDS * WORD_BYTES
                self._ask(m, body, self.header.count)
                m.d.sync += self.phase.eq(Phase.CHECK)
        with m.Case(Phase.CHECK):
            m.d.comb += [self.take.eq(self.has_word), self.crc.valid.eq(self.has_word)]
            with m.If(self.has_word & (self.left == 1)):
                m.d.sync += self.phase.eq(Phase.VERIFY)
        with m.Case(Phase.VERIFY):
            self._ask(m, asked.address, asked.words)
            m.d.sync += self.phase.eq(Phase.RUN)
            with m.If(self.crc.crc != self.header.crc):
                m.d.comb += self.problem.eq(Fault.PROGRAM_CRC)

    # -- second pass ---------------------------------------------------------------------------

    def _execute(self, m: Module) -> None:
        with m.Case(Phase.RUN):
            with m.If(self.left == 0):
                m.d.comb += self.problem.eq(Fault.PROGRAM_LENGTH)  # no END
            with m.Elif(self.has_word):
                self._instruction(m)
        with m.Case(Phase.WAITING):
            with m.If(self.writers_busy | self.config_o.valid):
                m.d.sync += self.timer.eq(self.settle)
            with m.Elif(self.timer == 0):
                m.d.comb += self.take.eq(1)
                m.d.sync += self.phase.eq(Phase.RUN)
        with m.Case(Phase.PAUSED), m.If(self.resume):
            m.d.sync += [
                self.phase.eq(Phase.RUN),
                self.resumed.eq(1),
                self.count_enable.eq(1),
            ]
        with m.Case(Phase.ENDING):
            with m.If(self.array_busy | self.config_o.valid):
                m.d.sync += self.timer.eq(self.settle)
            with m.Elif(self.timer == 0):
                m.d.sync += self.phase.eq(Phase.DRAIN)
        with m.Case(Phase.DRAIN):
            m.d.comb += self.take.eq(self.has_word)
            with m.If(self.left == 0):
                m.d.sync += [
                    self.phase.eq(Phase.READY),
                    self.finished.eq(1),
                    self.events.done.eq(1),
                    self.count_enable.eq(0),
                ]

    def _instruction(self, m: Module) -> None:
        """Execute one instruction, or begin to."""
        word: Any = self.layouts.instruction(self.word)
        m.d.comb += self.take.eq(1)
        with m.Switch(word.opcode):
            with m.Case(Opcode.WAIT):
                m.d.comb += self.take.eq(0)
                m.d.sync += [self.phase.eq(Phase.WAITING), self.timer.eq(self.settle)]
            with m.Case(Opcode.LAYER):
                with m.If(self.single_step & ~self.first & ~self.resumed):
                    m.d.comb += self.take.eq(0)
                    m.d.sync += [
                        self.phase.eq(Phase.PAUSED),
                        self.events.paused.eq(1),
                        self.count_enable.eq(0),
                    ]
                with m.Else():
                    m.d.sync += [
                        self.layer.eq(word.data),
                        self.first.eq(0),
                        self.resumed.eq(0),
                    ]
            with m.Case(Opcode.END):
                m.d.comb += self.take.eq(0)
                m.d.sync += [self.phase.eq(Phase.ENDING), self.timer.eq(self.settle)]
            with m.Default():
                m.d.comb += self.take.eq(self.issue.i.ready)
                with m.If(self.issue.refused):
                    m.d.comb += self.problem.eq(Fault.PROGRAM_OPCODE)
                with m.Else():
                    m.d.comb += self.issue.i.valid.eq(1)

    # -- faults and soft resets ----------------------------------------------------------------

    def _clear(self, m: Module) -> None:
        m.d.sync += [
            self.fault_code.eq(0),
            self.fault_layer.eq(0),
            self.fault_index.eq(0),
            self.finished.eq(0),
        ]

    def _recover(self, m: Module) -> None:
        """Phases that follow each other after a stop."""
        with m.Case(Phase.STOP), m.If((self.timer == 0) & self.quiet):
            m.d.sync += [self.phase.eq(Phase.FLUSH), self.timer.eq(self.settle)]
        with m.Case(Phase.FLUSH):
            m.d.sync += self.request.valid.eq(0)
            with m.If(self.timer == 0):
                with m.If(self._to_idle | self.soft_reset):
                    m.d.sync += [self.phase.eq(Phase.RESET), self.timer.eq(self.settle)]
                with m.Else():
                    m.d.sync += [self.phase.eq(Phase.FAULTED), self.events.fault.eq(1)]
        with m.Case(Phase.FAULTED), m.If(self.start):
            self._clear(m)
            m.d.sync += [
                self._to_idle.eq(1),
                self._again.eq(1),
                self.phase.eq(Phase.RESET),
                self.timer.eq(self.settle),
            ]
        with m.Case(Phase.RESET), m.If(self.timer == 0):
            m.d.sync += [self.phase.eq(Phase.RECOVER), self.timer.eq(self.settle)]
        with m.Case(Phase.RECOVER), m.If(self.timer == 0):
            m.d.sync += [
                self.phase.eq(Mux(self._again | self.start, Phase.LAUNCH, Phase.READY)),
                self.timer.eq(self.launch_cycles),
            ]

    def _interrupt(self, m: Module) -> None:
        """Faults, then soft resets: they win against whatever the phase decided."""
        cause = Mux(self.fault != 0, self.fault, self.problem)
        running = (self.phase > Phase.READY) & (self.phase < Phase.STOP)
        executes = self.phase >= Phase.RUN
        stops = Signal()
        with m.If(running & (cause != 0)):
            m.d.comb += stops.eq(1)
            m.d.sync += [
                self.fault_code.eq(cause),
                self.fault_layer.eq(Mux(executes, self.layer, 0)),
                self.fault_index.eq(Mux(executes, self.index, 0)),
                self._to_idle.eq(0),
            ]
        with m.If(self.start & self._to_idle & (self.phase >= Phase.STOP)):
            m.d.sync += self._again.eq(1)
        with m.If(self.soft_reset):
            self._clear(m)
            m.d.sync += [self._to_idle.eq(1), self._again.eq(self.start)]
            with m.If((self.phase < Phase.STOP) | (self.phase == Phase.RECOVER)):
                m.d.comb += stops.eq(1)
            with m.Elif(self.phase >= Phase.FAULTED):
                m.d.sync += [self.phase.eq(Phase.RESET), self.timer.eq(self.settle)]
        with m.If(stops):
            m.d.sync += [
                self.phase.eq(Phase.STOP),
                self.timer.eq(self.settle),
                self.count_enable.eq(0),
                self.events.eq(0),
            ]

    def _report(self, m: Module) -> None:
        phase = self.phase
        with m.If(self.count_enable):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        m.d.comb += self.count_clear.eq(phase == Phase.LAUNCH)
        m.d.sync += [
            self.stop.eq((phase >= Phase.STOP) & (phase <= Phase.FAULTED)),
            self.array_reset.eq((phase >= Phase.FLUSH) & (phase <= Phase.RESET)),
        ]
        bits = {
            State.IDLE: (phase == Phase.READY) & ~self.finished,
            State.DONE: (phase == Phase.READY) & self.finished,
            State.PAUSED: phase == Phase.PAUSED,
            State.FAULT: phase == Phase.FAULTED,
        }
        for bit, value in bits.items():
            m.d.comb += self.state[bit].eq(value)
        m.d.comb += self.state[State.RUNNING].eq(~Cat(bits.values()).any())
