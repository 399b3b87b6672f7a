"""Export of a quantized graph as a standard QDQ ONNX file, as ONNX Runtime and others read it.

Real numbers flow between the operators: every activation is quantized (QuantizeLinear) and
dequantized again (DequantizeLinear) after the operator that makes it, weights are int8
initializers with one scale per output channel, biases int32 initializers. Inputs and outputs of
the file are float32. Images are NCHW, as ONNX has them; `_Exporter.image` says which tensors are
images. A tensor keeps its name: for an activation it is that of the dequantized value.

A file holds float32 scales: what a reader gets is `with_float32_scales` of the graph.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import write_in_one_step
from rowmesh.gen.graph import (
    Array,
    Clamp,
    ConvAttrs,
    Graph,
    Node,
    Op,
    PoolAttrs,
    Quant,
    Tensor,
    TransposeAttrs,
)

__all__ = ["export_onnx", "export_onnx_model", "with_float32_scales"]

#: The first operator set that has everything used here; ONNX Runtime 1.13 and later read it.
OPSET, IR_VERSION = 17, 8
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
Image = tuple[int, int, int]


def export_onnx(graph: Graph, path: str | Path) -> None:
    """Write a quantized graph as a QDQ ONNX file, complete or not at all.

    Raises
    ------
    RowmeshError
        What `export_onnx_model` refuses, or the file cannot be written.
    """
    data = export_onnx_model(graph).SerializeToString(deterministic=True)
    write_in_one_step(Path(path), lambda part: part.write_bytes(data))


def export_onnx_model(graph: Graph) -> onnx.ModelProto:
    """A quantized graph as a QDQ ONNX model. The same graph gives the same model.

    Raises
    ------
    RowmeshError
        The graph is not quantized, or has an operator that cannot be written.
    """
    model = _Exporter(graph).model()
    onnx.checker.check_model(model, full_check=True)
    return model


def with_float32_scales(graph: Graph) -> Graph:
    """The graph with every scale rounded to float32; a bias has the product of two of those."""

    def rounded(scale: Array) -> Array:
        return scale.astype(np.float32).astype(np.float64)

    tensors = {
        name: tensor
        if tensor.quant is None
        else replace(tensor, quant=replace(tensor.quant, scale=rounded(tensor.quant.scale)))
        for name, tensor in graph.tensors.items()
    }
    for node in graph.nodes:
        if node.op in (Op.CONV, Op.FULLY_CONNECTED) and len(node.inputs) > 2:
            x, w, b = (tensors[name] for name in node.inputs)
            if x.quant is not None and w.quant is not None:
                tensors[b.name] = replace(b, quant=Quant(x.quant.scale * w.quant.scale))
    return replace(graph, tensors=tensors)


class _Exporter:
    """The model under construction."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        #: Name in the file of the dequantized value of each activation.
        self.values: dict[str, str] = {}
        self.channels_first = _channels_first(graph)

    def model(self) -> onnx.ModelProto:
        graph = self.graph
        for name in graph.inputs:
            self.quantized(name, name, f"{name}/dequantized")
        for node in graph.nodes:
            if node.op not in _WRITERS:
                raise RowmeshError(f"{node.op} {node.name!r} cannot be written as ONNX")
            made = self.clamped(node, _WRITERS[node.op](self, node))
            self.quantized(node.outputs[0], made, node.outputs[0])
        return helper.make_model(
            helper.make_graph(
                self.nodes,
                graph.name,
                [self.info(name) for name in graph.inputs],
                [self.info(name) for name in graph.outputs],
                [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
            ),
            producer_name="rowmesh",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )

    # -- layouts -------------------------------------------------------------------------------

    def image(self, name: str) -> Image | None:
        """(H, W, C) of a tensor that the file holds in the order C, H, W."""
        tensor = self.graph.tensors[name]
        if tensor.model_image is not None:
            return tensor.model_image
        if name not in self.channels_first:
            return None
        _, h, w, c = tensor.shape
        return h, w, c

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in the file."""
        shape, image = self.graph.tensors[name].shape, self.image(name)
        if image is None or len(shape) != 4:
            return shape
        h, w, c = image
        return shape[0], c, h, w

    def info(self, name: str) -> onnx.ValueInfoProto:
        """Name, type and shape of an input or output of the file."""
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shape(name))

    # -- nodes ---------------------------------------------------------------------------------

    def emit(
        self, op: str, inputs: list[str], output: str, *, name: str = "", **attributes: Any
    ) -> str:
        """Add a node; without a name it is called after its output."""
        name = name or f"{output}/{op}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def operator(self, node: Node, op: str, inputs: list[str], **attributes: Any) -> str:
        """Add what a node of the graph does, under its name."""
        return self.emit(op, inputs, f"{node.outputs[0]}/real", name=node.name, **attributes)

    def constant(self, name: str, value: Any, dtype: type) -> str:
        self.constants[name] = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        return name

    def parameters(self, name: str, quant: Quant, dtype: type) -> list[str]:
        """Initializers of scale and zero point: scalars, or one value per channel.

        The zero point is always there: where ONNX Runtime (1.32) makes int8 weights unsigned for
        the sake of the CPU, it fails on channels without one.
        """
        scale = quant.scale if quant.per_channel else quant.scale[0]
        return [
            self.constant(f"{name}/scale", scale, np.float32),
            self.constant(f"{name}/zero_point", np.full(np.shape(scale), quant.zero_point), dtype),
        ]

    def quantized(self, name: str, source: str, output: str) -> None:
        """Quantize the real value `source` of activation `name`, dequantized as `output`."""
        tensor = self.graph.tensors[name]
        if tensor.dtype != "int8":
            raise RowmeshError(f"tensor {name!r} is {tensor.dtype}: only int8 graphs are written")
        quant = self.graph.quant(name)
        parameters = self.parameters(name, quant, np.int8)
        stored = self.emit("QuantizeLinear", [source, *parameters], f"{name}/int8")
        self.values[name] = self.emit("DequantizeLinear", [stored, *parameters], output)

    def value(self, node: Node, index: int) -> str:
        """The dequantized value of the activation that input `index` of a node reads."""
        name = node.inputs[index]
        if name not in self.values:
            raise RowmeshError(f"{node.op} {node.name!r}: constant {name!r} cannot be written")
        return self.values[name]

    def clamped(self, node: Node, value: str) -> str:
        """The bounds of a node as Relu or Clip, where int8 does not hold them anyway."""
        name = node.outputs[0]
        quant, bounds = self.graph.quant(name), node.clamp or (-128, 127)
        low, high = _real(bounds, quant)
        if low == 0 and high == math.inf:
            return self.emit("Relu", [value], f"{name}/clamped")
        if (low, high) == (-math.inf, math.inf):
            return value
        limits = [
            self.constant(f"{name}/{side}", limit, np.float32) if math.isfinite(limit) else ""
            for side, limit in (("low", low), ("high", high))
        ]
        return self.emit("Clip", [value, *limits], f"{name}/clamped")

    def weights(self, node: Node, order: Callable[[Array], Array]) -> list[str]:
        """Dequantized weights, brought into the file's order, and bias of a node."""
        weight, *bias = node.inputs[1:]
        quant = self.graph.quant(weight)
        names = [self.dequantized(weight, order(self.graph.constant(weight)), quant, np.int8)]
        for name in bias:
            steps = self.graph.quant(node.inputs[0]).scale.astype(np.float32)
            product = Quant((steps * quant.scale.astype(np.float32)).astype(np.float64))
            names.append(self.dequantized(name, self.graph.constant(name), product, np.int32))
        return names

    def dequantized(self, name: str, data: Array, quant: Quant, dtype: type) -> str:
        """A quantized constant as a real value."""
        inputs = [self.constant(name, data, dtype), *self.parameters(name, quant, dtype)]
        axis: dict[str, Any] = {"axis": 0} if quant.per_channel else {}
        return self.emit("DequantizeLinear", inputs, f"{name}/dequantized", **axis)

    # -- operators -----------------------------------------------------------------------------

    def conv(self, node: Node) -> str:
        attrs = node.attrs_as(ConvAttrs)
        constants = self.weights(node, lambda weights: weights.transpose(_TO_NCHW))
        return self.operator(
            node,
            "Conv",
            [self.value(node, 0), *constants],
            kernel_shape=self.graph.tensors[node.inputs[1]].shape[1:3],
            strides=attrs.strides,
            pads=_onnx_pads(attrs.pads),
            dilations=attrs.dilations,
            group=attrs.groups,
        )

    def fully_connected(self, node: Node) -> str:
        image = self.image(node.inputs[0])

        def order(weights: Array) -> Array:
            if image is None:
                return weights
            return weights.reshape(-1, *image).transpose(_TO_NCHW).reshape(weights.shape)

        inputs = [self.value(node, 0), *self.weights(node, order)]
        return self.operator(node, "Gemm", inputs, transB=1)

    def pool(self, node: Node) -> str:
        attrs, size = node.attrs_as(PoolAttrs), self.graph.tensors[node.inputs[0]].shape[1:3]
        inputs = [self.value(node, 0)]
        average = node.op == Op.AVG_POOL
        if average and attrs.kernel == size and not any(attrs.pads):
            return self.operator(node, "GlobalAveragePool", inputs)
        return self.operator(
            node,
            "AveragePool" if average else "MaxPool",
            inputs,
            kernel_shape=attrs.kernel,
            strides=attrs.strides,
            pads=_onnx_pads(attrs.pads),
            **({"count_include_pad": int(attrs.count_include_pad)} if average else {}),
        )

    def add(self, node: Node) -> str:
        return self.operator(node, "Add", [self.value(node, index) for index in (0, 1)])

    def transpose(self, node: Node) -> str:
        perm = node.attrs_as(TransposeAttrs).perm
        # Axis k in the file is axis source[k] (target[k]) of the graph.
        source, target = (
            _TO_NCHW if name in self.channels_first else tuple(range(len(perm)))
            for name in (node.inputs[0], node.outputs[0])
        )
        axes = [source.index(perm[axis]) for axis in target]
        return self.operator(node, "Transpose", [self.value(node, 0)], perm=axes)

    def reshape(self, node: Node) -> str:
        (x,), (y,) = node.inputs, node.outputs
        source, target = self.image(x), self.image(y)
        value = self.value(node, 0)
        if source != target:
            value = self.reordered(value, self.graph.tensors[x], source, to_file=False)
            value = self.reordered(value, self.graph.tensors[y], target, to_file=True)
        return self.operator(node, "Reshape", [value, self.wanted(self.shape(y), y)])

    def reordered(self, value: str, tensor: Tensor, image: Image | None, *, to_file: bool) -> str:
        """A value in memory order H, W, C of an image brought into C, H, W, or the other way."""
        if image is None or image[2] == 1 or image[0] * image[1] == 1:
            return value
        (h, w, c), n, name = image, tensor.shape[0], f"{tensor.name}/{'chw' if to_file else 'hwc'}"
        shape, perm = ((n, h, w, c), _TO_NCHW) if to_file else ((n, c, h, w), _TO_NHWC)
        value = self.emit("Reshape", [value, self.wanted(shape, name)], f"{name}/image")
        return self.emit("Transpose", [value], name, perm=perm)

    def wanted(self, shape: tuple[int, ...], name: str) -> str:
        """The operand of a Reshape that says the shape."""
        return self.constant(f"{name}/shape", np.array(shape), np.int64)


_WRITERS: dict[Op, Callable[[_Exporter, Node], str]] = {
    Op.CONV: _Exporter.conv,
    Op.FULLY_CONNECTED: _Exporter.fully_connected,
    Op.MAX_POOL: _Exporter.pool,
    Op.AVG_POOL: _Exporter.pool,
    Op.ADD: _Exporter.add,
    Op.RESHAPE: _Exporter.reshape,
    Op.TRANSPOSE: _Exporter.transpose,
}


def _channels_first(graph: Graph) -> set[str]:
    """Tensors of four axes that are images: by the model, by what reads or writes them."""
    images = {
        name
        for name, tensor in graph.tensors.items()
        if tensor.model_image is not None and len(tensor.shape) == 4
    }
    for node in graph.nodes:
        if node.op in (Op.CONV, Op.MAX_POOL, Op.AVG_POOL):
            images |= {node.inputs[0], node.outputs[0]}
    sums = [{*node.inputs, *node.outputs} for node in graph.nodes if node.op == Op.ADD]
    while any(images & names and names - images for names in sums):
        images = images.union(*(names for names in sums if images & names))
    return images


def _onnx_pads(pads: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    top, bottom, left, right = pads
    return top, left, bottom, right


def _real(bounds: Clamp, quant: Quant) -> Clamp:
    """Quantized bounds as real ones; infinite where int8 ends."""
    low, high = bounds
    scale = float(quant.scale[0])
    return (
        (low - quant.zero_point) * scale if low > -128 else -math.inf,
        (high - quant.zero_point) * scale if high < 127 else math.inf,
    )
