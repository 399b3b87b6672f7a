"""TFLite operators that only move values."""

from collections.abc import Callable

import numpy as np

from rowmesh.gen.graph import ConcatAttrs, Op, PadAttrs, SliceAttrs, Tensor, TransposeAttrs
from rowmesh.gen.tflite_builder import TfliteBuilder

__all__ = ["MOVES"]


def _reshape(builder: TfliteBuilder) -> None:
    builder.reshape(builder.input(0), builder.output())


def _transpose(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    perm = tuple(int(axis) for axis in builder.constant(1).reshape(-1))
    rank = len(x.shape)
    if sorted(perm) != list(range(rank)) or tuple(x.shape[axis] for axis in perm) != out.shape:
        raise builder.error(f"permutation {list(perm)} does not fit {list(x.shape)}")
    builder.require_same_quant(x, out)
    builder.emit(Op.TRANSPOSE, [x], out, TransposeAttrs(perm=perm))


def _concatenation(builder: TfliteBuilder) -> None:
    parts = [builder.input(i, constant=True) for i in range(len(builder.operator.inputs))]
    out = builder.output()
    if builder.option("FusedActivationFunction"):
        raise builder.error("unsupported fused activation")
    rank = len(out.shape)
    axis = builder.option("Axis") % rank
    for part in parts:
        if len(part.shape) != rank:
            raise builder.error(f"tensor {part.name!r} has shape {list(part.shape)}")
        if _without(part.shape, axis) != _without(out.shape, axis):
            raise builder.error(f"tensor {part.name!r} has shape {list(part.shape)}")
    if sum(part.shape[axis] for part in parts) != out.shape[axis]:
        raise builder.error(f"the output has shape {list(out.shape)}")
    builder.require_same_quant(out, *parts)
    builder.emit(Op.CONCAT, parts, out, ConcatAttrs(axis=axis))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _sliced(builder: TfliteBuilder, x: Tensor, out: Tensor, attrs: SliceAttrs) -> None:
    """A slice whose output may lack axes of size one."""
    steps = zip(attrs.begin, attrs.end, attrs.stride, strict=True)
    shape = np.empty(x.shape, np.int8)[tuple(slice(*step) for step in steps)].shape
    if int(np.prod(shape)) != int(np.prod(out.shape)):
        raise builder.error(f"the output has shape {list(out.shape)}: {list(shape)} was expected")
    builder.require_same_quant(x, out)
    if shape == out.shape:
        builder.emit(Op.SLICE, [x], out, attrs)
        return
    part = builder.helper(f"{out.name}_part", out, shape)
    builder.emit(Op.SLICE, [x], part, attrs)
    builder.reshape(part, out)


def _strided_slice(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    for name in ("EllipsisMask", "NewAxisMask"):
        if builder.option(name):
            raise builder.error(f"unsupported {name} = {builder.option(name)}")
    begins, ends, strides = (builder.constant(i).reshape(-1).tolist() for i in (1, 2, 3))
    rank = len(x.shape)
    if len(begins) > rank or not len(begins) == len(ends) == len(strides):
        raise builder.error(f"begin {begins}, end {ends} and strides {strides} do not fit")
    masks = {name: builder.option(f"{name}Mask") for name in ("Begin", "End", "ShrinkAxis")}
    begin: list[int] = []
    end: list[int | None] = []
    stride: list[int] = []
    for axis, size in enumerate(x.shape):
        if axis >= len(begins):
            begin, end, stride = [*begin, 0], [*end, size], [*stride, 1]
            continue
        step = int(strides[axis])
        if step == 0:
            raise builder.error("a stride is 0")
        bit = 1 << axis
        if masks["ShrinkAxis"] & bit:
            first = int(begins[axis]) % size
            begin, end, stride = [*begin, first], [*end, first + 1], [*stride, 1]
            continue
        start = (0 if step > 0 else size - 1) if masks["Begin"] & bit else int(begins[axis])
        begin.append(start)
        end.append(None if masks["End"] & bit else int(ends[axis]))
        stride.append(step)
    attrs = SliceAttrs(begin=tuple(begin), end=tuple(end), stride=tuple(stride))
    _sliced(builder, x, out, attrs)


def _slice(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    begin = tuple(int(v) for v in builder.constant(1).reshape(-1))
    sizes = tuple(int(v) for v in builder.constant(2).reshape(-1))
    if not len(begin) == len(sizes) == len(x.shape) or min(begin) < 0:
        raise builder.error(f"begin {list(begin)} and size {list(sizes)} do not fit")
    end = tuple(None if n < 0 else b + n for b, n in zip(begin, sizes, strict=True))
    _sliced(builder, x, out, SliceAttrs(begin=begin, end=end, stride=(1,) * len(begin)))


def _parts(builder: TfliteBuilder, x: Tensor, axis: int) -> None:
    """One slice for every output of a split."""
    rank, at = len(x.shape), 0
    if not -rank <= axis < rank:
        raise builder.error(f"axis {axis} does not fit {list(x.shape)}")
    axis %= rank
    for index in range(len(builder.operator.outputs)):
        out = builder.output(index)
        begin, end = [0] * rank, list(x.shape)
        begin[axis], end[axis] = at, at + out.shape[axis]
        at = end[axis]
        attrs = SliceAttrs(begin=tuple(begin), end=tuple(end), stride=(1,) * rank)
        _sliced(builder, x, out, attrs)
    if at != x.shape[axis]:
        raise builder.error(f"the parts have {at} of {x.shape[axis]} indices")


def _split(builder: TfliteBuilder) -> None:
    _parts(builder, builder.input(1), int(builder.constant(0).reshape(-1)[0]))


def _split_v(builder: TfliteBuilder) -> None:
    _parts(builder, builder.input(0), int(builder.constant(2).reshape(-1)[0]))


def _pad(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    pads = tuple((int(a), int(b)) for a, b in builder.constant(1).reshape(-1, 2))
    shape = tuple(size + a + b for size, (a, b) in zip(x.shape, pads, strict=False))
    if len(pads) != len(x.shape) or min(min(pair) for pair in pads) < 0 or shape != out.shape:
        raise builder.error(f"padding {list(pads)} does not fit {list(x.shape)}")
    builder.require_same_quant(x, out)
    value = 0.0 if x.quant is None else float(x.quant.zero_point)
    if builder.raw_input(2) is not None:
        given = builder.constant(2).reshape(-1)
        value = float(given[0]) - (128 if x.unsigned else 0)
    builder.emit(Op.PAD, [x], out, PadAttrs(pads=pads, value=value))


MOVES: dict[str, Callable[[TfliteBuilder], None]] = {
    "CONCATENATION": _concatenation,
    "EXPAND_DIMS": _reshape,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "TRANSPOSE": _transpose,
}
