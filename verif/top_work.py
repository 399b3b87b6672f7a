"""Small networks for benches of the whole accelerator, and what their runs must give."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.driver import Accelerator, Bus
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array, ConvAttrs, Graph, Node, Op, Quant, Tensor
from rowmesh.gen.macs import effectual_macs
from rowmesh.gen.runtime import Result
from rowmesh.rtl.codes import Activity
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.counters import COUNTER_ENTRIES
from rowmesh.rtl.control.registers import register_map
from rowmesh.sim_models import golden
from rowmesh.verif.random_networks import random_input, random_network

__all__ = [
    "PATTERNS",
    "check_counters",
    "check_readout",
    "check_values",
    "random_work",
    "sparse_image",
    "two_layers",
    "with_noise",
]

#: Which weights of the second layer of `two_layers` are zero.
PATTERNS = ("full", "first column", "columns", "all but one", "all")


def two_layers(rng: np.random.Generator, pattern: str = "full") -> Graph:
    """Two convolutions of few channels, whose input may be coded in DRAM.

    Psums of the second layer with ``full`` weights: for inputs below -60 at most 161 * 24 * 127,
    which is below 2^19; for an image of 127 all over at least 206 * 24 * 110, which is above.

    Parameters
    ----------
    rng : Generator
        Draws the weights.
    pattern : str
        One of `PATTERNS`. A column is the weights that one input value meets.
    """
    first = rng.integers(10, 30, (4, 1, 1, 4)).astype(np.int8)
    first[range(4), 0, 0, range(4)] = 0
    second = rng.integers(110, 128, (4, 2, 3, 4)).astype(np.int8)
    match pattern:
        case "first column":
            second[:, 0, 0, 0] = 0
        case "columns":
            second[:, 0, :, :] = 0
            second[:, 1, 1, 1:] = 0
        case "all but one":
            second[:] = 0
            second[3, 1, 2, 3] = -128
        case "all":
            second[:] = 0
    tensors = {"x": Tensor("x", (1, 2, 8, 4), "int8", Quant(np.array([0.02]), -128))}
    nodes = []
    shapes = {"y": ("x", first, (0, 0, 0, 0)), "z": ("y", second, (1, 0, 1, 1))}
    scales = {"y": 0.02 * 0.01 * 36, "z": 0.02 * 0.01 * 36 * 0.01 * 1200}
    for name, (source, weights, pads) in shapes.items():
        outputs = len(weights)
        scale = np.full(outputs, 0.01)
        bias = rng.integers(-200, 1, outputs).astype(np.int32)
        input_scale = tensors[source].quant
        assert input_scale is not None
        tensors |= {
            f"w_{name}": Tensor(f"w_{name}", weights.shape, "int8", Quant(scale), weights),
            f"b_{name}": Tensor(
                f"b_{name}", (outputs,), "int32", Quant(scale * input_scale.scale[0]), bias
            ),
            name: Tensor(name, (1, 2, 8, outputs), "int8", Quant(np.array([scales[name]]), -128)),
        }
        attrs = ConvAttrs(pads=pads, clamp=(-128, 127))
        nodes.append(
            Node(Op.CONV, f"to_{name}", (source, f"w_{name}", f"b_{name}"), (name,), attrs)
        )
    return Graph("two", tensors, tuple(nodes), ("x",), ("z",))


def sparse_image(rng: np.random.Generator, graph: Graph, density: float) -> dict[str, Array]:
    """Inputs of `two_layers` below -60, this part of them not zero."""
    shape = graph.tensors["x"].shape
    values = rng.integers(-127, -60, shape)
    return {"x": np.where(rng.random(shape) < density, values, -128).astype(np.int8)}


def random_work(
    rng: np.random.Generator, config: Config, macs: int
) -> tuple[Compiled, dict[str, Array]]:
    """A compiled random network and inputs, drawn again until it fits and no psum can overflow."""
    while True:
        graph = random_network(rng, work=macs)
        inputs = random_input(rng, graph)
        try:
            compiled = compile_graph(graph, config)
        except RowmeshError as error:
            assert "fits" in str(error), error
            continue
        if compiled.layers and not compiled.unproved():
            return compiled, inputs


def with_noise(compiled: Compiled, rng: np.random.Generator) -> Compiled:
    """The same with random bytes where the activations go."""
    noise = rng.integers(0, 256, compiled.write_limit).astype(np.uint8).tobytes()
    image = noise + compiled.image[compiled.write_limit :]
    return dataclasses.replace(compiled, image=image)


def check_values(compiled: Compiled, result: Result, inputs: Mapping[str, Array]) -> None:
    """Compare every tensor of a run with the golden model."""
    expected = golden.run(compiled.graph, inputs, compiled.config.rounding)
    for layer in compiled.layers:
        assert layer.outputs[0] in result.values, f"layer {layer.name} gave nothing"
    for name, values in result.values.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def check_counters(compiled: Compiled, result: Result, inputs: Mapping[str, Array]) -> None:
    """Every cycle of every PE is counted once, every effectual multiplication too."""
    expected = golden.run(compiled.graph, inputs, compiled.config.rounding)
    (measures,) = result.images
    for layer, measure in zip(compiled.layers, measures, strict=True):
        assert measure.layers == (layer.name,)
        assert measure.counters is not None
        activities = measure.counters[..., : len(Activity)].sum(axis=-1)
        assert (activities == measure.cycles).all(), f"{layer.name}: {measure.cycles} cycles"
        macs = effectual_macs(compiled.graph, layer, expected)[0]
        assert measure.counters[..., -1].sum() == macs, layer.name


def check_readout(bus: Bus, config: Config) -> None:
    """Counters read one behind the other are what each of them alone gives after a long wait."""
    registers = register_map(config)
    select, value = registers["COUNTER_SELECT"], registers["COUNTER_VALUE"]
    found = Accelerator(bus, config).counters()
    for row, col, pe, entry in np.ndindex(*found.shape):
        if entry in COUNTER_ENTRIES:
            where = select.compose({"row": row, "col": col, "pe": pe, "entry": entry})
            bus.write_register(select.offset, where)
            for _ in range(8):
                bus.read_register(registers["MAGIC"].offset)
            alone = bus.read_register(value.offset)
            assert found[row, col, pe, entry] == alone, (row, col, pe, entry)
