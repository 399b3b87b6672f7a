"""Multiplications of a layer: all, and those whose operands are both not zero."""

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.compiler import CompiledLayer
from rowmesh.gen.graph import Array, ConvAttrs, Graph, Op
from rowmesh.sim_models import golden_ops as ops

__all__ = ["effectual_macs", "nominal_macs"]


def nominal_macs(graph: Graph, layer: CompiledLayer) -> int:
    """Multiplications of a layer for one image, padding and zeros included.

    Outputs that a fused pooling does not read are not counted: nothing computes them.
    """
    node = next(node for node in graph.nodes if node.name == layer.name)
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
    alive = (values[source] != graph.quant(source).zero_point).astype(np.float64)
    # Non-zero weights that one activation meets, over all output channels.
    weights = (graph.constant(node.inputs[1]) != 0).sum(axis=0, keepdims=True).astype(np.float64)
    if node.op is Op.CONV:
        sums = ops.conv_sum(alive, weights, node.attrs_as(ConvAttrs))
        height, width = layer.mapping.task.used_size
        total = sums[:, :height, :width].sum(axis=(1, 2, 3))
    else:
        total = ops.matmul_sum(alive, weights).sum(axis=1)
    count: NDArray[np.int64] = np.rint(total).astype(np.int64)
    return count
