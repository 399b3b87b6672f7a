"""Constant folding of the few ONNX operators that exporters put on weights and shapes."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from onnx import helper, numpy_helper

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array

__all__ = ["fold_constant", "reshaped"]


class _Node(Protocol):
    op: str
    inputs: list[str]

    def error(self, message: str) -> RowmeshError: ...

    def take(self, name: str, default: Any) -> Any: ...

    def require(self, name: str, value: Any) -> None: ...

    def done(self) -> None: ...


def reshaped(node: _Node, old: tuple[int, ...], wanted: Array) -> tuple[int, ...]:
    """The shape that ONNX's Reshape gives: 0 copies a dimension, one -1 is worked out."""
    node.require("allowzero", 0)
    sizes = [int(size) for size in np.asarray(wanted).reshape(-1)]
    if any(size == 0 and axis >= len(old) for axis, size in enumerate(sizes)):
        raise node.error(f"shape {sizes} does not fit {old}")
    shape = [old[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    total = int(np.prod(old, dtype=np.int64))
    if shape.count(-1) == 1:
        rest = -int(np.prod(shape, dtype=np.int64))
        shape[shape.index(-1)] = total // rest if rest else 0
    if min(shape, default=1) < 1 or int(np.prod(shape, dtype=np.int64)) != total:
        raise node.error(f"shape {sizes} does not fit {old}")
    return tuple(shape)


def fold_constant(node: _Node, constants: Mapping[str, Array]) -> Array:
    """The value of an operator all of whose inputs are constants.

    Raises
    ------
    RowmeshError
        The operator cannot be folded.
    """
    args = [constants[name] for name in node.inputs if name]
    result: Array
    match node.op, args:
        case "Constant", []:
            return _constant(node)
        case "Identity", [value]:
            result = value
        case "Reshape", [value, shape]:
            result = value.reshape(reshaped(node, value.shape, shape))
        case "Transpose", [value]:
            result = value.transpose(node.take("perm", list(range(value.ndim))[::-1]))
        case "Cast", [value]:
            result = value.astype(helper.tensor_dtype_to_np_dtype(node.take("to", 1)))
        case (("Unsqueeze" | "Squeeze"), [value, *axes]):
            wanted = axes[0].reshape(-1).tolist() if axes else node.take("axes", None)
            if wanted is None and node.op == "Unsqueeze":
                raise node.error("axes are missing")
            places = None if wanted is None else tuple(int(axis) for axis in wanted)
            if node.op == "Squeeze":
                result = np.squeeze(value, places)
            else:
                result = np.expand_dims(value, places or ())
        case _:
            raise node.error(f"unsupported operator {node.op} on constants")
    node.done()
    return result


def _constant(node: _Node) -> Array:
    for name in ("value_float", "value_int", "value_floats", "value_ints"):
        value = node.take(name, None)
        if value is not None:
            return np.asarray(value, np.float32 if "float" in name else np.int64)
    value = node.take("value", None)
    if value is None:
        raise node.error("unsupported kind of constant")
    return numpy_helper.to_array(value)
