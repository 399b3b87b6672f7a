"""What each ONNX operator becomes in the internal graph."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rowmesh.gen.graph import (
    AddAttrs,
    Array,
    ConvAttrs,
    FcAttrs,
    Op,
    PoolAttrs,
    Quant,
    ReshapeAttrs,
    SoftmaxAttrs,
    Tensor,
)
from rowmesh.gen.onnx_builder import IMAGE_RANK, Builder, OnnxNode
from rowmesh.gen.onnx_folding import reshaped
from rowmesh.gen.onnx_moves import MOVES
from rowmesh.gen.onnx_quantized import dequantize, quantize
from rowmesh.gen.shapes import broadcasts_to, output_size, same_pads

__all__ = ["HANDLERS"]


def _image_tensor(name: str, x: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """An image of the type of `x`."""
    return replace(x, name=name, shape=shape, model_image=shape[1:])


def _spatial(
    node: OnnxNode,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Padding (top, bottom, left, right) and output size of a sliding window."""
    auto = node.take("auto_pad", "NOTSET")
    explicit = [int(pad) for pad in node.take("pads", [0, 0, 0, 0])]
    pads = (0, 0, 0, 0)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = same_pads(size, kernel, strides, dilations)
        if auto == "SAME_LOWER":
            pads = (pads[1], pads[0], pads[3], pads[2])
    elif auto in ("NOTSET", "VALID"):
        if len(explicit) != IMAGE_RANK or min(explicit) < 0:
            raise node.error(f"unsupported pads = {explicit}")
        if auto == "NOTSET":
            top, left, bottom, right = explicit
            pads = (top, bottom, left, right)
    else:
        raise node.error(f"unsupported attribute auto_pad = {auto!r}")
    out = output_size(size, kernel, strides, pads, dilations)
    if min(out) < 1:
        span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
        padded = (size[0] + pads[0] + pads[1], size[1] + pads[2] + pads[3])
        raise node.error(f"the window {span} is larger than the padded input {padded}")
    return pads, out


def _conv(builder: Builder, node: OnnxNode) -> None:
    x = builder.image(node, builder.activation(node, 0))
    weights = builder.constant(node, 1)
    bias = builder.optional_constant(node, 2)
    if weights.ndim != IMAGE_RANK:
        raise node.error(f"weights of shape {weights.shape}: only 2-d convolution is supported")
    m, per_group, r, s = weights.shape
    groups = int(node.take("group", 1))
    n, h, w, c = x.shape
    if groups < 1 or per_group * groups != c or m % groups:
        raise node.error(f"{c} channels, weights {weights.shape} and group {groups} do not fit")
    if list(node.take("kernel_shape", [r, s])) != [r, s]:
        raise node.error(f"kernel_shape does not fit the weights {weights.shape}")
    strides, dilations = node.pair("strides", 1), node.pair("dilations", 1)
    pads, (e, f) = _spatial(node, (h, w), (r, s), strides, dilations)
    tensors = [x, builder.quantized_weight(node, 1, weights.transpose(0, 2, 3, 1), 0)]
    if bias is not None:
        if bias.shape != (m,):
            raise node.error(f"bias of shape {bias.shape} for {m} output channels")
        tensors.append(builder.quantized_weight(node, 2, bias, 0))
    attrs = ConvAttrs(strides=strides, pads=pads, dilations=dilations, groups=groups)
    builder.emit(
        Op.CONV, node.name, tensors, _image_tensor(node.outputs[0], x, (n, e, f, m)), attrs
    )


def _batch_normalization(builder: Builder, node: OnnxNode) -> None:
    """Scale and offset of every channel: into the layer before, or a 1 x 1 depthwise layer."""
    x = builder.activation(node, 0)
    gain, offset, mean, variance = (
        builder.constant(node, i).astype(np.float64) for i in range(1, 5)
    )
    node.require("training_mode", 0)
    node.require("spatial", 1)
    node.take("momentum", 0.9)
    factor = gain / np.sqrt(variance + node.take("epsilon", 1e-5))
    offset = offset - mean * factor
    if len(node.outputs) > 1 or factor.shape != x.shape[-1:]:
        raise node.error(f"{factor.shape} factors for the shape {x.shape}")
    if builder.takes_bias(x):
        builder.fuse_scale(node, x, factor)
        column = offset.reshape(-1, 1, 1) if len(x.shape) == IMAGE_RANK else offset
        builder.fuse_bias(node, builder.tensors[node.outputs[0]], column, node.inputs[2])
        return
    x = builder.image(node, x)
    weights = builder.weight(node.inputs[1], factor.reshape(-1, 1, 1, 1))
    bias = builder.weight(node.inputs[2], offset)
    attrs = ConvAttrs(groups=x.shape[3])
    builder.emit(Op.CONV, node.name, [x, weights, bias], replace(x, name=node.outputs[0]), attrs)


