"""QDQ export: ONNX Runtime computes what the golden model does, tensor by tensor."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.export_onnx import export_onnx, export_onnx_model, with_float32_scales
from rowmesh.gen.graph import Array, Graph, Node, Op, PoolAttrs, Quant, Tensor
from rowmesh.gen.import_onnx import import_onnx_model
from rowmesh.gen.quantize import quantize_graph
from rowmesh.sim_models import golden_ops
from rowmesh.sim_models.golden import accumulate, run
from rowmesh.verif.random_layers import random_add, random_conv, random_fc, random_pool
from rowmesh.verif.random_networks import random_input, random_network

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from rowmesh.verif.references import onnxruntime_run

#: How near a half float32 arithmetic may take a value to the wrong side of it.
TIE = 1e-3


def in_file_order(graph: Graph, values: dict[str, Array]) -> dict[str, Array]:
    """int8 values of a graph that has only NHWC images as the real values of the file."""
    real = {name: graph.quant(name).dequantize(array) for name, array in values.items()}
    return {name: a.transpose(0, 3, 1, 2) if a.ndim == 4 else a for name, a in real.items()}


def runtime_tensors(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Every activation as ONNX Runtime computes it from the file, as int8 in the graph's layout."""
    names = tuple(node.outputs[0] for node in graph.nodes)
    model = export_onnx_model(replace(graph, outputs=names))
    outputs = dict(zip(names, onnxruntime_run(model, in_file_order(graph, inputs)), strict=True))
    stored = {
        name: array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
        for name, array in outputs.items()
    }
    return {name: graph.quant(name).quantize(array) for name, array in stored.items()}


def steps(graph: Graph, node: Node, operands: list[Array]) -> Array:
    """The exact result of a node in steps of its output, before rounding."""
    out = graph.quant(node.outputs[0])
    if node.op in (Op.CONV, Op.FULLY_CONNECTED):
        scale = graph.quant(node.inputs[0]).scale[0] * graph.quant(node.inputs[1]).scale
        return accumulate(graph, node, operands[0]) * scale / out.scale[0] + out.zero_point
    if node.op == Op.AVG_POOL:
        return golden_ops.average_pool(operands[0].astype(float), node.attrs_as(PoolAttrs))
    quants = [graph.quant(name) for name in node.inputs]
    pairs = zip(operands, quants, strict=True)
    real = sum((x.astype(float) - quant.zero_point) * quant.scale[0] for x, quant in pairs)
    return np.asarray(real / out.scale[0] + out.zero_point)


def compare(graph: Graph, inputs: dict[str, Array]) -> tuple[int, int]:
    """Compare each node on ONNX Runtime's own operands; (differing values, values)."""
    tensors = {**inputs, **runtime_tensors(graph, inputs)}
    differing = values = 0
    for node in graph.nodes:
        operands = {name: tensors[name] for name in node.inputs if name in tensors}
        alone = replace(graph, nodes=(node,), inputs=tuple(operands), outputs=node.outputs)
        (output,) = node.outputs
        golden, found = run(alone, operands, "single")[output], tensors[output]
        differs = golden != found
        if differs.any():
            assert node.op in (Op.CONV, Op.FULLY_CONNECTED, Op.ADD, Op.AVG_POOL), node.op
            exact = np.broadcast_to(steps(graph, node, list(operands.values())), golden.shape)[
                differs
            ]
            assert np.all(np.abs(exact - np.floor(exact) - 0.5) < TIE), node.name
            assert np.abs(golden.astype(int) - found)[differs].max() == 1
        differing += int(differs.sum())
        values += golden.size
    return differing, values


def random_average(rng: np.random.Generator) -> Graph:
    return random_pool(rng, op=Op.AVG_POOL)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("make", [random_conv, random_fc, random_pool, random_average, random_add])
def test_layer_equals_onnxruntime(make: Callable[[np.random.Generator], Graph], seed: int) -> None:
    rng = np.random.default_rng(seed)
    differing = values = 0
    for _ in range(30):
        graph = with_float32_scales(make(rng))
        images = {  # the sum has no operator that makes its operands images
            name: replace(tensor, model_image=tensor.shape[1:])
            for name, tensor in graph.tensors.items()
            if len(tensor.shape) == 4 and tensor.data is None
        }
        graph = replace(graph, tensors={**graph.tensors, **images})
        found = compare(graph, random_input(rng, graph))
        differing, values = differing + found[0], values + found[1]
    # Averages of few values often lie on a half, which ONNX Runtime rounds to even.
    assert differing <= (values / 5 if make is random_average else 2)


@pytest.mark.parametrize("seed", range(20))
def test_network_equals_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    graph = with_float32_scales(random_network(rng))
    differing, values = compare(graph, random_input(rng, graph))
    assert differing <= values * 1e-3


