"""Operators that only move values, whatever their type: shared by the int8 and the float model.

The arrays of a run may hold several times the batch of the graph. Here every such time is one index
of a new first axis, so that each operator sees exactly the shapes that the graph states.
"""

import math
from collections.abc import Sequence

import numpy as np

from rowmesh.gen.graph import (
    Array,
    ConcatAttrs,
    Graph,
    Node,
    Op,
    PadAttrs,
    SliceAttrs,
    TransposeAttrs,
)

__all__ = ["MOVES", "join", "move", "split"]

#: The operators that `move` knows.
MOVES = (Op.RESHAPE, Op.TRANSPOSE, Op.CONCAT, Op.SLICE, Op.PAD)


def split(values: Array, shape: tuple[int, ...]) -> Array:
    """Values of a run as [runs, *shape]."""
    return values.reshape(values.size // max(1, math.prod(shape)), *shape)


def join(values: Array) -> Array:
    """[runs, N, ...] as [runs * N, ...]: the inverse of `split`."""
    return values.reshape(-1, *values.shape[2:])


def move(graph: Graph, node: Node, operands: Sequence[Array]) -> Array:
    """Run an operator of `MOVES`.

    Parameters
    ----------
    graph : Graph
    node : Node
    operands : sequence of ndarray
        One array an input; a constant as the graph holds it.

    Returns
    -------
    ndarray
    """
    parts = [split(x, graph.tensors[name].shape) for x, name in zip(operands, node.inputs,
                                                                    strict=True)]  # fmt: skip
    x = parts[0]
    match node.op:
        case Op.RESHAPE:
            out = x.reshape(len(x), *graph.tensors[node.outputs[0]].shape)
        case Op.TRANSPOSE:
            out = x.transpose(0, *(axis + 1 for axis in node.attrs_as(TransposeAttrs).perm))
        case Op.CONCAT:
            runs = max(len(part) for part in parts)
            wide = [np.broadcast_to(part, (runs, *part.shape[1:])) for part in parts]
            out = np.concatenate(wide, axis=node.attrs_as(ConcatAttrs).axis + 1)
        case Op.SLICE:
            attrs = node.attrs_as(SliceAttrs)
            steps = zip(attrs.begin, attrs.end, attrs.stride, strict=True)
            out = x[(slice(None), *(slice(*step) for step in steps))]
        case Op.PAD:
            pad = node.attrs_as(PadAttrs)
            out = np.pad(x, ((0, 0), *pad.pads), constant_values=pad.value)
        case _:
            raise ValueError(f"{node.op} does not only move values")
    return join(out)
