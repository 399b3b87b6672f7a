"""ONNX import and quantization: against ONNX Runtime's float result, and bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen.datasets import mnist_conv_path, mnist_images, synthetic_digits
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.import_onnx import import_onnx, import_onnx_model
from rowmesh.gen.quantize import MAX_SHIFT, quantize_graph, quantize_multiplier
from rowmesh.sim_models.golden import float_outputs, run
from rowmesh.sim_models.golden_float import float_run
from rowmesh.sim_models.golden_ops import requant


def model(
    nodes: list[Any], shape: list[Any], constants: dict[str, np.ndarray], outputs: list[str]
) -> onnx.ModelProto:
    """A float model with input x."""
    proto = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def network(rng: np.random.Generator) -> onnx.ModelProto:
    """Conv with groups, dilation and uneven pads, residual Add, pools, Clip, Gemm, MatMul."""

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1"], ["c1"], pads=[0, 1, 2, 1], strides=[1, 2]),
        make("Add", ["c1", "b1"], ["p1"]),
        make("Relu", ["p1"], ["r1"]),
        make("Conv", ["r1", "w2", "b2"], ["c2"], auto_pad="SAME_UPPER", group=4),
        make("Clip", ["c2", "lo", "hi"], ["r2"]),
        make("Add", ["r1", "r2"], ["s"]),
        make("MaxPool", ["s"], ["m"], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
        make("Identity", ["m"], ["mi"]),
        make("Conv", ["mi", "w3", "b2"], ["c3"], dilations=[2, 1], auto_pad="NOTSET"),
        make("AveragePool", ["c3"], ["a"], kernel_shape=[2, 1]),
        make("Flatten", ["a"], ["f"]),
        make("Gemm", ["f", "w4", "b4"], ["g"], transB=1, alpha=0.5, beta=2.0),
        make("Relu", ["g"], ["r4"]),
        make("Reshape", ["w5", "w5_shape"], ["w5r"]),
        make("MatMul", ["r4", "w5r"], ["y0"]),
        make("Add", ["b5", "y0"], ["y"]),
    ]
    constants = {
        "w1": weights(8, 3, 3, 2), "b1": weights(8, 1, 1), "w2": weights(8, 2, 3, 3),
        "b2": weights(8), "lo": np.array(0, np.float32), "hi": np.array(1.5, np.float32),
        "w3": weights(8, 8, 2, 3),
        "w4": weights(20, 48), "b4": weights(20), "w5": weights(2, 10, 7), "b5": weights(1, 7),
        "w5_shape": np.array([20, -1]),
    }  # fmt: skip
    return model(nodes, [2, 3, 12, 15], constants, ["y", "a"])


def reference(proto: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    result: list[np.ndarray] = session.run(None, {"x": x})
    return result


@pytest.mark.parametrize("seed", range(5))
def test_network_equals_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    proto = network(rng)
    graph = import_onnx_model(proto, "net")
    x = rng.normal(size=(2, 3, 12, 15)).astype(np.float32)
    expected = dict(zip(["y", "a"], reference(proto, x), strict=True))
    values = graph.to_model(float_run(graph, graph.from_model({"x": x})))
    np.testing.assert_allclose(values["y"], expected["y"], atol=1e-4)
    np.testing.assert_allclose(values["a"], expected["a"], atol=1e-4)
    quantized = quantize_graph(graph, graph.from_model({"x": x}))
    out = float_outputs(quantized, run(quantized, graph.from_model({"x": x})))
    error = np.abs(out["y"] - expected["y"]).max() / np.abs(expected["y"]).max()
    assert error < 0.08
    assert quantized.quant("r1").zero_point == -128
    assert quantized.quant("m").scale[0] == quantized.quant("s").scale[0]


def test_plain_reshape_keeps_the_model_order() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m"], kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["m", "shape"], ["v"]),
        helper.make_node("Reshape", ["v", "back"], ["w"]),
        helper.make_node("MaxPool", ["w"], ["y"], kernel_shape=[2, 1], strides=[2, 1]),
    ]
    shapes = {"shape": np.array([0, -1, 2]), "back": np.array([1, 2, 12, 1])}
    proto = model(nodes, [1, 2, 3, 4], shapes, ["y", "v"])
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    graph = import_onnx_model(proto, "net")
    values = graph.to_model(float_run(graph, graph.from_model({"x": x})))
    for name, array in zip(["y", "v"], reference(proto, x), strict=True):
        np.testing.assert_array_equal(values[name], array)


@pytest.mark.parametrize("before", ["Conv", "MaxPool", "Gemm"])
def test_batch_normalization_equals_onnxruntime(before: str) -> None:
    rng = np.random.default_rng(len(before))
    constants = {name: rng.uniform(0.5, 2, 4).astype(np.float32) for name in "gomv"}
    constants |= {
        "w": rng.normal(size=(4, 4, 3, 3)).astype(np.float32),
        "u": rng.normal(size=(80, 4)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
    }
    first = {
        "Conv": helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        "MaxPool": helper.make_node("MaxPool", ["x"], ["c"], kernel_shape=[2, 2]),
        "Gemm": helper.make_node("Gemm", ["f", "u"], ["c"]),
    }[before]
    nodes = [
        *([helper.make_node("Flatten", ["x"], ["f"])] if before == "Gemm" else []),
        first,
        helper.make_node("BatchNormalization", ["c", *"gomv"], ["n"], epsilon=1e-3),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    proto = model(nodes, [2, 4, 5, 4], constants, ["y"])
    x = rng.normal(size=(2, 4, 5, 4)).astype(np.float32)
    graph = import_onnx_model(proto, "net")
    found = graph.to_model(float_run(graph, graph.from_model({"x": x})))["y"]
    np.testing.assert_allclose(found, reference(proto, x)[0], rtol=1e-4, atol=1e-4)
    quantized = quantize_graph(graph, graph.from_model({"x": x}))
    out = float_outputs(quantized, run(quantized, graph.from_model({"x": x})))["y"]
    assert np.abs(out - found).max() < 0.05 * np.abs(found).max()


def test_operators_around_a_float_network() -> None:
    """Softmax, concatenation, slices, padding and lone activations, in float and in int8."""
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["c"]),
        helper.make_node("Split", ["c"], ["s1", "s2"], axis=1),
        helper.make_node("Sigmoid", ["s1"], ["g"]),
        helper.make_node("Concat", ["g", "s2"], ["k"], axis=1),
        helper.make_node("Slice", ["k", "starts", "ends", "axes"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Add", ["r", "offset"], ["o"]),
        helper.make_node("ReduceMean", ["o"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["m"], ["y"]),
    ]
    rng = np.random.default_rng(5)
    constants = {
        "pads": np.array([0, 0, 1, 0, 0, 0, 1, 2]), "starts": np.array([0, 1]),
        "ends": np.array([3, 9]), "axes": np.array([1, 3]),
        "w": rng.normal(0, 0.5, (6, 3, 3, 3)).astype(np.float32),
        "offset": rng.normal(size=(3, 1, 1)).astype(np.float32),
    }  # fmt: skip
    proto = model(nodes, [2, 3, 6, 5], constants, ["y", "o"])
    x = rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
    graph = import_onnx_model(proto, "net")
    found = graph.to_model(float_run(graph, graph.from_model({"x": x})))
    expected = dict(zip(["y", "o"], reference(proto, x), strict=True))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)
    quantized = quantize_graph(graph, graph.from_model({"x": x}))
    out = float_outputs(quantized, run(quantized, graph.from_model({"x": x})))
    for name, array in expected.items():
        assert np.abs(out[name] - array).max() < 0.05 * np.abs(array).max()


CONV = helper.make_node("Conv", ["x", "w"], ["y"], name="first")
W = {"w": np.ones((4, 3, 3, 3), np.float32)}


@pytest.mark.parametrize(
    ("nodes", "shape", "constants", "message"),
    [
        ([helper.make_node("Sinh", ["x"], ["y"], name="s")], [1, 3, 8, 8], {},
         "Sinh 's' .makes 'y'.: unsupported operator Sinh"),
        ([CONV], ["batch", 3, 8, 8], W, "input 'x' has a dynamic shape: dimension 0 is batch"),
        ([CONV], [1, 3, 8, 8], {}, "Conv 'first' .makes 'y'.: missing initializer 'w'"),
        ([CONV], [1, 4, 8, 8], W, "4 channels, weights"),
        ([CONV], [1, 3, 2, 8], W, "window .* larger than the padded input"),
        ([helper.make_node("Conv", ["x", "w"], ["y"], foo=1)], [1, 3, 8, 8], W,
         "unsupported attribute 'foo'"),
        ([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=1)],
         [1, 3, 8, 8], {}, "MaxPool 'y' .*unsupported attribute ceil_mode = 1"),
        ([helper.make_node("Add", ["x", "w"], ["y"])], [1, 3, 8, 8], W,
         r"Add 'y' .*constant 'w' of shape \(4, 3, 3, 3\) does not fit \(1, 3, 8, 8\)"),
    ],
)  # fmt: skip
def test_refused(
    nodes: list[Any], shape: list[Any], constants: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(RowmeshError, match=message):
        import_onnx_model(model(nodes, shape, constants, ["y"]), "net")


@pytest.mark.parametrize("kind", ["absent", "empty", "text", "truncated"])
def test_not_a_model(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.onnx"
    whole = network(np.random.default_rng(0)).SerializeToString()
    if kind != "absent":
        contents = {"empty": b"", "text": b"hello world\n" * 9, "truncated": whole[:-100]}
        path.write_bytes(contents[kind])
    match = "No such file" if kind == "absent" else "not an ONNX file, or truncated"
    with pytest.raises(RowmeshError, match=match):
        import_onnx(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "no calibration data for input 'x'"),
        ({"x": np.zeros((0, 12, 15, 3))}, "input 'x' are empty"),
        ({"x": np.zeros((2, 3, 12, 15))}, r"have shape \(2, 3, 12, 15\)"),
        ({"x": np.full((2, 12, 15, 3), np.nan)}, "input 'x' hold NaN or infinity"),
        ({"x": np.full((2, 12, 15, 3), np.inf)}, "input 'x' hold NaN or infinity"),
    ],
)
def test_bad_calibration(data: dict[str, np.ndarray], message: str) -> None:
    graph = import_onnx_model(network(np.random.default_rng(0)), "net")
    with pytest.raises(RowmeshError, match=message):
        quantize_graph(graph, data)


def test_dead_channel_and_constant_input() -> None:
    bias = np.array([0, 1e3, -2, 3], np.float32)
    constants = {"w": np.zeros((4, 3, 3, 3), np.float32), "b": bias}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
    graph = import_onnx_model(model(nodes, [1, 3, 5, 5], constants, ["y"]), "net")
    x = {"x": np.zeros((1, 5, 5, 3), np.float32)}
    quantized = quantize_graph(graph, x)
    out = float_outputs(quantized, run(quantized, x))["y"][0, :, 0, 0]
    np.testing.assert_allclose(out, bias, atol=2.1)


@pytest.mark.parametrize("exponent", [-40, -33, -32, -31, -20, -1, 0, 1, 20, 29])
def test_quantize_multiplier(exponent: int) -> None:
    for fraction in (1.0, 1.3, 1.9999999):
        scale = fraction * 2.0**exponent
        multiplier, shift = quantize_multiplier(scale)
        assert 1 <= shift <= MAX_SHIFT
        if scale < 2.0**-32:
            assert multiplier == 0
        else:
            assert 1 << 30 <= multiplier < 1 << 31
            assert abs(multiplier * 2.0**-shift / scale - 1) <= 2.0**-30


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 2.0**30])
def test_multiplier_out_of_range(scale: float) -> None:
    with pytest.raises(RowmeshError, match="requantization scale"):
        quantize_multiplier(scale)


def test_requant_halves() -> None:
    multiplier, shift = (np.array(value) for value in quantize_multiplier(0.25))
    acc = np.array([-6, -2, -1, 1, 2, 3, 6])
    # Single rounds x/4 once, halves up. Double rounds to x/2 with halves up, then that to x/4 with
    # halves away from zero: 1/4 becomes 1/2 becomes 1.
    assert requant(acc, multiplier, shift, "single").tolist() == [-1, 0, 0, 0, 1, 1, 2]
    assert requant(acc, multiplier, shift, "double").tolist() == [-2, -1, 0, 1, 1, 1, 2]
    with pytest.raises(ValueError, match="rounding 'up'"):
        requant(acc, multiplier, shift, "up")


def test_mnist_conv_accuracy() -> None:
    try:
        path = mnist_conv_path()
        images, labels = mnist_images()
    except RowmeshError as error:
        pytest.skip(str(error))
    assert images.shape == (5000, 1, 28, 28)
    assert np.bincount(labels[:50]).tolist() == [5] * 10
    graph = import_onnx(path)
    name, output = graph.inputs[0], graph.outputs[0]
    calibration = graph.from_model({name: synthetic_digits(200, seed=1)})
    quantized = quantize_graph(graph, calibration)
    inputs = graph.from_model({name: images})
    exact = float_run(graph, inputs)[output]
    assert (exact.argmax(1) == labels).mean() > 0.994
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = [session.run(None, {name: images[i : i + 1]})[0][0] for i in range(100)]
    np.testing.assert_allclose(exact[:100], expected, atol=1e-3)
    for rounding in ("single", "double"):
        values = run(quantized, inputs, rounding)[output]
        assert (values.argmax(1) == labels).mean() >= 0.990
