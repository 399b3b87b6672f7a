"""Padding operators before convolutions: a convolution pads by itself."""

import dataclasses

from rowmesh.gen.graph import ConvAttrs, Graph, Node, Op, PadAttrs

__all__ = ["fold_padding"]


def fold_padding(graph: Graph) -> Graph:
    """Let convolutions read what was padded before them with the real zero.

    The padding stays in the graph, so that its tensor still has values, but nothing reads it.
    """
    pads = {node.outputs[0]: node for node in graph.nodes if node.op is Op.PAD}
    nodes = []
    for node in graph.nodes:
        while node.op is Op.CONV and node.inputs[0] in pads:
            before = pads[node.inputs[0]]
            if not _is_image_border(graph, before):
                break
            (top, bottom), (left, right) = before.attrs_as(PadAttrs).pads[1:3]
            attrs = node.attrs_as(ConvAttrs)
            both = tuple(a + b for a, b in zip(attrs.pads, (top, bottom, left, right), strict=True))
            node = dataclasses.replace(
                node,
                inputs=(before.inputs[0], *node.inputs[1:]),
                attrs=dataclasses.replace(attrs, pads=(both[0], both[1], both[2], both[3])),
            )
        nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes))


def _is_image_border(graph: Graph, pad: Node) -> bool:
    """Whether rows and columns of the real zero are all that is added."""
    attrs, source = pad.attrs_as(PadAttrs), graph.tensors[pad.inputs[0]]
    zero = 0 if source.quant is None else source.quant.zero_point
    inner = len(attrs.pads) == 4 and not any((*attrs.pads[0], *attrs.pads[3]))
    return inner and attrs.value == zero
