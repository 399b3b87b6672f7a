"""Models of the cells that are black boxes to Yosys, alone and in the netlist of a memory."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from rowmesh.rtl.shell.block_ram import BlockRam
from rowmesh.verif import netlist as models
from rowmesh.verif.bench_dp16kd import wrapper
from rowmesh.verif.netlist.ecp5 import (
    cell_counts,
    netlist,
    simulation_cells,
    with_expressions,
)
from rowmesh.verif.simulator import run_bench

FOLDER = Path(str(models.__file__)).parent
KINDS = [
    (36, 36, "NORMAL"),
    (18, 18, "NORMAL"),
    (9, 18, "WRITETHROUGH"),
    (4, 9, "READBEFOREWRITE"),
    (2, 1, "NORMAL"),
]


@pytest.mark.cocotb
@pytest.mark.parametrize(("width_a", "width_b", "mode"), KINDS)
def test_dp16kd(seed: int, width_a: int, width_b: int, mode: str) -> None:
    initial = [random.Random(7).getrandbits(18) for _ in range(100)]
    text = (FOLDER / "dp16kd.v").read_text(encoding="utf-8") + wrapper(
        width_a, width_b, mode, initial
    )
    env = {
        "WIDTH_A": str(width_a),
        "WIDTH_B": str(width_b),
        "MODE": mode,
        "INITIAL": " ".join(map(str, initial)),
    }
    run_bench(text, "rowmesh.verif.bench_dp16kd", sim="icarus", seed=seed, env=env, name="dut")


def test_mult18x18d(tmp_path: Path) -> None:
    """Products of random and extreme operands, for all four kinds of signs."""
    rng = random.Random(1)
    values = [0, 1, (1 << 17) - 1, 1 << 17, (1 << 18) - 1]
    cases = [(a, b) for a in values for b in values]
    cases += [(rng.getrandbits(18), rng.getrandbits(18)) for _ in range(200)]
    pins = ", ".join(
        f".{letter}{n}({letter.lower()}[{n}])"
        for letter, bits in (("A", 18), ("B", 18), ("P", 36))
        for n in range(bits)
    )
    body, expected = [], []
    for sign_a in (0, 1):
        for sign_b in (0, 1):
            for a, b in cases:
                body.append(f'a={a}; b={b}; sa={sign_a}; sb={sign_b}; #1 $display("%0d", p);')
                signed_a = a - (sign_a and a >> 17) * (1 << 18)
                signed_b = b - (sign_b and b >> 17) * (1 << 18)
                expected.append(signed_a * signed_b % (1 << 36))
    bench = (
        "module bench; reg [17:0] a, b; reg sa, sb; wire [35:0] p;\n"
        f"MULT18X18D dut ({pins}, .SIGNEDA(sa), .SIGNEDB(sb), .SOURCEA(1'b0), .SOURCEB(1'b0));\n"
        "initial begin\n" + "\n".join(body) + "\n$finish; end\nendmodule\n"
    )
    found = _icarus(tmp_path, bench + (FOLDER / "mult18x18d.v").read_text(encoding="utf-8"))
    assert [int(line) for line in found.split()] == expected


def test_expressions_are_the_cells(tmp_path: Path) -> None:
    """What stands for LUTs and multiplexers in a simulation is what Yosys' models do."""
    rng = random.Random(2)
    inputs = {"LUT4": "ABCD", "PFUMX": ("ALUT", "BLUT", "C0"), "L6MUX21": ("D0", "D1", "SD")}
    cells = []
    for number in range(60):
        kind = rng.choice(list(inputs))
        pins = [f"    .{pin}(x[{rng.randrange(4)}])" for pin in inputs[kind]]
        pins.append(f"    .Z(\\z [{number}])")
        init = f"#(\n    .INIT(16'h{rng.getrandbits(16):04x})\n  ) " if kind == "LUT4" else ""
        body = ",\n".join(pins)
        cells.append(f"  {kind} {init}\\cell{number}$1  (\n{body}\n  );")
    head = "(input [3:0] x, output [59:0] z);\n"
    netlist_text = f"module cells{head}" + "\n".join(cells) + "\nendmodule\n"
    expressions = with_expressions(netlist_text)
    assert not cell_counts(expressions)
    bench = """
module bench; reg [4:0] x; wire [59:0] a, b; integer wrong = 0;
cells one (x[3:0], a); expressions two (x[3:0], b);
initial begin for (x = 0; x < 16; x = x + 1) begin #1 wrong = wrong + (a !== b); end
$display("%0d", wrong); end endmodule
"""
    text = [netlist_text, expressions.replace("module cells", "module expressions"), bench]
    assert _icarus(tmp_path, "\n".join([*text, simulation_cells()])) == "0"


def _icarus(folder: Path, text: str) -> str:
    """What a bench in Verilog prints."""
    assert shutil.which("iverilog") is not None
    (folder / "bench.v").write_text(text)
    for command in (
        ["iverilog", "-g2012", "-s", "bench", "-o", "bench", "bench.v"],
        ["vvp", "bench"],
    ):
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.cocotb
def test_block_ram_is_block_ram(seed: int) -> None:
    """Every bit of the shell's memory is in block RAM, and works there."""
    size = 8192
    text = netlist(BlockRam(64, size, bank_bytes=4096), "blockram")
    counts = cell_counts(text)
    assert counts["DP16KD"] == size // 2048
    assert counts["TRELLIS_DPR16X4"] < 20  # the queue of beats
    assert counts["TRELLIS_FF"] < 700, counts
    env = {"BEAT_BYTES": "8", "SIZE": str(size)}
    run_bench(
        f"{with_expressions(text)}\n{simulation_cells()}",
        "rowmesh.verif.bench_block_ram",
        sim="icarus",
        seed=seed,
        env=env,
        name="blockram",
        tests=["reads_beside_writes"],
    )
