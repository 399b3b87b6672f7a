"""Bench of `AxiMerge`: masters that know nothing of each other, one memory."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiMaster, AxiResp, AxiSlave

from rowmesh.verif.dma_harness import SlaveMemory, pause_port
from rowmesh.verif.stream import quiet, reset, start_clock

__all__: list[str] = []

COUNT = int(os.environ.get("COUNT", "3"))
#: Bytes that one master alone writes.
PART = 4096


class Bench:
    """Masters, memory, pauses everywhere."""

    def __init__(self, dut: Any, stall: float) -> None:
        random.seed(cocotb.RANDOM_SEED)
        quiet(dut)
        self.dut = dut
        self.content = random.randbytes(COUNT * PART)
        self.memory = SlaveMemory(self.content)
        self.masters = [
            AxiMaster(AxiBus.from_prefix(dut, f"i__{n}_"), dut.clk, dut.rst) for n in range(COUNT)
        ]
        self.slave = AxiSlave(AxiBus.from_prefix(dut, "o_"), dut.clk, dut.rst, target=self.memory)
        for port in [*self.masters, self.slave] if stall else ():
            pause_port(port, stall)

    async def start(self) -> None:
        """Clock and reset."""
        start_clock(self.dut)
        self.dut.rst.value = 1
        await reset(self.dut)

    async def work(self, number: int, rng: random.Random, accesses: int) -> None:
        """One master: writes where nobody else does, reads its own back and what is constant."""
        base = number * PART
        own = bytearray(self.content[base : base + PART])
        size = len(self.dut.o__wstrb)
        for _ in range(accesses):
            at = rng.randrange(PART // size) * size
            data = rng.randbytes(rng.randint(1, min(20 * size, PART - at)))
            if rng.random() < 0.5:
                answer: Any = await self.masters[number].write(base + at, data)
                own[at : at + len(data)] = data
            else:
                answer = await self.masters[number].read(base + at, len(data))
                assert answer.data == bytes(own[at : at + len(data)])
            assert answer.resp == AxiResp.OKAY
        self.content = self.content[:base] + bytes(own) + self.content[base + PART :]


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def all_masters_at_once(dut: Any, stall: float) -> None:
    """Everyone gets what is its own; nothing of the others is changed."""
    bench = Bench(dut, stall)
    await bench.start()
    tasks = [
        cocotb.start_soon(bench.work(n, random.Random(random.random()), 40)) for n in range(COUNT)
    ]
    for task in tasks:
        await task
    assert bytes(bench.memory.content) == bench.content


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def nobody_starves(dut: Any) -> None:
    """While the others always ask, each one is served within the bursts of all."""
    bench = Bench(dut, 0.0)
    await bench.start()
    done = [0] * COUNT

    async def ask(number: int) -> None:
        while True:
            await bench.masters[number].read(number * PART, 64)
            done[number] += 1

    tasks = [cocotb.start_soon(ask(n)) for n in range(COUNT) for _ in range(3)]
    for _ in range(1500):
        await RisingEdge(dut.clk)
    for task in tasks:
        task.cancel()
    assert min(done) > 10 and max(done) - min(done) <= 4, done


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def errors_reach_their_master(dut: Any) -> None:
    """A bad response goes to the one that asked, and to nobody else."""
    bench = Bench(dut, 0.2)
    await bench.start()
    bench.memory.bad = range(PART, 2 * PART)

    async def read(number: int) -> AxiResp:
        return (await bench.masters[number].read(number * PART, 200)).resp

    async def write(number: int) -> AxiResp:
        return (await bench.masters[number].write(number * PART, bytes(200))).resp

    for access in (read, write):
        tasks = [cocotb.start_soon(access(n)) for n in range(COUNT)]
        responses = [await task for task in tasks]
        assert [r != AxiResp.OKAY for r in responses] == [n == 1 for n in range(COUNT)]
