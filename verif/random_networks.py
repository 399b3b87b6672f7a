"""Random networks for the accelerator and random configurations to run them on.

Everything that the compiler must place is drawn: odd sizes, strides 1 to 4, padding, dilation,
groups and depthwise layers, any zero point, weights and inputs of any sparsity, maximum pooling
that is fused and that is not, average pooling, residual additions, a fully connected layer on top;
and machines of other mesh, PE, SPad and SIMD sizes.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from rowmesh.gen.graph import (
    AddAttrs,
    Array,
    Attrs,
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
from rowmesh.rtl.config import PRESETS, Config, load_config

__all__ = ["random_config", "random_input", "random_network"]

#: Zero points: a real zero (after ReLU), signed storage, and others.
_ZERO_POINTS = (-128, -128, -128, 0, 0, 127, -36, 11)
_DENSITIES = (0.0, 0.05, 0.2, 0.5, 0.8, 1.0)
_KERNELS = (1, 1, 2, 3, 3, 4, 5, 6, 7, 11)


def _pick(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _choice(rng: np.random.Generator, options: tuple[int, ...]) -> int:
    return int(options[_pick(rng, 0, len(options) - 1)])


def _sparse(rng: np.random.Generator, shape: tuple[int, ...], zero: int, low: int) -> Array:
    """int8 values from `low` on, a random part of them `zero`; now and then whole channels."""
    values = rng.integers(low, 128, shape)
    density = _DENSITIES[_pick(rng, 0, len(_DENSITIES) - 1)]
    kept = rng.random(shape) < density
    if rng.random() < 0.2:
        kept &= rng.random(shape[-1]) < 0.5
    return np.asarray(np.where(kept, values, zero), np.int8)


@dataclass
class _Builder:
    """A chain of layers that starts at the tensor `last`."""

    rng: np.random.Generator
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    last: str = "x"

    def quant(self) -> Quant:
        return Quant(self.rng.uniform(0.002, 0.05, 1), _choice(self.rng, _ZERO_POINTS))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensors[self.last].shape

    def add(
        self, op: Op, attrs: Attrs, shape: tuple[int, ...], quant: Quant, more: list[str]
    ) -> None:
        """A node that reads the last tensor, and more."""
        index = len(self.nodes)
        out = f"{op.value}{index}"
        self.nodes.append(Node(op, f"layer{index}", (self.last, *more), (out,), attrs))
        self.tensors[out] = Tensor(out, shape, "int8", quant)
        self.last = out

    def weighted(self, op: Op, attrs: Attrs, shape: tuple[int, ...], weights: Array) -> None:
        """A convolution or fully connected layer whose sums spread over the int8 range."""
        rng, index = self.rng, len(self.nodes)
        source = self.tensors[self.last].quant
        assert source is not None
        outputs = weights.shape[0]
        scale: Array = rng.uniform(0.002, 0.05, size=(outputs,))
        constants = [f"w{index}"]
        self.tensors[constants[0]] = Tensor(
            constants[0], weights.shape, "int8", Quant(scale), weights
        )
        if rng.random() < 0.8:
            bias = np.asarray(rng.integers(-5000, 5001, outputs), np.int32)
            constants.append(f"b{index}")
            quant = Quant(scale * source.scale[0])
            self.tensors[constants[1]] = Tensor(constants[1], (outputs,), "int32", quant, bias)
        spread = 5000 + 74 * math.sqrt(float(np.sum(weights.astype(float) ** 2)) / outputs)
        size = source.scale[0] * scale.mean() * spread / rng.uniform(20, 90)
        quant = Quant(np.array([size]), _choice(rng, _ZERO_POINTS))
        low = quant.zero_point if rng.random() < 0.5 else -128
        high = 127 if rng.random() < 0.7 else _pick(rng, low, 127)
        assert isinstance(attrs, ConvAttrs | FcAttrs)
        node_attrs: Attrs = (
            FcAttrs(clamp=(low, high))
            if isinstance(attrs, FcAttrs)
            else ConvAttrs(
                strides=attrs.strides,
                pads=attrs.pads,
                dilations=attrs.dilations,
                groups=attrs.groups,
                clamp=(low, high),
            )
        )
        self.add(op, node_attrs, shape, quant, constants)

    def conv(self, largest: int) -> None:
        rng = self.rng
        _, h, w, c = self.shape
        strides = (_pick(rng, 1, 4), _pick(rng, 1, 4)) if rng.random() < 0.5 else (1, 1)
        dilations = (_pick(rng, 1, 3), _pick(rng, 1, 3)) if rng.random() < 0.2 else (1, 1)
        kernel = [_choice(rng, _KERNELS), _choice(rng, _KERNELS)]
        for axis, size in enumerate((h, w)):
            # Padding may double the image, no more.
            most = (2 * size - 1) // dilations[axis] + 1
            kernel[axis] = min(kernel[axis], most, largest)
        pads = []
        for axis, size in enumerate((h, w)):
            span = (kernel[axis] - 1) * dilations[axis] + 1
            need = max(0, span - size)
            before = _pick(rng, 0, max(need, kernel[axis] // 2))
            pads += [before, max(need - before, _pick(rng, 0, kernel[axis] // 2))]
        out = [
            (n + pads[2 * axis] + pads[2 * axis + 1] - (kernel[axis] - 1) * dilations[axis] - 1)
            // strides[axis]
            + 1
            for axis, n in enumerate((h, w))
        ]
        groups = 1
        if rng.random() < 0.4:
            options = tuple(g for g in range(1, c + 1) if c % g == 0)
            groups = c if rng.random() < 0.6 else _choice(rng, options)
        m = _pick(rng, 1, 40) if groups == 1 else groups * _pick(rng, 1, max(1, 40 // groups))
        weights = _sparse(rng, (m, kernel[0], kernel[1], c // groups), 0, -128)
        attrs = ConvAttrs(
            strides=strides,
            pads=(pads[0], pads[1], pads[2], pads[3]),
            dilations=dilations,
            groups=groups,
        )
        self.weighted(Op.CONV, attrs, (1, out[0], out[1], m), weights)

    def pool(self) -> None:
        """A maximum whose windows tile the image, or any maximum or average."""
        rng = self.rng
        _, h, w, m = self.shape
        kernel = (_pick(rng, 1, min(3, h)), _pick(rng, 1, min(4, w)))
        strides, pads = kernel, (0, 0, 0, 0)
        op = Op.MAX_POOL if rng.random() < 0.7 else Op.AVG_POOL
        if rng.random() < 0.5:
            strides = (_pick(rng, 1, 3), _pick(rng, 1, 3))
            if op is Op.AVG_POOL:
                if rng.random() < 0.4:
                    kernel = (h, w)
            else:
                top, bottom, left, right = (
                    _pick(rng, 0, size - 1) for size in kernel for _ in "ab"
                )
                pads = (top, bottom, left, right)
        quant = self.tensors[self.last].quant
        assert quant is not None
        e = (h + pads[0] + pads[1] - kernel[0]) // strides[0] + 1
        f = (w + pads[2] + pads[3] - kernel[1]) // strides[1] + 1
        low = quant.zero_point if rng.random() < 0.3 else -128
        attrs = PoolAttrs(kernel=kernel, strides=strides, pads=pads, clamp=(low, 127))
        self.add(op, attrs, (1, e, f, m), quant, [])

    def residual(self) -> None:
        """The last tensor, or a pointwise convolution of it, added to it."""
        before, shape = self.last, self.shape
        if self.rng.random() < 0.8:
            weights = _sparse(self.rng, (shape[3], 1, 1, shape[3]), 0, -128)
            self.weighted(Op.CONV, ConvAttrs(), shape, weights)
        quant = self.quant()
        low = quant.zero_point if self.rng.random() < 0.5 else -128
        self.add(Op.ADD, AddAttrs(clamp=(low, 127)), shape, quant, [before])

    def dense(self) -> None:
        if len(self.shape) == 4:
            quant = self.tensors[self.last].quant
            assert quant is not None
            flat = (1, math.prod(self.shape))
            self.add(Op.RESHAPE, ReshapeAttrs(), flat, quant, [])
        m = _pick(self.rng, 1, 40)
        weights = _sparse(self.rng, (m, self.shape[1]), 0, -128)
        self.weighted(Op.FULLY_CONNECTED, FcAttrs(), (1, m), weights)


def random_network(rng: np.random.Generator, *, work: int = 300_000) -> Graph:
    """A quantized network of a few layers.

    Parameters
    ----------
    rng : Generator
        Seeded by the caller.
    work : int
        Roughly the most MACs; larger draws are made again.
    """
    while True:
        build = _Builder(rng)
        flat = rng.random() < 0.15
        size = (1, _pick(rng, 1, 20), _pick(rng, 1, 20), _pick(rng, 1, 20))
        shape = (1, _pick(rng, 1, 600)) if flat else size
        build.tensors["x"] = Tensor("x", shape, "int8", build.quant())
        if not flat:
            for _ in range(_pick(rng, 1, 2)):
                build.conv(11)
                if rng.random() < 0.4:
                    build.pool()
                if rng.random() < 0.25:
                    build.residual()
        if flat or rng.random() < 0.25:
            build.dense()
        graph = Graph("random", build.tensors, tuple(build.nodes), ("x",), (build.last,))
        if sum(_macs(graph, node) for node in graph.nodes) <= work:
            return graph


def _macs(graph: Graph, node: Node) -> int:
    if node.op not in (Op.CONV, Op.FULLY_CONNECTED):
        return 0
    weights = graph.constant(node.inputs[1])
    size = int(weights.size * math.prod(graph.tensors[node.outputs[0]].shape[1:-1]))
    # A PE meets whole planes of channels.
    return size * min(8, node.attrs_as(ConvAttrs).groups) if node.op is Op.CONV else size


def random_input(rng: np.random.Generator, graph: Graph) -> dict[str, Array]:
    """int8 values of every input, of random sparsity around the zero point."""
    return {
        name: _sparse(rng, graph.tensors[name].shape, graph.quant(name).zero_point, -128)
        for name in graph.inputs
    }


def random_config(rng: np.random.Generator) -> Config:
    """A preset, or a machine of random mesh, PE, SPad, GLB and SIMD sizes."""
    if rng.random() < 0.3:
        return load_config(list(PRESETS)[_pick(rng, 0, len(PRESETS) - 1)])
    while True:
        cluster_rows = _pick(rng, 1, 4)
        values = {
            "cluster_rows": cluster_rows,
            "cluster_cols": _pick(rng, 1, 4),
            "pe_rows": _pick(rng, 1, 5),
            "pe_cols": _pick(rng, 1, 5),
            "macs_per_pe": _choice(rng, (1, 2, 4)),
            "psum_bits": _choice(rng, (20, 24, 28, 32)),
            "count_bits": _pick(rng, 1, 6),
            "iact_addr_depth": _pick(rng, 3, 12),
            "iact_data_depth": 2 * _pick(rng, 4, 20),
            "weight_addr_depth": _pick(rng, 8, 40),
            "weight_data_depth": _pick(rng, 33, 300),
            "psum_depth": 4 * _pick(rng, 4, 20),
            "glb_iact_banks": _pick(rng, 1, 5),
            "glb_iact_bytes": 16 * _pick(rng, 64, 256),
            "glb_psum_count": 4 * _pick(rng, 32, 300),
            "param_depth": _choice(rng, (128, 256, 1024)),
            "rows_per_axi_master": _choice(
                rng, tuple(n for n in range(1, cluster_rows + 1) if cluster_rows % n == 0)
            ),
            "axi_data_bits": _choice(rng, (64, 128, 256)),
        }
        try:
            return Config(
                **values,
                rounding="double" if rng.random() < 0.3 else "single",
                sparse=bool(rng.random() < 0.75),
                deep_pipeline=bool(rng.random() < 0.3),
            )
        except ValueError:
            continue
