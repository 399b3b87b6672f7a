"""The accelerator in a user's design, in Amaranth and in Verilog, runs networks there; FuseSoC."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rowmesh.gen.generate import TOP
from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import load_config
from rowmesh.rtl.top import Top
from rowmesh.verif.simulator import run_bench

ROOT = Path(__file__).resolve().parents[2]
# The ports of `tiny`, on a machine that is quick to build.
CONFIG = dataclasses.replace(load_config("tiny"), pe_rows=1, pe_cols=1, glb_iact_banks=1)
BENCH = "rowmesh.verif.bench_top"
TESTS = ["counts_every_cycle"]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.cocotb
def test_amaranth(seed: int) -> None:
    design = _load(ROOT / "examples" / "amaranth_design.py").Design(CONFIG)
    run_bench(design, BENCH, sim="icarus", seed=seed, config=CONFIG, tests=TESTS)


@pytest.mark.cocotb
def test_verilog(seed: int) -> None:
    text = (ROOT / "examples" / "verilog" / "soc.sv").read_text(encoding="utf-8")
    verilog = f"{emit(Top(CONFIG), TOP)}\n{text}"
    run_bench(verilog, BENCH, sim="icarus", seed=seed, config=CONFIG, tests=TESTS, name="soc")


def _generate(folder: Path, parameters: object) -> "subprocess.CompletedProcess[str]":
    """Run the generator as FuseSoC does; its file of parameters may be JSON, which is YAML."""
    asked = folder / "input.yml"
    asked.write_text(
        json.dumps({"vlnv": "::gen:0", "files_root": str(folder), "parameters": parameters})
    )
    command = [sys.executable, str(ROOT / "tools" / "fusesoc_generator.py"), str(asked)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_fusesoc_generator(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(CONFIG.to_toml())
    shell = {"clock_hz": 25_000_000, "memory_bytes": 1 << 25, "memory": "axi"}
    done = _generate(tmp_path, {"config": "mine.toml", "shell": shell})
    assert done.returncode == 0, done.stderr
    head, _, body = (tmp_path / "rowmesh_generated.core").read_text().partition("\n")
    core = json.loads(body)
    assert (head, core["name"]) == ("CAPI=2:", "::gen:0")
    (file,) = core["filesets"]["rtl"]["files"]
    verilog = (tmp_path / file).read_text()
    assert "module rowmesh_shell(" in verilog and "output [31:0] m_axi_awaddr;" in verilog
    assert f"0x{CONFIG.hash:08x}" in (tmp_path / "rowmesh_regs.h").read_text()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"config": "huge"}, "unknown preset 'huge'"),
        ({"clock": 1}, "unknown parameters ['clock']: there are config and shell"),
        ({"shell": {"clock_hz": 1000, "memory_bytes": 8192}}, "baud = 115200: a clock of 1000 Hz"),
        ({"shell": {"clock": 1}}, "unexpected keyword argument 'clock'"),
    ],
)
def test_fusesoc_generator_refuses(
    tmp_path: Path, parameters: dict[str, object], message: str
) -> None:
    done = _generate(tmp_path, parameters)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "rowmesh_generated.core").exists()


def test_core_file_names_what_there_is() -> None:
    text = (ROOT / "rowmesh.core").read_text(encoding="utf-8")
    assert text.startswith("CAPI=2:\n")
    (command,) = [line.split()[1] for line in text.splitlines() if "command:" in line]
    assert (ROOT / command).is_file()
