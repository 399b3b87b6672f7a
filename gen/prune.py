"""Magnitude pruning: set the smallest weights to zero until a target fraction is zero.

Works on internal graphs (float or int8) and, without touching anything else of the file, on ONNX
models (float, QDQ, QLinearConv and QLinearMatMul). A quantized weight counts by its real value,
``|q - zp| * scale`` with the scale of its channel, and is pruned to the zero point.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array, Graph, Op

__all__ = ["LayerDensity", "densities", "keep_masks", "prune_graph"]


@dataclass(frozen=True, kw_only=True)
class LayerDensity:
    """How many weights of a layer are zero."""

    name: str
    weights: int
    zeros: int

    @property
    def zero_fraction(self) -> float:
        """Zero weights / weights."""
        return self.zeros / self.weights if self.weights else 0.0

    @property
    def density(self) -> float:
        """Non-zero weights / weights."""
        return 1 - self.zero_fraction


def keep_masks(
    magnitudes: Mapping[str, Array],
    target: float | None,
    layer_targets: Mapping[str, float] | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """Choose which weights stay.

    Parameters
    ----------
    magnitudes : mapping of ndarray
        |real weight| of every layer, by layer name.
    target : float, optional
        Fraction of zeros, 0 to 1, of all layers together that `layer_targets` does not name. None
        leaves those layers as they are.
    layer_targets : mapping of float, optional
        Fractions of single layers.

    Returns
    -------
    dict of ndarray of bool
        For every layer; False is pruned. At least the asked fraction is False: what is zero
        already counts, and equal magnitudes go in the order of layers and weights.

    Raises
    ------
    RowmeshError
        A fraction out of range, an unknown layer, nothing to prune, or a weight that is not finite.
    """
    layer_targets = layer_targets or {}
    if not magnitudes:
        raise RowmeshError("nothing to prune: no layer has constant weights")
    for name, array in magnitudes.items():
        if not np.all(np.isfinite(array)):
            raise RowmeshError(f"layer {name!r}: a weight is NaN or infinity")
    for name, fraction in layer_targets.items():
        if name not in magnitudes:
            raise RowmeshError(f"no layer {name!r} to prune; layers: {', '.join(magnitudes)}")
        _check_fraction(f"target of layer {name!r}", fraction)
    masks = {
        name: _keep([array], layer_targets[name])[0] if name in layer_targets else array >= 0
        for name, array in magnitudes.items()
    }
    rest = [name for name in magnitudes if name not in layer_targets]
    if target is not None:
        _check_fraction("target", target)
        masks.update(zip(rest, _keep([magnitudes[name] for name in rest], target), strict=True))
    return masks


def _check_fraction(what: str, fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise RowmeshError(f"{what} = {fraction}: must be within 0..1")


def _keep(arrays: list[Array], fraction: float) -> list[NDArray[np.bool_]]:
    """Masks of arrays that are ranked together; the smallest `fraction` of them is False."""
    flat = np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.empty(0)
    # 0.3 * 10 is 3.0000000000000004 or so: that is three weights.
    pruned = math.ceil(round(fraction * flat.size, 6))
    keep = np.ones(flat.size, np.bool_)
    keep[np.argsort(flat, kind="stable")[:pruned]] = False
    ends = np.cumsum([array.size for array in arrays])[:-1]
    parts = np.split(keep, ends) if arrays else []
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def _layers(graph: Graph) -> dict[str, str]:
    """The weight tensor of every conv and fully connected node, each tensor once, by node name."""
    layers: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in (Op.CONV, Op.FULLY_CONNECTED) and node.inputs[1] not in layers.values():
            layers[node.name if node.name not in layers else node.outputs[0]] = node.inputs[1]
    return layers


def densities(graph: Graph) -> list[LayerDensity]:
    """Zero weights of every conv and fully connected node of a float or int8 graph."""
    found = []
    for name, tensor in _layers(graph).items():
        data = graph.constant(tensor)
        zeros = int(np.count_nonzero(data == _zero_point(graph, tensor)))
        found.append(LayerDensity(name=name, weights=data.size, zeros=zeros))
    return found


def prune_graph(
    graph: Graph,
    target: float | None = None,
    layer_targets: Mapping[str, float] | None = None,
) -> tuple[Graph, list[LayerDensity]]:
    """Prune the conv and fully connected layers of a graph, float or int8.

    Parameters
    ----------
    graph : Graph
        Left as it is.
    target, layer_targets
        As of `keep_masks`, by node name.

    Returns
    -------
    graph : Graph
        Same tensors and quantization, with the smallest |real weight| set to zero.
    layers : list of LayerDensity
        What it has now, layer by layer.

    Raises
    ------
    RowmeshError
        See `keep_masks`.
    """
    layers = _layers(graph)
    magnitudes = {name: _magnitude(graph, tensor) for name, tensor in layers.items()}
    tensors = dict(graph.tensors)
    for name, keep in keep_masks(magnitudes, target, layer_targets).items():
        old = tensors[layers[name]]
        data = graph.constant(old.name)
        zero = np.asarray(_zero_point(graph, old.name), data.dtype)
        tensors[old.name] = replace(old, data=np.where(keep, data, zero))
    pruned = replace(graph, tensors=tensors)
    return pruned, densities(pruned)


def _zero_point(graph: Graph, tensor: str) -> int:
    quant = graph.tensors[tensor].quant
    return 0 if quant is None else quant.zero_point


def _magnitude(graph: Graph, tensor: str) -> NDArray[np.float64]:
    """|real weight|; channels are axis 0."""
    data, quant = graph.constant(tensor).astype(np.float64), graph.tensors[tensor].quant
    if quant is None:
        return np.abs(data)
    scale = quant.scale.reshape(-1, *[1] * (data.ndim - 1))
    magnitude: NDArray[np.float64] = np.abs(data - quant.zero_point) * scale
    return magnitude
