"""Post-training int8 quantization of float networks.

Weights are symmetric int8 per output channel, activations asymmetric int8 per tensor from the
range that the calibration data reach (zero included), biases int32 with scale ``s_x * s_w``.
After a ReLU the zero point is exactly -128, so that zero activations are real zeros.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Array,
    Clamp,
    Graph,
    Node,
    Op,
    PadAttrs,
    Quant,
    QuantizeAttrs,
    Tensor,
)
from rowmesh.sim_models.golden_float import float_run

__all__ = ["quantize_graph", "quantized_clamp"]

#: Largest |bias| that is aimed at: dead channels get a larger weight scale instead.
_BIAS_LIMIT = 1 << 30
_SHARING = (
    Op.MAX_POOL,
    Op.AVG_POOL,
    Op.RESHAPE,
    Op.TRANSPOSE,
    Op.SLICE,
    Op.PAD,
    Op.CLAMP,
)
#: What lies between 0 and 1 has this quantization in TFLite.
_PROBABILITY = (Op.SOFTMAX, Op.LOGISTIC)


def quantize_graph(graph: Graph, calibration: Mapping[str, Array]) -> Graph:
    """Quantize a float graph to int8.

    Parameters
    ----------
    graph : Graph
        Float graph.
    calibration : mapping of ndarray
        For every graph input, samples [N, ...] in the graph's layout (`Graph.from_model`).

    Returns
    -------
    Graph
        Same nodes and tensor names; every tensor is int8 (biases int32) with a `Quant`, and every
        clamp is in the quantized domain.

    Raises
    ------
    RowmeshError
        Calibration data missing, empty, of a wrong shape or not finite, or weights that are not
        finite; names the tensor.
    """
    _check_calibration(graph, calibration)
    values = float_run(graph, calibration)
    made = _Quantization(graph, values)
    for node in graph.nodes:
        made.add(node)
    return Graph(graph.name, made.tensors, tuple(made.nodes), graph.inputs, graph.outputs)


class _Quantization:
    """The int8 graph under construction."""

    def __init__(self, graph: Graph, values: Mapping[str, Array]) -> None:
        self.graph, self.values = graph, values
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        for name in graph.inputs:
            self.set_quant(name, _range_quant(name, values[name]))

    def set_quant(self, name: str, quant: Quant) -> None:
        """Make an activation int8."""
        self.tensors[name] = dataclasses.replace(
            self.graph.tensors[name], dtype="int8", quant=quant
        )

    def quant(self, name: str) -> Quant:
        """The quantization of an operand."""
        quant = self.tensors[name].quant
        assert quant is not None
        return quant

    def add(self, node: Node) -> None:
        """Add the int8 form of a node."""
        (out,) = node.outputs
        if node.op not in (Op.CONV, Op.FULLY_CONNECTED):
            for name in node.inputs:
                self._constant(name)
        if node.op in _SHARING:
            quant = self.quant(node.inputs[0])
        elif node.op in _PROBABILITY:
            quant = Quant(np.array([1 / 256]), -128)
        else:
            quant = _range_quant(out, self.values[out])
        self.set_quant(out, quant)
        if node.op in (Op.CONV, Op.FULLY_CONNECTED):
            self.tensors.update(_weights(self.graph, node, self.quant(node.inputs[0])))
        elif node.op is Op.CONCAT:
            names = tuple(self._requantized(name, out) for name in node.inputs)
            node = dataclasses.replace(node, inputs=names)
        elif node.op is Op.PAD:
            attrs = node.attrs_as(PadAttrs)
            stored = int(quant.quantize(np.array(attrs.value)))
            node = dataclasses.replace(node, attrs=dataclasses.replace(attrs, value=stored))
        self.nodes.append(node.with_clamp(quantized_clamp(node.clamp, quant)))

    def _constant(self, name: str) -> None:
        """Quantize an operand that is a constant."""
        tensor = self.graph.tensors[name]
        if tensor.data is not None and name not in self.tensors:
            if not np.all(np.isfinite(tensor.data)):
                raise RowmeshError(f"constant {name!r} holds NaN or infinity")
            quant = _range_quant(name, tensor.data)
            self.tensors[name] = dataclasses.replace(
                tensor, dtype="int8", quant=quant, data=quant.quantize(tensor.data)
            )

    def _requantized(self, name: str, out: str) -> str:
        """An operand in the quantization of the tensor `out`."""
        if self.quant(name).same(self.quant(out)):
            return name
        copy = f"{name}_as_{out}"
        self.tensors[copy] = dataclasses.replace(
            self.tensors[name], name=copy, quant=self.quant(out), data=None
        )
        attrs = QuantizeAttrs(clamp=(-128, 127))
        self.nodes.append(Node(Op.QUANTIZE, copy, (name,), (copy,), attrs))
        return copy


def _check_calibration(graph: Graph, calibration: Mapping[str, Array]) -> None:
    for name in graph.inputs:
        shape = graph.tensors[name].shape
        if name not in calibration:
            raise RowmeshError(f"no calibration data for input {name!r}")
        data = np.asarray(calibration[name])
        if data.size == 0:
            raise RowmeshError(f"calibration data for input {name!r} are empty")
        if data.ndim != len(shape) or data.shape[1:] != shape[1:] or data.shape[0] % shape[0]:
            raise RowmeshError(
                f"calibration data for input {name!r} have shape {data.shape}, not {shape}"
            )
        if data.dtype.kind not in "fiu" or not np.all(np.isfinite(data)):
            raise RowmeshError(f"calibration data for input {name!r} hold NaN or infinity")


def _range_quant(name: str, values: Array) -> Quant:
    """Asymmetric int8 quantization of the range of `values`, zero included."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RowmeshError(f"tensor {name!r} is not finite on the calibration data")
    scale = (high - low) / 255 if high > low else 1.0
    zero_point = round(-128 - low / scale)
    return Quant(np.array([scale]), max(-128, min(127, zero_point)))


