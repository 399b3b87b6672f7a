"""Models of the cells that are black boxes to Yosys, alone and in the netlist of a memory."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from rowmesh.rtl.shell.block_ram import BlockRam
from rowmesh.verif import netlist as models
from rowmesh.verif.bench_dp16kd import wrapper
from rowmesh.verif.netlist.ecp5 import cell_counts, netlist, simulation_cells
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
    (tmp_path / "bench.v").write_text(bench)
    sources = [str(tmp_path / "bench.v"), str(FOLDER / "mult18x18d.v")]
    assert shutil.which("iverilog") is not None
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True}
    subprocess.run(["iverilog", "-g2005", "-s", "bench", "-o", "bench", *sources], **run)  # type: ignore[call-overload]
    out = subprocess.run(["vvp", "-n", "bench"], **run).stdout  # type: ignore[call-overload]
    assert [int(line) for line in out.split()] == expected


@pytest.mark.cocotb
def test_block_ram_is_block_ram(seed: int) -> None:
    """Every bit of the shell's memory is in block RAM, and works there."""
    size = 8192
    text = netlist(BlockRam(64, size), "blockram")
    counts = cell_counts(text)
    assert counts["DP16KD"] == size // 2048
    assert "TRELLIS_DPR16X4" not in counts
    assert counts["TRELLIS_FF"] < 100, counts
    env = {"BEAT_BYTES": "8", "SIZE": str(size)}
    run_bench(
        f"{text}\n{simulation_cells()}",
        "rowmesh.verif.bench_block_ram",
        sim="icarus",
        seed=seed,
        env=env,
        name="blockram",
    )
