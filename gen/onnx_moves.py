"""ONNX operators that only move values. Images are NCHW in the model and NHWC here."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rowmesh.gen.graph import ConcatAttrs, Op, PadAttrs, SliceAttrs, Tensor, TransposeAttrs
from rowmesh.gen.onnx_builder import IMAGE_RANK, Builder, OnnxNode

__all__ = ["MOVES"]

#: The axis here of each axis of a model's image.
_IMAGE_AXES = (0, 3, 1, 2)


def _aligned(builder: Builder, parts: Sequence[Tensor]) -> tuple[list[Tensor], tuple[int, ...]]:
    """Tensors in one layout, and the axis here of each axis of the model."""
    rank = len(parts[0].shape)
    if rank == IMAGE_RANK and all(part.model_image is not None for part in parts):
        return list(parts), _IMAGE_AXES
    return [builder.plain(part) for part in parts], tuple(range(rank))


def _like(x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of another shape in the layout of `x`."""
    image = None if x.model_image is None else (shape[1], shape[2], shape[3])
    return replace(x, name=name, shape=shape, model_image=image)


def _concat(builder: Builder, node: OnnxNode) -> None:
    parts, axes = _aligned(builder, [builder.activation(node, i) for i in range(len(node.inputs))])
    rank = len(parts[0].shape)
    axis = axes[int(node.take("axis", 0)) % rank]
    shape = list(parts[0].shape)
    for part in parts[1:]:
        rest = [n for i, n in enumerate(part.shape) if i != axis]
        if len(part.shape) != rank or rest != [n for i, n in enumerate(shape) if i != axis]:
            raise node.error(f"shapes {parts[0].shape} and {part.shape} do not fit")
    shape[axis] = sum(part.shape[axis] for part in parts)
    out = _like(parts[0], node.outputs[0], tuple(shape))
    builder.emit(Op.CONCAT, node.name, parts, out, ConcatAttrs(axis=axis))


def _sliced(builder: Builder, name: str, x: Tensor, out: str, attrs: SliceAttrs) -> None:
    steps = zip(attrs.begin, attrs.end, attrs.stride, strict=True)
    shape = np.empty(x.shape, np.int8)[tuple(slice(*step) for step in steps)].shape
    builder.emit(Op.SLICE, name, [x], _like(x, out, shape), attrs)


def _slice(builder: Builder, node: OnnxNode) -> None:
    (x,), order = _aligned(builder, [builder.activation(node, 0)])
    starts, ends = (builder.constant(node, i).reshape(-1).tolist() for i in (1, 2))
    given = [builder.optional_constant(node, i) for i in (3, 4)]
    axes = list(range(len(starts))) if given[0] is None else given[0].reshape(-1).tolist()
    steps = [1] * len(starts) if given[1] is None else given[1].reshape(-1).tolist()
    rank = len(x.shape)
    begin, stride = [0] * rank, [1] * rank
    end: list[int | None] = list(x.shape)
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = order[axis % rank]
        size = x.shape[at]
        if step == 0 or step < 0 and stop < -size:
            begin[at], end[at], stride[at] = start, None, step
            continue
        begin[at], end[at], stride[at] = start, stop, step
    if 0 in stride:
        raise node.error("a step is 0")
    attrs = SliceAttrs(begin=tuple(begin), end=tuple(end), stride=tuple(stride))
    _sliced(builder, node.name, x, node.outputs[0], attrs)


def _split(builder: Builder, node: OnnxNode) -> None:
    (x,), order = _aligned(builder, [builder.activation(node, 0)])
    rank, count = len(x.shape), len(node.outputs)
    axis = order[int(node.take("axis", 0)) % rank]
    given = builder.optional_constant(node, 1)
    sizes = node.take("split", None) if given is None else given.reshape(-1).tolist()
    if node.take("num_outputs", count) != count:
        raise node.error(f"{count} outputs do not fit num_outputs")
    if sizes is None:
        part = -(-x.shape[axis] // count)
        sizes = [min(part, x.shape[axis] - index * part) for index in range(count)]
    if len(sizes) != count or sum(sizes) != x.shape[axis] or min(sizes) < 1:
        raise node.error(f"parts {sizes} do not fit {x.shape[axis]}")
    at = 0
    for index, (name, size) in enumerate(zip(node.outputs, sizes, strict=True)):
        begin, end = [0] * rank, list(x.shape)
        begin[axis], end[axis] = at, at + int(size)
        at = end[axis]
        attrs = SliceAttrs(begin=tuple(begin), end=tuple(end), stride=(1,) * rank)
        _sliced(builder, f"{node.name}_{index}", x, name, attrs)


def _transpose(builder: Builder, node: OnnxNode) -> None:
    x = builder.plain(builder.activation(node, 0))
    rank = len(x.shape)
    perm = tuple(int(axis) for axis in node.take("perm", list(range(rank))[::-1]))
    if sorted(perm) != list(range(rank)):
        raise node.error(f"unsupported attribute perm = {list(perm)}")
    out = replace(x, name=node.outputs[0], shape=tuple(x.shape[axis] for axis in perm))
    builder.emit(Op.TRANSPOSE, node.name, [x], out, TransposeAttrs(perm=perm))


def _pad(builder: Builder, node: OnnxNode) -> None:
    (x,), order = _aligned(builder, [builder.activation(node, 0)])
    node.require("mode", "constant")
    given = builder.optional_constant(node, 1)
    wanted = node.take("pads", None) if given is None else given.reshape(-1).tolist()
    value = builder.optional_constant(node, 2)
    rank = len(x.shape)
    if builder.optional_constant(node, 3) is not None:
        raise node.error("unsupported input axes")
    if wanted is None or len(wanted) != 2 * rank or min(wanted) < 0:
        raise node.error(f"unsupported pads = {wanted}")
    pads = [(0, 0)] * rank
    for axis in range(rank):
        pads[order[axis]] = (int(wanted[axis]), int(wanted[rank + axis]))
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pads, strict=True))
    filled = node.take("value", 0.0) if value is None else value.reshape(-1)[0]
    if x.dtype != "float32":
        raise node.error(f"input {x.name!r} is {x.model_dtype}: must be float32")
    attrs = PadAttrs(pads=tuple(pads), value=float(filled))
    builder.emit(Op.PAD, node.name, [x], _like(x, node.outputs[0], shape), attrs)


MOVES: dict[str, Callable[[Builder, OnnxNode], None]] = {
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