def _weights(graph: Graph, node: Node, x: Quant) -> dict[str, Tensor]:
    """Quantized weights and bias of one node."""
    names = node.inputs[1:]
    arrays = [graph.constant(name).astype(np.float64) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if not np.all(np.isfinite(array)):
            raise RowmeshError(f"{node.op} {node.name!r}: {name!r} holds NaN or infinity")
    weights = arrays[0]
    flat = weights.reshape(weights.shape[0], -1)
    scale = np.abs(flat).max(axis=1, initial=0) / 127
    if len(arrays) > 1:
        scale = np.maximum(scale, np.abs(arrays[1]) / (x.scale[0] * _BIAS_LIMIT))
    scale = np.where(scale > 0, scale, 1.0)
    steps = np.rint(weights / scale.reshape(-1, *[1] * (weights.ndim - 1)))
    data = np.clip(steps, -127, 127).astype(np.int8)
    tensors = {
        names[0]: dataclasses.replace(
            graph.tensors[names[0]], dtype="int8", quant=Quant(scale), data=data
        )
    }
    if len(arrays) > 1:
        quant = Quant(scale * x.scale[0])
        bias = np.rint(arrays[1] / quant.scale).astype(np.int32)
        tensors[names[1]] = dataclasses.replace(
            graph.tensors[names[1]], dtype="int32", quant=quant, data=bias
        )
    return tensors


def quantized_clamp(bounds: Clamp | None, quant: Quant) -> Clamp:
    """Real bounds in the quantized domain."""
    if bounds is None:
        return (-128, 127)
    low, high = (
        float(quant.quantize(np.array(b))) if math.isfinite(b) else math.copysign(128, b)
        for b in bounds
    )
    return (int(max(low, -128)), int(min(high, 127)))
