"""Float reference of a graph: calibration, and the accuracy before quantization."""

from collections.abc import Mapping

import numpy as np

from rowmesh.gen.graph import (
    Array,
    ConvAttrs,
    Graph,
    Node,
    Op,
    PoolAttrs,
    TransposeAttrs,
)
from rowmesh.sim_models import golden_ops as ops

__all__ = ["float_run", "reshape_batch"]


def reshape_batch(x: Array, old: tuple[int, ...], new: tuple[int, ...]) -> Array:
    """Reshape `x`, whose batch may be a multiple of the one in the graph's shape `old`."""
    if len(new) == 0 or len(old) == 0 or x.shape == old:
        return x.reshape(new)
    return x.reshape(x.shape[0] * new[0] // old[0], *new[1:])


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
    x = values[node.inputs[0]]
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
            return ops.clamp(x + values[node.inputs[1]], node.clamp)
        case Op.RESHAPE:
            old, new = graph.tensors[node.inputs[0]].shape, graph.tensors[node.outputs[0]].shape
            return reshape_batch(x, old, new)
        case Op.TRANSPOSE:
            return x.transpose(node.attrs_as(TransposeAttrs).perm)
