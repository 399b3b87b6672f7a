"""Quantized ONNX: what ONNX Runtime's own quantizer writes, against ONNX Runtime."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.flow import load_graph
from rowmesh.gen.graph import Numerics, Op
from rowmesh.gen.import_onnx import import_onnx_model
from rowmesh.sim_models.golden import run

make = helper.make_node


def model(
    nodes: list[Any],
    constants: dict[str, np.ndarray],
    shape: list[int],
    outputs: list[str],
    kind: int = TensorProto.FLOAT,
    made: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, made, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def float_network(rng: np.random.Generator) -> onnx.ModelProto:
    """Every operator that ONNX Runtime's quantizer quantizes and the importer knows."""

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    nodes = [
        make("Pad", ["x", "pads"], ["p"]),
        make("Conv", ["p", "w1", "b1"], ["c1"], strides=[2, 2]),
        make("Relu", ["c1"], ["r1"]),
        make("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        make("Clip", ["c2", "lo", "hi"], ["r2"]),
        make("Add", ["r1", "r2"], ["s"]),
        make("Relu", ["s"], ["sr"]),
        make("MaxPool", ["sr"], ["mp"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make("Conv", ["mp", "w3", "b3"], ["c3"], pads=[1, 1, 1, 1], dilations=[1, 1]),
        make("Concat", ["sr", "c3"], ["cat"], axis=1),
        make("AveragePool", ["cat"], ["ap"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Transpose", ["ap"], ["tr"], perm=[0, 2, 3, 1]),
        make("Transpose", ["tr"], ["tb"], perm=[0, 3, 1, 2]),
        make("GlobalAveragePool", ["tb"], ["gap"]),
        make("Flatten", ["gap"], ["f"]),
        make("Gemm", ["f", "w4", "b4"], ["g"], transB=1),
        make("MatMul", ["g", "w5"], ["m"]),
        make("Sigmoid", ["m"], ["likely"]),
        make("Softmax", ["g"], ["y"], axis=-1),
    ]
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "w1": weights(8, 3, 3, 3),
        "w2": weights(8, 1, 3, 3), "w3": weights(8, 8, 3, 3), "w4": weights(7, 16),
        "w5": weights(7, 5), "b1": weights(8), "b2": weights(8), "b3": weights(8),
        "b4": weights(7), "lo": np.float32(0), "hi": np.float32(1.5),
    }  # fmt: skip
    return model(nodes, constants, [2, 3, 11, 11], ["y", "likely"])


class Samples:
    """Calibration data as ONNX Runtime's quantizer wants them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._next = self._draw(rng)

    @staticmethod
    def _draw(rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
        for _ in range(8):
            yield {"x": rng.normal(size=(2, 3, 11, 11)).astype(np.float32)}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._next, None)


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_equals_onnxruntime(tmp_path: Path, form: str, activations: str, per_channel: bool) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization", reason="no onnxruntime")
    from rowmesh.verif.network_reference import compare_network, network_inputs

    rng = np.random.default_rng(1)
    onnx.save(onnx.shape_inference.infer_shapes(float_network(rng)), tmp_path / "float.onnx")
    path = tmp_path / "int8.onnx"
    quantization.quantize_static(
        tmp_path / "float.onnx",
        path,
        Samples(rng),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType.QInt8,
        per_channel=per_channel,
    )
    network = load_graph(path)
    assert network.graph.numerics is Numerics.ONNX
    made = compare_network(path, network_inputs(network.graph, 10, 3))
    assert made.problems() == []
    assert sum(count.drifted for count in made.counts.values()) <= 2
    kinds = {"conv", "depthwise", "add", "max_pool", "avg_pool", "concat", "fully_connected"}
    assert kinds | {"softmax", "logistic"} <= set(made.counts)
    for node in network.graph.nodes:
        if node.op in (Op.CONV, Op.FULLY_CONNECTED, Op.ADD, Op.MAX_POOL, Op.AVG_POOL):
            types = {network.graph.tensors[name].dtype for name in (*node.inputs, *node.outputs)}
            assert types <= {"int8", "int32"}


def test_quantized_at_the_inputs_of_layers_only() -> None:
    """Quantize nodes behind a maximum pooling and a flattening; weights quantized in the model."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from rowmesh.verif.references import onnxruntime_tensors

    rng = np.random.default_rng(9)
    nodes = [
        make("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        make("DequantizeLinear", ["xq", "xs", "xz"], ["xr"]),
        make("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
        make("DequantizeLinear", ["wq", "ws", "wz"], ["wr"], axis=0),
        make("Conv", ["xr", "wr"], ["c"], name="conv"),
        make("Relu", ["c"], ["r"]),
        make("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["m"], ["f"]),
        make("QuantizeLinear", ["f", "fs", "fz"], ["fq"]),
        make("DequantizeLinear", ["fq", "fs", "fz"], ["fr"]),
        make("DequantizeLinear", ["v", "vs", "vz"], ["vr"]),
        make("MatMul", ["fr", "vr"], ["g"], name="dense"),
        make("QuantizeLinear", ["g", "gs", "gz"], ["y"]),
    ]
    constants = {
        "xs": np.float32(0.02), "xz": np.int8(5), "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8), "w": rng.normal(0, 0.4, (4, 3, 2, 2)).astype(np.float32),
        "fs": np.float32(0.017), "fz": np.int8(-128), "vs": np.float32(0.02), "vz": np.int8(0),
        "v": rng.integers(-127, 128, (24, 6)).astype(np.int8), "gs": np.float32(0.3),
        "gz": np.int8(3),
    }  # fmt: skip
    proto = model(nodes, constants, [1, 3, 5, 8], ["y"], made=TensorProto.INT8)
    graph = import_onnx_model(proto, "net")
    assert [node.op for node in graph.nodes] == [
        Op.QUANTIZE, Op.CONV, Op.MAX_POOL, Op.RESHAPE, Op.FULLY_CONNECTED
    ]  # fmt: skip
    for _ in range(5):
        x = rng.normal(0, 1.5, (1, 3, 5, 8)).astype(np.float32)
        found = graph.to_model(run(graph, graph.from_model({"x": x})))
        (shown,) = onnxruntime_tensors(proto.SerializeToString(), [{"x": x}])
        # ONNX Runtime computes the convolution in real numbers here.
        assert np.abs(found["fq"].astype(int) - shown["fq"]).max() <= 1
        assert np.mean(found["fq"] != shown["fq"]) < 0.05
        assert np.abs(found["y"].astype(int) - shown["y"]).max() <= 1


def quantized(
    op: str, rng: np.random.Generator, zero: int = 3, **attrs: Any
) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Dequantize -> op -> quantize."""
    nodes = [
        make("DequantizeLinear", ["x", "xs", "xz"], ["xr"]),
        make(op, ["xr"], ["yr"], **attrs),
        make("QuantizeLinear", ["yr", "ys", "yz"], ["y"]),
    ]
    constants = {
        "xs": np.float32(rng.uniform(0.01, 0.1)), "xz": np.int8(zero),
        "ys": np.float32(rng.uniform(0.01, 0.1)), "yz": np.int8(-9),
    }  # fmt: skip
    return nodes, constants


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Softmax", {"axis": 1}),
        ("MaxPool", {"kernel_shape": [2, 2]}),
        ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0], "count_include_pad": 1}),
        ("GlobalAveragePool", {}),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 1}),
        ("Transpose", {"perm": [0, 3, 1, 2]}),
        ("Flatten", {"axis": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_operator_equals_onnxruntime(op: str, attrs: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from rowmesh.verif.references import onnxruntime_tensors

    rng = np.random.default_rng(len(op))
    for _ in range(4):
        nodes, constants = quantized(op, rng, int(rng.integers(-128, 128)), **attrs)
        proto = model(nodes, constants, [2, 6, 5, 4], ["y"], TensorProto.INT8, TensorProto.INT8)
        graph = import_onnx_model(proto, "one")
        x = rng.integers(-128, 128, (2, 6, 5, 4)).astype(np.int8)
        found = graph.to_model(run(graph, graph.from_model({"x": x})))["y"]
        (shown,) = onnxruntime_tensors(proto.SerializeToString(), [{"x": x}])
        np.testing.assert_array_equal(found, shown["y"])


def qlinear(op: str, **change: Any) -> onnx.ModelProto:
    constants = {
        "xs": np.float32(0.1), "xz": np.int8(0), "w": np.ones((4, 3, 1, 1), np.int8),
        "ws": np.float32(0.1), "wz": np.int8(0), "ys": np.float32(0.1), "yz": np.int8(0),
    } | change  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    return model([make(op, names, ["y"], name="one", domain="com.microsoft" if op != "QLinearConv"
                       else "")], constants, [1, 3, 4, 4], ["y"], TensorProto.INT8,
                 TensorProto.INT8)  # fmt: skip


FLOAT_CONV = model(
    [*quantized("Relu", np.random.default_rng(0))[0], make("DequantizeLinear", ["y", "ys", "yz"],
     ["z"]), make("Conv", ["z", "w"], ["q"], name="bare")],
    quantized("Relu", np.random.default_rng(0))[1] | {"w": np.ones((4, 3, 1, 1), np.float32)},
    [1, 3, 4, 4], ["q"], TensorProto.INT8,
)  # fmt: skip


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (qlinear("QLinearMul"), "QLinearMul 'one' .*unsupported operator QLinearMul"),
        (qlinear("QLinearConv", xs=np.array([0.1, 0.2, 0.3], np.float32)),
         r"DequantizeLinear .*3 scales: an activation has one"),
        (qlinear("QLinearConv", xz=np.int32(0)), "int32: only int8 and uint8 activations"),
        (qlinear("QLinearConv", xz=np.uint8(0)), "input 'x' is int8, its zero point is not"),
        (qlinear("QLinearConv", wz=np.int8(127), w=np.full((4, 3, 1, 1), -128, np.int8)),
         "conv 'one': weights .* less their zero point exceed int8"),
        (qlinear("QLinearConv", ws=np.full(3, 0.1, np.float32)), "has 3 scales along axis 0"),
        (qlinear("QLinearConv", ys=np.float32(0)), "a quantization scale must be finite"),
        (FLOAT_CONV, "conv 'bare' of a quantized network: tensor 'w' is not quantized"),
    ],
)  # fmt: skip
def test_refused(proto: onnx.ModelProto, message: str) -> None:
    with pytest.raises(RowmeshError, match=message):
        import_onnx_model(proto, "bad")


def test_constant_is_added() -> None:
    """A quantized constant that is no bias, with a zero point of its own."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from rowmesh.verif.references import onnxruntime_tensors

    rng = np.random.default_rng(4)
    nodes, constants = quantized("Relu", rng)
    nodes[1] = make("Add", ["cr", "xr"], ["yr"])
    nodes.insert(0, make("DequantizeLinear", ["c", "cs", "cz"], ["cr"]))
    constants |= {"c": rng.integers(0, 256, (3, 1, 1)).astype(np.uint8),
                  "cs": np.float32(0.03), "cz": np.uint8(77)}  # fmt: skip
    proto = model(nodes, constants, [1, 3, 4, 5], ["y"], TensorProto.INT8, TensorProto.INT8)
    graph = import_onnx_model(proto, "add")
    x = rng.integers(-128, 128, (1, 3, 4, 5)).astype(np.int8)
    found = graph.to_model(run(graph, graph.from_model({"x": x})))["y"]
    (shown,) = onnxruntime_tensors(proto.SerializeToString(), [{"x": x}])
    np.testing.assert_array_equal(found, shown["y"])
