"""Where every operator of a graph runs: on the accelerator, on the host, or nowhere."""

import math
from dataclasses import dataclass

from rowmesh.gen.graph import Graph, Node, Op, PoolAttrs
from rowmesh.gen.quantize import add_parameters, pool_parameters
from rowmesh.rtl.config import Config

__all__ = ["MOST_PADDING", "Placement", "place_operators"]

#: Rows or columns of padding on one side, as the iact loader counts them.
MOST_PADDING = 255
#: Pixels of a maximum, as post-processing counts them.
MOST_POOLED = 255


@dataclass(frozen=True)
class Placement:
    """Where an operator runs.

    Parameters
    ----------
    node : Node
        The operator.
    where : str
        ``accelerator``, ``host``, or ``none`` for one that only renames.
    reason : str
        Why it is not on the accelerator, or what it is fused with.
    pool : Node, optional
        The pooling fused behind a convolution.
    """

    node: Node
    where: str
    reason: str = ""
    pool: Node | None = None


def place_operators(graph: Graph, config: Config) -> list[Placement]:
    """Decide for every operator where it runs, in graph order."""
    out: list[Placement] = []
    fused: set[str] = set()
    for node in graph.nodes:
        if node.name in fused:
            out.append(Placement(node, "accelerator", "fused into the convolution before it"))
            continue
        if node.op is Op.RESHAPE and _keeps_bytes(graph, node):
            out.append(Placement(node, "none", "the same bytes under another shape"))
            continue
        if node.op is Op.PAD and not _is_read(graph, node.outputs[0]):
            out.append(Placement(node, "none", "folded into the convolution behind it"))
            continue
        reason = _obstacle(graph, node, config)
        if reason:
            out.append(Placement(node, "host", reason))
            continue
        pool = _fusable_pool(graph, node)
        if pool is not None:
            fused.add(pool.name)
        out.append(Placement(node, "accelerator", pool=pool))
    return out


def _obstacle(graph: Graph, node: Node, config: Config) -> str:
    """Why an operator cannot run on the accelerator; empty when it can."""
    shapes = [graph.tensors[name].shape for name in (*node.inputs, *node.outputs)]
    match node.op:
        case Op.CONV:
            return ""
        case Op.FULLY_CONNECTED:
            whole = math.prod(shapes[0][1:]) == graph.constant(node.inputs[1]).shape[1]
            return "" if whole else "a product over a part of the input's axes"
        case Op.MAX_POOL:
            attrs = node.attrs_as(PoolAttrs)
            if attrs.kernel[0] * attrs.kernel[1] > MOST_POOLED:
                return f"a maximum of more than {MOST_POOLED} pixels"
            return _padding(attrs.pads)
        case Op.AVG_POOL:
            if pool_parameters(graph, node, config.rounding) is None:
                return "an average that no single scale gives exactly"
            return _padding(node.attrs_as(PoolAttrs).pads)
        case Op.ADD:
            if any(graph.tensors[name].data is not None for name in node.inputs):
                return "addition of a constant"
            if len(set(shapes)) > 1:
                return "addition of different shapes"
            if add_parameters(graph, node, config.rounding) is None:
                return "an addition that one rounding does not give exactly"
            return ""
    return f"{node.op} is not an accelerator operator"


def _padding(pads: tuple[int, int, int, int]) -> str:
    return f"padding of more than {MOST_PADDING}" if max(pads) > MOST_PADDING else ""


def _consumers(graph: Graph, name: str) -> list[Node]:
    return [node for node in graph.nodes if name in node.inputs]


def _is_read(graph: Graph, name: str) -> bool:
    return name in graph.outputs or bool(_consumers(graph, name))


def _keeps_bytes(graph: Graph, node: Node) -> bool:
    """Whether every layer that reads a reshaped tensor can read the bytes of the original."""
    old, new = (graph.tensors[name].shape[1:] for name in (node.inputs[0], node.outputs[0]))
    # A fully connected layer orders its weights as the bytes lie; all others need the image.
    return old == new or all(
        reader.op is Op.FULLY_CONNECTED
        or (reader.op is Op.RESHAPE and _keeps_bytes(graph, reader))
        or reader.op not in (Op.CONV, Op.MAX_POOL, Op.AVG_POOL, Op.ADD, Op.RESHAPE)
        for reader in _consumers(graph, node.outputs[0])
    )


def _fusable_pool(graph: Graph, node: Node) -> Node | None:
    """The maximum pooling that alone reads a convolution, when its windows tile the image."""
    readers = _consumers(graph, node.outputs[0])
    if node.op is not Op.CONV or len(readers) != 1 or node.outputs[0] in graph.outputs:
        return None
    if readers[0].op is not Op.MAX_POOL:
        return None
    attrs = readers[0].attrs_as(PoolAttrs)
    if attrs.kernel != attrs.strides or any(attrs.pads):
        return None
    if attrs.kernel[0] * attrs.kernel[1] > MOST_POOLED:
        return None
    size = graph.tensors[node.outputs[0]].shape[1:3]
    if size[0] < attrs.kernel[0] or size[1] < attrs.kernel[1]:
        return None
    return readers[0]
