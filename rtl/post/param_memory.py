"""Bias, multiplier and shift of the output channels: two halves that take turns."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import PSUM_LANES, Config, bits_for
from rowmesh.rtl.layouts import Layouts

__all__ = ["ParamMemory", "param_entry"]


def param_entry(config: Config) -> data.StructLayout:
    """Payload from the parameter loader: a channel of the half being filled, its parameters."""
    index_bits = bits_for(config.param_depth // 2 - 1)
    return data.StructLayout({"index": index_bits, "param": Layouts(config).param})


class ParamMemory(wiring.Component):
    """Two halves of parameters: one is filled while the other is read.

    Parameters
    ----------
    config
        `param_depth` channels, both halves together.

    Attributes
    ----------
    param : In(stream of index, param)
        Parameters for the half being filled; `index` is the channel within the half.
    loaded : In(1)
        Pulse: the half is complete. With its last word or later.
    half_free : Out(1)
        A half may be filled. `param` is taken only then.
    available : Out(1)
        A complete half is there to be read.
    free : In(1)
        Pulse: the half being read is done with. Only while `available`.
    read, address : In
        Read the parameters of channel pair `address` of the oldest complete half.
    data : Out(array of param)
        The pair, from the cycle after `read` until the next `read`.

    Notes
    -----
    One memory for the even channels and one for the odd ones, each with a synchronous read port.
    All outputs come from registers.
    """

    def __init__(self, config: Config) -> None:
        layouts = Layouts(config)
        self.param_layout = layouts.param
        self.pairs = config.param_depth // 2 // PSUM_LANES
        self.address_bits = layouts.param_address_bits
        super().__init__(
            {
                "param": In(stream.Signature(param_entry(config))),
                "loaded": In(1),
                "half_free": Out(1),
                "available": Out(1),
                "free": In(1),
                "read": In(1),
                "address": In(self.address_bits),
                "data": Out(data.ArrayLayout(layouts.param, PSUM_LANES)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        entry: Any = self.param.payload
        pair: Any = self.data
        fill_half, read_half = Signal(), Signal()
        complete = Signal(2)  # one bit a half
        m.d.comb += [
            self.half_free.eq(~complete.bit_select(fill_half, 1)),
            self.param.ready.eq(self.half_free),
            self.available.eq(complete.bit_select(read_half, 1)),
        ]
        with m.If(self.loaded):
            m.d.sync += [fill_half.eq(~fill_half), complete.bit_select(fill_half, 1).eq(1)]
        with m.If(self.free):
            m.d.sync += [read_half.eq(~read_half), complete.bit_select(read_half, 1).eq(0)]

        depth = (1 << self.address_bits) + self.pairs
        lane_bits = bits_for(PSUM_LANES - 1)
        for lane in range(PSUM_LANES):
            mem: Any = memory.Memory(shape=self.param_layout, depth=depth, init=[])
            m.submodules[f"lane_{lane}"] = mem
            write = mem.write_port()
            read = mem.read_port()
            m.d.comb += [
                write.addr.eq(Cat(entry.index[lane_bits:], fill_half)),
                write.data.eq(entry.param),
                write.en.eq(self.param.valid & self.half_free & (entry.index[:lane_bits] == lane)),
                read.addr.eq(Cat(self.address, read_half)),
                read.en.eq(self.read),
                pair[lane].eq(read.data),
            ]
        return m