def _pool(builder: Builder, node: OnnxNode) -> None:
    x = builder.image(node, builder.activation(node, 0))
    n, h, w, c = x.shape
    if len(node.outputs) > 1:
        raise node.error("unsupported second output (indices)")
    node.require("ceil_mode", 0)
    node.require("storage_order", 0)
    include = bool(node.take("count_include_pad", 0))
    if node.pair("dilations", 1) != (1, 1):
        raise node.error("unsupported attribute dilations")
    if node.op == "GlobalAveragePool":
        kernel, strides = (h, w), (h, w)
    else:
        kernel, strides = node.pair("kernel_shape", 0), node.pair("strides", 1)
    pads, (e, f) = _spatial(node, (h, w), kernel, strides, (1, 1))
    op = Op.MAX_POOL if node.op == "MaxPool" else Op.AVG_POOL
    attrs = PoolAttrs(kernel=kernel, strides=strides, pads=pads, count_include_pad=include)
    builder.emit(op, node.name, [x], _image_tensor(node.outputs[0], x, (n, e, f, c)), attrs)


def _dense(
    builder: Builder, node: OnnxNode, columns: Array, bias: Array | None, axis: int = 1
) -> None:
    """A fully connected layer; `columns` is [C, M], and `axis` the one of M in the model."""
    x = builder.activation(node, 0)
    if len(x.shape) != 2 or columns.ndim != 2 or x.shape[1] != columns.shape[0]:
        raise node.error(f"shapes {x.shape} and {columns.shape} do not fit a matrix product")
    m = columns.shape[1]
    weights = columns.T
    if x.model_image is not None:
        h, w, c = x.model_image
        weights = weights.reshape(m, c, h, w).transpose(0, 2, 3, 1).reshape(m, -1)
    tensors = [x, builder.quantized_weight(node, 1, weights, axis)]
    if bias is not None:
        try:
            row = np.broadcast_to(bias, (1, m)).reshape(m)
        except ValueError:
            raise node.error(f"bias of shape {bias.shape} for {m} outputs") from None
        exact = bias.shape == (m,)
        tensors.append(
            builder.quantized_weight(node, 2, row, 0) if exact else builder.weight("bias", row)
        )
    out = Tensor(node.outputs[0], (x.shape[0], m), "float32")
    builder.emit(Op.FULLY_CONNECTED, node.name, tensors, out, FcAttrs())


def _gemm(builder: Builder, node: OnnxNode) -> None:
    node.require("transA", 0)
    weights = builder.constant(node, 1) * np.float32(node.take("alpha", 1.0))
    bias = builder.optional_constant(node, 2)
    beta = np.float32(node.take("beta", 1.0))
    transposed = bool(node.take("transB", 0))
    columns = weights.T if transposed else weights
    for name, factor in zip(node.inputs[1:], (node.take("alpha", 1.0), beta), strict=False):
        found = builder.integers.get(name)
        if found is not None and factor != 1:
            builder.integers[name] = replace(found, scale=found.scale * float(factor))
    scaled = None if bias is None else bias * beta
    _dense(builder, node, columns, scaled, 0 if transposed else 1)


def _matmul(builder: Builder, node: OnnxNode) -> None:
    _dense(builder, node, builder.constant(node, 1), None)


def _relu(builder: Builder, node: OnnxNode) -> None:
    builder.fuse_clamp(node, builder.activation(node, 0), (0.0, math.inf))


def _clip(builder: Builder, node: OnnxNode) -> None:
    bounds = []
    for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = builder.optional_constant(node, index)
        bounds.append(float(node.take(name, default) if given is None else given.reshape(-1)[0]))
    low, high = bounds
    if not low <= high:
        raise node.error(f"unsupported bounds {low}..{high}")
    builder.fuse_clamp(node, builder.activation(node, 0), (low, high))


def _add(builder: Builder, node: OnnxNode) -> None:
    constant = [name in builder.constants for name in node.inputs]
    if any(constant):
        index = constant.index(True)
        name = node.inputs[index]
        x = builder.activation(node, 1 - index)
        if not builder.takes_bias(x):
            _add_constant(builder, node, x, index)
            return
        builder.fuse_bias(node, x, builder.constants[name], name)
        return
    a, b = builder.activation(node, 0), builder.activation(node, 1)
    if a.model_image != b.model_image:
        a, b = builder.plain(a), builder.plain(b)
    if a.shape != b.shape:
        raise node.error(f"shapes {a.shape} and {b.shape}: unsupported broadcast")
    builder.emit(Op.ADD, node.name, [a, b], replace(a, name=node.outputs[0]), AddAttrs())


