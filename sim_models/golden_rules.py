"""How the references round: additions and averages of int8 tensors of different quantization.

Each rule was measured on the reference itself (LiteRT 1.2.0, ONNX Runtime 1.20 to 1.32) and is
stated here in its own terms; `rowmesh.gen.quantize` looks for integers with which the accelerator
gives the same values.
"""

import enum
import math

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.fixed_point import quantize_multiplier
from rowmesh.gen.graph import Array, Numerics, PoolAttrs, Quant
from rowmesh.sim_models.golden_ops import pool_windows, requant, window_counts

__all__ = [
    "AverageRule",
    "add",
    "add_ratios",
    "average",
    "average_of_sums",
    "average_rule",
    "away",
    "xnnpack_add_fits",
]

Int64 = NDArray[np.int64]
F32 = np.float32
#: TFLite's headroom of the inputs of an addition.
_ADD_LEFT_SHIFT = 20
#: Bits of the larger multiplier of XNNPACK's addition below its leading one.
_XNNPACK_ADD_BITS = 20
#: Ratios of an input scale to the output scale that XNNPACK takes.
_XNNPACK_ADD_RATIOS = (2.0**-10, 2.0**8)


def _scale(quant: Quant) -> np.float32:
    return F32(quant.scale[0])


def away(values: Array) -> Array:
    """Nearest integers, halves away from zero."""
    result: Array = np.sign(values) * np.floor(np.abs(values) + values.dtype.type(0.5))
    return result


def _fma(a: Array, b: np.float32, c: Array) -> NDArray[np.float32]:
    """``a * b + c`` rounded once (float64 holds the product of two float32 exactly)."""
    result: NDArray[np.float32] = (a.astype(np.float64) * float(b) + c).astype(F32)
    return result


# -- addition ----------------------------------------------------------------------------------


def add_ratios(quants: tuple[Quant, Quant, Quant]) -> tuple[np.float32, np.float32]:
    """Scales of both inputs over the scale of the output, in float32."""
    a, b, out = (_scale(quant) for quant in quants)
    return a / out, b / out


def xnnpack_add_fits(quants: tuple[Quant, Quant, Quant]) -> bool:
    """Whether XNNPACK adds tensors of this quantization.

    Smaller ratios it leaves to TFLite's own kernel. At larger ones, where one step of an input is
    256 of the output, LiteRT 1.2.0 overflows; its reference kernel is followed there.
    """
    low, high = _XNNPACK_ADD_RATIOS
    return all(low <= ratio < high for ratio in add_ratios(quants))


def _xnnpack_add(a: Array, b: Array, quants: tuple[Quant, Quant, Quant]) -> Int64:
    """XNNPACK's qs8-vadd: both multipliers in one scale of powers of two."""
    ratios = add_ratios(quants)
    shift = _XNNPACK_ADD_BITS - (math.frexp(max(ratios))[1] - 1)
    total = np.zeros(np.broadcast_shapes(a.shape, b.shape), np.int64)
    for x, ratio, quant in zip((a, b), ratios, quants, strict=False):
        multiplier = int(np.rint(math.ldexp(ratio, shift)))
        total += multiplier * (x.astype(np.int64) - quant.zero_point)
    scaled: Int64 = (total + (1 << (shift - 1))) >> shift
    return scaled + quants[2].zero_point


def _tflite_add(a: Array, b: Array, quants: tuple[Quant, Quant, Quant]) -> Int64:
    """TFLite's reference kernel: three multipliers, gemmlowp's double rounding."""
    twice = 2 * max(float(quant.scale[0]) for quant in quants[:2])
    total = np.zeros(np.broadcast_shapes(a.shape, b.shape), np.int64)
    for x, quant in zip((a, b), quants, strict=False):
        multiplier, shift = quantize_multiplier(float(quant.scale[0]) / twice)
        raised = (x.astype(np.int64) - quant.zero_point) << _ADD_LEFT_SHIFT
        total += requant(raised, np.array(multiplier), np.array(shift), "double")
    scale = twice / (float(quants[2].scale[0]) * (1 << _ADD_LEFT_SHIFT))
    multiplier, shift = quantize_multiplier(scale)
    scaled = requant(total, np.array(multiplier), np.array(shift), "double")
    return scaled + quants[2].zero_point


def _onnxruntime_add(a: Array, b: Array, quants: tuple[Quant, Quant, Quant]) -> Int64:
    """MLAS's QLinearAdd: float32 with fused multiply-add, halves to even."""
    ratios = add_ratios(quants)
    zero_a, zero_b, zero = (np.array(quant.zero_point, F32) for quant in quants)
    fixed = zero - _fma(zero_a, ratios[0], ratios[1] * zero_b)
    total = np.rint(_fma(a, ratios[0], _fma(b, ratios[1], fixed)))
    result: Int64 = total.astype(np.int64)
    return result


