"""What the accelerator is asked to do for one layer: a convolution with post-processing."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.tensors import Feature

__all__ = ["ConvTask"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvTask:
    """A convolution, its requantization and a fused maximum pooling, in stored numbers.

    A fully connected layer is a 1x1 convolution over a 1x1 image whose channels are the bytes
    of its input tensor as they lie in DRAM.

    Parameters
    ----------
    name : str
        Layer name, for messages and reports.
    input, output : Feature
        Tensors in DRAM. `output` has the pooled size.
    weights : ndarray of int8, shape (M, R, S, C)
    bias : ndarray of int64, shape (M,)
        With the input's zero point folded in.
    multiplier, shift : ndarray of int64, shape (M,)
    low, high : int
        Clamp in the stored domain of the output.
    stride, dilation, pool : (int, int)
        Vertical, horizontal. Pooling windows do not overlap.
    pad : (int, int)
        Padding above and to the left; below and right follows from `conv_size`.
    conv_size : (int, int)
        E, F of the convolution before pooling.
    macs : int
        Nominal MACs of the operator.
    """

    name: str
    input: Feature
    output: Feature
    weights: NDArray[np.int8]
    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    low: int
    high: int
    conv_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pool: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)

    @property
    def outputs(self) -> int:
        """Output channels, M."""
        return int(self.weights.shape[0])

    @property
    def used_size(self) -> tuple[int, int]:
        """Rows and columns of the convolution that the pooling reads."""
        return (
            self.output.height * self.pool[0],
            self.output.width * self.pool[1],
        )

    @cached_property
    def psum_bound(self) -> tuple[int, int]:
        """Smallest and largest value any partial sum, in any order, can take."""
        low, high = (-128, 127) if self.input.signed else (0, 255)
        flat = self.weights.reshape(self.outputs, -1).astype(np.int64)
        positive = np.where(flat > 0, flat, 0).sum(axis=1)
        negative = np.where(flat < 0, flat, 0).sum(axis=1)
        largest = positive * high + negative * low
        smallest = positive * low + negative * high
        return int(min(smallest.min(), 0)), int(max(largest.max(), 0))

    @property
    def psum_bits_needed(self) -> int:
        """Width of a signed psum that holds every partial sum."""
        low, high = self.psum_bound
        return max(int(high).bit_length(), int(-low - 1).bit_length() if low else 0) + 1
