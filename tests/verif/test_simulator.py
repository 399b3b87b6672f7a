"""Builds: shared libraries of Verilator, and what is cached."""

import ctypes
import os
from pathlib import Path

import pytest

from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import Config
from rowmesh.rtl.noc.hop import Hop
from rowmesh.verif import verilator
from rowmesh.verif.simulator import Simulator, bench_config, run_bench
from rowmesh.verif.verilator_library import build_verilator_library

COUNTER = """
module counter(input clk, input rst, input [31:0] step, output [31:0] count);
  reg [31:0] value = 0;
  always @(posedge clk) value <= rst ? 0 : value + step;
  assign count = value;
endmodule
"""
TWO = """
module two(input clk, input rst, input [31:0] step, output [31:0] a, output [31:0] b);
  counter first(.clk(clk), .rst(rst), .step(step), .count(a));
  counter second(.clk(clk), .rst(rst), .step(a), .count(b));
endmodule
"""
HARNESS = """
#include "Vtwo.h"
extern "C" unsigned run(unsigned step, unsigned cycles) {
    VerilatedContext context;
    Vtwo top{&context};
    top.rst = 0;
    top.step = step;
    for (unsigned n = 0; n < cycles; ++n) {
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
    }
    return top.b;
}
"""


@pytest.mark.parametrize("blocks", [(), ("counter",)], ids=["flat", "hierarchical"])
def test_library(blocks: tuple[str, ...], tmp_path: Path) -> None:
    sources = {"counter.v": COUNTER, "two.v": TWO, "harness.cpp": HARNESS}
    paths = {name: tmp_path / name for name in sources}
    for name, text in sources.items():
        paths[name].write_text(text, encoding="utf-8")
    verilog = [paths["counter.v"], paths["two.v"]]

    def build() -> Path:
        return build_verilator_library(
            verilog, [paths["harness.cpp"]], tmp_path / "build", "two", blocks
        )

    library = build()
    run = ctypes.CDLL(str(library)).run
    run.restype = ctypes.c_uint
    # a counts 3, 6, 9; b sums the values of a before each edge.
    assert run(3, 5) == 3 * (0 + 1 + 2 + 3 + 4)
    stamp = library.stat().st_mtime_ns
    assert build().stat().st_mtime_ns == stamp
    paths["harness.cpp"].write_text(HARNESS + "\n", encoding="utf-8")
    assert build() != library


def test_library_error_shows_the_tool(tmp_path: Path) -> None:
    source = tmp_path / "bad.v"
    source.write_text("module bad(input a; endmodule", encoding="utf-8")
    with pytest.raises(RuntimeError, match="syntax error"):
        build_verilator_library([source], [], tmp_path / "build", "bad")


def test_loops_are_errors(tmp_path: Path) -> None:
    """UNOPTFLAT is not waived: a combinational loop stops the build."""
    source = tmp_path / "loop.v"
    source.write_text(
        "module loop(input [3:0] a, output [3:0] y);\n"
        "  wire [3:0] t = {t[2:0], 1'b0} ^ a;\n  assign y = ~(t & {y[0], y[3:1]});\nendmodule\n",
        encoding="utf-8",
    )
    with pytest.raises(RuntimeError, match="UNOPTFLAT"):
        build_verilator_library([source], [], tmp_path / "build", "loop")


def test_bench_is_built_once(
    sim: Simulator, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWMESH_BUILD", str(tmp_path))
    stamps = []
    for _ in range(2):
        run_bench(Hop(9), "rowmesh.verif.bench_stream", sim=sim, seed=seed)
        (done,) = tmp_path.glob("sim/hop-*/*/built")
        stamps.append(done.stat().st_mtime_ns)
    assert stamps[0] == stamps[1]


def test_same_seed_same_run(sim: Simulator, seed: int, tmp_path: Path) -> None:
    """The bench's random numbers come from the seed alone."""
    logs = []
    for number in (seed, seed, seed + 1):
        file = tmp_path / "drawn"
        run_bench(
            Hop(24),
            "rowmesh.verif.bench_stream",
            sim=sim,
            seed=number,
            env={"BENCH_STREAM_RECORD": str(file)},
        )
        logs.append(file.read_text(encoding="utf-8"))
        file.unlink()
    assert logs[0] == logs[1] != logs[2]


@pytest.mark.parametrize("waved", ["verilator", "icarus"])
def test_waves(waved: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if waved == "verilator" and not Path("/usr/include/lz4.h").exists():
        pytest.skip("Verilator's FST writer needs the headers of lz4 (liblz4-dev)")
    monkeypatch.setenv("ROWMESH_BUILD", str(tmp_path))
    monkeypatch.setenv("WAVES", "1")
    tests = ["full_throughput"]
    run_bench(Hop(9), "rowmesh.verif.bench_stream", sim=waved, seed=1, tests=tests)
    (waves,) = tmp_path.glob("sim/*/*/runs/*/dump.fst")
    assert waves.stat().st_size > 100


def test_config_reaches_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROWMESH_CONFIG", raising=False)
    with pytest.raises(ValueError, match="pass config= to run_bench"):
        bench_config()
    monkeypatch.setenv("ROWMESH_CONFIG", '{"pe_rows": 2}')
    assert bench_config() == Config(pe_rows=2)


def test_old_verilator_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "verilator"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for text, good in (("Verilator 5.006 2023", False), ("Verilator 5.036 2025", True)):
        tool.write_text(f"#!/bin/sh\necho '{text}'\n", encoding="utf-8")
        tool.chmod(0o755)
        assert (verilator._system_verilator() is not None) == good


def test_emitted_design_as_library(tmp_path: Path) -> None:
    """The whole way that the fast simulation goes: component, Verilog, library."""
    source = tmp_path / "hop.v"
    source.write_text(emit(Hop(8), "hop"), encoding="utf-8")
    harness = tmp_path / "harness.cpp"
    harness.write_text(
        '#include "Vhop.h"\n'
        'extern "C" int one(int value) {\n'
        "    Vhop top;\n"
        "    top.rst = 0; top.i___05Fvalid = 1; top.i___05Fpayload = value; top.o___05Fready = 0;\n"
        "    top.clk = 0; top.eval(); top.clk = 1; top.eval();\n"
        "    return top.o___05Fvalid ? top.o___05Fpayload : -1;\n"
        "}\n",
        encoding="utf-8",
    )
    library = build_verilator_library([source], [harness], tmp_path / "build", "hop")
    assert ctypes.CDLL(str(library)).one(123) == 123
