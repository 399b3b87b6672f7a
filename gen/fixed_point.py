"""The integer multiplier and shift that stand for a real scale."""

import math

from rowmesh.gen.errors import RowmeshError

__all__ = ["MAX_SHIFT", "quantize_multiplier"]

#: Largest shift of a requantization (a 6-bit field; 1 is the smallest).
MAX_SHIFT = 62


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """The integer (M, n) that stands for a real scale: ``scale ~ M * 2**-n``.

    M is a 31-bit unsigned integer in [2**30, 2**31) and n in 1..`MAX_SHIFT`. Single rounding is
    ``(acc*M + 2**(n-1)) >> n``; gemmlowp's double rounding uses the same M as its Q31 multiplier
    and the exponent ``31 - n`` (left shift when positive, else right). A scale below 2**-32 gives
    (0, `MAX_SHIFT`): it takes every 32-bit sum to exactly 0, as the rounded product would.

    Parameters
    ----------
    scale : float
        ``s_x * s_w / s_y``.

    Returns
    -------
    multiplier, shift : int

    Raises
    ------
    RowmeshError
        The scale is not positive and finite, or is 2**30 or more.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise RowmeshError(f"requantization scale {scale}: must be finite and positive")
    fraction, exponent = math.frexp(scale)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = 1 << 30, exponent + 1
    shift = 31 - exponent
    if shift < 1:
        raise RowmeshError(f"requantization scale {scale}: must be below 2**30")
    return (multiplier, shift) if shift <= MAX_SHIFT else (0, MAX_SHIFT)
