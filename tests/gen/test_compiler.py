"""Compiler: programs replayed by the program-level model equal the golden model, on any machine."""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from rowmesh.gen.compiled import Compiled, DeviceStep, HostStep
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Array,
    ConvAttrs,
    FcAttrs,
    Graph,
    Node,
    Op,
    PoolAttrs,
    Quant,
    ReshapeAttrs,
    Tensor,
)
from rowmesh.gen.runtime import Runtime
from rowmesh.gen.tables import codec_lines
from rowmesh.rtl.config import Config, load_config
from rowmesh.sim_models import golden
from rowmesh.sim_models.model_machine import ModelMachine
from rowmesh.verif.random_networks import random_config, random_input, random_network

TINY = load_config("tiny")


def conv_graph(
    size: tuple[int, int, int],
    weights: Array,
    *,
    zero_point: int = -128,
    pool: tuple[int, int] | None = None,
    out_zero_point: int = -128,
    attrs: ConvAttrs | None = None,
    seed: int = 1,
) -> Graph:
    """One convolution, clamped at its zero point, with an optional pooling behind it."""
    rng = np.random.default_rng(seed)
    attrs = dataclasses.replace(attrs or ConvAttrs(), clamp=(out_zero_point, 127))
    m, r, s, c = weights.shape
    top, bottom, left, right = attrs.pads
    e = (size[0] + top + bottom - (r - 1) * attrs.dilations[0] - 1) // attrs.strides[0] + 1
    f = (size[1] + left + right - (s - 1) * attrs.dilations[1] - 1) // attrs.strides[1] + 1
    scale = rng.uniform(0.001, 0.002, m)
    tensors = {
        "x": Tensor("x", (1, *size), "int8", Quant(np.array([0.02]), zero_point)),
        "w": Tensor("w", weights.shape, "int8", Quant(scale), weights),
        "b": Tensor(
            "b", (m,), "int32", Quant(scale * 0.02), rng.integers(-900, 900, m).astype(np.int32)
        ),
        "y": Tensor("y", (1, e, f, m), "int8", Quant(np.array([0.06]), out_zero_point)),
    }
    nodes = [Node(Op.CONV, "first", ("x", "w", "b"), ("y",), attrs)]
    out = "y"
    if pool is not None:
        quant = tensors["y"].quant
        tensors["p"] = Tensor("p", (1, e // pool[0], f // pool[1], m), "int8", quant)
        nodes.append(
            Node(Op.MAX_POOL, "pool", ("y",), ("p",), PoolAttrs(kernel=pool, strides=pool))
        )
        out = "p"
    return Graph("one", tensors, tuple(nodes), ("x",), (out,))


def fc_graph(inputs: int, weights: Array) -> Graph:
    """One fully connected layer without bias."""
    m = weights.shape[0]
    tensors = {
        "x": Tensor("x", (1, inputs), "int8", Quant(np.array([0.02]), 3)),
        "w": Tensor("w", weights.shape, "int8", Quant(np.full(m, 0.001)), weights),
        "y": Tensor("y", (1, m), "int8", Quant(np.array([0.05]), -7)),
    }
    nodes = (Node(Op.FULLY_CONNECTED, "first", ("x", "w"), ("y",), FcAttrs(clamp=(-128, 127))),)
    return Graph("one", tensors, nodes, ("x",), ("y",))


def random_weights(*shape: int, density: float = 1.0, seed: int = 2) -> Array:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < density, rng.integers(-127, 128, shape), 0).astype(np.int8)


def check(graph: Graph, config: Config, inputs: Mapping[str, Array]) -> Compiled:
    """Compile, replay with a memory full of noise, compare every tensor and the psum bound."""
    compiled = compile_graph(graph, config)
    machine = ModelMachine(config, len(compiled.image))
    machine.memory[:] = np.random.default_rng(0).integers(0, 256, len(machine.memory))
    noisy = bytearray(compiled.image)
    noisy[: compiled.write_limit] = machine.memory[: compiled.write_limit].tobytes()
    runtime = Runtime(dataclasses.replace(compiled, image=bytes(noisy)), machine)
    result = runtime.run(inputs)
    expected = golden.run(graph, inputs, config.rounding)
    for layer in compiled.layers:
        assert layer.outputs[0] in result.values
    for name, values in result.values.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    bounds = [bound for layer in compiled.layers for bound in layer.mapping.task.psum_bound]
    assert machine.psum_peak <= max((abs(bound) for bound in bounds), default=0)
    return compiled


@pytest.mark.parametrize("case", range(100))
def test_random_networks(case: int) -> None:
    rng = np.random.default_rng([7, case])
    config, graph = random_config(rng), random_network(rng)
    inputs = random_input(rng, graph)
    try:
        check(graph, config, inputs)
    except RowmeshError as error:
        # Both are right answers where they are true: a machine too small, and psums too narrow.
        text = str(error)
        if "PSUM_OVERFLOW" in text:
            compiled = compile_graph(graph, config)
            narrow = [layer.name for layer in compiled.layers if not layer.psum_proved]
            assert any(f"layer {name}:" in text for name in narrow), text
        else:
            assert "fits" in text, text


MACHINES = {
    "tiny": TINY,
    "demo": load_config("demo"),
    "eyeriss_v2": load_config("eyeriss_v2"),
    "one mac": dataclasses.replace(TINY, pe_rows=2, glb_iact_banks=2, macs_per_pe=1),
    "four macs": dataclasses.replace(load_config("demo"), macs_per_pe=4),
    "dense": dataclasses.replace(load_config("demo"), sparse=False),
    "one row": Config(cluster_rows=1, cluster_cols=4, glb_iact_bytes=4096),
    "one column": Config(cluster_rows=4, cluster_cols=1, glb_iact_bytes=4096),
    "more rows than banks": Config(pe_rows=4, glb_iact_banks=2, glb_iact_bytes=4096),
    "odd": Config(
        pe_rows=1,
        pe_cols=5,
        count_bits=1,
        iact_addr_depth=5,
        iact_data_depth=10,
        weight_addr_depth=11,
        weight_data_depth=77,
        psum_depth=20,
        glb_iact_banks=1,
        glb_iact_bytes=4096,
        rounding="double",
    ),
}
LAYERS = {
    "1x1": ((9, 7, 13), (10, 1, 1, 13), ConvAttrs()),
    "3x3": ((8, 8, 5), (9, 3, 3, 5), ConvAttrs(pads=(1, 1, 1, 1))),
    "7x7/2": ((15, 15, 3), (16, 7, 7, 3), ConvAttrs(strides=(2, 2), pads=(3, 2, 2, 3))),
    "11x11/4": ((19, 19, 3), (8, 11, 11, 3), ConvAttrs(strides=(4, 4))),
    "2x5/1x3 dilated": (
        (9, 16, 4),
        (12, 2, 5, 4),
        ConvAttrs(strides=(1, 3), dilations=(3, 2), pads=(0, 3, 1, 4)),
    ),
    "one pixel": ((1, 1, 30), (33, 1, 1, 30), ConvAttrs()),
    "all padding": ((1, 2, 8), (8, 3, 3, 8), ConvAttrs(pads=(4, 3, 5, 3))),
}


@pytest.mark.parametrize(("machine", "layer"), list(itertools.product(MACHINES, LAYERS)))
def test_layer_on_machine(machine: str, layer: str) -> None:
    size, shape, attrs = LAYERS[layer]
    graph = conv_graph(size, random_weights(*shape, density=0.6), attrs=attrs, zero_point=-20)
    inputs = random_input(np.random.default_rng(3), graph)
    check(graph, MACHINES[machine], inputs)


@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("zero_point", [-128, 0, 45])
def test_sparsity_and_zero_point(density: float, zero_point: int) -> None:
    weights = random_weights(16, 3, 3, 8, density=density)
    weights[:, 0, 0, 0] = 0  # an empty first column in any case
    graph = conv_graph((7, 7, 8), weights, zero_point=zero_point, out_zero_point=zero_point)
    check(graph, load_config("demo"), random_input(np.random.default_rng(4), graph))


@pytest.mark.parametrize("pool", [(1, 1), (2, 2), (3, 3), (1, 4), (5, 2)])
def test_fused_pool(pool: tuple[int, int]) -> None:
    graph = conv_graph((13, 14, 4), random_weights(10, 3, 3, 4), pool=pool)
    compiled = check(graph, load_config("demo"), random_input(np.random.default_rng(5), graph))
    assert [placed.where for placed in compiled.placements] == ["accelerator"] * 2
    assert compiled.layers[0].outputs == ("p",)


@pytest.mark.parametrize("inputs", [1, 8, 37, 600])
def test_fully_connected(inputs: int) -> None:
    graph = fc_graph(inputs, random_weights(21, inputs, density=0.5))
    for config in (load_config("demo"), dataclasses.replace(TINY, glb_iact_bytes=4096)):
        check(graph, config, random_input(np.random.default_rng(6), graph))


def test_batch_runs_image_by_image() -> None:
    graph = conv_graph((6, 6, 3), random_weights(8, 3, 3, 3))
    compiled = compile_graph(graph, TINY)
    runtime = Runtime(compiled, ModelMachine(TINY, len(compiled.image)))
    x = np.random.default_rng(8).integers(-128, 128, (3, 6, 6, 3)).astype(np.int8)
    result = runtime.run({"x": x}, per_layer=True)
    np.testing.assert_array_equal(result.values["y"], golden.run(graph, {"x": x})["y"])
    assert [[m.layers for m in image] for image in result.images] == [[("first",)]] * 3


class TestHost:
    """Operators that the accelerator has not, between those that it has."""

    def graph(self) -> Graph:
        first = conv_graph((8, 8, 4), random_weights(8, 3, 3, 4))
        quant = first.quant("y")
        weights = random_weights(6, 2, 2, 4, seed=9)
        tensors = {
            **first.tensors,
            "p": Tensor("p", (1, 5, 5, 8), "int8", quant),  # overlapping windows: not fusable
            "f": Tensor("f", (1, 200), "int8", quant),
            "i": Tensor("i", (1, 5, 10, 4), "int8", quant),
            "v": Tensor("v", weights.shape, "int8", Quant(np.full(6, 0.001)), weights),
            "z": Tensor("z", (1, 4, 9, 6), "int8", Quant(np.array([0.05]), 0)),
        }
        pool = PoolAttrs(kernel=(2, 2), strides=(1, 1))
        nodes = (
            first.nodes[0],
            Node(Op.MAX_POOL, "pool", ("y",), ("p",), pool),
            Node(Op.RESHAPE, "flat", ("p",), ("f",)),
            Node(Op.RESHAPE, "image", ("f",), ("i",)),
            Node(Op.CONV, "second", ("i", "v"), ("z",), ConvAttrs(clamp=(-128, 127))),
        )
        return Graph("host", tensors, nodes, ("x",), ("z",))

    def test_runs(self) -> None:
        graph = self.graph()
        compiled = check(graph, load_config("demo"), random_input(np.random.default_rng(1), graph))
        where = {placed.node.name: placed.where for placed in compiled.placements}
        assert where == {
            "first": "accelerator",
            "pool": "accelerator",
            "flat": "host",
            "image": "host",
            "second": "accelerator",
        }
        kinds = [type(step) for step in compiled.steps]
        assert kinds == [DeviceStep, HostStep, HostStep, DeviceStep]
        assert all(placed.reason for placed in compiled.placements if placed.where == "host")

    def test_flatten_costs_nothing(self) -> None:
        rng = np.random.default_rng(2)
        graph = conv_graph((4, 5, 3), random_weights(9, 2, 2, 3))
        weights = random_weights(11, 108)
        tensors = {
            **graph.tensors,
            "f": Tensor("f", (1, 108), "int8", graph.quant("y")),
            "v": Tensor("v", weights.shape, "int8", Quant(np.full(11, 0.001)), weights),
            "z": Tensor("z", (1, 11), "int8", Quant(np.array([0.05]), 0)),
        }
        nodes = (
            *graph.nodes,
            Node(Op.RESHAPE, "flat", ("y",), ("f",), ReshapeAttrs()),
            Node(Op.FULLY_CONNECTED, "last", ("f", "v"), ("z",), FcAttrs(clamp=(-128, 127))),
        )
        graph = Graph("flat", tensors, nodes, ("x",), ("z",))
        compiled = check(graph, TINY, random_input(rng, graph))
        assert [placed.where for placed in compiled.placements][1] == "none"
        assert len(compiled.steps) == 1


@pytest.mark.parametrize("width", [5, 8])
def test_compressed_features(width: int) -> None:
    """Two layers; what lies between them is coded where its rows are wide enough."""
    rng = np.random.default_rng(width)
    first = conv_graph((16, width, 4), random_weights(4, 1, 1, 4))
    weights = random_weights(4, 3, 3, 4, seed=3)
    tensors = {
        **first.tensors,
        "v": Tensor("v", weights.shape, "int8", Quant(np.full(4, 0.001)), weights),
        "z": Tensor("z", (1, 16, width, 4), "int8", Quant(np.array([0.05]), -128)),
    }
    attrs = ConvAttrs(pads=(1, 1, 1, 1), clamp=(-128, 127))
    nodes = (*first.nodes, Node(Op.CONV, "second", ("y", "v"), ("z",), attrs))
    graph = Graph("two", tensors, nodes, ("x",), ("z",))
    x = {"x": np.where(rng.random((1, 16, width, 4)) < 0.4, 50, -128).astype(np.int8)}
    compiled = check(graph, TINY, x)
    coded = [name for name in "xyz" if compiled.features[name].compressed]
    assert bool(coded) == (width == 8), coded  # which ones depends on the tiles that were chosen
    values = golden.run(graph, x, TINY.rounding)
    rows = {line.split()[0]: line.split() for line in codec_lines(compiled, values)}
    for name in "xyz":
        raw = 16 * width * 8  # one plane of eight channels
        assert rows[name][1:3] == ["RLC" if name in coded else "raw", str(raw)]
        words, spare = raw // 8, 0
        if name in coded:
            # What lies in memory, but for the empty word that may end a chunk.
            feature = compiled.features[name]
            memory = np.frombuffer(feature.store(values[name][0]), np.uint64)
            words, spare = np.count_nonzero(memory), feature.planes * feature.height
        stored = int(rows[name][3])
        assert 8 * words <= stored <= 8 * (words + spare)
        assert rows[name][4] == str(raw - stored)


def test_padded_outputs() -> None:
    """Outputs that no cluster could share evenly get padding, which nobody reads."""
    config = dataclasses.replace(TINY, cluster_rows=2, cluster_cols=2)
    graph = fc_graph(64, random_weights(8 * 15, 64, seed=5))
    rng = np.random.default_rng(5)
    compiled = check(graph, config, random_input(rng, graph))
    mapping = compiled.layers[0].mapping
    assert (mapping.task.block_words, mapping.planes, mapping.output_slots) == (15, 16, 4)


class TestErrors:
    """What the compiler refuses or warns of."""

    def test_no_tile_fits(self) -> None:
        """What the message asks for is what is needed."""
        small = dataclasses.replace(TINY, glb_iact_bytes=64)
        graph = conv_graph((20, 20, 1), random_weights(8, 1, 11, 1))
        match = r"layer first: no tile fits: glb_iact_bytes = 64 must be at least 88$"
        with pytest.raises(RowmeshError, match=match):
            compile_graph(graph, small)
        inputs = random_input(np.random.default_rng(1), graph)
        check(graph, dataclasses.replace(small, glb_iact_bytes=96), inputs)

    def test_psum_bank_too_small(self) -> None:
        small = dataclasses.replace(TINY, glb_psum_count=48)
        graph = conv_graph((6, 6, 1), random_weights(8, 1, 1, 1), pool=(3, 3))
        with pytest.raises(RowmeshError, match="fits: glb_psum_count = 48 must be at least 72$"):
            compile_graph(graph, small)

    def test_narrow_widths(self) -> None:
        graph = conv_graph((4, 4, 3), random_weights(8, 1, 1, 3))
        with pytest.raises(RowmeshError, match="weight_bits = 7: int8 networks need 8"):
            compile_graph(graph, dataclasses.replace(TINY, weight_bits=7))

    def test_bias_out_of_range(self) -> None:
        graph = conv_graph((4, 4, 3), random_weights(8, 1, 1, 3))
        bias = dataclasses.replace(graph.tensors["b"], data=np.full(8, 2**31 - 1, np.int32))
        graph = dataclasses.replace(graph, tensors={**graph.tensors, "b": bias})
        weights = dataclasses.replace(graph.tensors["w"], data=-np.ones((8, 1, 1, 3), np.int8))
        graph = dataclasses.replace(graph, tensors={**graph.tensors, "w": weights})
        shifted = dataclasses.replace(graph.tensors["x"], quant=Quant(np.array([0.02]), 100))
        graph = dataclasses.replace(graph, tensors={**graph.tensors, "x": shifted})
        with pytest.raises(RowmeshError, match="conv 'first': a bias .* exceeds 32 bits"):
            compile_graph(graph, TINY)

    def test_padding_out_of_range(self) -> None:
        attrs = ConvAttrs(pads=(0, 0, 300, 0))
        graph = conv_graph((4, 4, 3), random_weights(8, 1, 1, 3), attrs=attrs)
        with pytest.raises(RowmeshError, match="conv 'first': padding 300 exceeds 255"):
            compile_graph(graph, TINY)

    def test_psum_not_proved_and_overflow(self) -> None:
        weights = np.full((8, 3, 3, 16), 127, np.int8)
        graph = conv_graph((5, 5, 16), weights, zero_point=-128)
        narrow = dataclasses.replace(TINY, psum_bits=22, glb_iact_bytes=4096)
        compiled = compile_graph(graph, narrow)
        # 144 products of 255 * 127 need 23 bits and a sign.
        (warning,) = compiled.unproved()
        assert warning.startswith("layer first: psum_bits = 22 is not proved enough; 24 would be")
        runtime = Runtime(compiled, ModelMachine(narrow, len(compiled.image)))
        with pytest.raises(RowmeshError, match=r"layer first: fault PSUM_OVERFLOW.*psum_bits = 22"):
            runtime.run({"x": np.full((1, 5, 5, 16), 127, np.int8)})
        wide = dataclasses.replace(narrow, psum_bits=24)
        assert not compile_graph(graph, wide).unproved()
        check(graph, wide, {"x": np.full((1, 5, 5, 16), 127, np.int8)})

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((1, 5, 5, 3), np.int8), r"must be int8 \(N, 4, 4, 3\)"),
            (np.zeros((1, 4, 4, 3), np.int16), "'x' is int16"),
        ],
    )
    def test_bad_input(self, x: Array, message: str) -> None:
        compiled = compile_graph(conv_graph((4, 4, 3), random_weights(8, 1, 1, 3)), TINY)
        with pytest.raises(RowmeshError, match=message):
            Runtime(compiled, ModelMachine(TINY, len(compiled.image))).run({"x": x})


def test_deterministic() -> None:
    rng = np.random.default_rng(11)
    graph = random_network(rng)
    images = [compile_graph(graph, load_config("demo")).image for _ in range(2)]
    assert images[0] == images[1]