def add(
    a: Array, b: Array, quants: tuple[Quant, Quant, Quant], numerics: Numerics, rounding: str
) -> Int64:
    """Sum of two quantized tensors, not yet limited.

    Parameters
    ----------
    a, b : ndarray of int
        Of shapes that broadcast.
    quants : tuple of Quant
        Of both and of the output.
    numerics : Numerics
        Whose rule.
    rounding : str
        For TFLite: ``single`` its default kernels, ``double`` its reference kernels.
    """
    if numerics is Numerics.ONNX:
        return _onnxruntime_add(a, b, quants)
    if rounding == "single" and xnnpack_add_fits(quants):
        return _xnnpack_add(a, b, quants)
    return _tflite_add(a, b, quants)


# -- averages ----------------------------------------------------------------------------------


class AverageRule(enum.Enum):
    """Whose rule an average follows."""

    TFLITE_POOL = "AVERAGE_POOL_2D"
    TFLITE_MEAN = "MEAN, default kernels"
    TFLITE_MEAN_REFERENCE = "MEAN, reference kernels"
    ONNX_GLOBAL = "QLinearGlobalAveragePool"
    ONNX_WINDOWS = "QLinearAveragePool"


def average_rule(
    attrs: PoolAttrs, size: tuple[int, int], numerics: Numerics, rounding: str
) -> AverageRule:
    """The rule of an average pooling of an image of height and width `size`."""
    if numerics is Numerics.ONNX:
        whole = attrs.kernel == size and not any(attrs.pads)
        return AverageRule.ONNX_GLOBAL if whole else AverageRule.ONNX_WINDOWS
    if not attrs.mean:
        return AverageRule.TFLITE_POOL
    return AverageRule.TFLITE_MEAN if rounding == "single" else AverageRule.TFLITE_MEAN_REFERENCE


def average(x: Array, attrs: PoolAttrs, source: Quant, target: Quant, rule: AverageRule) -> Int64:
    """Averages of the windows of a quantized image [N, H, W, C], not yet limited."""
    count = window_counts((x.shape[1], x.shape[2]), attrs)
    if rule is AverageRule.ONNX_WINDOWS:
        real = x - source.zero_point
        return _onnxruntime_average(pool_windows(real, attrs, 0), count, source, target)
    sums = pool_windows(x.astype(np.int64), attrs, 0).sum(axis=(-2, -1))
    return average_of_sums(sums, count, source, target, rule)


def average_of_sums(
    sums: Array, count: Array, source: Quant, target: Quant, rule: AverageRule
) -> Int64:
    """Averages from sums, for every rule that needs no more than them; not yet limited.

    Parameters
    ----------
    sums : ndarray of int64
        Sums of the quantized values themselves, zero points included.
    count : ndarray of int64
        How many values each sum has.
    source, target : Quant
        Of input and output.
    rule : AverageRule
        Not ``ONNX_WINDOWS``.
    """
    same = source.zero_point == target.zero_point and _scale(source) == _scale(target)
    real = sums - count * source.zero_point
    ratio = _scale(source) / _scale(target)
    result: Int64
    match rule:
        case AverageRule.ONNX_GLOBAL:
            scale = _scale(source) / (_scale(target) * count.astype(F32))
            result = np.rint(real.astype(F32) * scale).astype(np.int64) + target.zero_point
        case AverageRule.TFLITE_MEAN if not same:
            offset = F32(target.zero_point) - F32(source.zero_point) * ratio
            mean = sums.astype(F32) / count.astype(F32) * ratio + offset
            result = away(mean).astype(np.int64)
        case AverageRule.TFLITE_MEAN_REFERENCE:
            exact = float(source.scale[0]) / float(target.scale[0])
            multiplier, shift = quantize_multiplier(exact)
            more = np.minimum(np.floor(np.log2(count)).astype(np.int64), min(32, 62 - shift))
            part = (np.int64(multiplier) << more) // count
            result = requant(real, part, shift + more, "double") + target.zero_point
        case _:
            result = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    return result


def _onnxruntime_average(windows: Array, count: Array, source: Quant, target: Quant) -> Int64:
    """MLAS adds the real values of a window (less the zero point here) in float32, one by one."""
    real = windows.astype(F32) * _scale(source)
    total = np.zeros(windows.shape[:-2], F32)
    for row in range(windows.shape[-2]):
        for col in range(windows.shape[-1]):
            total = total + real[..., row, col]
    mean = total / count.astype(F32) / _scale(target) + F32(target.zero_point)
    result: Int64 = np.rint(mean).astype(np.int64)
    return result
