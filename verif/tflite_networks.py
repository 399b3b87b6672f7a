"""Small TFLite networks with every operator that the importer knows, made at random."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rowmesh.gen.graph import Array
from rowmesh.gen.shapes import output_size, same_pads
from rowmesh.verif.tflite_writer import TfliteWriter

__all__ = ["NetworkWriter", "image_network", "streaming_network"]

_SAME, _VALID = 0, 1
_NONE, _RELU, _RELU6 = 0, 1, 3


class NetworkWriter:
    """A `TfliteWriter` that makes tensors, weights and quantizations at random.

    Parameters
    ----------
    rng : Generator
        Seeded by the caller.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.out = rng, TfliteWriter()
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.quants: dict[int, tuple[float, int]] = {}
        self._count = 0

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        *,
        name: str = "",
        quant: tuple[float, int] | None = None,
        data: Array | None = None,
    ) -> int:
        """A tensor, with a quantization at random where it needs one."""
        self._count += 1
        if quant is None and dtype in ("int8", "uint8"):
            zero = int(self.rng.integers(-128, 128)) + (128 if dtype == "uint8" else 0)
            quant = (float(np.float32(self.rng.uniform(0.01, 0.1))), zero)
        scale, zero = quant or (None, 0)
        index = self.out.tensor(
            name or f"t{self._count}", shape, dtype, scale=scale, zero_point=zero, data=data
        )
        self.shapes[index] = tuple(shape)
        if quant is not None:
            self.quants[index] = quant
        return index

    def numbers(self, values: Any) -> int:
        """A constant of int32."""
        data = np.asarray(values, np.int32)
        return self.tensor(data.shape, "int32", data=data)

    def apply(
        self, code: str, inputs: list[int], output: int, options: str = "", **fields: Any
    ) -> int:
        """An operator; its output."""
        self.out.operator(code, inputs, [output], options, **fields)
        return output

    def like(self, x: int, shape: Sequence[int]) -> int:
        """A tensor with the quantization of another."""
        return self.tensor(shape, quant=self.quants[x])

    def _weights(self, x: int, shape: tuple[int, ...], axis: int, many: bool) -> list[int]:
        """Weights and bias, of scales that spread the sums over the int8 range."""
        m = shape[axis]
        scale = self.rng.uniform(0.001, 0.01, m if many else 1).astype(np.float32)
        data = self.rng.integers(-127, 128, shape).astype(np.int8)
        data[self.rng.random(shape) < 0.3] = 0
        weights = self.out.tensor("w", shape, scale=scale, axis=axis, data=data)
        bias = self.rng.integers(-2000, 2000, m).astype(np.int32)
        scale = scale * np.float32(self.quants[x][0])
        return [weights, self.out.tensor("b", (m,), "int32", scale=scale, data=bias)]

    def _out(self, x: int, shape: Sequence[int], terms: int) -> int:
        spread = float(np.float32(self.quants[x][0] * 0.005 * 60 * np.sqrt(terms) / 30))
        return self.tensor(shape, quant=(spread, int(self.rng.integers(-128, 100))))

    def conv(
        self,
        x: int,
        m: int,
        kernel: tuple[int, int],
        *,
        strides: tuple[int, int] = (1, 1),
        dilations: tuple[int, int] = (1, 1),
        padding: int = _SAME,
        fused: int = _NONE,
        multiplier: int = 0,
    ) -> int:
        """A convolution; with `multiplier` a depthwise one."""
        n, h, w, c = self.shapes[x]
        pads = (0, 0, 0, 0)
        if padding == _SAME:
            pads = same_pads((h, w), kernel, strides, dilations)
        size = output_size((h, w), kernel, strides, pads, dilations)
        fields = {"Padding": padding, "StrideH": strides[0], "StrideW": strides[1],
                  "DilationHFactor": dilations[0], "DilationWFactor": dilations[1],
                  "FusedActivationFunction": fused}  # fmt: skip
        if multiplier:
            weights = self._weights(x, (1, *kernel, c * multiplier), 3, True)
            y = self._out(x, (n, *size, c * multiplier), kernel[0] * kernel[1])
            return self.apply("DEPTHWISE_CONV_2D", [x, *weights], y, "DepthwiseConv2DOptions",
                              DepthMultiplier=multiplier, **fields)  # fmt: skip
        weights = self._weights(x, (m, *kernel, c), 0, True)
        y = self._out(x, (n, *size, m), kernel[0] * kernel[1] * c)
        return self.apply("CONV_2D", [x, *weights], y, "Conv2DOptions", **fields)

    def dense(self, x: int, shape: tuple[int, ...], c: int, m: int, **fields: Any) -> int:
        """A fully connected layer."""
        weights = self._weights(x, (m, c), 0, False)
        y = self._out(x, shape, c)
        return self.apply("FULLY_CONNECTED", [x, *weights], y, "FullyConnectedOptions", **fields)

    def pool(self, x: int, code: str, kernel: int, stride: int, padding: int = _VALID) -> int:
        """A maximum or average pooling."""
        n, h, w, c = self.shapes[x]
        pair, strides = (kernel, kernel), (stride, stride)
        pads = same_pads((h, w), pair, strides) if padding == _SAME else (0, 0, 0, 0)
        size = output_size((h, w), pair, strides, pads)
        return self.apply(
            code, [x], self.like(x, (n, *size, c)), "Pool2DOptions", Padding=padding,
            StrideH=stride, StrideW=stride, FilterHeight=kernel, FilterWidth=kernel,
        )  # fmt: skip


