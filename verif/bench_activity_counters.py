"""Bench of `ActivityCounters`: against a plain list of sums."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.rtl.codes import Activity
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []

ACTIVITIES = 6


class Model:
    """Drives one cycle after the other, reads a random slot in each, keeps the sums."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.most = bench_config().macs_per_pe
        self.sums = [0] * (ACTIVITIES + self.most)
        self.last: int | None = None  # slot of the cycle before

    async def cycle(self, activity: int, macs: int, enable: bool, clear: bool = False) -> None:
        """One cycle, from falling edge to falling edge."""
        dut = self.dut
        dut.activity.value = activity
        dut.macs.value = macs
        dut.enable.value = int(enable)
        dut.clear.value = int(clear)
        slot = random.randrange(len(self.sums))
        dut.slot.value = slot
        await ReadOnly()
        actual = int(dut.value.value)
        assert actual == self.sums[slot], f"slot {slot}: {actual}, not {self.sums[slot]}"
        if clear:
            self.sums[slot] = 0
        elif self.last is not None:
            self.sums[self.last] += 1
        self.last = None
        if enable:
            computes = activity == Activity.COMPUTE and macs
            self.last = ACTIVITIES - 1 + macs if computes else activity
        await FallingEdge(dut.clk)


async def begin(dut: Any) -> Model:
    """Clock and reset."""
    start_clock(dut)
    for name in ("activity", "macs", "enable", "clear", "slot"):
        getattr(dut, name).value = 0
    await reset(dut)
    dut.clear.value = 1
    model = Model(dut)
    for slot in range(len(model.sums)):
        dut.slot.value = slot
        await FallingEdge(dut.clk)
    return model


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(hold=[1, 20])
async def counts(dut: Any, hold: int) -> None:
    """Every cycle is counted once, in its slot, also over clears and pauses."""
    model = await begin(dut)
    enable = True
    for _ in range(2000 // hold):
        activity = random.randrange(ACTIVITIES)
        if random.random() < 0.1:
            enable = not enable
        for _ in range(random.randint(1, hold)):
            macs = random.randint(0, model.most)
            await model.cycle(activity, macs, enable, random.random() < 0.01)
    for _ in range(40):
        await model.cycle(0, 0, enable=False)


@cocotb.test(timeout_time=500, timeout_unit="us")
async def extremes(dut: Any) -> None:
    """One activity and all multipliers for long: nothing is lost."""
    model = await begin(dut)
    for activity in range(ACTIVITIES):
        for _ in range(100):
            await model.cycle(activity, model.most, enable=True)
    for _ in range(40):
        await model.cycle(0, 0, enable=False)
    assert sum(model.sums) == 600
