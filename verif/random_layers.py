"""Random single-layer graphs, for comparisons with reference runtimes and for regressions."""

import math
from typing import Literal

import numpy as np

from rowmesh.gen.graph import (
    AddAttrs,
    Array,
    Attrs,
    ConvAttrs,
    FcAttrs,
    Graph,
    Node,
    Op,
    PoolAttrs,
    Quant,
    Tensor,
)
from rowmesh.gen.shapes import same_pads

__all__ = ["Padding", "random_add", "random_conv", "random_fc", "random_pool"]

Padding = Literal["explicit", "tflite"]


def _pick(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _scale(rng: np.random.Generator, size: int = 1) -> Array:
    """Scales that float32 holds exactly, as model files do."""
    return rng.uniform(0.002, 0.05, size).astype(np.float32).astype(np.float64)


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    weights = rng.integers(-127, 128, shape)
    zeros = rng.random(shape) < rng.choice([0.0, 0.3, 0.7, 1.0])
    return np.asarray(np.where(zeros, 0, weights), np.int8)


def _single(
    op: Op,
    attrs: Attrs,
    x: Tensor,
    out_shape: tuple[int, ...],
    rng: np.random.Generator,
    weights: Array | None = None,
    per_channel: bool = True,
) -> Graph:
    """A graph of one node; the output scale spreads the sums over the int8 range."""
    tensors = [x]
    quant = x.quant
    assert quant is not None
    out_quant = quant
    if weights is not None:
        m = weights.shape[0]
        scale = _scale(rng, m if per_channel else 1)
        bias: Array = np.asarray(rng.integers(-5000, 5001, m), np.int32)
        tensors.append(Tensor("w", weights.shape, "int8", Quant(scale), weights))
        tensors.append(Tensor("b", (m,), "int32", Quant(scale * quant.scale[0]), bias))
        spread = 5000 + 74 * math.sqrt(float(np.sum(weights.astype(float) ** 2)) / m)
        out_scale = np.float32(quant.scale[0] * scale.mean() * spread / rng.uniform(20, 90))
        out_quant = Quant(np.array([out_scale], np.float64), _pick(rng, -128, 127))
    node = Node(op, "layer", tuple(tensor.name for tensor in tensors), ("y",), attrs)
    tensors.append(Tensor("y", out_shape, "int8", out_quant))
    if isinstance(attrs, ConvAttrs | FcAttrs | PoolAttrs):
        low = out_quant.zero_point if rng.random() < 0.3 else -128
        node = node.with_clamp((low, 127))
    return Graph("layer", {t.name: t for t in tensors}, (node,), ("x",), ("y",))


def random_conv(
    rng: np.random.Generator, padding: Padding = "explicit", *, depthwise: bool | None = None
) -> Graph:
    """A quantized convolution of random shape, stride, padding, dilation and groups.

    Parameters
    ----------
    rng : Generator
        Seeded by the caller.
    padding : str
        ``explicit`` pads, or ``tflite``: SAME or VALID, and no groups but depthwise.
    depthwise : bool, optional
        Force one group per channel; None leaves it to chance.
    """
    r, s = _pick(rng, 1, 5), _pick(rng, 1, 5)
    strides = (_pick(rng, 1, 3), _pick(rng, 1, 3))
    dilations = (_pick(rng, 1, 2), _pick(rng, 1, 2)) if max(strides) == 1 else (1, 1)
    c = _pick(rng, 1, 20)
    if depthwise is None:
        depthwise = rng.random() < 0.2
    options = [1] if padding == "tflite" else [g for g in range(1, c + 1) if c % g == 0]
    groups = c if depthwise else int(rng.choice(options))
    m = groups * _pick(rng, 1, 3 if depthwise else max(1, 20 // groups))
    h = _pick(rng, 1, 10) + (r - 1) * dilations[0]
    w = _pick(rng, 1, 10) + (s - 1) * dilations[1]
    if padding == "tflite":
        # LiteRT 1.2.0's default kernels read the wrong pixels where SAME padding meets rows or
        # columns that no window reaches (its reference kernels do not); such layers are VALID.
        rest = [(size - 1) % u for size, u in zip((h, w), strides, strict=True)]
        reached = (r - 1) * dilations[0] >= rest[0] and (s - 1) * dilations[1] >= rest[1]
        same = rng.random() < 0.5 and reached
        pads = same_pads((h, w), (r, s), strides, dilations) if same else (0, 0, 0, 0)
    else:
        pads = (_pick(rng, 0, r), _pick(rng, 0, r), _pick(rng, 0, s), _pick(rng, 0, s))
    e = (h + pads[0] + pads[1] - (r - 1) * dilations[0] - 1) // strides[0] + 1
    f = (w + pads[2] + pads[3] - (s - 1) * dilations[1] - 1) // strides[1] + 1
    n = _pick(rng, 1, 2)
    x = Tensor("x", (n, h, w, c), "int8", Quant(_scale(rng), _pick(rng, -128, 127)))
    attrs = ConvAttrs(strides=strides, pads=pads, dilations=dilations, groups=groups)
    weights = _weights(rng, (m, r, s, c // groups))
    return _single(Op.CONV, attrs, x, (n, e, f, m), rng, weights)


def random_fc(rng: np.random.Generator) -> Graph:
    """A quantized fully connected layer of random size, one weight scale."""
    n, c, m = _pick(rng, 1, 4), _pick(rng, 1, 600), _pick(rng, 1, 40)
    x = Tensor("x", (n, c), "int8", Quant(_scale(rng), _pick(rng, -128, 127)))
    weights = _weights(rng, (m, c))
    return _single(Op.FULLY_CONNECTED, FcAttrs(), x, (n, m), rng, weights, per_channel=False)


def random_pool(
    rng: np.random.Generator, padding: Padding = "explicit", op: Op = Op.MAX_POOL
) -> Graph:
    """A max or average pooling of random shape and stride, padding less than the window."""
    kernel = (_pick(rng, 1, 4), _pick(rng, 1, 4))
    strides = (_pick(rng, 1, 3), _pick(rng, 1, 3))
    n, c = _pick(rng, 1, 2), _pick(rng, 1, 20)
    h, w = kernel[0] + _pick(rng, 0, 9), kernel[1] + _pick(rng, 0, 9)
    if padding == "tflite":
        pads = same_pads((h, w), kernel, strides) if rng.random() < 0.5 else (0, 0, 0, 0)
    else:
        top, left = _pick(rng, 0, kernel[0] - 1), _pick(rng, 0, kernel[1] - 1)
        pads = (top, _pick(rng, 0, kernel[0] - 1), left, _pick(rng, 0, kernel[1] - 1))
    e = (h + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
    f = (w + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
    x = Tensor("x", (n, h, w, c), "int8", Quant(_scale(rng), _pick(rng, -128, 127)))
    attrs = PoolAttrs(kernel=kernel, strides=strides, pads=pads)
    return _single(op, attrs, x, (n, e, f, c), rng)


def random_add(rng: np.random.Generator) -> Graph:
    """A sum of two tensors of different quantization, inputs ``x`` and ``x2``."""
    shape = (_pick(rng, 1, 2), _pick(rng, 1, 8), _pick(rng, 1, 8), _pick(rng, 1, 20))
    tensors = [
        Tensor(name, shape, "int8", Quant(_scale(rng), _pick(rng, -128, 127)))
        for name in ("x", "x2", "y")
    ]
    low = -128 if rng.random() < 0.5 else tensors[2].quant.zero_point  # type: ignore[union-attr]
    node = Node(Op.ADD, "layer", ("x", "x2"), ("y",), AddAttrs(clamp=(low, 127)))
    return Graph("layer", {t.name: t for t in tensors}, (node,), ("x", "x2"), ("y",))
