"""Magnitude pruning: which weights go, of graphs and of ONNX files."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen import cli
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.export_onnx import export_onnx_model
from rowmesh.gen.graph import Array, ConvAttrs, Graph, Node, Op, Quant, Tensor
from rowmesh.gen.prune import densities, keep_masks, prune_graph
from rowmesh.gen.prune_onnx import prune_onnx_file, prune_onnx_model
from rowmesh.verif.random_networks import random_network


class TestKeepMasks:
    @pytest.mark.parametrize("seed", range(5))
    def test_the_smallest_of_all_layers_go(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        magnitudes = {
            name: rng.exponential(scale, (int(rng.integers(1, 30)), 7))
            for name, scale in (("a", 1.0), ("b", 0.2), ("c", 3.0))
        }
        target = float(rng.random())
        masks = keep_masks(magnitudes, target)
        assert {name: mask.shape for name, mask in masks.items()} == {
            name: array.shape for name, array in magnitudes.items()
        }
        kept = np.concatenate([magnitudes[name][masks[name]] for name in magnitudes])
        gone = np.concatenate([magnitudes[name][~masks[name]] for name in magnitudes])
        assert gone.size - 1 < target * (gone.size + kept.size) <= gone.size
        assert gone.max(initial=0) <= kept.min(initial=np.inf)

    def test_layers_with_a_target_of_their_own(self) -> None:
        magnitudes = {"a": np.arange(10.0), "b": np.arange(100.0, 110.0), "c": np.arange(4.0)}
        masks = keep_masks(magnitudes, 0.5, {"c": 0.25})
        assert not masks["a"].any()
        assert masks["b"].all()
        assert masks["c"].tolist() == [False, True, True, True]
        masks = keep_masks(magnitudes, None, {"b": 0.3})
        assert masks["a"].all() and masks["c"].all()
        assert masks["b"].tolist() == [False] * 3 + [True] * 7

    def test_zeros_count_and_equals_go_in_order(self) -> None:
        magnitudes = {"a": np.array([5.0, 0, 2, 0, 2, 2])}
        assert keep_masks(magnitudes, 0.3)["a"].tolist() == [True, False, True, False, True, True]
        assert keep_masks(magnitudes, 0.5)["a"].tolist() == [True, False, False, False, True, True]

    @pytest.mark.parametrize(("target", "kept"), [(0.0, 10), (0.3, 7), (0.31, 6), (1.0, 0)])
    def test_fraction(self, target: float, kept: int) -> None:
        assert keep_masks({"a": np.ones(10)}, target)["a"].sum() == kept

    @pytest.mark.parametrize(
        ("target", "layers", "message"),
        [
            (1.01, {}, r"target = 1.01: must be within 0..1"),
            (float("nan"), {}, r"target = nan: must be within 0..1"),
            (None, {"a": -0.5}, r"target of layer 'a' = -0.5: must be within 0..1"),
            (0.5, {"x": 0.5}, "no layer 'x' to prune; layers: a, b"),
        ],
    )
    def test_refuses(self, target: float | None, layers: dict[str, float], message: str) -> None:
        with pytest.raises(RowmeshError, match=message):
            keep_masks({"a": np.ones(3), "b": np.ones(3)}, target, layers)

    def test_refuses_weights(self) -> None:
        with pytest.raises(RowmeshError, match="layer 'a': a weight is NaN or infinity"):
            keep_masks({"a": np.array([1.0, np.nan])}, 0.5)
        with pytest.raises(RowmeshError, match="no layer has constant weights"):
            keep_masks({}, 0.5)


def two_channels() -> Graph:
    """A convolution whose channel with the larger numbers has the smaller weights."""
    weights = np.stack([np.full((3, 3, 4), 1, np.int8), np.full((3, 3, 4), 100, np.int8)])
    unit = Quant(np.ones(1))
    tensors = [
        Tensor("x", (1, 5, 5, 4), "int8", unit),
        Tensor("w", weights.shape, "int8", Quant(np.array([1.0, 0.009])), weights),
        Tensor("y", (1, 3, 3, 2), "int8", unit),
    ]
    node = Node(Op.CONV, "layer", ("x", "w"), ("y",), ConvAttrs(clamp=(-128, 127)))
    return Graph("net", {tensor.name: tensor for tensor in tensors}, (node,), ("x",), ("y",))


class TestGraph:
    def test_scales_of_channels_count(self) -> None:
        graph = two_channels()
        pruned, (layer,) = prune_graph(graph, 0.5)
        assert graph.constant("w").all(), "the graph given is left as it is"
        assert pruned.constant("w")[0].all()
        assert not pruned.constant("w")[1].any()
        assert pruned.constant("w").dtype == np.int8
        assert (layer.name, layer.zero_fraction, layer.density) == ("layer", 0.5, 0.5)

    @pytest.mark.parametrize("seed", range(8))
    def test_network(self, seed: int) -> None:
        graph = random_network(np.random.default_rng(seed))
        first = densities(graph)[0].name
        pruned, layers = prune_graph(graph, 0.6, {first: 0.9})
        assert layers == densities(pruned)
        rest = layers[1:]
        assert layers[0].zero_fraction >= 0.9
        assert sum(x.zeros for x in rest) >= 0.6 * sum(x.weights for x in rest)
        for node in graph.nodes:
            for name in node.inputs[1:]:
                if graph.tensors[name].data is None:  # the second operand of an addition
                    continue
                old, new = graph.constant(name), pruned.constant(name)
                changed = old != new
                assert not new[changed].any(), "what changed is zero"
                assert not changed.any() or name == node.inputs[1], "biases stay"


def float_model(raw: bool) -> onnx.ModelProto:
    """Conv, MatMul of weights behind operators, Gemm of a Constant, MatMul of two activations."""
    rng = np.random.default_rng(5)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.normal(size=shape).astype(np.float32)
        if raw:
            return numpy_helper.from_array(values, name)
        return helper.make_tensor(name, TensorProto.FLOAT, shape, values.reshape(-1).tolist())

    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c"], name="conv1"),
        make("Reshape", ["c", "flat"], ["f"]),
        make("Transpose", ["w2"], ["w2t"]),
        make("Identity", ["w2t"], ["w2i"]),
        make("MatMul", ["f", "w2i"], ["m"], name="matmul"),
        make("Constant", [], ["w3"], value=tensor("", 6, 8)),
        make("Gemm", ["m", "w3"], ["g"]),
        make("MatMul", ["g", "h"], ["y"]),
        make("Reshape", ["g", "column"], ["h"]),
    ]
    nodes[-2:] = reversed(nodes[-2:])
    proto = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [
            tensor("w1", 5, 3, 2, 2), tensor("b1", 5), tensor("w2", 6, 45),
            numpy_helper.from_array(np.array([1, 45]), "flat"),
            numpy_helper.from_array(np.array([8, 1]), "column"),
        ],
    )  # fmt: skip
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def weights_of(model: onnx.ModelProto) -> dict[str, Array]:
    arrays = {proto.name: numpy_helper.to_array(proto) for proto in model.graph.initializer}
    constant = next((node for node in model.graph.node if node.op_type == "Constant"), None)
    if constant is not None:
        arrays[constant.output[0]] = numpy_helper.to_array(constant.attribute[0].t)
    return arrays


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Everything of a model but the values of its constants."""
    stripped = onnx.ModelProto()
    stripped.CopyFrom(model)
    tensors = list(stripped.graph.initializer)
    tensors += [a.t for node in stripped.graph.node for a in node.attribute if a.HasField("t")]
    for tensor in tensors:
        for kind in ("raw_data", "float_data"):
            tensor.ClearField(kind)
    return stripped


