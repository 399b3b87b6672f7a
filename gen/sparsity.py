"""Zeros of the published sparse networks: real masks where a file has them, else random ones.

Random masks hit the published number of effectual multiplications of their layer.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.workloads import Layer, Mask

__all__ = ["MOBILENET_EFFECTUAL", "Masks", "alexnet_masks", "effectual_macs", "mobilenet_masks"]

#: Non-zeros of the input and of the weights, in their shapes.
Masks = tuple[Mask, Mask]

#: Effectual multiplications of the layers of the sparse MobileNet v1 0.5/128: ground truth of
#: figure 12 of the artifact of Sparseloop (Wu et al., MICRO 2022). Padding counts as non-zero.
MOBILENET_EFFECTUAL = (
    *(1769472, 544768, 461302, 278528, 873643, 513024, 1702140, 145920, 1499682, 270848),
    *(2491491, 73728, 1144158, 147456, 2238663, 147456, 2173758, 124096, 1457458, 147456),
    *(1677684, 147456, 1821557, 36864, 948572, 73728, 775316, 95443),
)
#: Part of the weights of AlexNet that pruning keeps, from Han et al., NIPS 2015: 863 k in the
#: convolutions and 5.9 M in the fully connected layers, as Eyeriss v2 states.
_ALEXNET_WEIGHTS = (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25)
#: Part of the inputs of the convolutions that is not zero: Eyeriss, JSSC 2017, table V.
_ALEXNET_IACTS = (0.9999, 0.613, 0.275, 0.207, 0.224)
#: Effectual multiplications of all convolutions and of all fully connected layers: tutorial on
#: hardware for deep networks, ISCA 2017.
_ALEXNET_CONV_MACS, _ALEXNET_FC_MACS = 207e6, 2.1e6


def mobilenet_masks(
    layers: Sequence[Layer], seed: int, real: Path | None = None
) -> dict[str, Masks]:
    """Masks of the sparse MobileNet v1 0.5/128.

    Parameters
    ----------
    layers : sequence of Layer
    seed : int
        Of the random masks.
    real : Path, optional
        ``.npz`` file with packed bits: ``<layer>_iact_hwc``, ``<layer>_weight_mc`` and
        ``<layer>_shape_cme`` for some of the layers, a layer being called by the first three
        letters of its name.

    Returns
    -------
    dict of (ndarray of bool, ndarray of bool)
        Non-zeros of the input and of the weights by layer name.
    """
    rng = np.random.default_rng(seed)
    found = _real_masks(layers, real) if real is not None else {}
    out = {}
    for layer, target in zip(layers, MOBILENET_EFFECTUAL, strict=True):
        if layer.name in found:
            out[layer.name] = found[layer.name]
            continue
        kept = (target / layer.macs) ** 0.5
        weights = _random(rng, layer.weight_shape, kept)
        out[layer.name] = _masks(rng, layer, weights, target)
    return out


def alexnet_masks(layers: Sequence[Layer], seed: int) -> dict[str, Masks]:
    """Random masks of the sparse AlexNet.

    The zero rates of the inputs are published for dense weights; those of all convolutions but
    the first are changed by one factor, and those of the fully connected layers are equal, so that
    the published numbers of effectual multiplications result.
    """
    rng = np.random.default_rng(seed)
    weights = {
        layer.name: _random(rng, layer.weight_shape, kept)
        for layer, kept in zip(layers, _ALEXNET_WEIGHTS, strict=True)
    }
    convs, connected = layers[: len(_ALEXNET_IACTS)], layers[len(_ALEXNET_IACTS) :]
    whole = {layer.name: layer.macs * float(weights[layer.name].mean()) for layer in layers}
    kept = dict(zip((layer.name for layer in convs), _ALEXNET_IACTS, strict=True))
    first = convs[0].name
    rest = sum(whole[layer.name] * kept[layer.name] for layer in convs[1:])
    factor = (_ALEXNET_CONV_MACS - whole[first] * kept[first]) / rest
    kept |= {layer.name: kept[layer.name] * factor for layer in convs[1:]}
    total = sum(whole[layer.name] for layer in connected)
    kept |= {layer.name: _ALEXNET_FC_MACS / total for layer in connected}
    return {
        layer.name: _masks(rng, layer, weights[layer.name], whole[layer.name] * kept[layer.name])
        for layer in layers
    }


def effectual_macs(layer: Layer, iacts: Mask, weights: Mask) -> int:
    """Multiplications of two non-zeros; padding counts as non-zero."""
    uses, border = _uses(layer, weights)
    return int(uses[iacts].sum()) + border


def _random(rng: np.random.Generator, shape: tuple[int, ...], kept: float) -> Mask:
    """A mask with exactly the part `kept` of its values, at random places."""
    size = int(np.prod(shape))
    flat = np.arange(size) < round(kept * size)
    return np.asarray(rng.permutation(flat).reshape(shape))


def _masks(rng: np.random.Generator, layer: Layer, weights: Mask, target: float) -> Masks:
    """A random input whose non-zeros meet `target` non-zero weights, and the weights."""
    uses, border = _uses(layer, weights)
    order = rng.permutation(uses.size)
    total = np.cumsum(uses.reshape(-1)[order])
    taken = int(np.searchsorted(total, target - border))
    iacts = np.zeros(uses.shape, bool)
    iacts.reshape(-1)[order[:taken]] = True
    if layer.connected:
        # One input more would be hundreds of multiplications: some weights of these instead.
        rest = round(target - (total[taken - 1] if taken else 0))
        spare = np.flatnonzero(~weights & iacts)
        weights = weights.copy()
        weights.reshape(-1)[rng.permutation(spare)[:rest]] = True
    return iacts, weights


def _uses(layer: Layer, weights: Mask) -> tuple[NDArray[np.int64], int]:
    """How many non-zero weights every value of the input meets, and how many the padding meets."""
    per_tap = weights.reshape(layer.G, layer.M // layer.G, layer.R, layer.S, -1).sum(axis=1)
    taps = per_tap.transpose(1, 2, 0, 3).reshape(layer.R, layer.S, layer.C).astype(np.int64)
    size = layer.H + sum(layer.pad)
    uses = np.zeros((size, size, layer.C), np.int64)
    span = (layer.E - 1) * layer.U + 1
    for r, s in np.ndindex(layer.R, layer.S):
        uses[r : r + span : layer.U, s : s + span : layer.U] += taps[r, s]
    inside = slice(layer.pad[0], layer.pad[0] + layer.H)
    inner = uses[inside, inside]
    return inner.reshape(layer.iact_shape), int(uses.sum() - inner.sum())


def _real_masks(layers: Sequence[Layer], path: Path) -> dict[str, Masks]:
    """The masks that the file has, checked by shape."""
    out = {}
    with np.load(path, allow_pickle=False) as file:
        for layer in layers:
            key = layer.name.split("_")[0]
            if f"{key}_shape_cme" not in file:
                continue
            c, m, e = (int(n) for n in file[f"{key}_shape_cme"])
            if (c, m, e) != (layer.C, layer.M, layer.E):
                raise ValueError(f"{path}: {key} is {(c, m, e)}: {(layer.C, layer.M, layer.E)}")
            iacts = _unpack(file[f"{key}_iact_hwc"], layer.iact_shape)
            out[layer.name] = (iacts, _unpack(file[f"{key}_weight_mc"], layer.weight_shape))
    return out


def _unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> Mask:
    size = int(np.prod(shape))
    return np.unpackbits(packed)[:size].astype(bool).reshape(shape)
