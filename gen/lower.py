"""From graph nodes to tasks of the accelerator, in stored numbers."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import ConvAttrs, Graph, Node, Op, PoolAttrs
from rowmesh.gen.placement import MOST_PADDING, Placement
from rowmesh.gen.quantize import add_parameters, pool_parameters, requant_parameters
from rowmesh.gen.task import ConvTask
from rowmesh.gen.tensors import Feature
from rowmesh.rtl.config import PSUM_LANES, WORD_BYTES
from rowmesh.rtl.layouts import BIAS_BITS

__all__ = ["lower_node", "stored_offsets"]

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
#: Scale by one, exactly, with either rounding: (M, n).
_UNITY = (1 << 30, 30)


def stored_offsets(graph: Graph) -> dict[str, int]:
    """What is added to the int8 values of every activation to get the stored bytes.

    Signed storage (0) where that makes the real zero a stored zero, else 128. A PE has one
    signedness for all that it reads, so the operands of an addition share theirs.
    """
    out = {
        name: 0 if tensor.quant is not None and tensor.quant.zero_point == 0 else 128
        for name, tensor in graph.tensors.items()
        if tensor.data is None
    }
    sums = [node.inputs for node in graph.nodes if node.op is Op.ADD]
    changed = True
    while changed:
        changed = False
        for names in sums:
            signs = {out[name] for name in names if name in out}
            if len(signs) > 1:
                out.update(dict.fromkeys(names, 128))
                changed = True
    return out


def lower_node(
    graph: Graph, placed: Placement, feature: Callable[[str], Feature], rounding: str
) -> ConvTask:
    """Make the task of an operator.

    Parameters
    ----------
    graph : Graph
        Quantized graph.
    placed : Placement
        An operator of the accelerator.
    feature : callable
        Gives a tensor in DRAM by name.
    rounding : str
        That of the configuration.

    Raises
    ------
    RowmeshError
        A bias with the folded zero point exceeds 32 bits, or padding its limit: names the operator.
    """
    node = placed.node
    last = placed.pool or node
    source, target = feature(node.inputs[0]), feature(last.outputs[0])
    low, high = _clamp((-128, 127), node)
    if placed.pool is not None:
        low, high = _clamp((low, high), placed.pool)
    common: dict[str, Any] = {
        "name": node.name,
        "output": target,
        "low": low + target.offset,
        "high": high + target.offset,
    }
    match node.op:
        case Op.CONV | Op.FULLY_CONNECTED:
            fields = _convolution(graph, node, placed.pool, source)
            fields["zero_point"] = target.stored_zero
        case Op.MAX_POOL:
            fields = _max_pool(node, source, target)
        case Op.AVG_POOL:
            fields = _average_pool(graph, node, source, target, rounding)
        case Op.ADD:
            fields = _addition(graph, node, source, feature(node.inputs[1]), rounding)
            fields["zero_point"] = target.stored_zero
    task = ConvTask(**common, **fields)
    if np.abs(task.bias).max(initial=0) >= 1 << (BIAS_BITS - 1):
        raise RowmeshError(
            f"{node.op} {node.name!r}: a bias with the folded zero point exceeds {BIAS_BITS} bits"
        )
    return task


def _clamp(bounds: tuple[int, int], node: Node) -> tuple[int, int]:
    """What is left of `bounds` behind the clamp of `node`."""
    if node.clamp is None:
        return bounds
    low, high = (int(bound) for bound in node.clamp)
    return min(max(bounds[0], low), high), min(max(bounds[1], low), high)


# -- convolutions -----------------------------------------------------------------------------


def _convolution(graph: Graph, node: Node, pool: Node | None, source: Feature) -> dict[str, Any]:
    """A convolution with its fused pooling, or a fully connected layer."""
    weights: Int8 = graph.constant(node.inputs[1])
    fields: dict[str, Any] = {"pad_value": source.stored_zero & 0xFF}
    if node.op is Op.CONV:
        attrs = node.attrs_as(ConvAttrs)
        if max(attrs.pads) > MOST_PADDING:
            raise RowmeshError(
                f"{node.op} {node.name!r}: padding {max(attrs.pads)} exceeds {MOST_PADDING}"
            )
        fields.update(stride=attrs.strides, dilation=attrs.dilations)
        fields["pad"] = (attrs.pads[0], attrs.pads[2])
        weights, fields["blocks"] = _blocked(weights, attrs.groups)
        if pool is not None:
            kernel = pool.attrs_as(PoolAttrs).kernel
            fields.update(pool=kernel, pool_stride=kernel)
    else:
        weights, source = _flat(weights, source)
    count = weights.shape[0]
    multiplier, shift = requant_parameters(graph, node)
    bias = np.zeros(count, np.int64)
    if len(node.inputs) > 2:
        given = graph.constant(node.inputs[2]).astype(np.int64).reshape(-1)
        bias[: given.size] = given
    bias -= source.stored_zero * weights.astype(np.int64).sum(axis=(1, 2, 3))
    fields.update(input=source, weights=weights, bias=bias)
    fields.update(multiplier=_padded(multiplier, count), shift=_padded(shift, count))
    return fields


def _padded(values: Int64, count: int) -> Int64:
    """One value for each psum; channels that only fill a block take any."""
    return np.pad(values, (0, count - values.size), mode="edge")


def _blocked(weights: Int8, groups: int) -> tuple[Int8, int]:
    """Weights [M, R, S, C] of as many independent blocks as whole planes allow, and their number.

    Groups of channels that share a plane are one block, with zeros where they do not meet.
    """
    outputs, taps, cols, depth = weights.shape
    made = outputs // groups  # by one group
    step = math.lcm(*(WORD_BYTES // math.gcd(WORD_BYTES, size) for size in (made, depth)))
    blocks = -(-groups // step)
    for size in (made, depth):
        if blocks * step * size // WORD_BYTES != -(-groups * size // WORD_BYTES):
            step, blocks = groups, 1  # the last block would have planes that do not exist
    if step == 1:
        return weights, blocks
    out = np.zeros((blocks, step, made, taps, cols, step, depth), np.int8)
    for group in range(groups):
        block, place = divmod(group, step)
        out[block, place, :, :, :, place] = weights[group * made : (group + 1) * made]
    return out.reshape(-1, taps, cols, step * depth), blocks


def _flat(weights: Int8, source: Feature) -> tuple[Int8, Feature]:
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


# -- poolings and additions -------------------------------------------------------------------


def _diagonal(planes: int, taps: tuple[int, int]) -> Int8:
    """Weights of `planes` blocks that pass every channel on, summed over the taps."""
    eye = np.eye(WORD_BYTES, dtype=np.int8)[None, :, None, None, :]
    shape = (planes, WORD_BYTES, *taps, WORD_BYTES)
    return np.ascontiguousarray(np.broadcast_to(eye, shape)).reshape(-1, *shape[2:])


def _max_pool(node: Node, source: Feature, target: Feature) -> dict[str, Any]:
    """The maximum of psums that are the values themselves."""
    attrs = node.attrs_as(PoolAttrs)
    count = source.planes * WORD_BYTES
    return {
        "input": source,
        "weights": _diagonal(source.planes, (1, 1)),
        "blocks": source.planes,
        "bias": np.full(count, -source.offset, np.int64),
        "multiplier": np.full(count, _UNITY[0], np.int64),
        "shift": np.full(count, _UNITY[1], np.int64),
        "zero_point": target.offset,
        "pool": attrs.kernel,
        "pool_stride": attrs.strides,
        "pad": (attrs.pads[0], attrs.pads[2]),
        "pad_value": (source.offset - 128) & 0xFF,  # the least value never wins
    }


def _average_pool(
    graph: Graph, node: Node, source: Feature, target: Feature, rounding: str
) -> dict[str, Any]:
    """Sums over the window, scaled."""
    attrs = node.attrs_as(PoolAttrs)
    found = pool_parameters(graph, node, rounding)
    assert found is not None  # the placement
    count = source.planes * WORD_BYTES
    pixels = attrs.kernel[0] * attrs.kernel[1]
    return {
        "input": source,
        "weights": _diagonal(source.planes, attrs.kernel),
        "blocks": source.planes,
        "bias": np.full(count, -(source.offset + found.subtract) * pixels, np.int64),
        "multiplier": np.full(count, found.multiplier, np.int64),
        "shift": np.full(count, found.shift, np.int64),
        "zero_point": found.add + target.offset,
        "stride": attrs.strides,
        "pad": (attrs.pads[0], attrs.pads[2]),
        "pad_value": source.stored_zero & 0xFF,
    }


def _addition(
    graph: Graph, node: Node, first: Feature, second: Feature, rounding: str
) -> dict[str, Any]:
    """Psums in pairs, one of either operand, that post-processing scales and adds."""
    found = add_parameters(graph, node, rounding)
    assert found is not None  # the placement
    multipliers, shift = found
    eye = np.eye(PSUM_LANES * WORD_BYTES, dtype=np.int8)
    # Psum 2i is channel i of the first operand, psum 2i + 1 that of the second.
    order = np.arange(PSUM_LANES * WORD_BYTES).reshape(PSUM_LANES, WORD_BYTES).T.reshape(-1)
    count = first.planes * PSUM_LANES * WORD_BYTES
    pair = count // PSUM_LANES
    return {
        "input": first,
        "second": second,
        "weights": np.tile(eye[order][:, None, None, :], (first.planes, 1, 1, 1)),
        "blocks": first.planes,
        "lanes": PSUM_LANES,
        "bias": np.tile(np.array([-first.stored_zero, -second.stored_zero], np.int64), pair),
        "multiplier": np.tile(np.array(multipliers, np.int64), pair),
        "shift": np.full(count, shift, np.int64),
    }
