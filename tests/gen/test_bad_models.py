"""Bad models and inputs on the command line: one line, exit status 1, no output file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen import cli
from rowmesh.verif.tflite_networks import image_network, streaming_network
from rowmesh.verif.tflite_writer import TfliteWriter


def tflite_conv(
    dtype: str = "int8", signature: tuple[int, ...] | None = None, code: str = "CONV_2D"
) -> bytes:
    """One convolution of any type."""
    out = TfliteWriter()
    quant: dict[str, Any] = {} if dtype == "float32" else {"scale": 0.1, "zero_point": 3}
    x = out.tensor("x", (1, 4, 5, 2), dtype, signature=signature, **quant)
    kind = np.dtype(dtype)
    steps = quant | {"zero_point": 0} if dtype == "int8" else quant
    w = out.tensor("w", (3, 1, 1, 2), dtype, data=np.ones((3, 1, 1, 2), kind), **steps)
    y = out.tensor("y", (1, 4, 5, 3), dtype, **quant)
    if code == "CONV_2D":
        out.operator(code, [x, w, -1], [y], "Conv2DOptions", Padding=1, StrideH=1, StrideW=1,
                     DilationHFactor=1, DilationWFactor=1)  # fmt: skip
    else:
        out.operator(code, [x], [y])
    return out.finish([x], [y])


def onnx_conv(op: str = "Conv", shape: tuple[int | str, ...] = (1, 2, 4, 5)) -> bytes:
    """One float convolution."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], name="first")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = made.SerializeToString()
    return data


def tflite_mixed() -> bytes:
    """An int8 convolution whose output a float addition reads."""
    out = TfliteWriter()
    x = out.tensor("x", (1, 4, 5, 2), scale=0.1)
    w = out.tensor("w", (3, 1, 1, 2), scale=0.1, data=np.ones((3, 1, 1, 2), np.int8))
    y = out.tensor("y", (1, 4, 5, 3), scale=0.1)
    real, total = (out.tensor(name, (1, 4, 5, 3), "float32") for name in ("real", "total"))
    out.operator("CONV_2D", [x, w, -1], [y], "Conv2DOptions", Padding=1, StrideH=1, StrideW=1,
                 DilationHFactor=1, DilationWFactor=1)  # fmt: skip
    out.operator("DEQUANTIZE", [y], [real])
    out.operator("ADD", [real, real], [total], "AddOptions")
    return out.finish([x], [total])


INT8 = np.zeros((2, 4, 5, 2), np.int8)
REAL = INT8.astype(np.float32)
IMAGES = np.zeros((2, 2, 4, 5), np.float32)
NAN = IMAGES.copy()
NAN[0, 0, 0, 0] = np.nan

