"""Predictions for the data of a run."""

import numpy as np

from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.predict import cycles_with
from rowmesh.gen.workloads import mobilenet, workload
from rowmesh.rtl.config import load_config


def test_zeros_of_the_data_count() -> None:
    """As expected without data, more cycles for full iacts than for iacts of zeros."""
    config = load_config("tiny")
    layers = mobilenet()[-3:-2]
    graph, inputs, densities = workload("test", layers, {}, psum_bits=config.psum_bits, seed=1)
    compiled = compile_graph(graph, config, densities=densities)
    item = compiled.layers[0].mapping.task.input
    zeros = np.full_like(inputs[item.name], -item.offset)
    full = np.full_like(zeros, -item.offset + 1)
    assert cycles_with(compiled, {}) == [layer.predicted_cycles for layer in compiled.layers]
    few, many = (cycles_with(compiled, {item.name: values})[0] for values in (zeros, full))
    assert few < 0.8 * many