def image_network(seed: int, batch: int = 1) -> bytes:
    """An image network that has every operator but the states.

    Input ``image`` is float32, outputs are ``scores`` (int8), ``real`` (float32) and ``bytes``
    (uint8).
    """
    net = NetworkWriter(np.random.default_rng(seed))
    n = batch
    image = net.tensor((n, 11, 9, 5), "float32", name="image")
    x = net.apply("QUANTIZE", [image], net.tensor((n, 11, 9, 5)), "QuantizeOptions")
    other = net.apply("QUANTIZE", [x], net.tensor((n, 11, 9, 5)), "QuantizeOptions")
    pads = net.numbers([[0, 0], [1, 2], [0, 1], [0, 0]])
    padded = net.apply("PAD", [other, pads], net.like(other, (n, 14, 10, 5)), "PadOptions")
    a = net.conv(padded, 8, (3, 3), strides=(1, 2), padding=_VALID, fused=_RELU6)
    b = net.conv(x, 8, (3, 2), strides=(1, 2), dilations=(1, 1), fused=_RELU)
    n, h, w, c = net.shapes[b]
    a = net.apply("SLICE", [a, net.numbers([0, 0, 0, 0]), net.numbers([-1, h, 4, -1])],
                  net.like(a, (n, h, 4, c)), "SliceOptions")  # fmt: skip
    begin, end = net.numbers([0, 0, 1, 0]), net.numbers([n, 99, 5, c])
    ones = net.numbers([1, 1, 1, 1])
    b = net.apply("STRIDED_SLICE", [b, begin, end, ones], net.like(b, (n, h, 4, c)),
                  "StridedSliceOptions", BeginMask=2, EndMask=1)  # fmt: skip
    total = net.apply("ADD", [a, b], net.tensor((n, h, 4, c)), "AddOptions",
                      FusedActivationFunction=_RELU)  # fmt: skip
    rng = net.rng
    offset = net.tensor((c,), data=rng.integers(-128, 128, c).astype(np.int8))
    total = net.apply("ADD", [total, offset], net.tensor((n, h, 4, c)), "AddOptions")
    deep = net.conv(total, 0, (3, 3), dilations=(2, 1), multiplier=2)
    left = net.like(deep, (n, h, 4, c))
    right = net.like(deep, (n, h, 4, c))
    axis = net.numbers(3)
    net.out.operator("SPLIT", [axis, deep], [left, right], "SplitOptions", NumSplits=2)
    short = net.pool(left, "MAX_POOL_2D", 2, 1, _SAME)
    smooth = net.pool(right, "AVERAGE_POOL_2D", 3, 1, _SAME)
    both = net.apply("CONCATENATION", [short, smooth], net.like(deep, (n, h, 4, 2 * c)),
                     "ConcatenationOptions", Axis=-1)  # fmt: skip
    moved = net.apply("TRANSPOSE", [both, net.numbers([0, 3, 1, 2])],
                      net.like(both, (n, 2 * c, h, 4)), "TransposeOptions")  # fmt: skip
    row = net.apply(
        "STRIDED_SLICE",
        [moved, net.numbers([0, -1, 3, 0]), net.numbers([n, -2, 4, 4]), ones],
        net.like(both, (n, 4)), "StridedSliceOptions", ShrinkAxisMask=0b0110, BeginMask=1,
    )  # fmt: skip
    tiles = net.pool(both, "AVERAGE_POOL_2D", 2, 2)
    mean = net.apply("MEAN", [tiles, net.numbers([1, 2])], net.tensor((n, 2 * c)),
                     "ReducerOptions", KeepDims=False)  # fmt: skip
    wide = net.apply("EXPAND_DIMS", [mean, net.numbers(1)], net.like(mean, (n, 1, 2 * c)))
    dense = net.dense(wide, (n, 7), 2 * c, 7, FusedActivationFunction=_NONE)
    probability = (1 / 256, -128)
    scores = net.tensor((n, 7), quant=probability, name="scores")
    net.apply("SOFTMAX", [dense], scores, "SoftmaxOptions", Beta=1.0)
    flat = net.apply("RESHAPE", [row, net.numbers([-1, 4])], net.like(row, (n, 4)),
                     "ReshapeOptions")  # fmt: skip
    likely = net.apply("LOGISTIC", [flat], net.tensor((n, 4), quant=probability))
    raw = net.tensor((n, 4), "uint8", quant=(1 / 256, 0), name="bytes")
    net.apply("QUANTIZE", [likely], raw, "QuantizeOptions")
    real = net.tensor((n, 7), "float32", name="real")
    net.apply("DEQUANTIZE", [dense], real, "DequantizeOptions")
    return net.out.finish([image], [scores, real, raw])


