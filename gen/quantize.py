"""The integer multipliers and shifts of every operator that requantizes.

`quantize_graph` and `quantized_clamp` of `rowmesh.gen.post_training` are exported here too.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.fixed_point import MAX_SHIFT, quantize_multiplier
from rowmesh.gen.graph import Graph, Node, Numerics, Op, PoolAttrs
from rowmesh.gen.post_training import quantize_graph, quantized_clamp
from rowmesh.sim_models import golden_rules as rules
from rowmesh.sim_models.golden_ops import requant, window_counts

__all__ = [
    "MAX_SHIFT",
    "PoolParameters",
    "add_parameters",
    "pool_parameters",
    "quantize_graph",
    "quantize_multiplier",
    "quantized_clamp",
    "requant_parameters",
]


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
    products = s_x * s_w
    if node.op is Op.FULLY_CONNECTED and s_w.size == 1:
        # TFLite multiplies the two scales of such a layer in float32.
        products = products.astype(np.float32).astype(np.float64)
    scales = np.broadcast_to(products / s_y, graph.tensors[node.inputs[1]].shape[:1])
    try:
        pairs = [quantize_multiplier(float(scale)) for scale in scales]
    except RowmeshError as error:
        raise RowmeshError(f"{node.op} {node.name!r}: {error}") from None
    multiplier, shift = zip(*pairs, strict=True)
    return np.array(multiplier, np.int64), np.array(shift, np.int64)


#: Bits of the multipliers that stand for the rule of ONNX Runtime's addition.
_ADD_BITS = 29
#: How far a multiplier may go from the rounded scale to give the values of a rule.
_ADD_SEARCH, _POOL_SEARCH = 48, 2048
#: Steps of the output from a half within which float32 may round the other way.
_NEAR = 2.0**-12


def add_parameters(
    graph: Graph, node: Node, rounding: str = "single"
) -> tuple[tuple[int, int], int] | None:
    """The integers with which an addition is exact.

    ``clamp(zo + ((Ma*(a - za) + Mb*(b - zb) + 2**(n-1)) >> n))`` equals the golden model for every
    pair of int8 values.

    Parameters
    ----------
    graph : Graph
    node : Node
        An addition; its second operand may be a constant.
    rounding : str
        Rounding of the configuration.

    Returns
    -------
    (Ma, Mb), n : tuple
        Multipliers of 31 unsigned bits at most, and the shift, 1 to `MAX_SHIFT`; or None where
        there are none, and the addition runs on the host: TFLite's reference kernels round
        twice, XNNPACK refuses scales too far apart, ONNX Runtime rounds halves to even.
    """
    first_in, second_in = (graph.tensors[name] for name in node.inputs)
    a, b, out = first_in.model_quant, second_in.model_quant, graph.tensors[node.outputs[0]]
    quants = (a, b, out.model_quant)
    ratios = [float(ratio) for ratio in rules.add_ratios(quants)]
    if graph.numerics is Numerics.TFLITE:
        if rounding != "single" or not rules.xnnpack_add_fits(quants):
            return None
        # XNNPACK's own definition: 21 bits for the larger multiplier.
        shift = 20 - (math.frexp(max(ratios))[1] - 1)
        return (round(math.ldexp(ratios[0], shift)), round(math.ldexp(ratios[1], shift))), shift
    shift = min(MAX_SHIFT, _ADD_BITS - math.frexp(max(ratios))[1])
    if shift < 1:
        return None
    grid = np.arange(-128, 128)
    left = grid.repeat(256) + first_in.model_offset
    right = np.tile(grid, 256) + second_in.model_offset
    lowest = -128 + out.model_offset
    wanted = rules.add(left, right, quants, graph.numerics, rounding)
    # Only pairs near a half can round the other way for another multiplier.
    u, v = left - a.zero_point, right - b.zero_point
    real = u * ratios[0] + v * ratios[1]
    fraction = np.abs(real - np.floor(real) - 0.5)
    limits = (wanted >= lowest) & (wanted <= lowest + 255)
    near = limits & (fraction < _NEAR * max(1.0, *ratios))
    u, v = u[near], v[near]
    target = (wanted[near] - quants[2].zero_point).reshape(-1, 1)
    first, second = (round(math.ldexp(ratio, shift)) for ratio in ratios)
    span = np.arange(-_ADD_SEARCH, _ADD_SEARCH + 1)
    order = span[np.argsort(np.abs(span), kind="stable")]
    half = 1 << (shift - 1)
    for step in order:
        totals = u[:, None] * (first + step) + v[:, None] * (second + order)[None, :]
        good = np.all((totals + half) >> shift == target, axis=0)
        if good.any():
            pair = (int(first + step), int(second + order[good.argmax()]))
            total = (left - a.zero_point) * pair[0] + (right - b.zero_point) * pair[1]
            made = ((total + half) >> shift) + quants[2].zero_point
            ends = (lowest, lowest + 255)
            if min(pair) >= 0 and np.array_equal(made.clip(*ends), wanted.clip(*ends)):
                return pair, shift
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolParameters:
    """An average in integers: ``clamp(add + requant(sum(q - subtract), multiplier, shift))``.

    Parameters
    ----------
    multiplier, shift : int
        31 unsigned bits, and 1 to `MAX_SHIFT`.
    subtract : int
        What is taken from every value before it is summed; padding counts as this value.
    add : int
        Offset of the output.
    """

    multiplier: int
    shift: int
    subtract: int
    add: int


def pool_parameters(graph: Graph, node: Node, rounding: str = "single") -> PoolParameters | None:
    """The integers with which an average pooling (or mean) is exact.

    They are checked for every sum that there can be.

    Returns
    -------
    PoolParameters or None
        None where the windows do not all hold the same number of values (padding is not
        counted), or where the reference rounds halves in a way that no multiplier gives: the
        average then runs on the host.
    """
    attrs = node.attrs_as(PoolAttrs)
    source, target = graph.quant(node.inputs[0]), graph.quant(node.outputs[0])
    height, width = graph.tensors[node.inputs[0]].shape[1:3]
    counts = np.unique(window_counts((height, width), attrs))
    if len(counts) > 1:
        return None
    count = int(counts[0])
    rule = rules.average_rule(attrs, (height, width), graph.numerics, rounding)
    sums = np.arange(-128 * count, 127 * count + 1, dtype=np.int64)
    exact = float(source.scale[0]) / float(target.scale[0]) / count
    if rule is rules.AverageRule.ONNX_WINDOWS:
        # Its float32 sums depend on their order: no half may be near enough to tell.
        real = (sums - count * source.zero_point) * exact
        inside = np.abs(real + target.zero_point) < 129
        fraction = np.abs(real - np.floor(real) - 0.5)[inside]
        if fraction.min(initial=1.0) < 2.0**-15 * max(1.0, count * exact):
            return None
        wanted = np.rint(real).astype(np.int64) + target.zero_point
    else:
        wanted = rules.average_of_sums(sums, np.array(count), source, target, rule)
    # A multiplier just above 1/count takes halves away from zero, as TFLite's raw average does.
    shift = 30 if count == 1 else 31
    tries = [PoolParameters(multiplier=(1 << shift) // count + 1, shift=shift, subtract=0, add=0)]
    if attrs.count_include_pad and any(attrs.pads):
        tries = []
    centered = sums - count * source.zero_point
    # Only sums near a half can round the other way for another multiplier.
    fraction = np.abs(centered * exact - np.floor(centered * exact) - 0.5)
    near = (fraction < _NEAR * max(1.0, exact)) & (np.abs(wanted) <= 128)
    multiplier, shift = quantize_multiplier(exact)
    # Double rounding also depends on the shift, and TFLite's MEAN may use one less.
    for middle, n in ((multiplier, shift), (multiplier // 2, shift - 1)):
        steps = middle + np.arange(-_POOL_SEARCH, _POOL_SEARCH + 1)
        made = requant(centered[near][:, None], steps, np.array(n), rounding) + target.zero_point
        good = np.all(made == wanted[near][:, None], axis=0) & (steps > 0) & (steps < 1 << 31)
        if good.any():
            chosen = int(steps[good][np.abs(steps[good] - middle).argmin()])
            tries.append(
                PoolParameters(
                    multiplier=chosen, shift=n, subtract=source.zero_point, add=target.zero_point
                )
            )
    for found in tries:
        acc = sums - count * found.subtract
        values = requant(acc, np.array(found.multiplier), np.array(found.shift), rounding)
        if np.array_equal((values + found.add).clip(-128, 127), wanted.clip(-128, 127)):
            return found
    return None
