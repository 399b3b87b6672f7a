"""Bench of `Controller`: good and damaged programs, faults, soft resets and pauses at any time."""

import random
import struct
import zlib
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.rtl.codes import Fault, Opcode, Unit
from rowmesh.rtl.control.registers import State
from rowmesh.verif.controller_harness import (
    Run,
    System,
    binary,
    instruction,
    random_program,
    step_words,
)
from rowmesh.verif.stream import reset

__all__: list[str] = []


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def good_programs(dut: Any, stall: float) -> None:
    """One program after another."""
    system = await System.begin(dut, stall)
    assert system.state is State.IDLE
    for length in (0, 1, 60, 60, 5):
        await system.good(length)
    assert system.cleared == 5


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def one_instruction_a_cycle(dut: Any) -> None:
    """Writes follow each other without a gap."""
    system = await System.begin(dut, 0.0)
    run = Run(words=[instruction(Opcode.WRITE, data, index=3) for data in range(200)])
    run.writes = [
        {
            "rows": 0,
            "cols": 0,
            "instances": 0,
            "unit": 0,
            "index": 3,
            "go": 0,
            "ramp": 0,
            "data": data,
        }
        for data in range(200)
    ]
    run.after_wait = [False] * 200
    run.words.append(instruction(Opcode.END))
    system.expect(run)
    system.put(binary(system.config, run.words))
    await system.pulse("start")
    await system.until(State.DONE)
    assert system.writes == run.writes
    assert int(dut.cycles.value) < 2 * 201 + 2 * system.settle + 40


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def damaged_programs(dut: Any) -> None:
    """Every damage is found before the first write."""
    system = await System.begin(dut, 0.2)
    config = system.config
    run = random_program(config, random.Random(random.random()), 20)
    flip = 1 << random.randrange(32)
    count = len(run.words)
    crc = zlib.crc32(struct.pack(f"<{count}Q", *run.words))
    header: list[tuple[Fault, dict[str, int]]] = [
        (Fault.PROGRAM_MAGIC, {"magic": int.from_bytes(b"RWMP", "little") ^ flip}),
        (Fault.PROGRAM_VERSION, {"version": 2 ^ flip}),
        *((Fault.PROGRAM_CONFIG, {"hash": config.hash ^ 1 << bit}) for bit in range(32)),
        (Fault.PROGRAM_LENGTH, {"count": count ^ flip}),
        (Fault.PROGRAM_LENGTH, {"total": count + 4 ^ flip}),
        (Fault.PROGRAM_LENGTH, {"count": 0, "total": 4}),
        (Fault.PROGRAM_LENGTH, {"count": 0xFFFF_FFFF, "total": 3}),
        *((Fault.PROGRAM_CRC, {"crc": crc ^ 1 << bit}) for bit in range(32)),
        (Fault.PROGRAM_VERSION, {"low": flip}),
        (Fault.PROGRAM_VERSION, {"high": flip}),
    ]
    for code, change in header:
        system.expect(None)
        system.put(binary(config, run.words, **change))
        await system.fails(code)
        await system.recover()
    for _ in range(6):
        content = binary(config, run.words)
        for _ in range(random.choice([1, 1, 7])):
            content[random.randrange(32, len(content))] ^= random.randint(1, 255)
        system.expect(None)
        system.put(content)
        await system.fails(Fault.PROGRAM_CRC)
        await system.recover()
    for words in (0, 3, 4, count + 3):
        system.expect(None)
        content = binary(config, run.words)
        system.put(content[: 8 * words], words)
        await system.fails(Fault.PROGRAM_LENGTH)
        await system.recover()
    await system.good()


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def bad_instructions(dut: Any) -> None:
    """Instructions before the bad one are executed, it and those behind it are not."""
    system = await System.begin(dut, 0.2)
    config = system.config
    for bad, code in (
        (instruction(len(Opcode)), Fault.PROGRAM_OPCODE),
        (instruction(0x20), Fault.PROGRAM_OPCODE),
        *(
            (instruction(opcode, unit=unit), Fault.PROGRAM_OPCODE)
            for opcode in (Opcode.WRITE, Opcode.ONE, Opcode.WRITE_NUMBER)
            for unit in range(len(Unit), 16)
        ),
        (None, Fault.PROGRAM_LENGTH),
    ):
        run = random_program(config, random.Random(random.random()), 20, end=False)
        tail = [] if bad is None else [bad, instruction(Opcode.WRITE), instruction(Opcode.END)]
        system.expect(run)
        system.put(binary(config, run.words + tail))
        await system.fails(code, run.layers[-1][1] if run.layers else 0, 20)
        assert run.writes[:-1] == system.writes[: len(run.writes) - 1]
        await system.recover()
    await system.good()


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def ramps_need_steps_of_their_own(dut: Any) -> None:
    """A ramp before the first STEP is a fault, also after programs with steps and stopped ones."""
    system = await System.begin(dut, 0.2)
    word, writes = step_words(-5, 1 << 22)
    for opcode in (Opcode.RAMP, Opcode.RAMP_NUMBER):
        ramp = instruction(opcode, 7, index=1, go=0)
        reached = dict.fromkeys(("rows", "cols", "unit", "go"), 0) | {"index": 1, "data": 7}
        number = int(opcode is Opcode.RAMP_NUMBER)
        good = Run(words=[word, ramp, instruction(Opcode.END)])
        good.writes = [*writes, {**reached, "instances": number, "ramp": 1}]
        good.after_wait = [False] * 3
        system.expect(good)
        system.put(binary(system.config, good.words))
        await system.pulse("start")
        await system.until(State.DONE)
        assert system.writes == good.writes
        for before in (0, 2):
            lines = [instruction(Opcode.LAYER, 9)] * before
            system.expect(None)
            system.put(binary(system.config, [*lines, ramp, word, instruction(Opcode.END)]))
            await system.fails(Fault.PROGRAM_OPCODE, 9 if before else 0, before)
        await system.recover()
        # Stopped between the two words of a STEP, as the stalled bus makes likely.
        many = [word] * 40 + [instruction(Opcode.END)]
        system.expect(Run(words=many, writes=writes * 40, after_wait=[False] * 80))
        system.put(binary(system.config, many))
        await system.pulse("start")
        await system.cycles(random.randrange(120, 180))
        await system.pulse("soft_reset")
        await system.until(State.IDLE)
        await system.good(20)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def faults_at_any_time(dut: Any) -> None:
    """The first fault is kept, with where the program was; the next run is good."""
    system = await System.begin(dut, 0.2)
    for _ in range(20):
        run = random_program(system.config, random.Random(random.random()), 40)
        system.expect(run)
        system.put(binary(system.config, run.words))
        await system.pulse("start")
        await system.cycles(random.randrange(400))
        if system.state is not State.RUNNING:
            continue
        first = random.randint(1, 15)
        dut.fault.value = first
        await FallingEdge(dut.clk)
        dut.fault.value = random.randrange(16)
        await FallingEdge(dut.clk)
        await system.cycles(random.randrange(10))
        dut.fault.value = 0
        done = len(system.writes)
        if int(dut.state.value) == 1 << State.DONE:
            continue
        await system.until(State.FAULT)
        code, layer, index = system.fault()
        assert code == first
        # Between the last write that came out (one may wait in the output) and the next.
        assert len(system.writes) <= done + 1
        if len(system.writes):
            assert index >= run.places[len(system.writes) - 1]
        if len(system.writes) + 1 < len(run.places):
            assert index <= run.places[len(system.writes) + 1]
        before = [number for at, number in run.layers if at < index]
        assert layer == (before[-1] if before else 0)
        await system.recover()
        await system.good(20)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def soft_resets_at_any_time(dut: Any) -> None:
    """Whatever goes on, a soft reset brings it to idle, and a start may follow at once."""
    system = await System.begin(dut, 0.2)
    for turn in range(25):
        run = random_program(system.config, random.Random(random.random()), 40)
        system.expect(run)
        system.put(binary(system.config, run.words))
        await system.pulse("start")
        await system.cycles(random.randrange(400))
        if turn % 3 == 0:
            await system.pulse("fault", value=random.randint(1, 15))
            await system.cycles(random.randrange(6 * system.settle))
        kind = random.choice(["idle", "later", "together"])
        if kind == "together":
            await system.pulse("soft_reset", "start")
        else:
            await system.pulse("soft_reset")
        if kind == "idle":
            await system.until(State.IDLE)
            await system.cycles(random.randrange(3))
            assert system.state is State.IDLE and system.fault() == (0, 0, 0)
            await system.good(20)
            continue
        if kind == "later":
            await system.cycles(random.randrange(system.settle))
            await system.pulse("start")
        # The masters were quiet and the array reset before the run begins again.
        while not int(dut.array_reset.value):
            await FallingEdge(dut.clk)
        system.expect(run)
        await system.until(State.DONE)
        assert system.writes == run.writes


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def single_steps(dut: Any) -> None:
    """A pause before every layer but the first; nothing happens and nothing is counted in it."""
    system = await System.begin(dut, 0.2)
    dut.single_step.value = 1
    for stop_in_pause in (False, True):
        run = Run()
        while len(run.layers) < 3:
            run = random_program(system.config, random.Random(random.random()), 40)
        system.expect(run)
        system.put(binary(system.config, run.words))
        pauses = system.events["paused"]
        await system.pulse("start")
        for (_, number), (at, _) in zip(run.layers, run.layers[1:], strict=False):
            await system.until(State.PAUSED)
            await system.cycles(random.randrange(40))
            assert int(dut.layer.value) == number
            counted = int(dut.cycles.value)
            await system.cycles(5)
            assert int(dut.cycles.value) == counted
            assert system.state is State.PAUSED
            if random.random() < 0.8:
                await system.cycles(20)
                assert len(system.writes) == sum(place < at for place in run.places)
            if stop_in_pause:
                await system.pulse("soft_reset")
                await system.until(State.IDLE)
                break
            await system.pulse("resume")
        else:
            await system.until(State.DONE)
            assert system.writes == run.writes
            assert system.events["paused"] - pauses == len(run.layers) - 1
            assert int(dut.cycles.value) == system.counted
    dut.single_step.value = 0
    await system.good()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reset_at_any_time(dut: Any) -> None:
    """After a hard reset in the middle of a run the next one is correct."""
    system = await System.begin(dut, 0.2)
    for _ in range(8):
        await reset(dut)
        run = random_program(system.config, random.Random(random.random()), 40)
        system.expect(run)
        system.put(binary(system.config, run.words))
        await system.pulse("start")
        await system.cycles(random.randrange(250))
        dut.rst.value = 1
        system.data.clear()
        system.busy = dict.fromkeys(system.busy, 0)
        await reset(dut, 3 + system.settle)
        assert system.state is State.IDLE
        await system.good(15)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def starts_after_a_soft_reset(dut: Any) -> None:
    """No cycle of a soft reset swallows a start, nor a second soft reset."""
    system = await System.begin(dut, 0.0)
    run = random_program(system.config, random.Random(random.random()), 3)
    system.put(binary(system.config, run.words))
    for delay in range(5 * system.settle):
        system.expect(run)
        await system.pulse("soft_reset")
        await system.cycles(delay)
        await system.pulse("start")
        await system.until(State.DONE)
        assert system.writes == run.writes, f"start {delay} cycles after the soft reset"
        system.expect(run)
        await system.pulse("soft_reset", "start")
        await system.cycles(delay)
        await system.pulse("soft_reset")
        assert await system.until(State.IDLE, State.DONE) is State.IDLE, f"reset after {delay}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def soft_resets_while_a_fault_stops(dut: Any) -> None:
    """No cycle between a fault and its interrupt swallows a soft reset."""
    system = await System.begin(dut, 0.0)
    run = random_program(system.config, random.Random(random.random()), 3)
    system.put(binary(system.config, run.words))
    for delay in range(system.settle + 4):
        system.expect(run)
        await system.pulse("start")
        await system.pulse("fault", value=random.randint(1, 15))
        while not int(dut.array_reset.value):
            await FallingEdge(dut.clk)
        await system.cycles(delay)
        await system.pulse("soft_reset")
        await system.until(State.IDLE)
        assert system.fault() == (0, 0, 0)
