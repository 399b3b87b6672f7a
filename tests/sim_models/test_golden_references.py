"""The golden model against ONNX Runtime and LiteRT, layer by layer, on random layers.

ONNX Runtime and LiteRT's default kernels requantize in float32; the golden model is exact. A value
may therefore differ only where float32 arithmetic rounds the other way: it must then be off by one
and be exactly what float32 gives, and there are hardly any.
"""

import numpy as np
import pytest

from rowmesh.gen.fixed_point import quantize_multiplier
from rowmesh.gen.graph import ConvAttrs, FcAttrs, Graph, Node, Op, Quant, Tensor
from rowmesh.sim_models.golden import accumulate, run
from rowmesh.sim_models.golden_ops import requant
from rowmesh.verif.random_layers import random_add, random_conv, random_fc, random_pool

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
from rowmesh.verif.references import (
    litert_run,
    onnx_layer,
    onnxruntime_run,
    tflite_layer,
)

LAYERS = 40


def random_input(graph: Graph, rng: np.random.Generator) -> np.ndarray:
    """Activations of 0 to 100 % zeros."""
    shape = graph.tensors["x"].shape
    zeros = rng.random(shape) < rng.choice([0.0, 0.5, 0.9, 1.0], p=[0.5, 0.25, 0.2, 0.05])
    zero_point = graph.quant("x").zero_point
    return np.where(zeros, zero_point, rng.integers(-128, 128, shape)).astype(np.int8)


def unexplained(graph: Graph, x: np.ndarray, golden: np.ndarray, other: np.ndarray) -> int:
    """Assert that every difference is float32 rounding off by one; their number."""
    differs = golden != other
    if differs.any():
        (node,) = graph.nodes
        s_x, s_y = (np.float32(graph.quant(name).scale[0]) for name in "xy")
        scale = s_x * graph.quant("w").scale.astype(np.float32) / s_y
        steps = np.rint(accumulate(graph, node, x).astype(np.float32) * scale)
        low, high = node.clamp or (-128, 127)
        rule = np.clip(steps + graph.quant("y").zero_point, low, high)
        np.testing.assert_array_equal(other[differs], rule[differs])
        assert np.abs(golden.astype(int) - other)[differs].max() == 1
    return int(differs.sum())


