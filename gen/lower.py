"""From graph nodes to tasks of the accelerator: what can run there, and in which numbers."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import ConvAttrs, Graph, Node, Op, PoolAttrs
from rowmesh.gen.quantize import requant_parameters
from rowmesh.gen.task import ConvTask
from rowmesh.gen.tensors import Feature
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import BIAS_BITS

__all__ = ["Placement", "lower_node", "place_operators", "stored_offset"]

#: Rows or columns of padding on one side, as the iact loader counts them.
_MOST_PADDING = 255


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


def _consumers(graph: Graph, name: str) -> list[Node]:
    return [node for node in graph.nodes if name in node.inputs]


def _is_read(graph: Graph, name: str) -> bool:
    return name in graph.outputs or bool(_consumers(graph, name))


def place_operators(graph: Graph) -> list[Placement]:
    """Decide for every operator where it runs, in graph order."""
    out: list[Placement] = []
    fused: set[str] = set()
    for node in graph.nodes:
        if node.name in fused:
            out.append(Placement(node, "accelerator", "fused into the convolution before it"))
        elif node.op is Op.CONV:
            attrs = node.attrs_as(ConvAttrs)
            if attrs.groups != 1:
                out.append(Placement(node, "host", "grouped convolution"))
                continue
            pool = _fusable_pool(graph, node)
            if pool is not None:
                fused.add(pool.name)
            out.append(Placement(node, "accelerator", pool=pool))
        elif node.op is Op.FULLY_CONNECTED:
            out.append(Placement(node, "accelerator"))
        elif node.op is Op.RESHAPE and _keeps_bytes(graph, node):
            out.append(Placement(node, "none", "the same bytes under another shape"))
        elif node.op is Op.PAD and not _is_read(graph, node.outputs[0]):
            out.append(Placement(node, "none", "folded into the convolution behind it"))
        else:
            out.append(Placement(node, "host", f"{node.op} is not an accelerator operator"))
    return out


def _keeps_bytes(graph: Graph, node: Node) -> bool:
    """Whether every layer that reads a reshaped tensor can read the bytes of the original."""
    old, new = (graph.tensors[name].shape[1:] for name in (node.inputs[0], node.outputs[0]))
    # A fully connected layer orders its weights as the bytes lie; a convolution needs the image.
    return old == new or not any(
        reader.op is Op.CONV or (reader.op is Op.RESHAPE and not _keeps_bytes(graph, reader))
        for reader in _consumers(graph, node.outputs[0])
    )


def _fusable_pool(graph: Graph, node: Node) -> Node | None:
    """The maximum pooling that alone reads a convolution, when its windows tile the image."""
    readers = _consumers(graph, node.outputs[0])
    if len(readers) != 1 or readers[0].op is not Op.MAX_POOL or node.outputs[0] in graph.outputs:
        return None
    attrs = readers[0].attrs_as(PoolAttrs)
    if attrs.kernel != attrs.strides or any(attrs.pads):
        return None
    size = graph.tensors[node.outputs[0]].shape[1:3]
    if size[0] < attrs.kernel[0] or size[1] < attrs.kernel[1]:
        return None
    return readers[0]


def stored_offset(zero_point: int) -> int:
    """Offset of stored bytes: signed storage when that makes the real zero a stored zero."""
    return 0 if zero_point == 0 else 128


def lower_node(graph: Graph, placed: Placement, source: Feature, target: Feature) -> ConvTask:
    """Make the task of a convolution or fully connected operator.

    Parameters
    ----------
    graph : Graph
        Quantized graph.
    placed : Placement
        An operator of the accelerator.
    source, target : Feature
        Input (as an image, also for a fully connected layer) and output in DRAM.

    Raises
    ------
    RowmeshError
        A bias with the folded zero point exceeds 32 bits: names the operator.
    """
    node = placed.node
    weights = graph.constant(node.inputs[1])
    conv_size, stride, dilation, pad, pool = (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)
    shape = graph.tensors[node.outputs[0]].shape
    if node.op is Op.CONV:
        attrs = node.attrs_as(ConvAttrs)
        if max(attrs.pads) > _MOST_PADDING:
            raise RowmeshError(
                f"{node.op} {node.name!r}: padding {max(attrs.pads)} exceeds {_MOST_PADDING}"
            )
        stride, dilation = attrs.strides, attrs.dilations
        pad = (attrs.pads[0], attrs.pads[2])
        conv_size = (int(shape[1]), int(shape[2]))
        if placed.pool is not None:
            pool = placed.pool.attrs_as(PoolAttrs).kernel
    else:
        weights, source = _flat(weights, source)
    multiplier, shift = requant_parameters(graph, node)
    total = weights.astype(np.int64).sum(axis=(1, 2, 3))
    bias = _bias(graph, node, weights.shape[0]) - source.stored_zero * total
    if np.abs(bias).max(initial=0) >= 1 << (BIAS_BITS - 1):
        raise RowmeshError(
            f"{node.op} {node.name!r}: a bias with the folded zero point exceeds {BIAS_BITS} bits"
        )
    low, high = _clamp((-128, 127), node)
    if placed.pool is not None:
        low, high = _clamp((low, high), placed.pool)
    return ConvTask(
        name=node.name,
        input=source,
        output=target,
        weights=weights,
        bias=bias,
        multiplier=multiplier,
        shift=shift,
        low=low + target.offset,
        high=high + target.offset,
        conv_size=conv_size,
        stride=stride,
        dilation=dilation,
        pool=pool,
        pad=pad,
    )


def _clamp(bounds: tuple[int, int], node: Node) -> tuple[int, int]:
    """What is left of `bounds` behind the clamp of `node`."""
    if node.clamp is None:
        return bounds
    low, high = (int(bound) for bound in node.clamp)
    return min(max(bounds[0], low), high), min(max(bounds[1], low), high)


def _bias(graph: Graph, node: Node, outputs: int) -> NDArray[np.int64]:
    if len(node.inputs) < 3:
        return np.zeros(outputs, np.int64)
    return graph.constant(node.inputs[2]).astype(np.int64).reshape(outputs)


def _flat(weights: NDArray[np.int8], source: Feature) -> tuple[NDArray[np.int8], Feature]:
    """A fully connected layer as 1x1 convolution over the bytes of its input in DRAM.

    Weights come as [M, H*W*C]; they leave as [M, 1, 1, planes*H*W*8] in the order of DRAM.
    """
    h, w, c, planes = source.height, source.width, source.channels, source.planes
    padded = np.zeros((weights.shape[0], h, w, planes * WORD_BYTES), np.int8)
    padded[..., :c] = weights.reshape(-1, h, w, c)
    blocked = padded.reshape(-1, h, w, planes, WORD_BYTES).transpose(0, 3, 1, 2, 4)
    flat = np.ascontiguousarray(blocked.reshape(weights.shape[0], 1, 1, -1))
    return flat, dataclasses.replace(
        source, channels=flat.shape[3], height=1, width=1, compressed=False
    )
