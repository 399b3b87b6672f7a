"""QuantizeLinear and DequantizeLinear: on constants they are folded, elsewhere they are nodes."""

from dataclasses import dataclass, replace

import numpy as np

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array, Op, Quant, QuantizeAttrs, ReshapeAttrs
from rowmesh.gen.onnx_builder import Builder, Integers, OnnxNode

__all__ = ["dequantize", "fold_quantized", "quantize"]

_TYPES = {np.dtype(np.int8): False, np.dtype(np.uint8): True}


@dataclass(frozen=True, eq=False)
class _Parameters:
    """Scales and zero points of one of these nodes, as the file has them."""

    scale: Array
    zero: Array
    axis: int

    def along(self, values: Array, ndim: int) -> Array:
        """One value per index of the axis, in a shape that broadcasts."""
        if values.size == 1:
            return values.reshape(())
        shape = [1] * ndim
        shape[self.axis % ndim] = values.size
        return values.reshape(shape)


def _parameters(builder: Builder, node: OnnxNode, default: type) -> _Parameters:
    scale = builder.constant(node, 1)
    zero = builder.optional_constant(node, 2)
    axis = int(node.take("axis", 1))
    node.require("block_size", 0)
    node.require("saturate", 1)
    node.take("output_dtype", 0)
    if zero is None:
        zero = np.zeros(1, default)
    if zero.size not in (1, scale.size):
        raise node.error(f"{scale.size} scales and {zero.size} zero points")
    return _Parameters(scale.astype(np.float64), zero, axis)


def fold_quantized(builder: Builder, node: OnnxNode) -> Array:
    """The value of such a node on a constant; what it was in integers is kept beside."""
    values = builder.constants[node.inputs[0]]
    quantizing = node.op == "QuantizeLinear"
    found = _parameters(builder, node, np.uint8 if quantizing else values.dtype.type)
    node.done()
    if found.scale.size not in (1, values.shape[found.axis] if found.axis < values.ndim else 1):
        raise node.error(
            f"{node.inputs[0]!r} of shape {values.shape} has {found.scale.size} scales along "
            f"axis {found.axis}"
        )
    scale = found.along(found.scale, values.ndim)
    zero = found.along(found.zero, values.ndim).astype(np.int64)
    if quantizing:
        limits = np.iinfo(found.zero.dtype)
        steps = np.rint(values / scale.astype(np.float32)) + zero
        result: Array = np.clip(steps, limits.min, limits.max).astype(found.zero.dtype)
        return result
    steps = values.astype(np.int64) - zero
    offset = 128 if found.zero.dtype == np.uint8 else 0
    stored = int(found.zero.reshape(-1)[0]) - offset if found.zero.size == 1 else 0
    builder.integers[node.outputs[0]] = Integers(steps, found.scale.reshape(-1), found.axis, stored)
    return (steps * scale).astype(np.float32)


def _quant(builder: Builder, node: OnnxNode, default: type) -> tuple[Quant, bool]:
    """Quantization of an activation as stored, and whether the model has it as uint8."""
    found = _parameters(builder, node, default)
    if found.scale.size != 1:
        raise node.error(f"{found.scale.size} scales: an activation has one")
    if found.zero.dtype not in _TYPES:
        raise node.error(f"{found.zero.dtype}: only int8 and uint8 activations are supported")
    unsigned = _TYPES[found.zero.dtype]
    zero = int(found.zero.reshape(-1)[0]) - (128 if unsigned else 0)
    try:
        return Quant(found.scale.reshape(-1), zero), unsigned
    except RowmeshError as error:
        raise node.error(str(error)) from None


def quantize(builder: Builder, node: OnnxNode) -> None:
    """QuantizeLinear of an activation."""
    x = builder.activation(node, 0)
    quant, unsigned = _quant(builder, node, np.uint8)
    if x.dtype != "float32":
        raise node.error(f"input {x.name!r} is {x.model_dtype}: must be float32")
    out = replace(x, name=node.outputs[0], dtype="int8", quant=quant, unsigned=unsigned)
    builder.emit(Op.QUANTIZE, node.name, [x], out, QuantizeAttrs())


def dequantize(builder: Builder, node: OnnxNode) -> None:
    """DequantizeLinear of an activation; tells the quantization of a graph input."""
    x = builder.activation(node, 0)
    quant, unsigned = _quant(builder, node, np.uint8 if x.unsigned else np.int8)
    if x.dtype != "int8" or unsigned != x.unsigned:
        raise node.error(f"input {x.name!r} is {x.model_dtype}, its zero point is not")
    if x.quant is None:
        builder.set_quant(x.name, quant)
    elif not x.quant.same(quant):
        raise node.error(f"tensor {x.name!r} was quantized with another scale or zero point")
    out = replace(x, name=node.outputs[0], dtype="float32", quant=None, unsigned=False)
    builder.emit(Op.DEQUANTIZE, node.name, [builder.tensors[x.name]], out, ReshapeAttrs())