def nchw(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


@pytest.mark.parametrize("seed", range(6))
def test_equals_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    differing = values = 0
    for index in range(LAYERS):
        graph = random_fc(rng) if index % 5 == 4 else random_conv(rng)
        (node,) = graph.nodes
        graph = Graph("layer", graph.tensors, (node.with_clamp((-128, 127)),), ("x",), ("y",))
        x = random_input(graph, rng)
        if node.op == Op.FULLY_CONNECTED:  # QLinearMatMul has no bias
            node = type(node)(node.op, node.name, node.inputs[:2], node.outputs, node.attrs)
            node = node.with_clamp((-128, 127))
            graph = Graph("layer", graph.tensors, (node,), ("x",), ("y",))
        expected = onnxruntime_run(onnx_layer(graph), {"x": nchw(x)})[0]
        golden = run(graph, {"x": x}, "single")["y"]
        if expected.ndim == 4:
            expected = expected.transpose(0, 2, 3, 1)
        differing += unexplained(graph, x, golden, expected)
        values += golden.size
    assert values > 5_000
    assert differing <= 2


@pytest.mark.parametrize("seed", range(6))
def test_double_rounding_equals_litert_reference(seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    single_differs = 0
    for index in range(LAYERS):
        graph = random_fc(rng) if index % 5 == 4 else random_conv(rng, "tflite")
        x = random_input(graph, rng)
        expected = litert_run(tflite_layer(graph), x, reference=True)
        np.testing.assert_array_equal(run(graph, {"x": x}, "double")["y"], expected)
        single_differs += int(np.count_nonzero(run(graph, {"x": x}, "single")["y"] != expected))
    assert single_differs, "the two roundings must be told apart by these layers"


@pytest.mark.parametrize("op", [Op.CONV, Op.FULLY_CONNECTED])
def test_product_of_scales_equals_litert_reference(op: Op) -> None:
    """TFLite multiplies scales in float32 for a fully connected layer, else in float64.

    The biases are all sums at which that makes a difference.
    """
    rng = np.random.default_rng(8)
    checked = 0
    while checked < 20:
        s_x, s_w = (np.float32(s) for s in rng.uniform(0.01, 0.1, 2))
        s_y = np.float32(s_x * s_w * rng.uniform(2000, 9000))
        sums = np.arange(-(1 << 20), 1 << 20)
        exact = quantize_multiplier(float(s_x) * float(s_w) / float(s_y))
        short = quantize_multiplier(float(s_x * s_w) / float(s_y))
        rounded = [requant(sums, *map(np.array, pair), "double") for pair in (exact, short)]
        bias = sums[(rounded[0] != rounded[1]) & (np.abs(rounded[0]) < 100)].astype(np.int32)
        if not bias.size:
            continue
        checked += bias.size
        shape = (1, 1, 1, 1) if op == Op.CONV else (1, 1)
        scale = np.array([s_w], np.float64)
        x = Tensor("x", shape, "int8", Quant(np.array([s_x], np.float64)))
        weights = np.ones((bias.size, *shape[1:]), np.int8)
        tensors = [
            x,
            Tensor("w", weights.shape, "int8", Quant(scale), weights),
            Tensor("b", bias.shape, "int32", Quant(scale * float(s_x)), bias),
            Tensor("y", (*shape[:-1], bias.size), "int8", Quant(np.array([s_y], np.float64))),
        ]
        attrs = ConvAttrs() if op == Op.CONV else FcAttrs()
        node = Node(op, "layer", ("x", "w", "b"), ("y",), attrs).with_clamp((-128, 127))
        graph = Graph("layer", {t.name: t for t in tensors}, (node,), ("x",), ("y",))
        values = np.zeros(shape, np.int8)
        expected = litert_run(tflite_layer(graph), values, reference=True)
        np.testing.assert_array_equal(run(graph, {"x": values}, "double")["y"], expected)


@pytest.mark.parametrize("seed", range(6))
def test_single_rounding_equals_litert_default(seed: int) -> None:
    rng = np.random.default_rng(3000 + seed)
    differing = values = 0
    for index in range(LAYERS):
        graph = random_fc(rng) if index % 5 == 4 else random_conv(rng, "tflite")
        x = random_input(graph, rng)
        expected = litert_run(tflite_layer(graph), x, reference=False)
        golden = run(graph, {"x": x}, "single")["y"]
        differing += unexplained(graph, x, golden, expected)
        values += golden.size
    assert values > 5_000
    assert differing <= 2


@pytest.mark.parametrize("seed", range(2))
def test_max_pool_equals_both(seed: int) -> None:
    rng = np.random.default_rng(4000 + seed)
    for _ in range(LAYERS):
        graph = random_pool(rng, "tflite")
        x = random_input(graph, rng)
        golden = run(graph, {"x": x})["y"]
        np.testing.assert_array_equal(golden, litert_run(tflite_layer(graph), x, reference=False))
        graph = random_pool(rng)
        (node,) = graph.nodes
        graph = Graph("layer", graph.tensors, (node.with_clamp((-128, 127)),), ("x",), ("y",))
        x = random_input(graph, rng)
        expected = onnxruntime_run(onnx_layer(graph), {"x": nchw(x)})[0].transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(run(graph, {"x": x})["y"], expected)


@pytest.mark.parametrize("seed", range(2))
def test_average_pool_equals_litert(seed: int) -> None:
    rng = np.random.default_rng(5000 + seed)
    for _ in range(LAYERS):
        graph = random_pool(rng, "tflite", Op.AVG_POOL)
        x = random_input(graph, rng)
        for rounding in ("single", "double"):
            expected = litert_run(tflite_layer(graph), x, reference=rounding == "double")
            np.testing.assert_array_equal(run(graph, {"x": x}, rounding)["y"], expected)


@pytest.mark.parametrize("seed", range(2))
def test_add_equals_litert(seed: int) -> None:
    rng = np.random.default_rng(6000 + seed)
    for _ in range(LAYERS):
        graph = random_add(rng)
        inputs = {name: random_input(graph, rng) for name in graph.inputs}
        for rounding in ("single", "double"):
            reference = rounding == "double"
            expected = litert_run(tflite_layer(graph), *inputs.values(), reference=reference)
            np.testing.assert_array_equal(run(graph, inputs, rounding)["y"], expected)
