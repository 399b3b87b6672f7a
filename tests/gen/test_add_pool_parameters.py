"""The integers of additions and averages: equal to LiteRT and ONNX Runtime on every value."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen.graph import AddAttrs, Graph, Node, Numerics, Op, PoolAttrs, Quant, Tensor
from rowmesh.gen.quantize import MAX_SHIFT, PoolParameters, add_parameters, pool_parameters
from rowmesh.sim_models.golden import run
from rowmesh.sim_models.golden_ops import requant

LEFT, RIGHT = (
    side.astype(np.int8).reshape(1, 256, 256, 1)
    for side in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
)


def random_quant(rng: np.random.Generator) -> Quant:
    scale = np.float32(np.exp(rng.uniform(np.log(0.003), np.log(0.2))))
    return Quant(np.array([scale], np.float64), int(rng.integers(-128, 128)))


def addition(quants: list[Quant], numerics: Numerics) -> Graph:
    node = Node(Op.ADD, "sum", ("a", "b"), ("y",), AddAttrs(clamp=(-128, 127)))
    tensors = {
        name: Tensor(name, LEFT.shape, "int8", quant)
        for name, quant in zip("aby", quants, strict=True)
    }
    return Graph("g", tensors, (node,), ("a", "b"), ("y",), numerics)


def accelerator_sum(graph: Graph) -> np.ndarray | None:
    """The sum of every pair by the integers; None where there are none."""
    a, b, y = (graph.quant(name) for name in "aby")
    found = add_parameters(graph, graph.nodes[0])
    if found is None:
        return None
    (first, second), shift = found
    assert max(first, second) < 1 << 31
    assert 1 <= shift <= MAX_SHIFT
    total = first * (LEFT.astype(np.int64) - a.zero_point)
    total += second * (RIGHT.astype(np.int64) - b.zero_point)
    return np.clip(((total + (1 << (shift - 1))) >> shift) + y.zero_point, -128, 127)


@pytest.mark.parametrize("seed", range(3))
def test_add_equals_xnnpack(seed: int) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from rowmesh.verif.references import litert_run, tflite_layer

    rng = np.random.default_rng(seed)
    for index in range(8):
        quants = [random_quant(rng) for _ in range(3)]
        if index == 0:
            quants[2] = quants[0]
        if index == 1:
            quants[1] = quants[0]
        graph = addition(quants, Numerics.TFLITE)
        graph = Graph("g", {"x" if n == "a" else n: t for n, t in graph.tensors.items()},
                      (Node(Op.ADD, "sum", ("x", "b"), ("y",), graph.nodes[0].attrs),),
                      ("x", "b"), ("y",))  # fmt: skip
        expected = litert_run(tflite_layer(graph), LEFT, RIGHT, reference=False)
        np.testing.assert_array_equal(run(graph, {"x": LEFT, "b": RIGHT})["y"], expected)
        made = accelerator_sum(addition(quants, Numerics.TFLITE))
        np.testing.assert_array_equal(made, expected)


def onnx_add(graph: Graph) -> onnx.ModelProto:
    constants = {}
    for name in "aby":
        constants[f"{name}s"] = np.float32(graph.quant(name).scale[0])
        constants[f"{name}z"] = np.int8(graph.quant(name).zero_point)
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    proto = helper.make_graph(
        [helper.make_node("QLinearAdd", names, ["y"], domain="com.microsoft")],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.INT8, LEFT.shape) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.INT8, LEFT.shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize("seed", range(3))
def test_add_equals_onnxruntime(seed: int) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from rowmesh.verif.references import onnxruntime_run

    rng = np.random.default_rng(seed)
    placed = 0
    for index in range(10):
        quants = [random_quant(rng) for _ in range(3)]
        if index == 0:  # halves are frequent, and go to even
            quants[1] = quants[0]
            quants[2] = Quant(quants[0].scale * 2, 1)
        graph = addition(quants, Numerics.ONNX)
        expected = onnxruntime_run(onnx_add(graph), {"a": LEFT, "b": RIGHT})[0]
        np.testing.assert_array_equal(run(graph, {"a": LEFT, "b": RIGHT})["y"], expected)
        made = accelerator_sum(graph)
        if index == 0:
            assert made is None
        elif made is not None:
            np.testing.assert_array_equal(made, expected)
            placed += 1
    assert placed >= 8


def test_add_on_the_host() -> None:
    """Where no integers are exact: double rounding, and scales that XNNPACK refuses."""
    quants = [random_quant(np.random.default_rng(1)) for _ in range(3)]
    graph = addition(quants, Numerics.TFLITE)
    assert add_parameters(graph, graph.nodes[0], "double") is None
    graph = addition([quants[0], Quant(quants[2].scale * 2.0**-11), quants[2]], Numerics.TFLITE)
    assert add_parameters(graph, graph.nodes[0]) is None


def pooling(
    size: tuple[int, int],
    source: Quant,
    target: Quant,
    *,
    numerics: Numerics = Numerics.TFLITE,
    mean: bool = False,
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    kernel: tuple[int, int] | None = None,
    include: bool = False,
) -> Graph:
    kernel = kernel or size
    attrs = PoolAttrs(kernel=kernel, strides=kernel, pads=pads, count_include_pad=include,
                      mean=mean, clamp=(-128, 127))  # fmt: skip
    e = (size[0] + pads[0] + pads[1] - kernel[0]) // kernel[0] + 1
    f = (size[1] + pads[2] + pads[3] - kernel[1]) // kernel[1] + 1
    tensors = {
        "x": Tensor("x", (1, *size, 1), "int8", source),
        "y": Tensor("y", (1, e, f, 1), "int8", target),
    }
    node = Node(Op.AVG_POOL, "pool", ("x",), ("y",), attrs)
    return Graph("g", tensors, (node,), ("x",), ("y",), numerics)


def image_of_sum(total: int, size: tuple[int, int]) -> np.ndarray:
    """int8 values of a given sum, spread evenly."""
    count = size[0] * size[1]
    values = np.full(count, total // count)
    values[: total - count * (total // count)] += 1
    return values.astype(np.int8).reshape(1, *size, 1)


def by_integers(found: PoolParameters, x: np.ndarray, rounding: str) -> np.ndarray:
    acc = (x.astype(np.int64) - found.subtract).sum(axis=(1, 2, 3))
    made = requant(acc, np.array(found.multiplier), np.array(found.shift), rounding)
    return np.clip(made + found.add, -128, 127)


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 25, 49, 64, 125, 196, 1000, 4096])
def test_average_equals_tflite_on_every_sum(count: int, rounding: str) -> None:
    quant = Quant(np.array([0.1]), -7)
    graph = pooling((1, count), quant, quant)
    found = pool_parameters(graph, graph.nodes[0], rounding)
    assert found is not None
    assert found.shift <= 31
    # TFLite: halves away from zero, of the raw values.
    totals = np.arange(-128 * count, 127 * count + 1)
    quotient, rest = np.divmod(np.abs(totals), count)
    expected = np.sign(totals) * (quotient + (2 * rest >= count))
    acc = totals - count * found.subtract
    made = requant(acc, np.array(found.multiplier), np.array(found.shift), rounding)
    np.testing.assert_array_equal(made + found.add, expected)


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("seed", range(4))
def test_mean_equals_litert(seed: int, rounding: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from rowmesh.verif.references import litert_run
    from rowmesh.verif.tflite_writer import TfliteWriter

    rng = np.random.default_rng(seed)
    placed = 0
    for index in range(8):
        source, target = random_quant(rng), random_quant(rng)
        target = source if index == 0 else target
        size = (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        count = size[0] * size[1]
        totals = rng.integers(-128 * count, 127 * count + 1, 500)
        channels = np.concatenate([image_of_sum(int(total), size) for total in totals], axis=3)
        writer = TfliteWriter()
        x = writer.tensor("x", channels.shape, scale=source.scale, zero_point=source.zero_point)
        axes = writer.tensor("axes", (2,), "int32", data=np.array([1, 2], np.int32))
        y = writer.tensor("y", (1, 1, 1, 500), scale=target.scale, zero_point=target.zero_point)
        writer.operator("MEAN", [x, axes], [y], "ReducerOptions", KeepDims=True)
        model = writer.finish([x], [y])
        expected = litert_run(model, channels, reference=rounding == "double")
        graph = pooling(size, source, target, mean=True)
        made = run(graph, {"x": channels.transpose(3, 1, 2, 0)}, rounding)["y"]
        np.testing.assert_array_equal(made.reshape(-1), expected.reshape(-1))
        found = pool_parameters(graph, graph.nodes[0], rounding)
        if found is not None:
            made = by_integers(found, channels.transpose(3, 1, 2, 0), rounding)
            np.testing.assert_array_equal(made, expected.reshape(-1))
            placed += 1
    assert placed >= 7


def test_average_on_the_host() -> None:
    quant = Quant(np.array([0.1]), -7)
    graph = pooling((5, 5), quant, quant, kernel=(2, 2), pads=(1, 0, 1, 0))
    assert pool_parameters(graph, graph.nodes[0]) is None  # windows of 1, 2 and 4 values
    graph = pooling((4, 4), quant, quant, kernel=(2, 2), numerics=Numerics.ONNX)
    assert pool_parameters(graph, graph.nodes[0]) is None  # halves to even
    graph = pooling((5, 5), quant, random_quant(np.random.default_rng(3)), kernel=(2, 2),
                    pads=(1, 0, 1, 0), numerics=Numerics.ONNX, include=True)  # fmt: skip
    found = pool_parameters(graph, graph.nodes[0])
    assert found is not None
    assert found.subtract == -7
