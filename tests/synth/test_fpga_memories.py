"""Memories as an FPGA has them: they do the same, and fall back to neither flip-flops nor LUTs."""

import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from amaranth.sim import Simulator, SimulatorContext

from rowmesh.gen.verilog import emit_rtlil
from rowmesh.rtl.config import PSUM_LANES, Config, load_config
from rowmesh.rtl.pe.pe import Pe
from rowmesh.rtl.spad import Spad
from rowmesh.rtl.top import Top
from rowmesh.rtl.update_spad import UpdateSpad
from rowmesh.synth.fpga import FpgaJob, build
from rowmesh.synth.fpga_stat import total
from rowmesh.synth.process import quiet
from rowmesh.synth.yosys import run

#: Anything that is not None is an FPGA.
FPGA = "fpga"
CYCLES = 500


def simulate(component: Any, bench: Any) -> None:
    simulator = Simulator(component.elaborate(FPGA))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("ports", [1, 2, 4])
def test_update_spad(ports: int, seed: int) -> None:
    draw = random.Random(seed)
    width, depth = 9, 12
    dut: Any = UpdateSpad(width, depth, ports=ports)
    words: dict[int, int] = {}

    async def bench(ctx: SimulatorContext) -> None:
        for _ in range(CYCLES):
            addresses = draw.sample(range(depth), ports)
            enables = [draw.random() < 0.7 for _ in addresses]
            new = [draw.getrandbits(width) for _ in addresses]
            for port, address, enable, value in zip(dut.port, addresses, enables, new, strict=True):
                ctx.set(port.address, address)
                ctx.set(port.enable, enable)
                ctx.set(port.new, value)
            for port, address in zip(dut.port, addresses, strict=True):
                if address in words:
                    assert ctx.get(port.old) == words[address]
            await ctx.tick()
            for address, enable, value in zip(addresses, enables, new, strict=True):
                if enable:
                    words[address] = value

    simulate(dut, bench)
    assert len(words) == depth


@pytest.mark.parametrize(
    ("depth", "reads", "parts"), [(96, 1, 1), (41, 2, 3), (16, 1, 1), (17, 2, 1)]
)
def test_spad(depth: int, reads: int, parts: int, seed: int) -> None:
    draw = random.Random(seed)
    width = 6
    dut: Any = Spad(width, depth, reads=reads, parts=parts)
    share = width // parts
    known = [[None] * parts for _ in range(depth)]

    async def bench(ctx: SimulatorContext) -> None:
        for _ in range(6 * CYCLES):
            target, enable, value = (draw.randrange(n) for n in (depth, 1 << parts, 1 << width))
            ctx.set(dut.write[0].address, target)
            ctx.set(dut.write[0].enable, enable)
            ctx.set(dut.write[0].data, value)
            for read in dut.read:
                address = draw.randrange(depth)
                ctx.set(read.address, address)
                found = ctx.get(read.data)
                for part, expected in enumerate(known[address]):
                    if expected is not None:
                        assert found >> part * share & (1 << share) - 1 == expected
            await ctx.tick()
            for part in range(parts):
                if enable >> part & 1:
                    known[target][part] = value >> part * share & (1 << share) - 1

    simulate(dut, bench)
    assert all(None not in word for word in known)


def map_memories(component: Any, top: str, folder: Path) -> dict[str, Mapping[str, int]]:
    """Cells of every module when memories and multipliers are mapped, and the rest is not yet."""
    (folder / "design.il").write_text(emit_rtlil(component, top, FPGA), encoding="utf-8")
    script = (
        f"read_rtlil design.il\nsynth_ecp5 -noflatten -top {top} -run begin:map_ffram\n"
        "tee -o stat.json stat -json\n"
    )
    run(script, folder, watch=quiet, progress=quiet)
    modules = json.loads((folder / "stat.json").read_text(encoding="utf-8"))["modules"]
    return {name.removeprefix("\\"): found["num_cells_by_type"] for name, found in modules.items()}


def in_flip_flops(folder: Path) -> list[str]:
    """Modules with a memory of more than a word that Yosys makes of flip-flops.

    Tables of constants are logic, and one word is a register anyway.
    """
    words: dict[tuple[str, str], int] = {}
    for module in re.split(r"^module \\", (folder / "design.il").read_text(), flags=re.M)[1:]:
        for size, name in re.findall(r"^ +memory .*size (\d+) .*\\(\S+)$", module, flags=re.M):
            words[module.split(maxsplit=1)[0], name] = int(size)
    log = (folder / "yosys.log").read_text()
    assert words and "mapping memory" in log
    found = re.findall(r"using FF mapping for memory (\w+)\.(\S+)", log)
    return [module for module, name in found if name[0] != "$" and words[module, name] > 1]


@pytest.mark.parametrize("preset", ["fpga_25f"])
def test_memories_of_the_machine(preset: str, tmp_path: Path) -> None:
    """What is still a memory behind the mapping of RAMs would become flip-flops."""
    config = load_config(preset)
    modules = map_memories(Top(config), "rowmesh", tmp_path)
    assert in_flip_flops(tmp_path) == []
    products = {name: cells["$mul"] for name, cells in modules.items() if "$mul" in cells}
    assert products == {}
    assert modules["mac"]["MULT18X18D"] == config.macs_per_pe
    blocks = Counter({name: cells.get("DP16KD", 0) for name, cells in modules.items()})
    assert sum(blocks.values()) > 0


def test_quick_form(tmp_path: Path) -> None:
    """The whole board of the quick form, by the real Yosys: with room that lets nextpnr route."""
    job = FpgaJob.of(load_config("tiny"), "tiny", "ulx3s_25f", tmp_path, mhz=24.0)
    whole = total(build(job, synth_only=True).usages)
    assert whole.luts < 0.75 * job.board.device.luts
    assert whole.flip_flops < 0.5 * job.board.device.flip_flops
    # A product of 32 x 32 bits takes four.
    assert whole.multipliers == job.config.macs + 4 * PSUM_LANES


#: Lookup tables of logic, carry chains and distributed RAMs of one PE: see docs/benchmarks.md.
MOST_LUT4 = 1_200


def test_pe(tmp_path: Path) -> None:
    """The whole PE with the published SPads in lookup tables, RAMs and multipliers."""
    config = load_config("eyeriss_v2")
    (tmp_path / "design.il").write_text(emit_rtlil(Pe(config), "pe", FPGA), encoding="utf-8")
    script = (
        "read_rtlil design.il\nsynth_ecp5 -top pe\ncheck -assert\ntee -o stat.json stat -json\n"
    )
    run(script, tmp_path, watch=quiet, progress=quiet)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert cells["MULT18X18D"] == config.macs_per_pe
    assert cells["LUT4"] <= MOST_LUT4
    assert cells["TRELLIS_DPR16X4"] == rams(config)
    # Psums alone would be 640, weights 2,304.
    assert cells["TRELLIS_FF"] < 400


def rams(config: Config) -> int:
    """Distributed RAMs of a PE: of psums, weights, the window and ends of columns."""
    nibbles = -(-config.psum_bits // 4)
    psums = 2 * -(-config.psum_depth // 32) * nibbles * config.macs_per_pe**2
    weights = -(-config.weight_data_depth // 16) * -(-config.weight_word_bits // 4)
    window = 7
    ends = 2 * -(-config.weight_word_bits // 4)
    return psums + weights + window + ends