def streaming_network(seed: int) -> bytes:
    """A network with two states: a ring of the last frames, and its own last output.

    Input ``frame`` is int8 [1, 2, 6], output ``level`` uint8 [1, 3].
    """
    rng = np.random.default_rng(seed)
    net = NetworkWriter(rng)
    initial = rng.integers(-128, 128, (1, 3, 6)).astype(np.int8)
    net.out.operator("CALL_ONCE", [], [], "CallOnceOptions", InitSubgraphIndex=1)
    frame = net.tensor((1, 2, 6), name="frame", quant=(0.05, -3))
    handles = []
    for name in ("ring", "last"):
        handle = net.tensor((), "resource")
        net.out.operator("VAR_HANDLE", [], [handle], "VarHandleOptions", SharedName=name)
        handles.append(handle)
    old = net.apply("READ_VARIABLE", [handles[0]], net.like(frame, (1, 3, 6)))
    joined = net.apply("CONCATENATION", [old, frame], net.like(frame, (1, 5, 6)),
                       "ConcatenationOptions", Axis=1)  # fmt: skip
    keep = net.apply(
        "STRIDED_SLICE", [joined, net.numbers([0, 2, 0]), net.numbers([1, 5, 6]),
                          net.numbers([1, 1, 1])],
        net.like(frame, (1, 3, 6)), "StridedSliceOptions",
    )  # fmt: skip
    net.out.operator("ASSIGN_VARIABLE", [handles[0], keep], [])
    flat = net.apply("RESHAPE", [joined, net.numbers([1, 30])], net.like(frame, (1, 30)),
                     "ReshapeOptions")  # fmt: skip
    dense = net.dense(flat, (1, 3), 30, 3, FusedActivationFunction=_NONE)
    before = net.apply("READ_VARIABLE", [handles[1]], net.like(dense, (1, 3)))
    total = net.apply("ADD", [dense, before], net.like(dense, (1, 3)), "AddOptions")
    net.out.operator("ASSIGN_VARIABLE", [handles[1], total], [])
    level = net.tensor((1, 3), "uint8", quant=(net.quants[dense][0] * 2, 128), name="level")
    net.apply("QUANTIZE", [total], level, "QuantizeOptions")
    net.out.subgraph([frame], [level])
    for name, data in (("ring", initial), ("last", np.zeros((1, 3), np.int8))):
        handle = net.tensor((), "resource")
        net.out.operator("VAR_HANDLE", [], [handle], "VarHandleOptions", SharedName=name)
        source = net.tensor(data.shape, data=data, quant=net.quants[
            frame if name == "ring" else dense])  # fmt: skip
        net.out.operator("ASSIGN_VARIABLE", [handle, source], [])
    return net.out.finish([], [])
