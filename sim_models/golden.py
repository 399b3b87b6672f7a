"""Golden model: int8 inference of a quantized graph, bit exact, independent of the RTL.

``acc = sum((a - zp_a) * w) + bias`` and ``out = clamp(zp_o + requant(acc))``, as ONNX and TFLite
define it. `rounding` selects the requantization (`rowmesh.sim_models.golden_ops.requant`):
``single`` equals ONNX Runtime, ``double`` equals TFLite's reference kernels.
"""

from collections.abc import Mapping
from dataclasses import replace

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
    QuantizeAttrs,
    SoftmaxAttrs,
    StateAttrs,
)
from rowmesh.gen.quantize import requant_parameters
from rowmesh.sim_models import golden_host as host
from rowmesh.sim_models import golden_ops as ops
from rowmesh.sim_models import golden_rules as rules
from rowmesh.sim_models.golden_float import logistic as real_logistic
from rowmesh.sim_models.golden_float import softmax as real_softmax
from rowmesh.sim_models.golden_move import MOVES, move

__all__ = ["accumulate", "float_outputs", "run", "run_node", "single_runs"]

Int8 = NDArray[np.int8]


def run(graph: Graph, inputs: Mapping[str, Array], rounding: str = "single") -> dict[str, Array]:
    """Run a quantized graph.

    Parameters
    ----------
    graph : Graph
    inputs : mapping of ndarray
        Every graph input in the graph's layout, of any multiple of its batch: of the tensor's
        type, or float for an int8 tensor, which is quantized with the input's quantization. To a
        graph with states they are consecutive steps, the states' initial values before the first.
    rounding : str
        ``single`` or ``double``.

    Returns
    -------
    dict of ndarray
        Every activation of the graph by name, the inputs included.

    Raises
    ------
    RowmeshError
        An input is missing, of a wrong shape or type, or holds NaN.
    """
    given = {name: _input(graph, name, inputs) for name in graph.inputs}
    states = dict(graph.states)
    if not states:
        return _run(graph, given, rounding, states)
    steps = [_run(graph, part, rounding, states) for part in single_runs(graph, given)]
    return {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}


