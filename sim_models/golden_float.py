"""Float reference of a graph: calibration, and the accuracy before quantization."""

from collections.abc import Mapping

import numpy as np

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Array,
    ConvAttrs,
    Graph,
    Node,
    Op,
    PoolAttrs,
    SoftmaxAttrs,
)
from rowmesh.sim_models import golden_ops as ops
from rowmesh.sim_models.golden_move import MOVES, move

__all__ = ["float_run", "logistic", "softmax"]


def softmax(x: Array, beta: float) -> Array:
    """Softmax of real values over the last axis."""
    scaled = x * np.float32(beta)
    parts = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: Array = parts / parts.sum(axis=-1, keepdims=True)
    return result


def logistic(x: Array) -> Array:
    """Logistic function of real values."""
    result: Array = 1 / (1 + np.exp(-x))
    return result


def float_run(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a float graph.

    Parameters
    ----------
    graph : Graph
        As an importer makes it.
    inputs : mapping of ndarray
        Every graph input, in the graph's layout, of any multiple of its batch.

    Returns
    -------
    dict of ndarray of float32
        Every activation of the graph by name, the inputs included.
    """
    values = {name: np.asarray(inputs[name], np.float32) for name in graph.inputs}
    for node in graph.nodes:
        values[node.outputs[0]] = _node(graph, node, values)
    return values


def _node(graph: Graph, node: Node, values: dict[str, Array]) -> Array:
    operands = [
        values[name] if (data := graph.tensors[name].data) is None else data for name in node.inputs
    ]
    x = operands[0]
    if node.op in MOVES:
        return move(graph, node, operands)
    match node.op:
        case Op.CONV | Op.FULLY_CONNECTED:
            weights = graph.constant(node.inputs[1]).astype(np.float32)
            if node.op == Op.CONV:
                out = ops.conv_sum(x, weights, node.attrs_as(ConvAttrs))
            else:
                out = ops.matmul_sum(x, weights)
            if len(node.inputs) > 2:
                out = out + graph.constant(node.inputs[2]).astype(np.float32)
            return ops.clamp(out, node.clamp)
        case Op.MAX_POOL:
            return ops.clamp(ops.max_pool(x, node.attrs_as(PoolAttrs)), node.clamp)
        case Op.AVG_POOL:
            return ops.clamp(ops.average_pool(x, node.attrs_as(PoolAttrs)), node.clamp)
        case Op.ADD:
            return ops.clamp(x + operands[1], node.clamp)
        case Op.CLAMP:
            return ops.clamp(x, node.clamp)
        case Op.SOFTMAX:
            return softmax(x, node.attrs_as(SoftmaxAttrs).beta)
        case Op.LOGISTIC:
            return logistic(x)
        case _:
            raise RowmeshError(f"{node.op} {node.name!r}: no operator of a float network")
