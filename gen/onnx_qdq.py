"""Fusion of quantize and dequantize nodes with what stands between them.

``dequantize -> operator -> quantize`` is one int8 operator; that is how ONNX Runtime runs it. What
cannot be fused because nothing was quantized stays in real numbers when it only moves values, and
is refused when it computes.
"""

import dataclasses
from collections import Counter

import numpy as np

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Graph,
    Node,
    Numerics,
    Op,
    PadAttrs,
    Quant,
    QuantizeAttrs,
    ReshapeAttrs,
    Tensor,
)
from rowmesh.gen.quantize import quantized_clamp

__all__ = ["fuse_quantized"]

_WEIGHTED = (Op.CONV, Op.FULLY_CONNECTED)
#: Operators that requantize by themselves.
_REQUANTIZING = (*_WEIGHTED, Op.AVG_POOL, Op.ADD, Op.SOFTMAX, Op.LOGISTIC)
#: Operators that keep the quantization of their input.
_MOVING = (Op.RESHAPE, Op.TRANSPOSE, Op.SLICE)
_KEEPING = (*_MOVING, Op.PAD, Op.MAX_POOL)


def fuse_quantized(graph: Graph) -> Graph:
    """The int8 graph that a graph with quantize and dequantize nodes stands for.

    Raises
    ------
    RowmeshError
        An operator computes with a tensor that is not quantized; names both.
    """
    return _Fusion(_quantized_before_moves(graph)).run()


def _quantized_before_moves(graph: Graph) -> Graph:
    """Quantize before what only moves values or takes a maximum, where a model does it behind.

    That is the same, and what makes the values can then be fused with its quantization.
    """
    tensors, nodes = dict(graph.tensors), list(graph.nodes)
    index = len(nodes)
    while index:
        index -= 1
        last = nodes[index]
        real = last.inputs[0]
        place = next((i for i, node in enumerate(nodes) if real in node.outputs), None)
        if last.op is not Op.QUANTIZE or place is None or nodes[place].op not in _KEEPING:
            continue
        moving, source = nodes[place], nodes[place].inputs[0]
        quant = tensors[last.outputs[0]].quant
        maker = next((node for node in nodes if source in node.outputs), None)
        shared = any(_readers(nodes, graph, name) > 1 for name in (real, source))
        if shared or quant is None or maker is None or maker.op is Op.DEQUANTIZE:
            continue
        made = dataclasses.replace(
            tensors[source], name=f"{source}_int8", dtype="int8", quant=quant,
            unsigned=tensors[last.outputs[0]].unsigned,
        )  # fmt: skip
        tensors[made.name] = made
        nodes[index] = _stored_node(moving, quant, (made.name,), last.outputs)
        nodes[place] = dataclasses.replace(last, inputs=(source,), outputs=(made.name,))
        index = place + 1
    return dataclasses.replace(graph, tensors=tensors, nodes=tuple(nodes))


def _readers(nodes: list[Node], graph: Graph, name: str) -> int:
    return sum(name in node.inputs for node in nodes) + graph.outputs.count(name)


