"""Operators of the host on quantized tensors, as the references compute them.

Softmax and logistic work in float32 on all platforms; quantizing rounds as `rounding` says: LiteRT
has XNNPACK's kernels by default (``single``) and its own as a reference (``double``).
"""

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.fixed_point import quantize_multiplier
from rowmesh.gen.graph import Array, Numerics, Quant, Tensor
from rowmesh.sim_models.golden_ops import requant
from rowmesh.sim_models.golden_rules import away

__all__ = ["dequantize", "logistic", "quantize", "requantize", "softmax"]

F32 = np.float32
#: Fraction bits of the multiplier with which XNNPACK converts int8 to int8.
_XNNPACK_CONVERT_BITS = 8
#: Ratios of scales that it converts.
_XNNPACK_CONVERT_RATIOS = (2.0**-8, 2.0**7)


def _exp(values: Array) -> NDArray[np.float32]:
    """float32 exponential, correctly rounded as the C library's nearly always is."""
    result: NDArray[np.float32] = np.exp(values.astype(np.float64)).astype(F32)
    return result


def softmax(
    x: Array, source: Quant, target: Quant, beta: float, numerics: Numerics = Numerics.TFLITE
) -> Array:
    """int8 softmax over the last axis: a table of exponentials, summed in order in float32."""
    wide = x.astype(np.int64)
    below = wide.max(axis=-1, keepdims=True) - wide
    if numerics is Numerics.ONNX:
        table = _onnxruntime_table(float(F32(source.scale[0])), x.shape[-1])
    else:
        table = _exp(-F32(source.scale[0]) * F32(beta) * np.arange(256, dtype=F32))
    parts = table[below]
    total = np.zeros((*x.shape[:-1], 1), F32)
    for index in range(x.shape[-1]):
        total = total + parts[..., index : index + 1]
    if numerics is Numerics.ONNX:
        steps = np.floor(F32(1) / F32(target.scale[0]))
        made = np.rint(parts * steps / total) + target.zero_point
        # It saturates at 255, also for int8, and the rest wraps.
        result: Array = np.minimum(made, 255).astype(np.int64).astype(np.int8)
        return result
    inverse = F32(1) / (total * F32(target.scale[0]))
    result = np.clip(away(parts * inverse) + target.zero_point, -128, 127).astype(np.int8)
    return result


def _onnxruntime_table(scale: float, length: int) -> NDArray[np.float32]:
    """MLAS's exponentials of 0, -1, -2 ... steps, raised as far as their sum allows."""
    largest = np.log(float(np.finfo(F32).max / F32(length)))
    raised = max(0.0, largest - 5) / scale
    table: NDArray[np.float32] = np.exp((raised - np.arange(256)) * scale).astype(F32)
    return table


def logistic(x: Array, source: Quant, target: Quant, numerics: Numerics = Numerics.TFLITE) -> Array:
    """Logistic function, not yet limited."""
    real = (x.astype(F32) - F32(source.zero_point)) * F32(source.scale[0])
    value = F32(1) / (F32(1) + _exp(-real))
    if numerics is Numerics.ONNX:
        steps: Array = np.rint(value / F32(target.scale[0]))
    else:
        steps = away(value * (F32(1) / F32(target.scale[0])))
    return steps + target.zero_point


def quantize(x: Array, target: Quant, numerics: Numerics, rounding: str) -> Array:
    """Quantize real values, not yet limited."""
    scale = F32(target.scale[0])
    if numerics is Numerics.ONNX:
        return np.rint(x / scale) + target.zero_point
    if rounding == "single":
        return np.rint(x * (F32(1) / scale)) + target.zero_point
    return away(x / scale) + target.zero_point


def requantize(
    x: Array, source: Tensor, target: Tensor, numerics: Numerics, rounding: str
) -> Array:
    """Quantized values in another quantization, not yet limited."""
    old, new = source.quant, target.quant
    if old is None or new is None:
        raise ValueError(f"{source.name!r} and {target.name!r} must both be quantized")
    if numerics is Numerics.ONNX:
        return quantize(dequantize(x, old), new, numerics, rounding)
    centered = x.astype(np.int64) - old.zero_point
    ratio = F32(old.scale[0]) / F32(new.scale[0])
    low, high = _XNNPACK_CONVERT_RATIOS
    if rounding == "single" and source.unsigned == target.unsigned and low <= ratio <= high:
        multiplier = int(np.rint(ratio * F32(1 << _XNNPACK_CONVERT_BITS)))
        half = 1 << (_XNNPACK_CONVERT_BITS - 1)
        made: Array = (centered * multiplier + half) >> _XNNPACK_CONVERT_BITS
    else:
        exact = float(old.scale[0]) / float(new.scale[0])
        multiplier, shift = quantize_multiplier(exact)
        made = requant(centered, np.array(multiplier), np.array(shift), "double")
    return made + new.zero_point


def dequantize(x: Array, source: Quant) -> NDArray[np.float32]:
    """Real values of quantized ones, in float32."""
    real: NDArray[np.float32] = (x.astype(np.int32) - source.zero_point).astype(F32)
    return real * F32(source.scale[0])
