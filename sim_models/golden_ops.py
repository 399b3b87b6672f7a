"""Operators of the golden model on plain arrays: exact integers, and the same in float.

Nothing here knows how the hardware tiles, orders or stores; it is the definition of the operator.
Sums are taken by float matrix products, which are exact: a float32 product is used only while
every sum of products of a 9-bit and an 8-bit number stays below 2**24, float64 otherwise.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.graph import Array, ConvAttrs, PoolAttrs

__all__ = [
    "average_pool",
    "clamp",
    "conv_sum",
    "exact_dtype",
    "matmul_sum",
    "max_pool",
    "pool_windows",
    "requant",
    "window_counts",
]

Int64 = NDArray[np.int64]

#: Largest length of a sum of (a - zp) * w, |a - zp| <= 255 and |w| <= 128, exact in float32.
_FLOAT32_TERMS = 2**24 // (255 * 128)
#: Elements of an unfolded input at once (bounds the memory of a large batch).
_CHUNK = 1 << 24


def exact_dtype(terms: int) -> type[np.float32] | type[np.float64]:
    """Float type in which a sum of `terms` int8 products is exact."""
    return np.float32 if terms <= _FLOAT32_TERMS else np.float64


def requant(acc: Array, multiplier: Array, shift: Array, mode: str) -> Int64:
    """Scale sums by ``multiplier * 2**-shift`` and round.

    Parameters
    ----------
    acc : ndarray of int, [..., M]
        Sums with bias, 32 bits.
    multiplier, shift : ndarray of int, [M] or [1]
        As `rowmesh.gen.quantize.quantize_multiplier` gives them.
    mode : str
        ``single``: ``(acc*M + 2**(n-1)) >> n``. ``double``: gemmlowp, as TFLite's reference
        kernels: SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT.

    Returns
    -------
    ndarray of int64, [..., M]

    Raises
    ------
    ValueError
        Unknown mode.
    """
    acc, multiplier = np.asarray(acc, np.int64), np.asarray(multiplier, np.int64)
    shift = np.asarray(shift, np.int64)
    if mode == "single":
        return cast(Int64, (acc * multiplier + (np.int64(1) << (shift - 1))) >> shift)
    if mode != "double":
        raise ValueError(f"rounding {mode!r}: must be 'single' or 'double'")
    exponent = 31 - shift
    product = (acc << np.maximum(exponent, 0)) * multiplier
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    total = product + nudge
    high = np.sign(total) * (np.abs(total) >> 31)  # C division: towards zero
    right = np.maximum(-exponent, 0)
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return cast(Int64, (high >> right) + ((high & mask) > threshold))


def clamp(values: Array, bounds: tuple[float, float] | None) -> Array:
    """Values limited to inclusive bounds; unchanged without bounds."""
    return values if bounds is None else np.clip(values, bounds[0], bounds[1])


def _windows(
    x: Array, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int]
) -> Array:
    """View [N, E, F, C, R, S] of the windows of a padded input [N, H, W, C]."""
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]


def _pad(x: Array, pads: tuple[int, int, int, int], value: Any) -> Array:
    top, bottom, left, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def conv_sum(x: Array, weights: Array, attrs: ConvAttrs) -> Array:
    """Sums of a grouped convolution, without bias.

    Parameters
    ----------
    x : ndarray of float, [N, H, W, C]
        Activations; zero is the real zero (the zero point already taken away).
    weights : ndarray of float, [M, R, S, C/G]
        Of the same dtype.

    Returns
    -------
    ndarray of float, [N, E, F, M]

    Raises
    ------
    ValueError
        Channels do not fit the groups.
    """
    m, r, s, cg = weights.shape
    g = attrs.groups
    if x.shape[3] != cg * g or m % g:
        raise ValueError(f"{x.shape[3]} channels, weights {weights.shape}, {g} groups")
    padded = _pad(x, attrs.pads, 0)
    stacked = weights.reshape(g, m // g, r * s * cg).transpose(0, 2, 1)
    view = _windows(padded, (r, s), attrs.strides, attrs.dilations)
    n, e, f = view.shape[:3]
    step = max(1, _CHUNK // max(1, e * f * r * s * cg * g))
    out = np.empty((n, e, f, m), dtype=x.dtype)
    for at in range(0, n, step):
        part = view[at : at + step]
        rows = part.reshape(*part.shape[:3], g, cg, r, s).transpose(3, 0, 1, 2, 5, 6, 4)
        sums = rows.reshape(g, -1, r * s * cg) @ stacked
        out[at : at + step] = sums.transpose(1, 0, 2).reshape(-1, e, f, m)
    return out


def matmul_sum(x: Array, weights: Array) -> Array:
    """Sums of a fully connected layer: x [N, C], weights [M, C], result [N, M]."""
    return x @ weights.T


def max_pool(x: Array, attrs: PoolAttrs) -> Array:
    """Maximum of each window: x [N, H, W, C], result [N, E, F, C] of the same dtype."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    view = pool_windows(x, attrs, lowest)
    best = view[..., 0, 0]
    for row in range(attrs.kernel[0]):
        for col in range(attrs.kernel[1]):
            best = np.maximum(best, view[..., row, col])
    return best


def pool_windows(x: Array, attrs: PoolAttrs, padding: Any) -> Array:
    """View [N, E, F, C, R, S] of the windows of an input [N, H, W, C] padded with a value."""
    return _windows(_pad(x, attrs.pads, padding), attrs.kernel, attrs.strides, (1, 1))


def window_counts(size: tuple[int, int], attrs: PoolAttrs) -> Int64:
    """By how many values the average of each window divides: [1, E, F, 1]."""
    inside = np.ones((1, *size, 1), np.int64)
    view = pool_windows(inside, attrs, int(attrs.count_include_pad))
    return cast(Int64, view.sum(axis=(-2, -1)))


def average_pool(x: Array, attrs: PoolAttrs) -> Array:
    """Average of each window of float values: x [N, H, W, C], result [N, E, F, C]."""
    total = pool_windows(x, attrs, 0).sum(axis=(-2, -1))
    count = window_counts((x.shape[1], x.shape[2]), attrs)
    return cast(Array, (total / count).astype(x.dtype))
