"""TFLite import: every operator against LiteRT, and every kind of file that is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import ConvAttrs, Op, PadAttrs
from rowmesh.gen.import_tflite import import_tflite, import_tflite_model
from rowmesh.sim_models.golden import run
from rowmesh.sim_models.golden_float import float_run
from rowmesh.verif.tflite_networks import image_network, streaming_network
from rowmesh.verif.tflite_writer import TfliteWriter

INT8 = np.arange(-128, 128).astype(np.int8)[None]


def litert(model: bytes, runs: list[dict[str, np.ndarray]], rounding: str) -> list[Any]:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from rowmesh.verif.network_reference import litert_tensors

    return list(litert_tensors(model, runs, reference=rounding == "double"))


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_every_operator_equals_litert(tmp_path: Path, seed: int, batch: int, rounding: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    from rowmesh.verif.network_reference import compare_network, network_inputs

    path = tmp_path / "image.tflite"
    path.write_bytes(image_network(seed, batch))
    graph = import_tflite(path)
    assert graph.quantized
    made = compare_network(path, network_inputs(graph, 3, seed), rounding=rounding)
    assert made.problems() == []
    assert made.runs == 3
    # What the model does not have is what LiteRT cannot show.
    model_has = {name for name in graph.tensors if not name.endswith(("_flat", "_part", "_image"))}
    computed = {name for node in graph.nodes for name in node.outputs}
    assert made.tensors == model_has & computed
    kinds = set(made.counts)
    assert {"conv", "depthwise", "add", "avg_pool", "max_pool", "softmax", "logistic"} <= kinds
    assert {"pad", "slice", "concat", "transpose", "quantize", "dequantize"} <= kinds


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_states_equal_litert_over_steps(rounding: str) -> None:
    for seed in range(3):
        model = streaming_network(seed)
        graph = import_tflite_model(model, "streaming")
        rng = np.random.default_rng(seed)
        frames = rng.integers(-128, 128, (30, 2, 6)).astype(np.int8)
        found = graph.to_model(run(graph, {"frame": frames}, rounding))
        steps = litert(model, [{"frame": frames[i : i + 1]} for i in range(30)], rounding)
        for name, array in found.items():
            for index, shown in enumerate(steps):
                np.testing.assert_array_equal(array[index : index + 1], shown[name])
        assert found["level"].dtype == np.uint8
        assert len(np.unique(found["level"])) > 5
        # A second call begins with the initial states again.
        again = run(graph, {"frame": frames[:1]}, rounding)
        np.testing.assert_array_equal(graph.to_model(again)["level"], found["level"][:1])


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("code", ["RELU", "RELU6", "LOGISTIC", "QUANTIZE"])
def test_unary_equals_litert_on_every_value(code: str, rounding: str) -> None:
    rng = np.random.default_rng(7)
    for index in range(6):
        scale, zero = float(rng.uniform(0.005, 0.3)), int(rng.integers(-128, 128))
        target = (scale, zero) if index == 0 else (float(rng.uniform(0.01, 0.3)), -7)
        if code == "LOGISTIC":
            target = (1 / 256, -128)
        out = TfliteWriter()
        x = out.tensor("x", INT8.shape, scale=scale, zero_point=zero)
        y = out.tensor("y", INT8.shape, scale=target[0], zero_point=target[1])
        out.operator(code, [x], [y])
        model = out.finish([x], [y])
        graph = import_tflite_model(model, "unary")
        (shown,) = litert(model, [{"x": INT8}], rounding)
        np.testing.assert_array_equal(run(graph, {"x": INT8}, rounding)["y"], shown["y"])


@pytest.mark.parametrize("size", [2, 12, 1000])
def test_softmax_equals_litert(size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.integers(-128, 128, (200, size)).astype(np.int8)
    for scale in (0.01, 0.15, 0.4):
        out = TfliteWriter()
        a = out.tensor("x", x.shape, scale=scale, zero_point=3)
        b = out.tensor("y", x.shape, scale=1 / 256, zero_point=-128)
        out.operator("SOFTMAX", [a], [b], "SoftmaxOptions", Beta=1.0)
        model = out.finish([a], [b])
        graph = import_tflite_model(model, "softmax")
        for rounding in ("single", "double"):
            (shown,) = litert(model, [{"x": x}], rounding)
            np.testing.assert_array_equal(run(graph, {"x": x}, rounding)["y"], shown["y"])


def test_padding_is_folded_into_the_convolution() -> None:
    graph = import_tflite_model(image_network(0), "image")
    (pad,) = (node for node in graph.nodes if node.op is Op.PAD)
    assert pad.attrs_as(PadAttrs).pads == ((0, 0), (1, 2), (0, 1), (0, 0))
    assert not any(pad.outputs[0] in node.inputs for node in graph.nodes)
    conv = next(node for node in graph.nodes if node.op is Op.CONV)
    assert conv.inputs[0] == pad.inputs[0]
    assert conv.attrs_as(ConvAttrs).pads == (1, 2, 0, 1)


def float_network() -> bytes:
    """Float convolution with half-precision weights, a bias, ReLU alone, and a softmax."""
    rng = np.random.default_rng(1)
    out = TfliteWriter()
    x = out.tensor("x", (1, 6, 5, 3), "float32")
    half = rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float16)
    w = out.tensor("w16", half.shape, "float16", data=half)
    wide = out.tensor("w", half.shape, "float32")
    b = out.tensor("b", (4,), "float32", data=rng.normal(0, 0.3, 4).astype(np.float32))
    c = out.tensor("c", (1, 6, 5, 4), "float32")
    r = out.tensor("r", (1, 6, 5, 4), "float32")
    f = out.tensor("f", (1, 120), "float32")
    v = out.tensor("v", (6, 120), data=rng.integers(-127, 128, (6, 120)).astype(np.int8),
                   scale=np.full(6, 0.003), axis=0)  # fmt: skip
    d = out.tensor("d", (1, 6), "float32")
    y = out.tensor("y", (1, 6), "float32")
    out.operator("DEQUANTIZE", [w], [wide], "DequantizeOptions")
    out.operator("CONV_2D", [x, wide, b], [c], "Conv2DOptions", Padding=0, StrideH=1, StrideW=1,
                 DilationHFactor=1, DilationWFactor=1)  # fmt: skip
    out.operator("RELU", [c], [r])
    shape = out.tensor("shape", (2,), "int32", data=np.array([1, 120], np.int32))
    out.operator("RESHAPE", [r, shape], [f], "ReshapeOptions")
    out.operator("FULLY_CONNECTED", [f, v, -1], [d], "FullyConnectedOptions")
    out.operator("SOFTMAX", [d], [y], "SoftmaxOptions", Beta=1.0)
    return out.finish([x], [y])


def test_float_network_equals_litert() -> None:
    model = float_network()
    graph = import_tflite_model(model, "float")
    assert not graph.quantized
    x = np.random.default_rng(2).normal(size=(1, 6, 5, 3)).astype(np.float32)
    (shown,) = litert(model, [{"x": x}], "double")
    found = float_run(graph, {"x": x})
    # LiteRT quantizes the input of a layer with int8 weights, by itself.
    np.testing.assert_allclose(found["r"], shown["r"], atol=1e-5)
    np.testing.assert_allclose(found["y"], shown["y"], atol=0.02)


def test_computed_shape() -> None:
    """What Keras writes for a flattening: the shape is computed at run time."""
    out = TfliteWriter()
    x = out.tensor("x", (1, 2, 3), scale=0.1, signature=(-1, 2, 3))
    shape = out.tensor("shape", (3,), "int32")
    first = out.tensor("first", (), "int32")
    size = out.tensor("size", (2,), "int32")
    rest = out.tensor("rest", (), "int32", data=np.array(6, np.int32))
    zero, one = (out.tensor(n, (1,), "int32", data=np.array([v], np.int32)) for n, v in
                 (("zero", 0), ("one", 1)))  # fmt: skip
    y = out.tensor("y", (1, 6), scale=0.1, signature=(-1, 6))
    out.operator("SHAPE", [x], [shape], "ShapeOptions", OutType=2)
    out.operator("STRIDED_SLICE", [shape, zero, one, one], [first], "StridedSliceOptions",
                 ShrinkAxisMask=1)  # fmt: skip
    out.operator("PACK", [first, rest], [size], "PackOptions", ValuesCount=2)
    out.operator("RESHAPE", [x, size], [y], "ReshapeOptions")
    model = out.finish([x], [y])
    graph = import_tflite_model(model, "flatten")
    assert [node.op for node in graph.nodes] == [Op.RESHAPE]
    values = np.arange(6, dtype=np.int8).reshape(1, 2, 3)
    (shown,) = litert(model, [{"x": values}], "single")
    np.testing.assert_array_equal(run(graph, {"x": values})["y"], shown["y"])


# -- refused -----------------------------------------------------------------------------------

Build = Callable[[TfliteWriter], tuple[list[int], list[int]]]
SHAPE = (1, 6, 6, 4)


def image(out: TfliteWriter, name: str = "x", dtype: str = "int8", **more: Any) -> int:
    return out.tensor(name, SHAPE, dtype, **({"scale": 0.1, "zero_point": 3} | more))


def conv(out: TfliteWriter, x: int, *, w: dict[str, Any] | None = None, **more: Any) -> int:
    data = np.ones((2, 3, 3, 4), np.int8)
    weights = out.tensor("w", data.shape, **({"scale": 0.1, "data": data} | (w or {})))
    y = out.tensor("y", (1, 6, 6, 2), scale=0.1)
    fields = {"Padding": 0, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    out.operator("CONV_2D", [x, weights, -1], [y], "Conv2DOptions", **(fields | more))
    return y


def unary(out: TfliteWriter, code: str, x: int, **more: Any) -> int:
    y = image(out, "y", **more)
    out.operator(code, [x], [y])
    return y


def model_of(build: Callable[[TfliteWriter, int], int], **more: Any) -> bytes:
    out = TfliteWriter()
    x = image(out, **more)
    return out.finish([x], [build(out, x)])


REFUSED: dict[str, tuple[bytes, str]] = {
    "operator": (model_of(lambda out, x: unary(out, "HARD_SWISH", x)),
                 r"HARD_SWISH 0 \(makes 'y'\): unsupported operator HARD_SWISH"),
    "uint8": (model_of(conv, dtype="uint8"),
              r"CONV_2D 0 \(makes 'y'\): tensor 'x' is UINT8: .* only int8 is supported"),
    "int16": (model_of(conv, dtype="int16"), "tensor 'x' is INT16: unsupported type"),
    "dynamic": (model_of(conv, signature=(-1, -1, 6, 4)),
                r"tensor 'x' has the dynamic shape \[-1, -1, 6, 4\]"),
    "no quantization": (model_of(conv, scale=None),
                        "tensor 'x' is INT8 with no quantization: one is needed"),
    "scales": (model_of(conv, scale=[0.1, 0.2]), "tensor 'x' is INT8 with 2 scales"),
    "zero point": (model_of(conv, zero_point=128), "tensor 'x' has the zero point 128"),
    "zero scale": (model_of(conv, scale=0.0), "tensor 'x': a quantization scale must be finite"),
    "weights": (model_of(lambda out, x: conv(out, x, w={"zero_point": 1})),
                r"CONV_2D 0 .*weights 'w' have a zero point that is not 0"),
    "weight type": (model_of(lambda out, x: conv(out, x, w={"dtype": "uint8"})),
                    "weights 'w' are UINT8: must be INT8"),
    "weights made": (model_of(lambda out, x: conv(out, x, w={"data": None})),
                     "tensor 'w' must be a constant"),
    "bytes": (model_of(lambda out, x: conv(out, x, w={"data": np.ones(9, np.int8)})),
              r"constant 'w' has 9 bytes for the shape \[2, 3, 3, 4\]"),
    "stride": (model_of(lambda out, x: conv(out, x, StrideW=0)), "must be positive"),
    "shape": (model_of(lambda out, x: conv(out, x, StrideW=2)),
              r"the output has shape \[1, 6, 6, 2\]: \(6, 3\) was expected"),
    "activation": (model_of(lambda out, x: conv(out, x, FusedActivationFunction=4)),
                   "unsupported fused activation 4"),
    "requantizing move": (model_of(lambda out, x: unary(out, "RESHAPE", x, scale=0.2)),
                          "tensors 'x' and 'y' differ in type or quantization"),
    "softmax": (model_of(lambda out, x: unary(out, "SOFTMAX", x)),
                "tensor 'y' must have scale 1/256 and zero point -128"),
    "float mix": (model_of(lambda out, x: unary(out, "DEQUANTIZE", x, dtype="float32"),
                           dtype="float32", scale=None), "tensor 'x' is not quantized"),
    "state": (model_of(lambda out, x: unary(out, "READ_VARIABLE", x)),
              r"READ_VARIABLE 0 \(makes 'y'\): the variable has no initial value"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    model, message = REFUSED[kind]
    with pytest.raises(RowmeshError, match=message) as caught:
        import_tflite_model(model, "bad")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(2))
def test_truncated_at_every_length(seed: int) -> None:
    """Whatever is cut off, the file is refused, and never with another error."""
    whole = (image_network(seed), streaming_network(seed))[seed]
    for length in [*range(0, 64), *range(64, len(whole), 37)]:
        with pytest.raises(RowmeshError, match="TFLite file"):
            import_tflite_model(whole[:length], "cut", label="cut.tflite")


def test_damaged_bytes_give_an_error_or_a_graph() -> None:
    whole = streaming_network(3)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(8, len(whole), 8):
            damaged[at] = int(rng.integers(0, 256))
        try:
            import_tflite_model(bytes(damaged), "damaged")
        except RowmeshError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(RowmeshError, match="m.tflite: No such file"):
        import_tflite(tmp_path / "m.tflite")
