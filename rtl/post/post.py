"""Post-processing: from finished psums in the banks to words of the output tensor."""

from typing import Any

from amaranth.hdl import Array as Choice
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import PSUM_LANES, Config
from rowmesh.rtl.control.agu import Agu
from rowmesh.rtl.layouts import WORD_BITS, Layouts
from rowmesh.rtl.noc.hop import connect_deep
from rowmesh.rtl.noc.queue import Queue
from rowmesh.rtl.noc.skid import Skid
from rowmesh.rtl.post.param_memory import ParamMemory, param_entry
from rowmesh.rtl.post.pool import Pool
from rowmesh.rtl.post.requantize import Requantize, requantize_latency

__all__ = ["Post"]


class Post(wiring.Component):
    """Read psums by a loop nest, requantize, pool and pack them to output words.

    For each of `tiles` tiles: wait until all banks of the mask `banks` are full, walk the nest over
    psum words and channel pairs, then release the banks. Four psum words make an output word, or
    eight with `sum`: a value is then the sum of a word's two psums, each scaled by its own
    multiplier (residual additions). The maximum of `pool` output words is sent. A descriptor begins
    when a half of the parameters is loaded, and frees it at its end if `release` says so.

    Parameters
    ----------
    config
        The machine.

    Attributes
    ----------
    desc : In(stream of post)
        Descriptors; taken when all their words are in the pool.
    full : In(pe_cols)
        One bit a psum bank: its oldest tile is complete.
    read_address : Out(stream(word address)), array of pe_cols
        Reads of that tile.
    read_data : In(psum_beat), array of pe_cols
        The word of a read, in the cycle after it was taken.
    release : Out(pe_cols)
        Pulse to the banks of the mask: all words were received. `full` of the next cycle counts for
        the next tile.
    param, loaded, half_free
        From the parameter loader: see `ParamMemory`.
    word : Out(stream(64))
        Output words, to the output writer.
    busy : Out(1)
        A descriptor is at work or a word waits.

    Notes
    -----
    One psum word a cycle; 3 cycles between tiles, besides the bank's latency. From `read_data` to
    `word`: `latency` cycles. `word.ready` and `full` reach registers only; `read_address.ready`
    reaches the address generator. With `config.deep_pipeline` a `Hop` lies behind the address
    generator, a `Queue` at `read_data` and a `Hop` before the pool.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layouts = layouts = Layouts(config)
        #: Stages of a lane, and cycles from a window's last psum word until `word.valid`.
        self.lane_latency = requantize_latency(config)
        self.latency = 2 + self.lane_latency + 2 * config.deep_pipeline
        banks = config.pe_cols
        super().__init__(
            {
                "desc": In(stream.Signature(layouts.post)),
                "full": In(banks),
                "read_address": Out(stream.Signature(layouts.psum_word_bits)).array(banks),
                "read_data": In(layouts.psum_beat).array(banks),
                "release": Out(banks),
                "param": In(stream.Signature(param_entry(config))),
                "loaded": In(1),
                "half_free": Out(1),
                "word": Out(stream.Signature(WORD_BITS)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._pooling = Signal()  # a pair is on its way to the pool
        m.submodules.params = params = ParamMemory(self.config)
        loops: Any = self.layouts.post["loops"].shape
        m.submodules.agu = agu = Agu(
            loops,
            {
                "psum": ("psum_step", self.layouts.psum_address_bits),
                "param": ("param_step", self.layouts.param_address_bits),
            },
        )
        desc: Any = self.desc.payload
        # Psum words between the banks and the pool, and the enable of all stages between.
        stages = Signal(1 + self.lane_latency)
        advance = Signal()
        m.d.comb += [
            params.param.payload.eq(self.param.payload),
            params.param.valid.eq(self.param.valid),
            self.param.ready.eq(params.param.ready),
            params.loaded.eq(self.loaded),
            self.half_free.eq(params.half_free),
            agu.loops.eq(desc.loops),
        ]
        fetched, psums, idle = self._fetch(m, agu, params, advance)
        self._pipeline(m, desc, params, fetched, psums, stages, advance)
        self._control(m, desc, agu, params, idle, stages)
        return m

    def _fetch(
        self, m: Module, agu: Agu, params: ParamMemory, advance: Any
    ) -> tuple[Any, Any, Any]:
        """Spread the addresses over the banks and collect the words in the same order."""
        banks = self.config.pe_cols
        word_bits = self.layouts.psum_word_bits
        fetch = data.StructLayout(
            {"psums": self.layouts.psum_beat, "param": self.layouts.param_address_bits}
        )
        landing = Signal()
        word: Any = Signal(fetch)  # that lands
        there, found, room = self._buffer(m, landing, word, advance)
        asked: Any = stream.Signature(agu.o.payload.shape()).flip().create(path=("asked",))
        inside = connect_deep(m, self.config.deep_pipeline, "address_hop", agu.o, asked)
        address: Any = asked.payload.address
        bank = address.psum[word_bits:]
        landing_bank = Signal(range(banks), reset_less=True)
        landing_param = Signal.like(address.param, reset_less=True)
        taken = Signal(banks)
        for i, port in enumerate(self.read_address):
            m.d.comb += [
                port.payload.eq(address.psum[:word_bits]),
                port.valid.eq(asked.valid & room & (bank == i)),
                taken[i].eq(port.valid & port.ready),
            ]
        m.d.comb += asked.ready.eq(taken.any())
        m.d.sync += [
            landing.eq(taken.any()),
            landing_bank.eq(bank),
            landing_param.eq(address.param),
        ]
        m.d.comb += [
            word.psums.eq(Choice(list(self.read_data))[landing_bank]),
            word.param.eq(landing_param),
            params.address.eq(found.param),
            params.read.eq(advance),
        ]
        return there, found.psums, ~agu.busy & ~inside & ~landing & ~there

    def _buffer(self, m: Module, landing: Any, word: Any, advance: Any) -> tuple[Any, Any, Any]:
        """Words that landed until they are taken; whether there will be room for one more."""
        buffer: Any
        room: Any
        if self.config.deep_pipeline:  # `advance` must not reach the banks in its cycle
            buffer = Queue(word.shape())
            room = buffer.level < buffer.depth - 1
        else:
            buffer = Skid(word.shape())
            room = ~buffer.o.valid | buffer.o.ready
        m.submodules.buffer = buffer
        m.d.comb += [
            buffer.i.valid.eq(landing),
            buffer.i.payload.eq(word),
            buffer.o.ready.eq(advance),
        ]
        return buffer.o.valid, buffer.o.payload, room

    def _pipeline(
        self,
        m: Module,
        desc: Any,
        params: ParamMemory,
        fetched: Any,
        psums: Any,
        stages: Any,
        advance: Any,
    ) -> None:
        """Psum words through the lanes to the pool: all stages move or none."""
        m.submodules.pool = pool = Pool()
        fetch: Any = Signal(self.layouts.psum_beat, reset_less=True)
        with m.If(advance):
            m.d.sync += [fetch.eq(psums), stages.eq(stages << 1 | fetched)]
        pairs: Any = stream.Signature(pool.i.payload.shape()).create(path=("pairs",))
        hop = connect_deep(m, self.config.deep_pipeline, "pair_hop", pairs, pool.i)
        m.d.comb += self._pooling.eq(hop)
        values: Any = pairs.payload
        pair: Any = params.data
        sums = self.config.rounding == "single"
        lanes: list[Any] = [
            Requantize(self.config, adds=sums and i == 0) for i in range(PSUM_LANES)
        ]
        for i, lane in enumerate(lanes):
            m.submodules[f"lane_{i}"] = lane
            m.d.comb += [
                lane.enable.eq(advance),
                lane.psum.eq(fetch[i]),
                lane.param.eq(pair[i]),
                lane.zero_point.eq(desc.zero_point),
                lane.low.eq(desc.low),
                lane.high.eq(desc.high),
                values[i].eq(lane.value),
            ]
        whole: Any = 1  # the values of this cycle make a pair
        if sums:
            whole = self._build_sum(m, desc, lanes, values, stages[-1] & advance)
        m.d.comb += [
            pairs.valid.eq(stages[-1] & whole),
            advance.eq(~stages[-1] | ~whole | pairs.ready),
            pool.pool.eq(desc.pool),
            pool.clear.eq(self.desc.ready),
            self.word.payload.eq(pool.word.payload),
            self.word.valid.eq(pool.word.valid),
            pool.word.ready.eq(self.word.ready),
        ]

    def _build_sum(self, m: Module, desc: Any, lanes: list[Any], values: Any, moves: Any) -> Any:
        """Add the second lane's product in the first, and make pairs of what that lane gives."""
        kept = Signal.like(lanes[0].value)
        second = Signal()
        with m.If(moves):
            m.d.sync += [kept.eq(lanes[0].value), second.eq(~second)]
        with m.If(self.desc.ready):
            m.d.sync += second.eq(0)
        with m.If(desc.sum):
            m.d.comb += [
                lanes[0].addend.eq(lanes[1].product),
                values[0].eq(kept),
                values[1].eq(lanes[0].value),
            ]
        return ~desc.sum | second

    def _control(
        self, m: Module, desc: Any, agu: Agu, params: ParamMemory, idle: Any, stages: Any
    ) -> None:
        """Take a descriptor, run its tiles, let the pipeline run dry."""
        tiles = Signal(desc.tiles.shape(), reset_less=True)
        base: Any = agu.base
        m.d.comb += [base.psum.eq(desc.psum_base), base.param.eq(desc.param_base)]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += tiles.eq(desc.tiles)
                with m.If(self.desc.valid):
                    m.next = "PARAMS"
            with m.State("PARAMS"), m.If(params.available):
                m.next = "TILE"
            with m.State("TILE"):
                with m.If(tiles == 0):
                    m.next = "DRAIN"
                with m.Elif((self.full & desc.banks) == desc.banks):
                    m.d.comb += agu.start.eq(1)
                    m.next = "READ"
            with m.State("READ"), m.If(idle):
                m.next = "RELEASE"
            with m.State("RELEASE"):
                m.d.comb += self.release.eq(desc.banks)
                m.d.sync += tiles.eq(tiles - 1)
                m.next = "TILE"
            with m.State("DRAIN"), m.If(~stages.any() & ~self._pooling):
                m.d.comb += [params.free.eq(desc.release), self.desc.ready.eq(1)]
                m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") | self.word.valid)
