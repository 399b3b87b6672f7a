"""Golden model: int8 inference of a quantized graph, bit exact, independent of the RTL.

``acc = sum((a - zp_a) * w) + bias`` and ``out = clamp(zp_o + requant(acc))``, as ONNX and TFLite
define it. `rounding` selects the requantization (`rowmesh.sim_models.golden_ops.requant`):
``single`` equals ONNX Runtime, ``double`` equals TFLite's reference kernels.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Array,
    Clamp,
    ConvAttrs,
    Graph,
    Node,
    Op,
    PoolAttrs,
    TransposeAttrs,
)
from rowmesh.gen.quantize import requant_parameters
from rowmesh.sim_models import golden_ops as ops
from rowmesh.sim_models import golden_rules as rules
from rowmesh.sim_models.golden_float import reshape_batch

__all__ = ["accumulate", "float_outputs", "run", "run_node"]

Int8 = NDArray[np.int8]


def run(graph: Graph, inputs: Mapping[str, Array], rounding: str = "single") -> dict[str, Array]:
    """Run a quantized graph.

    Parameters
    ----------
    graph : Graph
        Every activation int8.
    inputs : mapping of ndarray
        Every graph input in the graph's layout, of any multiple of its batch: int8, or float
        which is quantized with the input's quantization.
    rounding : str
        ``single`` or ``double``.

    Returns
    -------
    dict of ndarray of int8
        Every activation of the graph by name, the inputs included.

    Raises
    ------
    RowmeshError
        An input is missing, of a wrong shape or type, or holds NaN.
    """
    values: dict[str, Array] = {name: _input(graph, name, inputs) for name in graph.inputs}
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs if name in values]
        values[node.outputs[0]] = run_node(graph, node, operands, rounding)
    return values


def float_outputs(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Graph outputs of `run` as real values, in the model's own layout."""
    out = {}
    for name in graph.outputs:
        real = graph.quant(name).dequantize(values[name])
        out[name] = graph.tensors[name].to_model(real)
    return out


def _input(graph: Graph, name: str, inputs: Mapping[str, Array]) -> Int8:
    if name not in inputs:
        raise RowmeshError(f"input {name!r} is missing")
    data, shape = np.asarray(inputs[name]), graph.tensors[name].shape
    if data.ndim != len(shape) or data.shape[1:] != shape[1:] or data.shape[0] % shape[0]:
        raise RowmeshError(f"input {name!r} has shape {data.shape}, not {shape}")
    if data.dtype == np.int8:
        return data
    if data.dtype.kind != "f":
        raise RowmeshError(f"input {name!r} is {data.dtype}: must be int8 or float")
    if np.isnan(data).any():
        raise RowmeshError(f"input {name!r} holds NaN")
    return graph.quant(name).quantize(data)


def run_node(graph: Graph, node: Node, operands: list[Array], rounding: str) -> Int8:
    """Run one node on int8 operands (its activations, without constants).

    Returns
    -------
    ndarray of int8
    """
    x = operands[0]
    match node.op:
        case Op.CONV | Op.FULLY_CONNECTED:
            multiplier, shift = requant_parameters(graph, node)
            scaled = ops.requant(accumulate(graph, node, x), multiplier, shift, rounding)
            scaled = scaled + graph.quant(node.outputs[0]).zero_point
            return _int8(scaled, node.clamp)
        case Op.MAX_POOL:
            _same_quant(graph, node)
            return _int8(ops.max_pool(x, node.attrs_as(PoolAttrs)), node.clamp)
        case Op.AVG_POOL:
            return _int8(_average(graph, node, x, rounding), node.clamp)
        case Op.ADD:
            return _int8(_add(graph, node, operands, rounding), node.clamp)
        case Op.RESHAPE:
            old, new = graph.tensors[node.inputs[0]].shape, graph.tensors[node.outputs[0]].shape
            return reshape_batch(x, old, new)
        case Op.TRANSPOSE:
            return x.transpose(node.attrs_as(TransposeAttrs).perm)


def accumulate(graph: Graph, node: Node, x: Array) -> NDArray[np.int64]:
    """Sums with bias of a conv or fully connected node, before requantization.

    Parameters
    ----------
    x : ndarray of int8
        [N, H, W, C] or [N, C].

    Returns
    -------
    ndarray of int64
        [N, E, F, M] or [N, M].
    """
    weights = graph.constant(node.inputs[1])
    dtype = ops.exact_dtype(int(np.prod(weights.shape[1:])))
    real = (x.astype(np.int16) - graph.quant(node.inputs[0]).zero_point).astype(dtype)
    if node.op == Op.CONV:
        acc = ops.conv_sum(real, weights.astype(dtype), node.attrs_as(ConvAttrs))
    else:
        acc = ops.matmul_sum(real, weights.astype(dtype))
    total: NDArray[np.int64] = acc.astype(np.int64)
    if len(node.inputs) > 2:
        total = total + graph.constant(node.inputs[2]).astype(np.int64)
    return total


def _int8(values: Array, bounds: Clamp | None) -> Int8:
    limited: Int8 = ops.clamp(np.clip(values, -128, 127), bounds).astype(np.int8)
    return limited


def _same_quant(graph: Graph, node: Node) -> None:
    a, b = graph.quant(node.inputs[0]), graph.quant(node.outputs[0])
    if a.zero_point != b.zero_point or a.scale[0] != b.scale[0]:
        raise RowmeshError(f"{node.op} {node.name!r}: input and output quantization differ")


def _average(graph: Graph, node: Node, x: Array, rounding: str) -> NDArray[np.int64]:
    attrs = node.attrs_as(PoolAttrs)
    rule = rules.average_rule(attrs, (x.shape[1], x.shape[2]), graph.numerics, rounding)
    if rule is rules.AverageRule.TFLITE_POOL:
        _same_quant(graph, node)
    source, target = graph.quant(node.inputs[0]), graph.quant(node.outputs[0])
    return rules.average(x, attrs, source, target, rule)


def _add(graph: Graph, node: Node, operands: list[Array], rounding: str) -> NDArray[np.int64]:
    given = iter(operands)
    a, b = (
        next(given) if (data := graph.tensors[name].data) is None else data for name in node.inputs
    )
    qa, qb = (graph.quant(name) for name in node.inputs)
    quants = (qa, qb, graph.quant(node.outputs[0]))
    return rules.add(a, b, quants, graph.numerics, rounding)
