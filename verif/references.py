"""Reference runtimes: a single-layer graph written as an ONNX or a TFLite model, and run there.

Both writers know nothing of the golden model; they state a layer in the file format's own terms.
ONNX Runtime and LiteRT are test dependencies only.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen.graph import Array, ConvAttrs, Graph, Node, Op, PoolAttrs
from rowmesh.gen.shapes import same_pads
from rowmesh.verif.accuracy import onnxruntime_session
from rowmesh.verif.tflite_writer import TfliteWriter

__all__ = [
    "litert_run",
    "onnx_layer",
    "onnxruntime_run",
    "onnxruntime_tensors",
    "tflite_layer",
]


def onnx_layer(graph: Graph) -> onnx.ModelProto:
    """The one node of `graph` as QLinearConv, QLinearMatMul or MaxPool (NCHW)."""
    (node,) = graph.nodes
    x, y = graph.tensors["x"], graph.tensors["y"]
    image = len(x.shape) == 4
    x_shape, y_shape = ((s[0], s[3], s[1], s[2]) if image else s for s in (x.shape, y.shape))
    constants: dict[str, Any] = {}
    if node.op == Op.MAX_POOL:
        pool = node.attrs_as(PoolAttrs)
        made = helper.make_node(
            "MaxPool", ["x"], ["y"], kernel_shape=pool.kernel, strides=pool.strides,
            pads=[pool.pads[0], pool.pads[2], pool.pads[1], pool.pads[3]],
        )  # fmt: skip
    else:
        weights, w_scale = graph.constant("w"), graph.quant("w").scale.astype(np.float32)
        constants = {
            "xs": np.float32(graph.quant("x").scale[0]),
            "xz": np.int8(graph.quant("x").zero_point),
            "w": weights.transpose(0, 3, 1, 2) if image else weights.T,
            "ws": w_scale if w_scale.size > 1 else w_scale[0],
            "wz": np.zeros(w_scale.size, np.int8) if w_scale.size > 1 else np.int8(0),
            "ys": np.float32(graph.quant("y").scale[0]),
            "yz": np.int8(graph.quant("y").zero_point),
        }
        names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
        if node.op == Op.CONV:
            conv = node.attrs_as(ConvAttrs)
            constants["b"] = graph.constant("b")
            made = helper.make_node(
                "QLinearConv", [*names, "b"], ["y"], strides=conv.strides, group=conv.groups,
                pads=[conv.pads[0], conv.pads[2], conv.pads[1], conv.pads[3]],
                dilations=conv.dilations,
            )  # fmt: skip
        else:
            made = helper.make_node("QLinearMatMul", names, ["y"])
    proto = helper.make_graph(
        [made],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.INT8, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, y_shape)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def onnxruntime_run(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """Outputs of a model in ONNX Runtime."""
    session = onnxruntime_session(model.SerializeToString())
    outputs: list[Array] = session.run(None, inputs)
    return outputs


def onnxruntime_tensors(
    model: bytes, inputs: Sequence[Mapping[str, Array]]
) -> Iterator[dict[str, Array]]:
    """Outputs and every integer activation of an ONNX file, for each of several runs.

    Real numbers between integers are not shown: ONNX Runtime would then compute in them.
    """
    proto = onnx.load_model_from_string(model)
    integers: set[str] = set()
    for node in proto.graph.node:
        made = node.op_type == "QuantizeLinear" or node.op_type.startswith(("QLinear", "QGemm"))
        moved = node.op_type != "DequantizeLinear" and node.input and node.input[0] in integers
        if made or moved:
            integers.add(node.output[0])
    known = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in sorted(integers - known))
    session = onnxruntime_session(proto.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    for values in inputs:
        yield dict(zip(names, session.run(names, dict(values)), strict=True))


def litert_run(model: bytes, *values: Array, reference: bool) -> Array:
    """Output of a TFLite model in LiteRT.

    Parameters
    ----------
    model : bytes
        The file.
    *values : ndarray of int8
        The inputs in order.
    reference : bool
        The reference kernels (double rounding) in place of the default ones (XNNPACK).
    """
    from ai_edge_litert.interpreter import (
        Interpreter,
        OpResolverType,
    )

    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.BUILTIN
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=kind, num_threads=1
    )
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def tflite_layer(graph: Graph) -> bytes:
    """The one node of `graph` as a TFLite file.

    Raises
    ------
    ValueError
        Padding that TFLite cannot say, or groups other than one and depthwise.
    """
    (node,) = graph.nodes
    name, options, fields = _tflite_options(graph, node)
    out, tensors = TfliteWriter(), []
    for name_in in [*node.inputs, "y"]:
        tensor = graph.tensors[name_in]
        data, shape, axis = tensor.data, tensor.shape, 0
        if name_in == "w" and name == "DEPTHWISE_CONV_2D":
            m, r, s, _ = shape
            data = graph.constant("w").reshape(m, r, s).transpose(1, 2, 0)[None]
            shape, axis = (1, r, s, m), 3
        quant = graph.quant(name_in)
        tensors.append(
            out.tensor(
                name_in,
                shape,
                tensor.dtype,
                scale=quant.scale,
                zero_point=quant.zero_point,
                axis=axis,
                data=data,
            )  # fmt: skip
        )
    out.operator(name, tensors[:-1], tensors[-1:], options, **fields)
    return out.finish(tensors[: len(graph.inputs)], tensors[-1:])


def _tflite_options(graph: Graph, node: Node) -> tuple[str, str, dict[str, int]]:
    """Operator, its table of options, and the fields of that."""
    relu = node.clamp is not None and node.clamp[0] > -128
    fused = tflite.ActivationFunctionType.RELU if relu else tflite.ActivationFunctionType.NONE
    fields: dict[str, int] = {"FusedActivationFunction": fused}
    size = graph.tensors["x"].shape[1:3]
    if node.op == Op.FULLY_CONNECTED:
        return "FULLY_CONNECTED", "FullyConnectedOptions", fields
    if node.op == Op.ADD:
        return "ADD", "AddOptions", fields
    if node.op in (Op.MAX_POOL, Op.AVG_POOL):
        pool = node.attrs_as(PoolAttrs)
        pads = same_pads((size[0], size[1]), pool.kernel, pool.strides)
        fields |= {"Padding": _padding(pool.pads, pads)}
        fields |= {"StrideH": pool.strides[0], "StrideW": pool.strides[1]}
        fields |= {"FilterHeight": pool.kernel[0], "FilterWidth": pool.kernel[1]}
        name = "MAX_POOL_2D" if node.op == Op.MAX_POOL else "AVERAGE_POOL_2D"
        return name, "Pool2DOptions", fields
    conv = node.attrs_as(ConvAttrs)
    m, r, s, per_group = graph.tensors["w"].shape
    pads = same_pads((size[0], size[1]), (r, s), conv.strides, conv.dilations)
    fields |= {"Padding": _padding(conv.pads, pads)}
    fields |= {"StrideH": conv.strides[0], "StrideW": conv.strides[1]}
    fields |= {"DilationHFactor": conv.dilations[0], "DilationWFactor": conv.dilations[1]}
    channels = graph.tensors["x"].shape[3]
    if conv.groups == channels and per_group == 1 and channels > 1:
        fields |= {"DepthMultiplier": m // channels}
        return "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", fields
    if conv.groups != 1:
        raise ValueError(f"{conv.groups} groups: only one or depthwise")
    return "CONV_2D", "Conv2DOptions", fields


def _padding(pads: tuple[int, ...], same: tuple[int, ...]) -> int:
    if not any(pads):
        return int(tflite.Padding.VALID)
    if pads == same:
        return int(tflite.Padding.SAME)
    raise ValueError(f"pads {pads}: neither VALID nor SAME")
