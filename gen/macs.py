"""Multiplications of a layer: all, and those whose operands are both not zero."""

import math

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.compiled import CompiledLayer
from rowmesh.gen.graph import Array, ConvAttrs, Graph, Node, Op
from rowmesh.sim_models import golden_ops as ops

__all__ = ["effectual_macs", "node_macs", "nominal_macs"]


def node_macs(graph: Graph, node: Node) -> int:
    """Multiplications of an operator for one image, padding and zeros included."""
    if node.op not in (Op.CONV, Op.FULLY_CONNECTED):
        return 0
    pixels = graph.tensors[node.outputs[0]].shape[1:-1]
    return int(graph.constant(node.inputs[1]).size) * math.prod(pixels)


def nominal_macs(graph: Graph, layer: CompiledLayer) -> int:
    """Multiplications of a layer for one image, padding and zeros included.

    Outputs that a fused pooling does not read are not counted: nothing computes them. Poolings and
    additions have none, whatever the PEs do for them.
    """
    node = next(node for node in graph.nodes if node.name == layer.name)
    if node.op not in (Op.CONV, Op.FULLY_CONNECTED):
        return 0
    height, width = layer.mapping.task.used_size
    return int(graph.constant(node.inputs[1]).size) * height * width


def effectual_macs(
    graph: Graph, layer: CompiledLayer, values: dict[str, Array]
) -> NDArray[np.int64]:
    """Multiplications of a non-zero activation (minus its zero point) and a non-zero weight.

    Parameters
    ----------
    graph : Graph
        Quantized graph.
    layer : CompiledLayer
        One of its layers.
    values : dict of ndarray of int8
        Tensors of the graph, [N, ...].

    Returns
    -------
    ndarray of int64, [N]
        For every image.
    """
    node = next(node for node in graph.nodes if node.name == layer.name)
    source = node.inputs[0]
    count = len(values[source])
    if node.op not in (Op.CONV, Op.FULLY_CONNECTED):
        return np.zeros(count, np.int64)
    alive = (values[source] != graph.quant(source).zero_point).astype(np.float64)
    weights = graph.constant(node.inputs[1]) != 0
    if node.op is Op.CONV:
        attrs = node.attrs_as(ConvAttrs)
        # Non-zero weights that one activation meets, over all output channels of its group.
        met = weights.reshape(attrs.groups, -1, *weights.shape[1:]).sum(axis=1)
        sums = ops.conv_sum(alive, met.astype(np.float64), attrs)
        height, width = layer.mapping.task.used_size
        total = sums[:, :height, :width].sum(axis=(1, 2, 3))
    else:
        met = weights.sum(axis=0, keepdims=True)
        total = ops.matmul_sum(alive.reshape(count, -1), met.astype(np.float64)).sum(axis=1)
    made: NDArray[np.int64] = np.rint(total).astype(np.int64)
    return made
