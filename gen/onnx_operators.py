"""What each ONNX operator becomes in the internal graph."""

import math
from collections.abc import Callable

import numpy as np

from rowmesh.gen.graph import (
    AddAttrs,
    Array,
    ConvAttrs,
    FcAttrs,
    Op,
    PoolAttrs,
    ReshapeAttrs,
    Tensor,
)
from rowmesh.gen.onnx_builder import IMAGE_RANK, Builder, OnnxNode
from rowmesh.gen.onnx_folding import reshaped

__all__ = ["HANDLERS"]


def _image_tensor(name: str, shape: tuple[int, int, int, int]) -> Tensor:
    n, h, w, c = shape
    return Tensor(name, (n, h, w, c), "float32", model_image=(h, w, c))


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
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for axis in range(2):
            out = math.ceil(size[axis] / strides[axis])
            total = max(0, (out - 1) * strides[axis] + span[axis] - size[axis])
            small, large = total // 2, total - total // 2
            pads += [small, large] if auto == "SAME_UPPER" else [large, small]
    elif auto in ("NOTSET", "VALID"):
        if len(explicit) != IMAGE_RANK or min(explicit) < 0:
            raise node.error(f"unsupported pads = {explicit}")
        top, left, bottom, right = explicit if auto == "NOTSET" else [0, 0, 0, 0]
        pads = [top, bottom, left, right]
    else:
        raise node.error(f"unsupported attribute auto_pad = {auto!r}")
    padded = (size[0] + pads[0] + pads[1], size[1] + pads[2] + pads[3])
    if padded[0] < span[0] or padded[1] < span[1]:
        raise node.error(f"the window {tuple(span)} is larger than the padded input {padded}")
    out_size = ((padded[0] - span[0]) // strides[0] + 1, (padded[1] - span[1]) // strides[1] + 1)
    return (pads[0], pads[1], pads[2], pads[3]), out_size


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
    tensors = [x, builder.weight(node.inputs[1], weights.transpose(0, 2, 3, 1))]
    if bias is not None:
        if bias.shape != (m,):
            raise node.error(f"bias of shape {bias.shape} for {m} output channels")
        tensors.append(builder.weight(node.inputs[2], bias))
    attrs = ConvAttrs(strides=strides, pads=pads, dilations=dilations, groups=groups)
    builder.emit(Op.CONV, node.name, tensors, _image_tensor(node.outputs[0], (n, e, f, m)), attrs)


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
    builder.emit(op, node.name, [x], _image_tensor(node.outputs[0], (n, e, f, c)), attrs)


def _dense(builder: Builder, node: OnnxNode, columns: Array, bias: Array | None) -> None:
    """A fully connected layer; `columns` is [C, M] in the model's order."""
    x = builder.activation(node, 0)
    if len(x.shape) != 2 or columns.ndim != 2 or x.shape[1] != columns.shape[0]:
        raise node.error(f"shapes {x.shape} and {columns.shape} do not fit a matrix product")
    m = columns.shape[1]
    weights = columns.T
    if x.model_image is not None:
        h, w, c = x.model_image
        weights = weights.reshape(m, c, h, w).transpose(0, 2, 3, 1).reshape(m, -1)
    tensors = [x, builder.weight(node.inputs[1], weights)]
    if bias is not None:
        try:
            row = np.broadcast_to(bias, (1, m)).reshape(m)
        except ValueError:
            raise node.error(f"bias of shape {bias.shape} for {m} outputs") from None
        tensors.append(builder.weight(node.inputs[2], row))
    out = Tensor(node.outputs[0], (x.shape[0], m), "float32")
    builder.emit(Op.FULLY_CONNECTED, node.name, tensors, out, FcAttrs())


def _gemm(builder: Builder, node: OnnxNode) -> None:
    node.require("transA", 0)
    weights = builder.constant(node, 1) * np.float32(node.take("alpha", 1.0))
    bias = builder.optional_constant(node, 2)
    beta = np.float32(node.take("beta", 1.0))
    columns = weights.T if node.take("transB", 0) else weights
    _dense(builder, node, columns, None if bias is None else bias * beta)


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
        bias = builder.constants[name]
        builder.fuse_bias(node, builder.activation(node, 1 - index), bias, name)
        return
    a, b = builder.activation(node, 0), builder.activation(node, 1)
    if a.model_image != b.model_image:
        a, b = builder.plain(a), builder.plain(b)
    if a.shape != b.shape:
        raise node.error(f"shapes {a.shape} and {b.shape}: unsupported broadcast")
    out = Tensor(node.outputs[0], a.shape, "float32", model_image=a.model_image)
    builder.emit(Op.ADD, node.name, [a, b], out, AddAttrs())


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
    out = Tensor(node.outputs[0], shape, "float32", model_image=image)
    builder.emit(Op.RESHAPE, node.name, [x], out, ReshapeAttrs())


def _model_shape(x: Tensor) -> tuple[int, ...]:
    if x.model_image is None or len(x.shape) != IMAGE_RANK:
        return x.shape
    n, h, w, c = x.shape
    return (n, c, h, w)


def _reshape(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    shape = reshaped(node, _model_shape(x), builder.constant(node, 1))
    _reshape_to(builder, node, x, shape)


def _flatten(builder: Builder, node: OnnxNode) -> None:
    x = builder.activation(node, 0)
    shape = _model_shape(x)
    axis = int(node.take("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        raise node.error(f"unsupported attribute axis = {axis}")
    axis = axis + len(shape) if axis < 0 else axis
    _reshape_to(builder, node, x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _identity(builder: Builder, node: OnnxNode) -> None:
    node.take("ratio", 0.5)
    node.take("seed", 0)
    builder.alias(node.outputs[0], builder.activation(node, 0))


HANDLERS: dict[str, Callable[[Builder, OnnxNode], None]] = {
    "Add": _add,
    "AveragePool": _pool,
    "Clip": _clip,
    "Conv": _conv,
    "Dropout": _identity,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool,
    "Identity": _identity,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Relu": _relu,
    "Reshape": _reshape,
}
