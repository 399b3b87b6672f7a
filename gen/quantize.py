"""Post-training int8 quantization, and the integer multipliers that stand for real scales.

Weights are symmetric int8 per output channel, activations asymmetric int8 per tensor from the
range that the calibration data reach (zero included), biases int32 with scale ``s_x * s_w``.
After a ReLU the zero point is exactly -128, so that zero activations are real zeros.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Array,
    Clamp,
    Graph,
    Node,
    Op,
    Quant,
    Tensor,
)
from rowmesh.sim_models.golden_float import float_run

__all__ = ["MAX_SHIFT", "quantize_graph", "quantize_multiplier", "requant_parameters"]

#: Largest shift of a requantization (a 6-bit field; 1 is the smallest).
MAX_SHIFT = 62
#: Largest |bias| that is aimed at: dead channels get a larger weight scale instead.
_BIAS_LIMIT = 1 << 30
_SHARING = (Op.MAX_POOL, Op.AVG_POOL, Op.RESHAPE, Op.TRANSPOSE)


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """The integer (M, n) that stands for a real scale: ``scale ~ M * 2**-n``.

    M is a 31-bit unsigned integer in [2**30, 2**31) and n in 1..`MAX_SHIFT`. Single rounding is
    ``(acc*M + 2**(n-1)) >> n``; gemmlowp's double rounding uses the same M as its Q31 multiplier
    and the exponent ``31 - n`` (left shift when positive, else right). A scale below 2**-32 gives
    (0, `MAX_SHIFT`): it takes every 32-bit sum to exactly 0, as the rounded product would.

    Parameters
    ----------
    scale : float
        ``s_x * s_w / s_y``.

    Returns
    -------
    multiplier, shift : int

    Raises
    ------
    RowmeshError
        The scale is not positive and finite, or is 2**30 or more.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise RowmeshError(f"requantization scale {scale}: must be finite and positive")
    fraction, exponent = math.frexp(scale)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = 1 << 30, exponent + 1
    shift = 31 - exponent
    if shift < 1:
        raise RowmeshError(f"requantization scale {scale}: must be below 2**30")
    return (multiplier, shift) if shift <= MAX_SHIFT else (0, MAX_SHIFT)


def requant_parameters(graph: Graph, node: Node) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and shift of every output channel of a conv or fully connected node.

    Returns
    -------
    multiplier, shift : ndarray of int64, [M]

    Raises
    ------
    RowmeshError
        A missing quantization or a scale out of range, with the operator's name.
    """
    s_x = graph.quant(node.inputs[0]).scale[0]
    s_w = graph.quant(node.inputs[1]).scale
    s_y = graph.quant(node.outputs[0]).scale[0]
    scales = np.broadcast_to(s_x * s_w / s_y, graph.tensors[node.inputs[1]].shape[:1])
    try:
        pairs = [quantize_multiplier(float(scale)) for scale in scales]
    except RowmeshError as error:
        raise RowmeshError(f"{node.op} {node.name!r}: {error}") from None
    multiplier, shift = zip(*pairs, strict=True)
    return np.array(multiplier, np.int64), np.array(shift, np.int64)


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
    quants = {name: _range_quant(name, values[name]) for name in graph.inputs}
    tensors = {
        name: dataclasses.replace(graph.tensors[name], dtype="int8", quant=quants[name])
        for name in graph.inputs
    }
    nodes = []
    for node in graph.nodes:
        (out,) = node.outputs
        shared = node.op in _SHARING
        quants[out] = quants[node.inputs[0]] if shared else _range_quant(out, values[out])
        tensors[out] = dataclasses.replace(graph.tensors[out], dtype="int8", quant=quants[out])
        if node.op in (Op.CONV, Op.FULLY_CONNECTED):
            tensors.update(_weights(graph, node, quants[node.inputs[0]]))
        nodes.append(node.with_clamp(_quantized_clamp(node.clamp, quants[out])))
    return Graph(graph.name, tensors, tuple(nodes), graph.inputs, graph.outputs)


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


def _quantized_clamp(bounds: Clamp | None, quant: Quant) -> Clamp:
    """Real bounds in the quantized domain."""
    if bounds is None:
        return (-128, 127)
    low, high = (
        float(quant.quantize(np.array(b))) if math.isfinite(b) else math.copysign(128, b)
        for b in bounds
    )
    return (int(max(low, -128)), int(min(high, 127)))
