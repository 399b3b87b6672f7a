"""The published workloads: their sizes, their zeros, and that random data stays within psums."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rowmesh.gen import sparsity
from rowmesh.gen.sparsity import Masks, alexnet_masks, effectual_macs, mobilenet_masks
from rowmesh.gen.workloads import Layer, alexnet, mobilenet, workload
from rowmesh.sim_models import golden


def test_macs() -> None:
    """Chen et al., JETCAS 2019: 49.2 M and 724.4 M multiplications."""
    assert sum(layer.macs for layer in mobilenet()) == 49_160_192
    assert sum(layer.macs for layer in alexnet()) == 724_406_816
    assert sum(layer.macs for layer in mobilenet(1.0, 224)) == 568_740_352


def test_shapes() -> None:
    layers = mobilenet()
    assert len(layers) == 28
    assert [layer.E for layer in layers[:4]] == [64, 64, 64, 32]
    assert [layer.E for layer in alexnet()] == [55, 27, 13, 13, 13, 1, 1, 1]


def counted(layer: Layer, masks: Masks) -> int:
    """Effectual multiplications, one by one, with padding that is not zero."""
    iacts, weights = masks
    image = np.pad(iacts.reshape(layer.H, layer.H, layer.C), ((*[layer.pad] * 2, (0, 0))),
                   constant_values=True)  # fmt: skip
    taps = weights.reshape(layer.M, layer.R, layer.S, -1)
    made, depth = layer.M // layer.G, layer.C // layer.G
    total = 0
    for e, f, g in np.ndindex(layer.E, layer.E, layer.G):
        window = image[e * layer.U :, f * layer.U :, g * depth : (g + 1) * depth]
        window = window[: layer.R, : layer.S]
        total += int((window & taps[g * made : (g + 1) * made]).sum())
    return total


@pytest.mark.parametrize(
    "layer",
    [
        Layer(name="conv", M=8, C=6, R=3, S=3, H=11, U=2, G=2, pad=(0, 1)),
        Layer(name="depthwise", M=6, C=6, R=3, S=3, H=8, G=6, pad=(1, 1)),
        Layer(name="fc", M=20, C=30, R=1, S=1, H=1),
    ],
)
def test_effectual_macs(layer: Layer) -> None:
    rng = np.random.default_rng(1)
    masks = (rng.random(layer.iact_shape) < 0.4, rng.random(layer.weight_shape) < 0.6)
    assert effectual_macs(layer, *masks) == counted(layer, masks)


def real_file(path: Path, layers: Sequence[Layer]) -> Path:
    """A file of masks as `mobilenet_masks` reads it."""
    rng = np.random.default_rng(2)
    arrays = {}
    for layer in layers:
        key = layer.name.split("_")[0]
        arrays[f"{key}_shape_cme"] = np.array((layer.C, layer.M, layer.E))
        arrays[f"{key}_iact_hwc"] = np.packbits(rng.random(layer.iact_shape) < 0.5)
        arrays[f"{key}_weight_mc"] = np.packbits(rng.random(layer.weight_shape) < 0.5)
    np.savez(path, **arrays)
    return path


def test_mobilenet_masks_hit_the_published_counts() -> None:
    layers = mobilenet()
    masks = mobilenet_masks(layers, seed=3)
    for layer, target in zip(layers, sparsity.MOBILENET_EFFECTUAL, strict=True):
        assert abs(effectual_macs(layer, *masks[layer.name]) / target - 1) < 1e-3, layer.name
    again = mobilenet_masks(layers, seed=3)
    assert all(np.array_equal(masks[k][i], again[k][i]) for k in masks for i in range(2))


def test_real_masks(tmp_path: Path) -> None:
    layers = mobilenet()
    path = real_file(tmp_path / "masks.npz", layers[6:7])
    masks = mobilenet_masks(layers, seed=3, real=path)
    with np.load(path) as file:
        bits = np.unpackbits(file["L07_iact_hwc"])
    np.testing.assert_array_equal(masks["L07_pw"][0].reshape(-1), bits)
    bad = real_file(tmp_path / "bad.npz", [Layer(name="L07_x", M=4, C=4, R=1, S=1, H=4)])
    with pytest.raises(ValueError, match="L07"):
        mobilenet_masks(layers, seed=3, real=bad)


def test_alexnet_masks_hit_the_published_totals() -> None:
    layers = alexnet()
    masks = alexnet_masks(layers, seed=4)
    macs = [effectual_macs(layer, *masks[layer.name]) for layer in layers]
    kept = [int(masks[layer.name][1].sum()) for layer in layers]
    assert abs(sum(macs[:5]) / 207e6 - 1) < 1e-3
    assert abs(sum(macs[5:]) / 2.1e6 - 1) < 1e-3
    assert abs(sum(kept[:5]) / 863e3 - 1) < 5e-3
    assert abs(sum(kept[5:]) / 5.9e6 - 1) < 1e-2


@pytest.mark.parametrize("dense", [True, False])
def test_workload_stays_within_psums(dense: bool) -> None:
    layers = mobilenet(0.25, 32)[20:]
    rng = np.random.default_rng(5)
    masks = {
        layer.name: (rng.random(layer.iact_shape) < 0.7, rng.random(layer.weight_shape) < 0.7)
        for layer in layers
    }
    graph, inputs, densities = workload(
        "part", layers, {} if dense else masks, psum_bits=20, seed=5
    )
    values = golden.run(graph, inputs, "single")
    for layer in layers:
        source = inputs[f"{layer.name}/in"].astype(np.int64)
        stored = source if dense else source + 128
        weights = graph.constant(f"{layer.name}/w").astype(np.int64)
        assert np.array_equal(stored != 0, masks[layer.name][0] | dense)
        assert np.array_equal(weights != 0, masks[layer.name][1] | dense)
        assert densities[f"{layer.name}/in"] == np.mean(stored != 0)
        if layer.R == 1:
            psums = stored.reshape(-1, layer.C) @ weights.reshape(layer.M, -1).T
            assert np.abs(psums).max() < 1 << 19
        assert len(np.unique(values[f"{layer.name}/out"])) > 20