class TestOnnx:
    @pytest.mark.parametrize("raw", [True, False], ids=["raw", "floats"])
    def test_float(self, raw: bool) -> None:
        model = float_model(raw)
        given = model.SerializeToString()
        pruned, before, after = prune_onnx_model(model, 0.7, {"w3": 0.25})
        assert model.SerializeToString() == given
        assert [(x.name, x.weights, x.zeros) for x in before] == [
            ("conv1", 60, 0), ("matmul", 270, 0), ("g", 48, 0),
        ]  # fmt: skip
        old, new = weights_of(model), weights_of(pruned)
        assert [x.zeros for x in after] == [np.sum(new[name] == 0) for name in ("w1", "w2", "w3")]
        assert after[0].zeros + after[1].zeros == 231
        assert after[2].zeros == 12
        for name, array in old.items():
            kept = new[name] != 0
            np.testing.assert_array_equal(new[name][kept], array[kept])
            if name not in ("w1", "w2", "w3"):
                np.testing.assert_array_equal(new[name], array)
        limit = max(np.abs(old[name][new[name] == 0]).max() for name in ("w1", "w2"))
        assert limit < min(np.abs(new[name][new[name] != 0]).min() for name in ("w1", "w2"))
        assert without_weights(pruned) == without_weights(model)

    def test_qdq_scales_of_channels_count(self) -> None:
        model = export_onnx_model(two_channels())
        pruned, _, (layer,) = prune_onnx_model(model, 0.5)
        weights = weights_of(pruned)["w"]
        assert weights.dtype == np.int8
        assert weights[0].all() and not weights[1].any()
        assert layer.zero_fraction == 0.5
        assert without_weights(pruned) == without_weights(model)

    def test_uint8_weights_have_a_zero_point(self) -> None:
        model = helper.make_model(
            helper.make_graph(
                [
                    helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wr"]),
                    helper.make_node("MatMul", ["x", "wr"], ["y"]),
                ],
                "net",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
                [
                    numpy_helper.from_array(np.array([[0, 5, 128], [120, 131, 255]], "u1"), "w"),
                    numpy_helper.from_array(np.float32(0.1), "s"),
                    numpy_helper.from_array(np.uint8(128), "z"),
                ],
            )
        )
        pruned, (before,), (after,) = prune_onnx_model(model, 0.5)
        assert (before.zeros, after.zeros) == (1, 3)
        assert weights_of(pruned)["w"].tolist() == [[0, 5, 128], [128, 128, 255]]

    def test_float_weights_quantized_by_the_model(self) -> None:
        """As quantization-aware training writes them: the float values are what is pruned."""
        weights = np.array([[0.3, -0.1], [0.2, -4.0]], np.float32)
        nodes = [
            helper.make_node("QuantizeLinear", ["w", "s"], ["wq"]),
            helper.make_node("DequantizeLinear", ["wq", "s"], ["wr"]),
            helper.make_node("MatMul", ["x", "wr"], ["y"]),
        ]
        scale = numpy_helper.from_array(np.float32(0.1), "s")
        tensors = [numpy_helper.from_array(weights, "w"), scale]
        model = helper.make_model(helper.make_graph(nodes, "net", [], [], tensors))
        pruned, _, _ = prune_onnx_model(model, None, {"w": 0.5})  # the name of the weights
        expected = np.where(np.abs(weights) > 0.25, weights, 0)
        np.testing.assert_array_equal(weights_of(pruned)["w"], expected)

    @pytest.mark.parametrize("op", ["QLinearConv", "QLinearMatMul"])
    def test_qlinear(self, op: str) -> None:
        """Channels are rows of a convolution's weights and columns of a matrix."""
        weights = np.array([[1, 2, 3], [50, 60, 70]], np.int8)
        if op == "QLinearMatMul":
            weights = weights.T
        shape = (2, 3, 1, 1) if op == "QLinearConv" else weights.shape
        names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
        constants = {
            "w": weights.reshape(shape),
            "ws": np.array([1, 0.01], np.float32),
            "wz": np.zeros(2, np.int8),
            **{name: np.float32(1) for name in ("xs", "ys")},
            **{name: np.int8(0) for name in ("xz", "yz")},
        }
        tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
        graph = helper.make_graph([helper.make_node(op, names, ["y"])], "net", [], [], tensors)
        pruned, _, (layer,) = prune_onnx_model(helper.make_model(graph), 0.5)
        rest = weights_of(pruned)["w"].reshape(weights.shape)
        rest = rest.T if op == "QLinearMatMul" else rest
        assert rest.tolist() == [[1, 2, 3], [0, 0, 0]]
        assert layer.zeros == 3

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("int32", "weights 'w' are int32: not supported"),
            ("external", "'w' lies outside the file: not supported"),
            ("scale", "'s' must be a constant"),
            ("none", "no layer has constant weights"),
        ],
    )
    def test_refuses(self, kind: str, message: str, tmp_path: Path) -> None:
        dtype = np.int32 if kind == "int32" else np.int8
        weights = numpy_helper.from_array(np.ones((2, 3), dtype), "w")
        scale = numpy_helper.from_array(np.float32(1), "x" if kind == "scale" else "s")
        if kind == "external":
            onnx.external_data_helper.set_external_data(weights, "w.bin")
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["wr"]),
            helper.make_node("MatMul", ["x", "x" if kind == "none" else "wr"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "net", [], [], [weights, scale])
        path = tmp_path / "m.onnx"
        path.write_bytes(helper.make_model(graph).SerializeToString())
        with pytest.raises(RowmeshError, match=message):
            prune_onnx_file(path, tmp_path / "out.onnx", 0.5)
        assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


class TestCommand:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        path = tmp_path / "m.onnx"
        path.write_bytes(float_model(raw=True).SerializeToString())
        return path

    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["rowmesh", "prune", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    def test_prunes(
        self, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = model.with_name("out.onnx")
        assert self.run(monkeypatch, model, "-o", out, "--target", 0.5, "--layer", "g=0.75") == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert lines[0] == ["layer", "weights", "zero", "before", "zero", "now"]
        assert [line[:3] for line in lines[1:]] == [
            ["conv1", "60", "0.0%"], ["matmul", "270", "0.0%"], ["g", "48", "0.0%"],
            ["all", "378", "0.0%"],
        ]  # fmt: skip
        assert lines[3][3] == "75.0%"
        weights = weights_of(onnx.load(out))
        assert lines[4][3] == f"{(165 + 36) / 378:.1%}"
        assert sum(np.sum(weights[name] == 0) for name in ("w1", "w2")) == 165

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "nothing to prune: give --target or --layer"),
            (["--layer", "conv1"], "--layer conv1: must be NAME=FRACTION, as conv1=0.8"),
            (["--layer", "conv1=x"], "--layer conv1=x: must be NAME=FRACTION"),
            (["--layer", "conv2=0.5"], "no layer 'conv2' to prune; layers: conv1, matmul, g"),
            (["--target", "2"], "target = 2.0: must be within 0..1"),
        ],
    )
    def test_refuses_in_one_line(
        self,
        arguments: list[str],
        message: str,
        model: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert self.run(monkeypatch, model, "-o", model.with_name("o.onnx"), *arguments) == 1
        told = capsys.readouterr().err
        assert told.startswith("rowmesh: error: ") and told.count("\n") == 1
        assert message in told
        assert [file.name for file in model.parent.iterdir()] == ["m.onnx"]

    @pytest.mark.parametrize("content", [None, b"no model at all"], ids=["missing", "damaged"])
    def test_refuses_files(
        self,
        content: bytes | None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / "m.onnx"
        if content is not None:
            path.write_bytes(content)
        assert self.run(monkeypatch, path, "-o", tmp_path / "o.onnx", "--target", "0.5") == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert ("No such file" if content is None else "not an ONNX file, or truncated") in told