#: name: file, input, calibration (or None), what the line says.
CASES: dict[str, tuple[bytes, np.ndarray, np.ndarray | None, str]] = {
    "float.tflite": (tflite_conv("float32"), REAL, None,
                     "float.tflite: conv 'y' reads float 'x': a float network needs example"),
    "float.onnx": (onnx_conv(), IMAGES, None, "conv 'first' reads float 'x': a float network"),
    "uint8.tflite": (tflite_conv("uint8"), INT8.astype(np.uint8), None,
                     "CONV_2D 0 (makes 'y'): tensor 'x' is UINT8"),
    "mixed.tflite": (tflite_mixed(), INT8, None,
                     "add 'total' of an int8 network computes tensor 'total' in float32"),
    "dynamic.tflite": (tflite_conv(signature=(-1, 4, -1, 2)), INT8, None,
                       "tensor 'x' has the dynamic shape [-1, 4, -1, 2]"),
    "dynamic.onnx": (onnx_conv(shape=(1, 2, "rows", 5)), IMAGES, IMAGES,
                     "input 'x' has a dynamic shape: dimension 2 is rows"),
    "operator.tflite": (tflite_conv(code="GELU"), INT8, None,
                        "GELU 0 (makes 'y'): unsupported operator GELU"),
    "operator.onnx": (onnx_conv("Einsum"), IMAGES, IMAGES,
                      "Einsum 'first' (makes 'y'): unsupported operator Einsum"),
    "cut.tflite": (image_network(1)[:5000], INT8, None, "cut.tflite: a TFLite file that is trunc"),
    "cut.onnx": (onnx_conv()[:-20], IMAGES, IMAGES, "cut.onnx: not an ONNX file, or truncated"),
    "text.tflite": (b"no model at all\n" * 20, INT8, None, "text.tflite: not a TFLite file"),
    "text.onnx": (b"no model at all\n" * 20, IMAGES, None, "text.onnx: not an ONNX file"),
    "text.bin": (b"\0" * 64, IMAGES, None, "text.bin: not "),
    "empty.tflite": (b"", INT8, None, "empty.tflite: not a TFLite file"),
    "shape.tflite": (tflite_conv(), INT8[:, :3], None,
                     "input 'x' has shape (2, 3, 5, 2): must be (N, 4, 5, 2)"),
    "type.tflite": (tflite_conv(), REAL, None, "input 'x' is float32: must be int8"),
    "type.onnx": (onnx_conv(), IMAGES.astype(np.float64), IMAGES,
                  "input 'x' is float64: must be float32"),
    "nan.onnx": (onnx_conv(), IMAGES, NAN, "calibration data for input 'x' hold NaN"),
    "nan.tflite": (tflite_conv("float32"), REAL, np.full(REAL.shape, np.nan, np.float32),
                   "calibration data for input 'x' hold NaN"),
    "nan-input.onnx": (onnx_conv(), NAN, IMAGES, "input 'x' holds NaN or infinity"),
    "samples.onnx": (onnx_conv(), IMAGES, IMAGES[:, :1],
                     "input 'x' has shape (2, 1, 4, 5): must be (N, 2, 4, 5)"),
    "names.tflite": (streaming_network(1), np.zeros((2, 2, 5), np.int8), None,
                     "input 'frame' has shape (2, 2, 5): must be (N, 2, 6)"),
}  # fmt: skip
#: Cases where it is the input of a run that is bad.
INPUTS = ("shape", "type", "nan-input", "names")

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def rowmesh(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rowmesh", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, captured.out, captured.err

    return rowmesh


@pytest.mark.parametrize("command", ["run", "compile"])
@pytest.mark.parametrize("name", CASES)
def test_refused(tmp_path: Path, call: Call, name: str, command: str) -> None:
    content, inputs, calibration, message = CASES[name]
    if command == "compile" and name.split(".")[0] in INPUTS:
        pytest.skip("it is the input of a run that is bad")
    (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "x.npy", inputs)
    arguments = [command, tmp_path / name, "--config", "tiny", "-o", tmp_path / "out"]
    if command == "run":
        arguments += ["--input", tmp_path / "x.npy"]
    if calibration is not None:
        np.save(tmp_path / "cal.npy", calibration)
        arguments += ["--calibration", tmp_path / "cal.npy"]
    before = set(tmp_path.iterdir())
    status, out, err = call(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("rowmesh: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert set(tmp_path.iterdir()) == before


def test_float_tflite_with_calibration(tmp_path: Path, call: Call) -> None:
    """It is quantized as a float ONNX file is."""
    rng = np.random.default_rng(1)
    (tmp_path / "m.tflite").write_bytes(tflite_conv("float32"))
    x = rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    status, _, err = call(
        "run", tmp_path / "m.tflite", "--config", "tiny", "--input", tmp_path / "x.npy",
        "--calibration", tmp_path / "x.npy", "-o", tmp_path / "y.npz", "--backend", "cycle",
    )  # fmt: skip
    assert status == 0, err
    with np.load(tmp_path / "y.npz") as found:
        expected = np.repeat(x.sum(axis=-1, keepdims=True), 3, axis=-1)
        assert found["y"].dtype == np.float32
        assert np.abs(found["y"] - expected).max() < 0.05 * np.abs(expected).max()


def test_several_inputs_by_name(tmp_path: Path, call: Call) -> None:
    """A .npz file gives them; a single array cannot."""
    out = TfliteWriter()
    a = out.tensor("first:0", (1, 3), scale=0.1, zero_point=1)
    b = out.tensor("second:0", (1, 3), scale=0.2, zero_point=2)
    y = out.tensor("sum", (1, 3), scale=0.3, zero_point=3)
    out.operator("ADD", [a, b], [y], "AddOptions")
    (tmp_path / "m.tflite").write_bytes(out.finish([a, b], [y]))
    values = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    np.savez(tmp_path / "x.npz", **{"first:0": values, "second:0": -values})
    np.save(tmp_path / "x.npy", values)
    arguments = ["run", tmp_path / "m.tflite", "-o", tmp_path / "y.npz", "--input"]
    assert call(*arguments, tmp_path / "x.npz")[0] == 0
    with np.load(tmp_path / "y.npz") as found:
        real = 0.1 * (values - 1.0) + 0.2 * (-values - 2.0)
        np.testing.assert_array_equal(found["sum"], np.floor(real / 0.3 + 0.5) + 3)
    status, _, err = call(*arguments, tmp_path / "x.npy")
    assert status == 1
    assert "the inputs first:0, second:0 need a .npz file by name" in err


def test_model_file_is_read_by_its_content(tmp_path: Path, call: Call) -> None:
    """A TFLite file under any name."""
    (tmp_path / "model.dat").write_bytes(tflite_conv())
    np.save(tmp_path / "x.npy", INT8)
    status, _, _ = call("run", tmp_path / "model.dat", "--input", tmp_path / "x.npy",
                        "-o", tmp_path / "y.npz")  # fmt: skip
    assert status == 0
