"""Weight words of the columns of a layer, as CSC or raw."""

import numpy as np
from numpy.typing import NDArray

from rowmesh.rtl.config import Config

__all__ = ["column_words", "pairs"]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def pairs(filled: Bools, max_run: int) -> Ints:
    """(count, value) pairs of each vector along the last axis.

    Parameters
    ----------
    filled : ndarray of bool
        Where values are not zero.
    max_run : int
        Zeros that a count can say; a longer run takes explicit zeros.
    """
    total: Ints = filled.sum(axis=-1, dtype=np.int64)
    if filled.shape[-1] <= max_run + 1:
        return total
    index = np.arange(1, filled.shape[-1] + 1)
    before = np.maximum.accumulate(np.where(filled, index, 0), axis=-1)
    before = np.concatenate([np.zeros_like(before[..., :1]), before[..., :-1]], axis=-1)
    total += np.where(filled, (index - before - 1) // (max_run + 1), 0).sum(axis=-1)
    return total


def column_words(
    config: Config, weights: NDArray[np.int8], sizes: tuple[int, int, int], *, dense: bool
) -> Ints:
    """Words of every column of every weight block.

    Parameters
    ----------
    config : Config
    weights : ndarray of int8, shape (M, R, S, C)
    sizes : (int, int, int)
        C0, S0 and M0 of a block; what is missing to whole blocks is zero.
    dense : bool
        Whether weights are raw.

    Returns
    -------
    ndarray, shape (groups of M0, R, parts of S, parts of C, S0 * C0)
    """
    c0, s0, m0 = sizes
    outputs, taps, width, channels = weights.shape
    pad = [(0, -outputs % m0), (0, 0), (0, -width % s0), (0, -channels % c0)]
    filled = np.pad(weights != 0, pad)
    shape = (-1, m0, taps, filled.shape[2] // s0, s0, filled.shape[3] // c0, c0)
    split = filled.reshape(shape).transpose(0, 2, 3, 5, 4, 6, 1)
    split = split.reshape(*split.shape[:4], s0 * c0, m0)
    if dense:
        return np.full(split.shape[:-1], -(-m0 // config.macs_per_pe))
    words: Ints = -(-pairs(split, config.max_run) // config.macs_per_pe)
    return words
