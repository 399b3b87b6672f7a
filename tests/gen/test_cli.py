"""The command line: what it prints, and how it refuses."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rowmesh.gen import cli
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.generate import write_files
from rowmesh.rtl.config import Config, load_config


def rowmesh(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["rowmesh", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, captured.out, captured.err


class TestCommands:
    """All through `main`, as the console script calls it."""

    @pytest.fixture(autouse=True)
    def _call(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.call = lambda *arguments: rowmesh(capsys, monkeypatch, *map(str, arguments))

    def test_config_lists_presets(self) -> None:
        status, out, err = self.call("config")
        assert (status, err) == (0, "")
        presets = ["tiny", "demo", "eyeriss_v2", "fpga_25f", "fpga_85f"]
        assert [line.split()[0] for line in out.splitlines()] == presets
        assert "192 PEs, 384 MACs" in out

    @pytest.mark.parametrize("preset", ["tiny", "demo", "eyeriss_v2"])
    def test_config_reads_back(self, preset: str, tmp_path: Path) -> None:
        status, out, _ = self.call("config", preset)
        assert status == 0
        assert Config.from_mapping(tomllib.loads(out)) == load_config(preset)
        file = tmp_path / "mine.toml"
        file.write_text(out, encoding="utf-8")
        assert self.call("config", file)[1] == out

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            (["config", "eyeriss_v3"], "unknown preset 'eyeriss_v3'; presets: tiny, demo"),
            (["config", "missing.toml"], "missing.toml does not exist"),
            (["generate", "--config", "huge", "-o", "out"], "unknown preset 'huge'"),
            (["compile", "x.onnx", "--config", "huge", "-o", "out"], "unknown preset 'huge'"),
            (["area", "--config", "huge"], "unknown preset 'huge'"),
            (
                ["run", "x.onnx", "--config", "huge", "--input", "x.npy", "-o", "out"],
                "unknown preset 'huge'",
            ),
        ],
        ids=lambda value: value[0] if isinstance(value, list) else "",
    )
    def test_refuses_in_one_line(
        self,
        command: list[str],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        status, out, err = self.call(*command)
        assert (status, out) == (1, "")
        assert err.startswith("rowmesh: error: ")
        assert err.count("\n") == 1
        assert message in err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("cluster_rows = 33", "cluster_rows = 33: must be within 1..32"),
            ("psum_bits = 15", "psum_bits = 15: must be within 16..32"),
            ("macs_per_pe = 3", "macs_per_pe = 3: must be one of [1, 2, 4]"),
            ('pe_rows = "3"', "pe_rows = '3': must be an integer"),
            ("pe_row = 3", "unknown configuration field 'pe_row'"),
            ('base = "none"', "unknown preset 'none'"),
            ("pe_rows = ", "bad.toml: "),
        ],
    )
    def test_refuses_bad_toml(self, text: str, message: str, tmp_path: Path) -> None:
        file = tmp_path / "bad.toml"
        file.write_text(text, encoding="utf-8")
        status, _, err = self.call("generate", "--config", file, "-o", tmp_path / "out")
        assert status == 1
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "command",
        [["paint"], ["generate"], ["run", "x", "--input", "x", "-o", "y", "--backend", "paper"]],
        ids=lambda command: command[0],
    )
    def test_usage(self, command: list[str]) -> None:
        status, _, err = self.call(*command)
        assert status == 2
        assert "Usage" in err

    def test_debug_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["rowmesh", "--debug", "config", "eyeriss_v3"])
        with pytest.raises(ValueError, match="unknown preset"):
            cli.main()


def test_help_shows_the_way_for_a_model_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = rowmesh(capsys, monkeypatch, "run", "--help")
    assert status == 0
    lines = [line.strip() for line in out.splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("python -c"))
    assert lines[first + 1 : first + 3] == [
        "rowmesh compile model.tflite -o model.prog",
        "rowmesh run model.tflite --input x.npy -o y.npz --backend rtl",
    ]


def test_write_refuses_a_file_as_folder(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("", encoding="utf-8")
    with pytest.raises(RowmeshError, match="cannot write"):
        write_files({"a": "b"}, file)


def test_help_is_quick() -> None:
    """Nothing heavy is imported before a command needs it."""
    code = (
        "import sys, rowmesh.gen.cli; "
        "print([m for m in ('amaranth', 'numpy', 'onnx', 'cocotb') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