def _stored_node(
    node: Node, quant: Quant, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Node:
    """A node of `_KEEPING` on stored values: bounds and padding in their domain."""
    if node.op is Op.PAD:
        attrs = node.attrs_as(PadAttrs)
        stored = int(quant.quantize(np.array(attrs.value)))
        node = dataclasses.replace(node, attrs=dataclasses.replace(attrs, value=stored))
    moved = dataclasses.replace(node, inputs=inputs, outputs=outputs)
    return moved.with_clamp(quantized_clamp(node.clamp, quant))


class _Fusion:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.tensors = graph, dict(graph.tensors)
        self.stored = {
            node.outputs[0]: node.inputs[0] for node in graph.nodes if node.op is Op.DEQUANTIZE
        }
        readers = Counter(name for node in graph.nodes for name in node.inputs)
        readers.update(graph.outputs)
        self.quantizing = {
            node.inputs[0]: node
            for node in graph.nodes
            if node.op is Op.QUANTIZE and readers[node.inputs[0]] == 1
        }
        self.nodes: list[Node] = []

    def run(self) -> Graph:
        absorbed: set[str] = set()
        for node in self.graph.nodes:
            if node.name in absorbed and node.op is Op.QUANTIZE:
                continue
            last = self.quantizing.get(node.outputs[0])
            if last is not None and self._fuse(node, last):
                absorbed.add(last.name)
            elif not self._move(node):
                self._keep(node)
        nodes = self._living()
        used = {name for node in nodes for name in (*node.inputs, *node.outputs)}
        used |= {*self.graph.inputs, *self.graph.outputs}
        return dataclasses.replace(
            self.graph,
            tensors={name: t for name, t in self.tensors.items() if name in used},
            nodes=tuple(nodes),
            numerics=Numerics.ONNX,
        )

    def _keep(self, node: Node) -> None:
        """A node that is not fused."""
        tensor = self.tensors[node.outputs[0]]
        if node.op in _REQUANTIZING and node.op not in (Op.SOFTMAX, Op.LOGISTIC):
            reals = [n for n in (*node.inputs, tensor.name) if self._is_real(n)]
            raise RowmeshError(
                f"{node.op} {node.name!r} of a quantized network: tensor {reals[0]!r} "
                "is not quantized"
            )
        if node.op is Op.QUANTIZE or tensor.dtype == "int8":
            node = node.with_clamp((-128, 127)) if node.clamp is None else node
        self.nodes.append(node)

    def _move(self, node: Node) -> bool:
        """Move int8 values in place of the real ones made from them."""
        source = self._stored(node.inputs[0]) if len(node.inputs) == 1 else None
        if node.op not in _MOVING or source is None or source.quant is None:
            return False
        real = self.tensors[node.outputs[0]]
        made = dataclasses.replace(
            real, name=f"{real.name}_int8", dtype="int8", quant=source.quant,
            unsigned=source.unsigned,
        )  # fmt: skip
        self.tensors[made.name] = made
        self.stored[real.name] = made.name
        self._keeping(dataclasses.replace(node, outputs=(made.name,)), source, made)
        name = f"{node.name}_dequantize"
        self.nodes.append(Node(Op.DEQUANTIZE, name, (made.name,), (real.name,), ReshapeAttrs()))
        return True

    def _is_real(self, name: str) -> bool:
        tensor = self.tensors[name]
        known = name in self.stored or name in self.quantizing or tensor.quant is not None
        return tensor.dtype == "float32" and not known

    def _living(self) -> list[Node]:
        """The nodes whose output somebody reads."""
        wanted = set(self.graph.outputs)
        out: list[Node] = []
        for node in reversed(self.nodes):
            if node.op is not Op.DEQUANTIZE or node.outputs[0] in wanted:
                wanted.update(node.inputs)
                out.append(node)
        return out[::-1]

    def _fuse(self, node: Node, last: Node) -> bool:
        """Add the int8 form of `node` with the quantize node behind it, if there is one."""
        target = self.tensors[last.outputs[0]]
        if target.quant is None:
            return False
        if node.op in _WEIGHTED:
            return self._weighted(node, target)
        sources = [self._stored(name) for name in node.inputs]
        if any(source is None for source in sources):
            return False
        parts = [source for source in sources if source is not None]
        clamp = quantized_clamp(node.clamp, target.quant)
        if node.op in _REQUANTIZING:
            names = tuple(part.name for part in parts)
            fused = dataclasses.replace(node, inputs=names, outputs=(target.name,))
            self.nodes.append(fused.with_clamp(clamp))
        elif node.op is Op.CLAMP:
            attrs = QuantizeAttrs(activation=True, clamp=clamp)
            self.nodes.append(Node(Op.QUANTIZE, node.name, (parts[0].name,), (target.name,), attrs))
        elif node.op is Op.CONCAT:
            names = tuple(self._requantized(part, target) for part in parts)
            self.nodes.append(dataclasses.replace(node, inputs=names, outputs=(target.name,)))
        elif node.op in _KEEPING:
            self._keeping(node, parts[0], target)
        else:
            return False
        return True

    def _stored(self, name: str) -> Tensor | None:
        """The int8 tensor that a real one is made from; a constant becomes one."""
        tensor = self.tensors[name]
        if tensor.data is not None and tensor.quant is not None:
            if tensor.dtype == "float32":
                steps = np.rint(tensor.data / tensor.quant.scale[0]) + tensor.quant.zero_point
                tensor = dataclasses.replace(tensor, dtype="int8", data=steps.astype(np.int8))
                self.tensors[name] = tensor
            return tensor
        return self.tensors[self.stored[name]] if name in self.stored else None

    def _weighted(self, node: Node, target: Tensor) -> bool:
        source = self._stored(node.inputs[0])
        if source is None or source.quant is None or target.quant is None:
            return False
        weights = self.tensors[node.inputs[1]]
        if weights.data is None or weights.quant is None:
            raise RowmeshError(
                f"{node.op} {node.name!r}: weights {weights.name!r} are not quantized"
            )
        scale = weights.quant.scale
        shape = (-1, *[1] * (weights.data.ndim - 1))
        steps = np.rint(weights.data / scale.reshape(shape))
        if np.abs(steps + 0.5).max(initial=0) > 127.5:
            raise RowmeshError(
                f"{node.op} {node.name!r}: weights {weights.name!r} less their zero point "
                "exceed int8"
            )
        self.tensors[weights.name] = dataclasses.replace(
            weights, dtype="int8", data=steps.astype(np.int8)
        )
        for name in node.inputs[2:]:
            bias = self.tensors[name]
            quant = Quant(np.broadcast_to(source.quant.scale[0] * scale, bias.shape))
            data = np.rint(self.graph.constant(name) / quant.scale)
            if np.abs(data).max(initial=0) >= 1 << 31:
                raise RowmeshError(f"{node.op} {node.name!r}: bias {name!r} exceeds 32 bits")
            self.tensors[name] = dataclasses.replace(
                bias, dtype="int32", quant=quant, data=data.astype(np.int32)
            )
        fused = dataclasses.replace(
            node, inputs=(source.name, *node.inputs[1:]), outputs=(target.name,)
        )
        self.nodes.append(fused.with_clamp(quantized_clamp(node.clamp, target.quant)))
        return True

    def _requantized(self, source: Tensor, target: Tensor) -> str:
        """`source` in the quantization of `target`."""
        if self._alike(source, target) or target.quant is None:
            return source.name
        name = f"{source.name}_as_{target.name}"
        self.tensors[name] = dataclasses.replace(
            source, name=name, quant=target.quant, unsigned=target.unsigned
        )
        attrs = QuantizeAttrs(clamp=(-128, 127))
        self.nodes.append(Node(Op.QUANTIZE, name, (source.name,), (name,), attrs))
        return name

    @staticmethod
    def _alike(a: Tensor, b: Tensor) -> bool:
        same = a.quant is not None and b.quant is not None and a.quant.same(b.quant)
        return same and a.unsigned == b.unsigned

    def _keeping(self, node: Node, source: Tensor, target: Tensor) -> None:
        """An operator that cannot requantize, and a quantization behind it where it must."""
        made = target
        if not self._alike(source, target):
            made = dataclasses.replace(
                target, name=node.outputs[0], quant=source.quant, unsigned=source.unsigned
            )
            self.tensors[made.name] = made
        assert made.quant is not None
        self.nodes.append(_stored_node(node, made.quant, (source.name,), (made.name,)))
        if made is not target:
            attrs = QuantizeAttrs(clamp=(-128, 127))
            name = f"{node.name}_quantize"
            self.nodes.append(Node(Op.QUANTIZE, name, (made.name,), (target.name,), attrs))
