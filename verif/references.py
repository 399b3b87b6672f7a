"""Reference runtimes: a single-layer graph written as an ONNX or a TFLite model, and run there.

Both writers know nothing of the golden model; they state a layer in the file format's own terms.
ONNX Runtime and LiteRT are test dependencies only.
"""

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen.graph import Array, ConvAttrs, Graph, Node, Op, PoolAttrs
from rowmesh.verif.accuracy import onnxruntime_session
from rowmesh.verif.random_layers import same_pads

__all__ = ["litert_run", "onnx_layer", "onnxruntime_run", "tflite_layer"]


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


_TYPES = {"int8": tflite.TensorType.INT8, "int32": tflite.TensorType.INT32}


class _Writer:
    """Builds the flatbuffer of a model of one operator."""

    def __init__(self) -> None:
        self.b: Any = flatbuffers.Builder(1024)

    def offsets(self, start: Any, offsets: list[int]) -> int:
        """A vector of offsets."""
        start(self.b, len(offsets))
        for offset in reversed(offsets):
            self.b.PrependUOffsetTRelative(offset)
        return int(self.b.EndVector())

    def numbers(self, values: Any, dtype: type) -> int:
        """A vector of numbers."""
        return int(self.b.CreateNumpyVector(np.asarray(values, dtype)))

    def tensor(self, name: str, shape: tuple[int, ...], kind: str, buffer: int,
               quant: Any, axis: int) -> int:  # fmt: skip
        """A tensor with its quantization."""
        scale = self.numbers(quant.scale, np.float32)
        zero = self.numbers([quant.zero_point] * quant.scale.size, np.int64)
        tflite.QuantizationParametersStart(self.b)
        tflite.QuantizationParametersAddScale(self.b, scale)
        tflite.QuantizationParametersAddZeroPoint(self.b, zero)
        tflite.QuantizationParametersAddQuantizedDimension(self.b, axis)
        params = tflite.QuantizationParametersEnd(self.b)
        text, dims = self.b.CreateString(name), self.numbers(shape, np.int32)
        tflite.TensorStart(self.b)
        tflite.TensorAddName(self.b, text)
        tflite.TensorAddShape(self.b, dims)
        tflite.TensorAddType(self.b, _TYPES[kind])
        tflite.TensorAddBuffer(self.b, buffer)
        tflite.TensorAddQuantization(self.b, params)
        return int(tflite.TensorEnd(self.b))

    def buffer(self, data: Array | None) -> int:
        """A buffer, empty for an activation."""
        raw = (
            None
            if data is None
            else self.numbers(np.frombuffer(data.tobytes(), np.uint8), np.uint8)
        )
        tflite.BufferStart(self.b)
        if raw is not None:
            tflite.BufferAddData(self.b, raw)
        return int(tflite.BufferEnd(self.b))


