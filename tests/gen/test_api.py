"""The Python interface: equal to the command line, on any machine behind registers and memory."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rowmesh
from rowmesh.rtl.config import load_config
from rowmesh.sim_models.model_machine import ModelMachine
from rowmesh.verif.tflite_networks import image_network, streaming_network

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "python_api.py"


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "image.tflite"
    path.write_bytes(image_network(5))
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 11, 9, 5)).astype(np.float32)


def test_names_are_imported_when_used() -> None:
    code = (
        "import sys, rowmesh; print('numpy' in sys.modules); rowmesh.compile; "
        "print('numpy' in sys.modules); print(sorted(set(rowmesh.__all__) - set(dir(rowmesh))))"
    )
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert out[:2] == ["False", "True"]
    for name in rowmesh.__all__:
        assert getattr(rowmesh, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = rowmesh.paint


def test_compiled_network_on_a_machine_equals_golden(image_file: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    network = rowmesh.compile(image_file, "tiny", progress=lines.append)
    assert any("accelerator" in line for line in lines)
    machine = ModelMachine(load_config("tiny"), len(network.compiled.image))
    x = images(2)
    expected = rowmesh.run(image_file, x, "tiny", all_layers=True)
    found = network.run({"image": x}, machine, all_layers=True)
    assert {"scores", "real", "bytes"} <= set(found)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == expected[name].dtype
    assert set(network.run(x, machine)) == {"scores", "real", "bytes"}
    network.save(tmp_path / "p.bin")
    assert (tmp_path / "p.bin").read_bytes() == network.compiled.image
    manifest = json.loads((tmp_path / "p.bin.json").read_text())
    assert manifest["config_hash"] == load_config("tiny").hash


def test_streaming_network_keeps_its_states(tmp_path: Path) -> None:
    path = tmp_path / "stream.tflite"
    path.write_bytes(streaming_network(4))
    frames = np.random.default_rng(3).integers(-128, 128, (6, 2, 6)).astype(np.int8)
    expected = rowmesh.run(path, frames, load_config("tiny"))["level"]
    found = rowmesh.run(path, frames, load_config("tiny"), backend="cycle")["level"]
    np.testing.assert_array_equal(found, expected)
    alone = np.concatenate([rowmesh.run(path, frames[i : i + 1])["level"] for i in range(6)])
    assert np.any(alone != expected), "the states must matter"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: rowmesh.run(path, images(1), backend="paper"),
         "backend 'paper': must be one of golden, cycle, rtl"),
        (lambda path: rowmesh.run(path, {"picture": images(1)}), "unknown input 'picture'"),
        (lambda path: rowmesh.run(path, images(1)[:, :4]), "input 'image' has shape"),
        (lambda path: rowmesh.compile(path, "huge"), "unknown preset 'huge'"),
        (lambda path: rowmesh.compile(path.with_name("none.tflite")), "No such file"),
    ],
)  # fmt: skip
def test_refused(image_file: Path, call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call(image_file)


def test_several_inputs_need_names(tmp_path: Path) -> None:
    from rowmesh.verif.tflite_writer import TfliteWriter

    out = TfliteWriter()
    tensors = [out.tensor(name, (1, 3), scale=0.1) for name in "aby"]
    out.operator("ADD", tensors[:2], tensors[2:], "AddOptions")
    path = tmp_path / "sum.tflite"
    path.write_bytes(out.finish(tensors[:2], tensors[2:]))
    x = np.array([[1, 2, 3]], np.int8)
    np.testing.assert_array_equal(rowmesh.run(path, {"a": x, "b": x})["y"], 2 * x)
    with pytest.raises(rowmesh.RowmeshError, match="the inputs a, b need arrays by name"):
        rowmesh.run(path, x)


def test_example(image_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("python_api", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    np.save(tmp_path / "x.npy", images(1))
    assert example.main([str(image_file), str(tmp_path / "x.npy"), "--config", "tiny"]) == 0
    assert "scores: int8 (1, 7), equal on the machine" in capsys.readouterr().out
