"""`rowmesh compile` and `rowmesh run`: files in, files out, and how they refuse."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen import flow
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.flow import compile_model, load_graph, read_arrays, run_model, write_arrays
from rowmesh.gen.run_record import load_record
from rowmesh.rtl.config import load_config
from rowmesh.sim_models import golden

TINY = load_config("tiny")


def small_model() -> onnx.ModelProto:
    """Convolution, ReLU, pooling, fully connected layer; input NCHW."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "b"], ["y"], name="fc", transB=1),
    ]
    constants = {
        "w": rng.normal(0, 0.3, (4, 2, 3, 3)),
        "v": rng.normal(0, 0.3, (5, 48)),
        "b": rng.normal(0, 0.3, 5),
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a model, inputs and calibration inputs."""
    rng = np.random.default_rng(2)
    onnx.save(small_model(), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", rng.normal(size=(3, 2, 6, 8)).astype(np.float32))
    np.save(tmp_path / "cal.npy", rng.normal(size=(20, 2, 6, 8)).astype(np.float32))
    return tmp_path


Run = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def run(files: Path) -> Run:
    def call(backend: str = "golden", **options: object) -> dict[str, np.ndarray]:
        arguments = {"inputs": "x.npy", "model": "m.onnx", "out": "y.npz", "calibration": "cal.npy"}
        arguments |= {name: str(options.pop(name)) for name in arguments if name in options}
        paths = {name: files / path for name, path in arguments.items()}
        run_model(
            paths["model"],
            TINY,
            paths["inputs"],
            paths["out"],
            backend=backend,
            calibration=paths["calibration"],
            **options,  # type: ignore[arg-type]
        )
        with np.load(paths["out"]) as found:
            return {name: found[name] for name in found.files}

    return call


def test_golden_is_near_onnxruntime(files: Path, run: Run) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(str(files / "m.onnx"), providers=["CPUExecutionProvider"])
    x = np.load(files / "x.npy")
    expected = np.concatenate([session.run(None, {"x": x[i : i + 1]})[0] for i in range(3)])
    found = run()
    assert list(found) == ["y"]
    assert found["y"].dtype == np.float32
    assert np.abs(found["y"] - expected).max() < 0.05 * np.abs(expected).max()


def test_all_layers_in_the_model_layout(files: Path, run: Run) -> None:
    found = run(all_layers=True)
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {"r": (3, 4, 6, 8), "m": (3, 4, 3, 4), "f": (3, 48), "y": (3, 5)}
    pooled = found["r"].reshape(3, 4, 3, 2, 4, 2).max(axis=(3, 5))
    np.testing.assert_array_equal(found["m"], pooled)
    np.testing.assert_array_equal(found["f"], pooled.reshape(3, -1))


def test_program_level_backend_equals_golden(run: Run) -> None:
    lines: list[str] = []
    expected = run(all_layers=True)
    found = run("cycle", all_layers=True, progress=lines.append)
    # The convolution's own tensor does not exist: its pooling is fused.
    assert set(found) == {"m", "f", "y"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
    text = "\n".join(lines)
    assert "MaxPool" not in text and "fused into the convolution" in text
    assert any(line.startswith("conv ") and "accelerator" in line for line in lines)
    assert "cycles an image predicted" in text


def test_named_inputs_and_same_bytes(files: Path, run: Run) -> None:
    np.savez(files / "x.npz", x=np.load(files / "x.npy"))
    run()
    first = (files / "y.npz").read_bytes()
    run(inputs="x.npz")
    assert (files / "y.npz").read_bytes() == first


def test_int8_model_stays_int8(files: Path) -> None:
    network = dataclasses.replace(load_graph(files / "m.onnx", files / "cal.npy"), real=False)
    x = np.random.default_rng(3).integers(-128, 128, (2, 2, 6, 8)).astype(np.int8)
    taken = network.take({"x": x})
    np.testing.assert_array_equal(taken["x"], x.transpose(0, 2, 3, 1))
    given = network.give(golden.run(network.graph, taken), all_layers=True)
    assert {array.dtype for array in given.values()} == {np.dtype(np.int8)}
    with pytest.raises(RowmeshError, match="'x' is float32: must be int8"):
        network.take({"x": x.astype(np.float32)})


def broken(name: str, files: Path) -> None:
    """Make one of the files wrong."""
    x = np.load(files / "x.npy")
    match name:
        case "shape":
            np.save(files / "x.npy", x[:, :, :5])
        case "rank":
            np.save(files / "x.npy", x[0])
        case "type":
            np.save(files / "x.npy", x.astype(np.float64))
        case "nan":
            x[1, 0, 2, 3] = np.nan
            np.save(files / "x.npy", x)
        case "empty":
            np.save(files / "x.npy", x[:0])
        case "text":
            (files / "x.npy").write_text("1 2 3")
        case "cut":
            (files / "x.npy").write_bytes((files / "x.npy").read_bytes()[:200])
        case "missing":
            (files / "x.npy").unlink()
        case "name":
            with (files / "x.npy").open("wb") as file:
                np.savez(file, image=x)
        case "no model":
            (files / "m.onnx").write_text("hello")
        case "calibration shape":
            np.save(files / "cal.npy", x[:, :, :5])
        case "calibration nan":
            np.save(files / "cal.npy", np.full_like(x, np.nan))
        case _:
            raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shape", r"input 'x' has shape \(3, 2, 5, 8\): must be \(N, 2, 6, 8\)"),
        ("rank", r"input 'x' has shape \(2, 6, 8\): must be \(N, 2, 6, 8\)"),
        ("type", "input 'x' is float64: must be float32"),
        ("nan", "input 'x' holds NaN or infinity"),
        ("empty", r"input 'x' has shape \(0, 2, 6, 8\)"),
        ("text", "x.npy: not a .npy or .npz file, or damaged"),
        ("cut", "x.npy: not a .npy or .npz file, or damaged"),
        ("missing", "x.npy: No such file"),
        ("name", "unknown input 'image'; inputs: x"),
        ("no model", "m.onnx: not an ONNX file, or truncated"),
        ("calibration shape", r"cal.npy: input 'x' has shape \(3, 2, 5, 8\)"),
        ("calibration nan", "calibration data for input 'x' hold NaN or infinity"),
    ],
)
def test_refuses(name: str, message: str, files: Path, run: Run) -> None:
    broken(name, files)
    before = sorted(files.iterdir())
    with pytest.raises(RowmeshError, match=message):
        run()
    assert sorted(files.iterdir()) == before, "nothing is written"


def test_float_needs_calibration(files: Path) -> None:
    with pytest.raises(RowmeshError, match=r"m.onnx: conv 'conv' reads float 'x': .*--calibration"):
        load_graph(files / "m.onnx")


def test_several_inputs_need_names(files: Path) -> None:
    with pytest.raises(RowmeshError, match="the inputs a, b need a .npz file by name"):
        read_arrays(files / "x.npy", ("a", "b"))


def test_refuses_where_it_cannot_write(files: Path, run: Run) -> None:
    with pytest.raises(RowmeshError, match="the folder .*none does not exist"):
        run(out="none/y.npz")
    (files / "y").mkdir()
    with pytest.raises(RowmeshError, match="it is a folder"):
        run(out="y")


def test_a_failed_run_keeps_the_old_result(
    files: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    old = (files / "y.npz").read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flow.np.lib.format, "write_array", fail)
    with pytest.raises(RowmeshError, match="cannot write .*No space left"):
        run()
    assert (files / "y.npz").read_bytes() == old
    assert not list(files.glob("*.part"))
    assert not list(files.glob("*.run.json"))


def test_icarus_equals_golden(files: Path, run: Run) -> None:
    np.save(files / "x.npy", np.load(files / "x.npy")[:2])
    lines: list[str] = []
    expected = run(all_layers=True)
    found = run("rtl", sim="icarus", all_layers=True, progress=lines.append)
    assert set(found) == {"m", "f", "y"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
    assert any(line.endswith("cycles an image measured") for line in lines)
    record = load_record(files / "y.run.json")
    assert (record.model, record.simulator) == ("m.onnx", "icarus")
    assert [layer.name for layer in record.layers] == ["conv", "fc"]
    assert record.cycles == record.image_cycles[0]


def test_unknown_simulator(run: Run) -> None:
    with pytest.raises(RowmeshError, match="simulator 'iverilog': must be one of verilator, icar"):
        run("rtl", sim="iverilog")


def test_compile(files: Path) -> None:
    lines: list[str] = []
    compile_model(
        files / "m.onnx",
        TINY,
        files / "p.bin",
        calibration=files / "cal.npy",
        strict=True,
        progress=lines.append,
    )
    manifest = json.loads((files / "p.bin.json").read_text())
    assert manifest["config_hash"] == TINY.hash
    assert manifest["write_limit"] < len((files / "p.bin").read_bytes())
    (program,) = manifest["programs"]
    assert program["address"] + 8 * program["words"] <= len((files / "p.bin").read_bytes())
    layers = [line.split(":")[0] for line in lines if " cycles predicted, " in line]
    assert layers == ["conv", "fc"]


def test_strict_refuses_and_plain_warns(files: Path) -> None:
    narrow = dataclasses.replace(TINY, psum_bits=16)
    arguments = (files / "m.onnx", narrow, files / "p.bin")
    with pytest.raises(RowmeshError, match=r"layer conv: psum_bits = 16 .*\(--strict\)"):
        compile_model(*arguments, calibration=files / "cal.npy", strict=True)
    assert not (files / "p.bin").exists()
    assert not (files / "p.bin.json").exists()
    lines: list[str] = []
    compile_model(*arguments, calibration=files / "cal.npy", progress=lines.append)
    assert any(line.startswith("warning: layer conv: psum_bits = 16") for line in lines)
    assert (files / "p.bin").exists()


def test_written_names_are_any(tmp_path: Path) -> None:
    """Tensor names of models hold slashes, and `file` is one that numpy does not take."""
    arrays = {"a/b:0": np.arange(3), "file": np.float32([[1, 2]])}
    write_arrays(tmp_path / "y.npz", arrays)
    with np.load(tmp_path / "y.npz") as found:
        assert set(found.files) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
