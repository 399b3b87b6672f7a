"""Bench of `ParamLoader` with its `ReadChannels` and a memory of two halves."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from rowmesh.rtl.config import WORD_BYTES, bits_for
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.dma_harness import BurstReads
from rowmesh.verif.fields import pack
from rowmesh.verif.noc_agents import wake
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import StreamDriver, StreamMonitor, reset, start_clock

__all__: list[str] = []


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def loads(dut: Any, stall: float) -> None:
    """Halves of all sizes come complete, in order, and only while one is free."""
    config = bench_config()
    layouts = Layouts(config)
    rng = random.Random(f"{cocotb.RANDOM_SEED} {stall}")
    words = [rng.getrandbits(64) for _ in range(1 << 12)]
    desc = StreamDriver(dut, "desc", stall_probability=stall)
    memory = BurstReads(dut, config, words, stall)
    half = config.param_depth // 2
    index_bits = bits_for(half - 1)
    expected: list[int] = []
    ends: list[int] = []
    held, loaded = 0, 0

    def check(payload: int) -> None:
        assert payload == expected[len(param.received) - 1]
        assert held < 2

    param = StreamMonitor(dut, "param", stall_probability=stall, callback=check)

    async def world() -> None:
        nonlocal held, loaded
        while True:
            await RisingEdge(dut.clk)
            if int(dut.loaded.value) and not int(dut.rst.value):
                assert len(param.received) == ends[loaded]
                loaded += 1
                held += 1
            if held and rng.random() < 0.02:
                held -= 1
            dut.half_free.value = int(held < 2)

    dut.half_free.value = 1
    start_clock(dut)
    wake(dut)
    await reset(dut)
    cocotb.start_soon(world())
    at = rng.randrange(4)
    for channels in [half, 2, 4, 0, half, 6, 2, half // 2 & ~1, 2]:
        desc.put(pack(layouts.param_loader, {"base": at * WORD_BYTES, "channels": channels}))
        for channel in range(channels):
            first, second = words[at + 2 * channel : at + 2 * channel + 2]
            fields = first & (1 << 63) - 1 | (second & 0x3F) << 63  # bias, multiplier, shift
            expected.append(channel | fields << index_bits)
        ends.append(len(expected))
        at += 2 * channels + rng.randrange(3)
    for _ in range(40000):
        await FallingEdge(dut.clk)
        if loaded == len(ends):
            break
    assert loaded == len(ends)
    for _ in range(5):
        await FallingEdge(dut.clk)
    assert len(param.received) == len(expected)
    assert not int(dut.busy.value)

    # A reset in the middle, then a whole half.
    for wait in (3, 9, 16, 23):
        held = 0
        desc.put(pack(layouts.param_loader, {"base": 0, "channels": 8}))
        for channel in range(8):
            first, second = words[2 * channel : 2 * channel + 2]
            fields = first & (1 << 63) - 1 | (second & 0x3F) << 63
            expected.append(channel | fields << index_bits)
        ends.append(len(expected))
        for _ in range(wait):
            await FallingEdge(dut.clk)
        desc.clear()
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        memory.beats.clear()
        await reset(dut)
        param.received.clear()
        loaded, held = 0, 0
        expected, ends = expected[-8:], [8]
        desc.put(pack(layouts.param_loader, {"base": 0, "channels": 8}))
        await param.wait_for(8)
        for _ in range(5):
            await FallingEdge(dut.clk)
        assert loaded == 1
