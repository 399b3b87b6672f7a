"""Combinational loops are found across modules, bit by bit, and named."""

from pathlib import Path

import pytest

from rowmesh.gen.verilog import emit, emit_rtlil
from rowmesh.rtl.config import PRESETS
from rowmesh.rtl.post.post import Post
from rowmesh.rtl.top import Top
from rowmesh.synth.check import check_loops
from rowmesh.synth.yosys import quiet, run

PASS = "module pass(input [1:0] a, output [1:0] y); assign y = ~a; endmodule\n"


def check(tmp_path: Path, text: str) -> None:
    path = tmp_path / "design.v"
    path.write_text(text, encoding="utf-8")
    check_loops(path, "top")


def test_loop_across_modules(tmp_path: Path) -> None:
    top = """
    module top(input x, output z);
      wire [1:0] there, back;
      pass one(.a({x, back[0]}), .y(there));
      pass two(.a(there), .y(back));
      assign z = back[1];
    endmodule
    """
    with pytest.raises(RuntimeError, match="combinational loop in module top") as caught:
        check(tmp_path, PASS + top)
    message = str(caught.value)
    assert "through one (pass)" in message and "through two (pass)" in message
    assert "there[0]" in message and "back[0]" in message
    assert "[1]" not in message


def test_loop_below_top(tmp_path: Path) -> None:
    text = """
    module inner(input a, output y); wire w; assign w = a & ~y; assign y = w | a; endmodule
    module top(input a, output y); inner i(.a(a), .y(y)); endmodule
    """
    with pytest.raises(RuntimeError, match="combinational loop in module inner: .*y.*->"):
        check(tmp_path, text)


@pytest.mark.parametrize(
    "body",
    [
        # Bit 0 goes out and comes back as bit 1: only words go round, no bit does.
        "wire [1:0] y; pass p(.a({y[0], x}), .y(y)); assign z = y[1];",
        # A carry goes up only.
        "wire [1:0] s, t; assign s = {t[0], x} + 2'd1; assign t = s; assign z = s[1];",
        "reg r; always @(posedge clk) r <= ~y; wire y = r & x; assign z = y;",
        # A memory read by a register's value.
        "reg q; reg m [0:1]; always @(posedge clk) begin q <= m[q]; m[x] <= q; end assign z = q;",
    ],
)
def test_no_loop(tmp_path: Path, body: str) -> None:
    check(tmp_path, f"{PASS}module top(input clk, input x, output z); {body} endmodule\n")


@pytest.mark.parametrize(
    "body",
    [
        # Down the word, against the carry.
        "wire [1:0] s; assign s = {x, s[1]} + 2'd1; assign z = s[0];",
        "wire y = x ? ~y : 1'b0; assign z = y;",
        "reg m [0:1]; always @(posedge clk) m[x] <= z; assign z = m[z];",
    ],
)
def test_loop(tmp_path: Path, body: str) -> None:
    with pytest.raises(RuntimeError, match="combinational loop in module top"):
        check(tmp_path, f"module top(input clk, input x, output z); {body} endmodule\n")


def test_latch(tmp_path: Path) -> None:
    text = "module top(input e, d, output reg q); always @* if (e) q = d; endmodule\n"
    with pytest.raises(RuntimeError, match="latch in module top"):
        check(tmp_path, text)


def test_missing_module(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no_such"):
        check(tmp_path, "module top(input a); no_such n(.a(a)); endmodule\n")


@pytest.mark.parametrize("preset", PRESETS)
def test_accelerator(tmp_path: Path, preset: str) -> None:
    """The whole machine, mesh included: across modules by ours, within them by Yosys' own check."""
    source = tmp_path / "top.v"
    source.write_text(emit(Top(PRESETS[preset]()), "rowmesh"), encoding="utf-8")
    script = "read_verilog -sv top.v\nhierarchy -check -top rowmesh\nproc\ncheck -assert\n"
    run(script, tmp_path, name="check", watch=quiet, progress=quiet)
    check_loops(tmp_path / "top.v", "rowmesh")


def test_component(tmp_path: Path) -> None:
    post = Post(PRESETS["tiny"]())
    (tmp_path / "post.v").write_text(emit(post, "post"), encoding="utf-8")
    check_loops(tmp_path / "post.v", "post")
    (tmp_path / "post.il").write_text(emit_rtlil(post, "post"), encoding="utf-8")
    modules: list[str] = []
    check_loops(tmp_path / "post.il", "post", progress=modules.append)
    assert any("requantize" in line for line in modules)
