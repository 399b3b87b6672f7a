"""Bench of `ActivityCounters`: against a plain list of sums."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset, start_clock

__all__: list[str] = []

ACTIVITIES = 6
MACS = 7


class Model:
    """Drives one cycle after the other, reads a random entry every other cycle, keeps the sums."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.sums = [0] * 8
        self.slot = 0
        self.updates = False
        self.entry = 0

    async def cycle(self, activity: int, macs: int, enable: bool, clear: bool = False) -> None:
        """One cycle, from falling edge to falling edge."""
        dut = self.dut
        dut.activity.value = activity
        dut.macs.value = macs
        dut.enable.value = int(enable)
        dut.clear.value = int(clear)
        self.updates = not self.updates
        if self.updates:
            self.slot = {5: MACS, MACS: 0}.get(self.slot, self.slot + 1)
            address = self.slot
        else:
            address = self.entry = random.randrange(8)
        dut.address.value = address
        dut.update.value = int(self.updates)
        await ReadOnly()
        actual = int(dut.value.value)
        assert actual == self.sums[address], f"entry {address}: {actual}, not {self.sums[address]}"
        if clear:
            self.sums = [0] * 8
        elif enable:
            self.sums[activity] += 1
            self.sums[MACS] += macs
        await FallingEdge(dut.clk)


async def begin(dut: Any) -> Model:
    """Clock and reset."""
    start_clock(dut)
    for name in ("activity", "macs", "enable", "clear", "address", "update"):
        getattr(dut, name).value = 0
    await reset(dut)
    return Model(dut)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(hold=[1, 20])
async def counts(dut: Any, hold: int) -> None:
    """Every cycle is counted once, in its entry, also over clears and pauses."""
    model = await begin(dut)
    most = bench_config().macs_per_pe
    enable = True
    for _ in range(2000 // hold):
        activity = random.randrange(ACTIVITIES)
        if random.random() < 0.1:
            enable = not enable
        for _ in range(random.randint(1, hold)):
            await model.cycle(activity, random.randint(0, most), enable, random.random() < 0.01)
    for _ in range(40):
        await model.cycle(0, 0, enable=False)


@cocotb.test(timeout_time=500, timeout_unit="us")
async def extremes(dut: Any) -> None:
    """One activity and all multipliers for long: nothing is lost between two updates."""
    model = await begin(dut)
    for activity in range(ACTIVITIES):
        for _ in range(100):
            await model.cycle(activity, bench_config().macs_per_pe, enable=True)
    for _ in range(40):
        await model.cycle(0, 0, enable=False)
    assert sum(model.sums[:ACTIVITIES]) == 600


@cocotb.test(timeout_time=500, timeout_unit="us")
async def reset_clears(dut: Any) -> None:
    """After a reset everything is 0 although the memory is not."""
    model = await begin(dut)
    for _ in range(5):
        for _ in range(random.randint(1, 60)):
            await model.cycle(random.randrange(ACTIVITIES), 1, enable=True)
        await reset(dut, 1)
        model = Model(dut)
        for _ in range(40):
            await model.cycle(0, 0, enable=False)
