"""What the accelerator is asked to do for one layer: a convolution with post-processing."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.tensors import Feature
from rowmesh.rtl.config import WORD_BYTES

__all__ = ["ConvTask"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvTask:
    """A convolution, its requantization and a fused maximum pooling, in stored numbers.

    Every operator of the accelerator is one: a fully connected layer is a 1x1 convolution over a
    1x1 image whose channels are the bytes of its input tensor as they lie in DRAM; a grouped or
    depthwise convolution has `blocks` and zeros in its weights, which cost nothing; a pooling has
    ones on the diagonal of each block; a residual addition is a convolution over the planes of two
    tensors whose psums come in pairs.

    Parameters
    ----------
    name : str
        Layer name, for messages and reports.
    input, output : Feature
        Tensors in DRAM. `output` has the pooled size.
    second : Feature, optional
        A tensor of the size of `input`: its plane follows each plane of `input` as more channels.
    weights : ndarray of int8, shape (M, R, S, C)
        C: input channels of one block; M: psums of a position over all blocks.
    blocks : int
        Independent parts: block b makes the b-th part of M from the b-th part of the input planes.
    lanes : int
        Psums that make one output value: 1, or 2 where post-processing adds them.
    bias : ndarray of int64, shape (M,)
        With the input's zero point folded in.
    multiplier, shift : ndarray of int64, shape (M,)
    zero_point, low, high : int
        What is added behind the requantization, and the clamp, in the stored domain of the output.
    stride, dilation, pool, pool_stride : (int, int)
        Vertical, horizontal.
    pad : (int, int)
        Padding above and to the left; below and right follows from `conv_size`.
    pad_value : int
        The stored byte that fills the padding.
    """

    name: str
    input: Feature
    output: Feature
    second: Feature | None = None
    weights: NDArray[np.int8]
    blocks: int = 1
    lanes: int = 1
    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    zero_point: int
    low: int
    high: int
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pool: tuple[int, int] = (1, 1)
    pool_stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    pad_value: int = 0

    @property
    def outputs(self) -> int:
        """Psums of a position, M, without those of padding channels."""
        return int(self.weights.shape[0])

    @property
    def word_psums(self) -> int:
        """Psums that make one output word."""
        return WORD_BYTES * self.lanes

    @property
    def block_words(self) -> int:
        """Output words of a position that one block makes."""
        return self.output.planes // self.blocks

    @property
    def channels(self) -> int:
        """Input channels of one block."""
        return int(self.weights.shape[3])

    @property
    def block_planes(self) -> int:
        """Planes of `input` from one block to the next."""
        return self.input.planes // self.blocks

    @property
    def used_size(self) -> tuple[int, int]:
        """Rows and columns of the convolution that the pooling reads."""
        return (
            (self.output.height - 1) * self.pool_stride[0] + self.pool[0],
            (self.output.width - 1) * self.pool_stride[1] + self.pool[1],
        )

    def pool_step(self, axis: int, size: int) -> int:
        """From the start of a tile of `size` convolution rows (columns) to that of the next."""
        return size - self.pool[axis] + self.pool_stride[axis]

    def pooled(self, axis: int, size: int) -> int:
        """Output rows (columns) of a tile of `size` convolution rows (columns)."""
        return self.pool_step(axis, size) // self.pool_stride[axis]

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