def _add_constant(builder: Builder, node: OnnxNode, x: Tensor, index: int) -> None:
    """An addition of a constant that is no bias."""
    name, shape = node.inputs[index], x.model_shape
    values = builder.constants[name]
    if x.model_image is not None and len(x.shape) != IMAGE_RANK:
        x = builder.plain(x)
    if not broadcasts_to((values.shape, shape), shape):
        raise node.error(f"constant {name!r} of shape {values.shape} does not fit {shape}")
    wide = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    if x.model_image is not None:
        wide = wide.transpose(0, 2, 3, 1)
    tensor = builder.weight(name, wide)
    found = builder.integers.get(name)
    if found is not None:
        if found.scale.size > 1:
            raise node.error(f"constant {name!r} has {found.scale.size} scales: one is needed")
        tensor = replace(tensor, quant=Quant(found.scale, found.zero_point))
    builder.emit(Op.ADD, node.name, [x, tensor], replace(x, name=node.outputs[0]), AddAttrs())


def _reshape_to(builder: Builder, node: OnnxNode, x: Tensor, shape: tuple[int, ...]) -> None:
    """Reshape; a flattening of an image keeps the NHWC order, anything else the model's."""
    image = None
    if x.model_image is not None:
        h, w, c = x.model_image
        if len(shape) == 2 and shape == (x.shape[0], h * w * c):
            trivial = c == 1 or h * w == 1
            image = None if trivial else x.model_image
        else:
            x = builder.plain(x)
    out = replace(x, name=node.outputs[0], shape=shape, model_image=image)
    builder.emit(Op.RESHAPE, node.name, [x], out, ReshapeAttrs())


def _reshape(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    shape = reshaped(node, x.model_shape, builder.constant(node, 1))
    _reshape_to(builder, node, x, shape)


def _flatten(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    shape = x.model_shape
    axis = int(node.take("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        raise node.error(f"unsupported attribute axis = {axis}")
    axis = axis + len(shape) if axis < 0 else axis
    _reshape_to(builder, node, x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _axes(builder: Builder, node: OnnxNode, rank: int) -> list[int]:
    """Axes as an attribute or as the second input."""
    given = builder.optional_constant(node, 1)
    axes = node.take("axes", None) if given is None else given.reshape(-1).tolist()
    if axes is None:
        raise node.error("axes are missing")
    return sorted(int(axis) % rank for axis in axes)


def _squeeze(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    old = x.model_shape
    axes = _axes(builder, node, len(old))
    if any(old[axis] != 1 for axis in axes):
        raise node.error(f"axes {axes} of {old} are not 1")
    _reshape_to(builder, node, x, tuple(n for i, n in enumerate(old) if i not in axes))


def _unsqueeze(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    shape = list(x.model_shape)
    for axis in _axes(builder, node, len(shape) + 1):
        shape.insert(axis, 1)
    _reshape_to(builder, node, x, tuple(shape))


def _reduce_mean(builder: Builder, node: OnnxNode) -> None:
    x = builder.image(node, builder.activation(node, 0))
    axes = _axes(builder, node, IMAGE_RANK)
    node.require("noop_with_empty_axes", 0)
    if axes != [2, 3]:
        raise node.error(f"unsupported axes {axes}: only height and width are")
    keep = bool(node.take("keepdims", 1))
    n, h, w, c = x.shape
    name = node.outputs[0] if keep else builder.free(f"{node.outputs[0]}_image")
    made = _image_tensor(name, x, (n, 1, 1, c))
    builder.emit(Op.AVG_POOL, node.name, [x], made, PoolAttrs(kernel=(h, w), strides=(h, w)))
    if not keep:
        out = replace(made, name=node.outputs[0], shape=(n, c), model_image=None)
        builder.emit(Op.RESHAPE, f"{node.name}_reshape", [made], out, ReshapeAttrs())


def _softmax(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    rank = len(x.shape)
    axis = int(node.take("axis", -1)) % rank
    if x.model_image is not None and rank == IMAGE_RANK and axis == 1:
        axis = rank - 1
    elif x.model_image is not None:
        x = builder.plain(x)
    if axis != rank - 1:
        raise node.error(f"unsupported attribute axis = {axis}: only the last is")
    builder.emit(Op.SOFTMAX, node.name, [x], replace(x, name=node.outputs[0]), SoftmaxAttrs())


def _sigmoid(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    builder.emit(Op.LOGISTIC, node.name, [x], replace(x, name=node.outputs[0]), ReshapeAttrs())


def _identity(builder: Builder, node: OnnxNode) -> None:
    node.take("ratio", 0.5)
    node.take("seed", 0)
    builder.alias(node.outputs[0], builder.activation(node, 0))


HANDLERS: dict[str, Callable[[Builder, OnnxNode], None]] = {
    **MOVES,
    "Add": _add,
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Conv": _conv,
    "DequantizeLinear": dequantize,
    "Dropout": _identity,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool,
    "Identity": _identity,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "QuantizeLinear": quantize,
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