def test_layouts_of_the_model_survive() -> None:
    """A float model with images, flattened ones and plain tensors, quantized and written again."""
    rng = np.random.default_rng(7)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        make("Clip", ["c1", "low", "high"], ["r1"]),
        make("Conv", ["r1", "w2"], ["c2"], group=6, pads=[0, 1, 2, 1]),
        make("Add", ["r1", "c2"], ["s"]),
        make("Relu", ["s"], ["rs"]),
        make("MaxPool", ["rs"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Reshape", ["m", "image"], ["plain"]),
        make("Conv", ["plain", "w3"], ["c3"]),
        make("GlobalAveragePool", ["c3"], ["g"]),
        make("Flatten", ["g"], ["gf"]),
        make("Flatten", ["m"], ["f"]),
        make("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
        make("Gemm", ["gf", "w5"], ["z"]),
    ]
    constants = {
        name: rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in (
            ("w1", (6, 2, 3, 3)), ("w2", (6, 1, 3, 3)), ("w3", (5, 12, 2, 1)), ("w4", (9, 72)),
            ("b4", (9,)), ("w5", (5, 3)),
        )
    }  # fmt: skip
    constants |= {
        "low": np.float32(-0.5),
        "high": np.float32(0.5),
        "image": np.array([1, 12, 2, 3]),
    }
    proto = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    graph = import_onnx_model(model, "net")
    samples = rng.normal(0, 1, (16, 2, 8, 6)).astype(np.float32)
    quantized = quantize_graph(graph, graph.from_model({"x": samples}))
    written = export_onnx_model(with_float32_scales(quantized))
    scales = [quantized.quant(name).scale[0] for name in "yz"]
    for sample in samples:
        real = onnxruntime_run(model, {"x": sample[None]})
        found = onnxruntime_run(written, {"x": sample[None]})
        for a, b, scale in zip(real, found, scales, strict=True):
            assert a.shape == b.shape
            # A wrong order of axes would be off by a good part of the range of 255 steps.
            assert np.abs(a - b).max() < 16 * scale


def test_reshapes_between_images() -> None:
    """NHWC order counts, as in a TFLite file: flat to image, image to image, image to flat."""
    quant = Quant(np.ones(1))
    shapes = [(1, 60), (1, 4, 3, 5), (1, 3, 2, 5), (1, 2, 5, 3), (1, 2, 5, 3), (1, 5, 6)]
    tensors = {f"t{i}": Tensor(f"t{i}", shape, "int8", quant) for i, shape in enumerate(shapes)}

    def node(index: int, kernel: tuple[int, int] | None) -> Node:
        names = (f"t{index}",), (f"t{index + 1}",)
        if kernel is None:
            return Node(Op.RESHAPE, f"n{index}", *names)
        attrs = PoolAttrs(kernel=kernel, strides=(1, 1))
        return Node(Op.MAX_POOL, f"n{index}", *names, attrs)

    kernels = (None, (2, 2), None, (1, 1), None)
    nodes = tuple(node(index, kernel) for index, kernel in enumerate(kernels))
    graph = Graph("reshapes", tensors, nodes, ("t0",), ("t5",))
    assert compare(graph, random_input(np.random.default_rng(1), graph)) == (0, 180)
    values = np.arange(60, dtype=np.int8)[None]
    assert compare(graph, {"t0": values}) == (0, 180)


def test_file(tmp_path: Path) -> None:
    """What other tools see: standard operators only, int8 weights, one scale a channel."""
    graph = random_conv(np.random.default_rng(3))
    assert graph.tensors["w"].shape[0] > 1
    export_onnx(graph, tmp_path / "y.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["y.onnx"]
    model = onnx.load(tmp_path / "y.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert [node.name for node in model.graph.node if node.op_type == "Conv"] == ["layer"]
    arrays = {proto.name: numpy_helper.to_array(proto) for proto in model.graph.initializer}
    np.testing.assert_array_equal(arrays["w"], graph.constant("w").transpose(0, 3, 1, 2))
    assert arrays["w"].dtype == np.int8
    assert arrays["b"].dtype == np.int32
    assert arrays["w/scale"].shape == arrays["w/zero_point"].shape == arrays["b"].shape
    export_onnx(graph, tmp_path / "z.onnx")
    assert (tmp_path / "y.onnx").read_bytes() == (tmp_path / "z.onnx").read_bytes()


def test_refuses(tmp_path: Path) -> None:
    tensors = [Tensor(name, (1, 4), "float32", Quant(np.ones(1))) for name in "xy"]
    node = Node(Op.RESHAPE, "r", ("x",), ("y",))
    graph = Graph("float", {t.name: t for t in tensors}, (node,), ("x",), ("y",))
    with pytest.raises(RowmeshError, match="'x' is float32: only int8 graphs are written"):
        export_onnx(graph, tmp_path / "y.onnx")
    assert not list(tmp_path.iterdir())
    graph = random_add(np.random.default_rng(1))
    constant = replace(graph.tensors["x2"], data=np.zeros(graph.tensors["x2"].shape, np.int8))
    graph = replace(graph, tensors={**graph.tensors, "x2": constant}, inputs=("x",))
    with pytest.raises(RowmeshError, match="add 'layer': constant 'x2' cannot be written"):
        export_onnx(graph, tmp_path / "y.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RowmeshError, match="cannot write"):
        export_onnx(random_fc(np.random.default_rng(1)), tmp_path / "none" / "y.onnx")