def single_runs(graph: Graph, inputs: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Inputs of several runs as those of each, in order."""
    batch = {name: graph.tensors[name].shape[0] for name in inputs}
    runs = min((len(inputs[name]) // size for name, size in batch.items()), default=1)
    return [
        {name: inputs[name][i * size : (i + 1) * size] for name, size in batch.items()}
        for i in range(runs)
    ]


def _run(
    graph: Graph, given: Mapping[str, Array], rounding: str, states: dict[str, Array]
) -> dict[str, Array]:
    values = dict(given)
    for node in graph.nodes:
        values.update(run_node(graph, node, values, rounding, states))
    return values


def float_outputs(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Graph outputs of `run` as real values, in the model's own layout."""
    out = {}
    for name in graph.outputs:
        tensor = graph.tensors[name]
        real = values[name] if tensor.quant is None else tensor.quant.dequantize(values[name])
        out[name] = replace(tensor, unsigned=False).to_model(real)
    return out


def _input(graph: Graph, name: str, inputs: Mapping[str, Array]) -> Array:
    if name not in inputs:
        raise RowmeshError(f"input {name!r} is missing")
    data, tensor = np.asarray(inputs[name]), graph.tensors[name]
    shape = tensor.shape
    if data.ndim != len(shape) or data.shape[1:] != shape[1:] or data.shape[0] % shape[0]:
        raise RowmeshError(f"input {name!r} has shape {data.shape}, not {shape}")
    if data.dtype.kind == "f" and np.isnan(data).any():
        raise RowmeshError(f"input {name!r} holds NaN")
    if data.dtype == tensor.dtype:
        return data
    if data.dtype.kind != "f" or tensor.quant is None:
        raise RowmeshError(f"input {name!r} is {data.dtype}: must be {tensor.dtype} or float")
    return tensor.quant.quantize(data)


def run_node(
    graph: Graph,
    node: Node,
    values: Mapping[str, Array],
    rounding: str,
    states: dict[str, Array],
) -> dict[str, Array]:
    """Run one node.

    Parameters
    ----------
    graph : Graph
    node : Node
    values : mapping of ndarray
        At least the activations that it reads.
    rounding : str
        ``single`` or ``double``.
    states : dict of ndarray
        What a streaming network keeps; a node that writes a state changes it.

    Returns
    -------
    dict of ndarray
        What it writes, by name.
    """
    if isinstance(node.attrs, StateAttrs):
        if node.op is Op.READ_STATE:
            return {node.outputs[0]: states[node.attrs.state]}
        states[node.attrs.state] = values[node.inputs[0]]
        return {}
    operands = [
        values[name] if (data := graph.tensors[name].data) is None else data for name in node.inputs
    ]
    return {node.outputs[0]: _compute(graph, node, operands, rounding)}


def _compute(graph: Graph, node: Node, operands: list[Array], rounding: str) -> Array:
    """The output of a node without a state."""
    x = operands[0]
    if node.op in MOVES:
        return move(graph, node, operands)
    source, target = graph.tensors[node.inputs[0]], graph.tensors[node.outputs[0]]
    match node.op:
        case Op.CONV | Op.FULLY_CONNECTED:
            multiplier, shift = requant_parameters(graph, node)
            scaled = ops.requant(accumulate(graph, node, x), multiplier, shift, rounding)
            return _int8(scaled + graph.quant(target.name).zero_point, node.clamp)
        case Op.MAX_POOL:
            _same_quant(graph, node)
            return _int8(ops.max_pool(x, node.attrs_as(PoolAttrs)), node.clamp)
        case Op.AVG_POOL:
            return _int8(_average(graph, node, x, rounding), node.clamp)
        case Op.ADD:
            return _int8(_add(graph, node, operands, rounding), node.clamp)
        case Op.CLAMP:
            _same_quant(graph, node)
            return _int8(x, node.clamp)
        case Op.SOFTMAX:
            beta = node.attrs_as(SoftmaxAttrs).beta
            if source.quant is None or target.quant is None:
                return real_softmax(x, beta)
            return host.softmax(x, source.quant, target.quant, beta, graph.numerics)
        case Op.LOGISTIC:
            if source.quant is None or target.quant is None:
                return real_logistic(x)
            return _int8(host.logistic(x, source.quant, target.quant, graph.numerics), None)
        case Op.DEQUANTIZE:
            return host.dequantize(x, graph.quant(source.name))
        case Op.QUANTIZE if source.quant is None:
            quant = graph.quant(target.name)
            return _int8(host.quantize(x, quant, graph.numerics, rounding), node.clamp)
        case Op.QUANTIZE:
            if node.attrs_as(QuantizeAttrs).activation:
                rounding = "double"
            made = host.requantize(x, source, target, graph.numerics, rounding)
            return _int8(made, node.clamp)
        case _:
            raise RowmeshError(f"{node.op} {node.name!r} cannot be computed")


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
    if not graph.quant(node.inputs[0]).same(graph.quant(node.outputs[0])):
        raise RowmeshError(f"{node.op} {node.name!r}: input and output quantization differ")


def _average(graph: Graph, node: Node, x: Array, rounding: str) -> NDArray[np.int64]:
    attrs = node.attrs_as(PoolAttrs)
    rule = rules.average_rule(attrs, (x.shape[1], x.shape[2]), graph.numerics, rounding)
    if rule is rules.AverageRule.TFLITE_POOL:
        _same_quant(graph, node)
    source, target = graph.tensors[node.inputs[0]], graph.tensors[node.outputs[0]]
    values = x.astype(np.int16) + source.model_offset
    made = rules.average(values, attrs, source.model_quant, target.model_quant, rule)
    return made - target.model_offset


def _add(graph: Graph, node: Node, operands: list[Array], rounding: str) -> NDArray[np.int64]:
    sources = [graph.tensors[name] for name in node.inputs]
    target = graph.tensors[node.outputs[0]]
    a, b = (
        x.astype(np.int16) + source.model_offset
        for x, source in zip(operands, sources, strict=True)
    )
    quants = (sources[0].model_quant, sources[1].model_quant, target.model_quant)
    return rules.add(a, b, quants, graph.numerics, rounding) - target.model_offset
