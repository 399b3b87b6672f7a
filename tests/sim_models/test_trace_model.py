"""The cycle model of a run: its counts against other code, its times against bounds."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.graph import Array
from rowmesh.gen.macs import effectual_macs
from rowmesh.gen.predict import cycles_with, filled_bytes
from rowmesh.gen.workloads import Layer, workload
from rowmesh.rtl.config import Config, load_config
from rowmesh.sim_models import golden
from rowmesh.sim_models.compress_weights import weight_block, weight_block_data_words
from rowmesh.sim_models.trace_model import trace_layers
from rowmesh.sim_models.trace_work import TraceWork
from rowmesh.sim_models.weight_words import column_words

#: 3x3 with stride, depthwise, pointwise, fully connected.
LAYERS = (
    Layer(name="conv", M=16, C=8, R=3, S=3, H=13, U=2, pad=(1, 1)),
    Layer(name="dw", M=16, C=16, R=3, S=3, H=7, G=16, pad=(1, 1)),
    Layer(name="pw", M=24, C=16, R=1, S=1, H=7),
    Layer(name="fc", M=40, C=24 * 49, R=1, S=1, H=1),
)
#: One multiplier a PE: every weight word is one weight.
ONE = dataclasses.replace(load_config("demo"), macs_per_pe=1, weight_data_depth=192)


def compiled_layer(
    config: Config, layer: Layer, density: float, seed: int
) -> tuple[Compiled, dict[str, Array], dict[str, Array]]:
    """A network of one layer, with inputs and all values."""
    rng = np.random.default_rng(seed)
    graph, inputs, densities = workload("test", (layer,), {}, psum_bits=config.psum_bits, seed=seed)
    for name, values in inputs.items():
        kept = rng.random(values.shape) < density
        inputs[name] = np.where(kept, values, graph.quant(name).zero_point).astype(np.int8)
    compiled = compile_graph(graph, config, densities=dict.fromkeys(densities, density))
    return compiled, inputs, {**inputs, **golden.run(graph, inputs, config.rounding)}


def filled(compiled: Compiled, values: dict[str, Array]) -> NDArray[np.bool_]:
    found = filled_bytes(compiled, compiled.layers[0], values)
    assert found is not None
    return found


@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_work_is_the_effectual_macs(layer: Layer, density: float) -> None:
    """Weight words of all PEs, with one multiplier each, beside the count from the tensors."""
    compiled, _, values = compiled_layer(ONE, layer, density, seed=3)
    mapping = compiled.layers[0].mapping
    if mapping.dense:
        mapping = dataclasses.replace(mapping, dense=False)
    work = TraceWork(mapping, filled(compiled, values))
    rounds = [tiles for phase in work.phases for tiles in phase]
    total = sum(int(block.work.sum()) for tiles in rounds for _, _, block in work.blocks(tiles))
    assert total == int(effectual_macs(compiled.graph, compiled.layers[0], values)[0])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", ["demo", "eyeriss_v2"])
def test_column_words_are_those_of_the_encoder(name: str, dense: bool) -> None:
    config = load_config(name)
    rng = np.random.default_rng(5)
    weights = rng.integers(-9, 9, (40, 2, 3, 8), np.int8)
    weights[rng.random(weights.shape) < 0.8] = 0
    found = column_words(config, weights, (4, 3, 40), dense=dense)
    assert found.shape == (1, 2, 1, 2, 12)
    for r, part in np.ndindex(2, 2):
        block = weights[:, r, :, 4 * part : 4 * part + 4].transpose(1, 2, 0).reshape(12, 40)
        if dense:
            words = len(weight_block(block.tolist(), config, dense=True)) - 1
        else:
            words = weight_block_data_words(block.tolist(), config)
        assert found[0, r, 0, part].sum() == words


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_more_zeros_and_more_bandwidth_take_no_longer(layer: Layer) -> None:
    compiled, inputs, _ = compiled_layer(load_config("demo"), layer, 1.0, seed=4)
    (name, full), *_ = inputs.items()
    zero = np.full_like(full, compiled.graph.quant(name).zero_point)
    rng = np.random.default_rng(6)
    half = np.where(rng.random(full.shape) < 0.5, full, zero)
    times = [cycles_with(compiled, {name: values})[0] for values in (zero, half, full)]
    assert times == sorted(times)
    assert cycles_with(compiled, {name: full}, bytes_per_cycle=4)[0] >= times[2]


def test_never_faster_than_its_multipliers() -> None:
    """The busiest PE needs a cycle for each of its weight words."""
    compiled, _, values = compiled_layer(load_config("demo"), LAYERS[0], 0.7, seed=5)
    layer = compiled.layers[0]
    found = filled(compiled, values)
    work = TraceWork(layer.mapping, found)
    rounds = [tiles for phase in work.phases for tiles in phase]
    busy = sum(b.work.sum(axis=(4, 5, 6)) for tiles in rounds for _, _, b in work.blocks(tiles))
    (cycles,) = trace_layers([(layer.mapping, found, layer.sent)])
    assert cycles > np.max(busy)


def test_without_values_the_search_counts() -> None:
    compiled, _, _ = compiled_layer(load_config("demo"), LAYERS[2], 0.5, seed=7)
    assert cycles_with(compiled, {}) == [layer.predicted_cycles for layer in compiled.layers]
