"""The whole accelerator in Verilator: mnist-conv on the generated RTL.

It equals the golden model, in the cycles that the cycle model says.
"""

import numpy as np
import pytest

from rowmesh.gen import datasets
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.import_onnx import import_onnx
from rowmesh.gen.predict import cycles_with
from rowmesh.gen.quantize import quantize_graph
from rowmesh.gen.runtime import Runtime
from rowmesh.rtl.config import load_config
from rowmesh.sim_models import golden
from rowmesh.verif.fast.machine import FastMachine

#: Cycles from which on the model must be right.
LONG = 2000


def test_mnist_is_exact_in_every_layer() -> None:
    try:
        graph = import_onnx(datasets.mnist_conv_path())
        images, _ = datasets.mnist_images(1)
    except RowmeshError as error:
        pytest.skip(str(error))
    config = load_config("tiny")
    name = graph.inputs[0]
    digits = graph.from_model({name: datasets.synthetic_digits(50, 1)})
    quantized = quantize_graph(graph, digits)
    compiled = compile_graph(quantized, config)
    reference = golden.run(quantized, quantized.from_model({name: images}))
    machine = FastMachine(config, len(compiled.image))
    result = Runtime(compiled, machine).run({name: reference[name]}, per_layer=True)
    machine.close()
    assert set(quantized.outputs) <= set(result.values)
    for key, values in result.values.items():
        np.testing.assert_array_equal(values, reference[key], err_msg=key)
    predicted = cycles_with(compiled, reference)
    measured = [measure.cycles for measure in result.images[0]]
    assert max(measured) > LONG
    for layer, wanted, found in zip(compiled.layers, measured, predicted, strict=True):
        if wanted > LONG:
            assert found == pytest.approx(wanted, rel=0.05), layer.name
