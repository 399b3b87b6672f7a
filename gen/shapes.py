"""Shapes: padding and output size of sliding windows, and broadcasting."""

import math

import numpy as np

__all__ = ["Pads", "broadcasts_to", "output_size", "same_pads"]

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def same_pads(size: Pair, kernel: Pair, strides: Pair, dilations: Pair = (1, 1)) -> Pads:
    """Padding that TensorFlow calls SAME: top, bottom, left, right; the odd one comes last."""
    pads = []
    for axis in range(2):
        out = math.ceil(size[axis] / strides[axis])
        span = (kernel[axis] - 1) * dilations[axis] + 1
        total = max(0, (out - 1) * strides[axis] + span - size[axis])
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def output_size(
    size: Pair, kernel: Pair, strides: Pair, pads: Pads, dilations: Pair = (1, 1)
) -> Pair:
    """Rows and columns of the output; not positive where the window does not fit."""
    out = []
    for axis in range(2):
        padded = size[axis] + pads[2 * axis] + pads[2 * axis + 1]
        span = (kernel[axis] - 1) * dilations[axis] + 1
        out.append((padded - span) // strides[axis] + 1)
    return out[0], out[1]


def broadcasts_to(shapes: tuple[tuple[int, ...], ...], wanted: tuple[int, ...]) -> bool:
    """Whether arrays of these shapes broadcast to exactly the shape `wanted`."""
    try:
        return np.broadcast_shapes(*shapes) == wanted
    except ValueError:
        return False