def tflite_layer(graph: Graph) -> bytes:
    """The one node of `graph` as a TFLite file.

    Raises
    ------
    ValueError
        Padding that TFLite cannot say, or groups other than one and depthwise.
    """
    (node,) = graph.nodes
    out = _Writer()
    opcode, options_kind, options, depthwise = _tflite_options(out, graph, node)
    buffers, tensors = [out.buffer(None)], []
    for name in [*node.inputs, "y"]:
        tensor = graph.tensors[name]
        data, shape, axis = tensor.data, tensor.shape, 0
        if name == "w" and depthwise:
            m, r, s, _ = shape
            data = graph.constant("w").reshape(m, r, s).transpose(1, 2, 0)[None]
            shape, axis = (1, r, s, m), 3
        buffers.append(out.buffer(data))
        quant = graph.quant(name)
        tensors.append(out.tensor(name, shape, tensor.dtype, len(buffers) - 1, quant, axis))
    b = out.b
    count = len(tensors)
    inputs = out.numbers(range(count - 1), np.int32)
    outputs = out.numbers([count - 1], np.int32)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, 0)
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    tflite.OperatorAddBuiltinOptionsType(b, options_kind)
    tflite.OperatorAddBuiltinOptions(b, options)
    operators = out.offsets(tflite.SubGraphStartOperatorsVector, [tflite.OperatorEnd(b)])
    listed = out.offsets(tflite.SubGraphStartTensorsVector, tensors)
    graph_inputs = out.numbers(range(len(graph.inputs)), np.int32)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, listed)
    tflite.SubGraphAddInputs(b, graph_inputs)
    tflite.SubGraphAddOutputs(b, outputs)
    tflite.SubGraphAddOperators(b, operators)
    subgraphs = out.offsets(tflite.ModelStartSubgraphsVector, [tflite.SubGraphEnd(b)])
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, opcode)
    tflite.OperatorCodeAddBuiltinCode(b, opcode)
    tflite.OperatorCodeAddVersion(b, 4 if node.op == Op.FULLY_CONNECTED else 3)
    codes = out.offsets(tflite.ModelStartOperatorCodesVector, [tflite.OperatorCodeEnd(b)])
    stored = out.offsets(tflite.ModelStartBuffersVector, buffers)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, codes)
    tflite.ModelAddSubgraphs(b, subgraphs)
    tflite.ModelAddBuffers(b, stored)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def _tflite_options(out: _Writer, graph: Graph, node: Node) -> tuple[int, int, int, bool]:
    """Operator code, kind of options, options, and whether it is depthwise."""
    b, codes, kinds = out.b, tflite.BuiltinOperator, tflite.BuiltinOptions
    relu = node.clamp is not None and node.clamp[0] > -128
    fused = tflite.ActivationFunctionType.RELU if relu else tflite.ActivationFunctionType.NONE
    size = graph.tensors["x"].shape[1:3]
    if node.op == Op.FULLY_CONNECTED:
        tflite.FullyConnectedOptionsStart(b)
        tflite.FullyConnectedOptionsAddFusedActivationFunction(b, fused)
        options = tflite.FullyConnectedOptionsEnd(b)
        return codes.FULLY_CONNECTED, kinds.FullyConnectedOptions, options, False
    if node.op == Op.ADD:
        tflite.AddOptionsStart(b)
        tflite.AddOptionsAddFusedActivationFunction(b, fused)
        return codes.ADD, kinds.AddOptions, tflite.AddOptionsEnd(b), False
    if node.op in (Op.MAX_POOL, Op.AVG_POOL):
        pool = node.attrs_as(PoolAttrs)
        pads = same_pads((size[0], size[1]), pool.kernel, pool.strides)
        tflite.Pool2DOptionsStart(b)
        tflite.Pool2DOptionsAddPadding(b, _padding(pool.pads, pads))
        tflite.Pool2DOptionsAddStrideH(b, pool.strides[0])
        tflite.Pool2DOptionsAddStrideW(b, pool.strides[1])
        tflite.Pool2DOptionsAddFilterHeight(b, pool.kernel[0])
        tflite.Pool2DOptionsAddFilterWidth(b, pool.kernel[1])
        tflite.Pool2DOptionsAddFusedActivationFunction(b, fused)
        code = codes.MAX_POOL_2D if node.op == Op.MAX_POOL else codes.AVERAGE_POOL_2D
        return code, kinds.Pool2DOptions, tflite.Pool2DOptionsEnd(b), False
    conv = node.attrs_as(ConvAttrs)
    m, r, s, per_group = graph.tensors["w"].shape
    pads = same_pads((size[0], size[1]), (r, s), conv.strides, conv.dilations)
    padding = _padding(conv.pads, pads)
    channels = graph.tensors["x"].shape[3]
    depthwise = conv.groups == channels and per_group == 1 and channels > 1
    if not depthwise and conv.groups != 1:
        raise ValueError(f"{conv.groups} groups: only one or depthwise")
    name = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    getattr(tflite, f"{name}Start")(b)
    getattr(tflite, f"{name}AddPadding")(b, padding)
    getattr(tflite, f"{name}AddStrideH")(b, conv.strides[0])
    getattr(tflite, f"{name}AddStrideW")(b, conv.strides[1])
    getattr(tflite, f"{name}AddDilationHFactor")(b, conv.dilations[0])
    getattr(tflite, f"{name}AddDilationWFactor")(b, conv.dilations[1])
    getattr(tflite, f"{name}AddFusedActivationFunction")(b, fused)
    if depthwise:
        tflite.DepthwiseConv2DOptionsAddDepthMultiplier(b, m // channels)
    options = getattr(tflite, f"{name}End")(b)
    code = codes.DEPTHWISE_CONV_2D if depthwise else codes.CONV_2D
    return code, getattr(kinds, name), options, depthwise


def _padding(pads: tuple[int, ...], same: tuple[int, ...]) -> int:
    if not any(pads):
        return int(tflite.Padding.VALID)
    if pads == same:
        return int(tflite.Padding.SAME)
    raise ValueError(f"pads {pads}: neither VALID nor SAME")
