"""The networks that the published chip was measured with, layer by layer, with random data.

Every layer reads an input of its own, so that its zeros are those that were asked for; the layers
make one program, in order, and each waits for the one before as in any network.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.graph import (
    Array,
    ConvAttrs,
    FcAttrs,
    Graph,
    Node,
    Op,
    Quant,
    Tensor,
)

__all__ = ["Layer", "alexnet", "mobilenet", "workload"]

Mask = NDArray[np.bool_]
#: Largest magnitude of a random psum, in standard deviations, that must fit `psum_bits`.
_SIGMAS = 7.0
#: Standard deviation of the product of a random iact and a random weight, over the largest weight.
_PRODUCT = 74.0 / 3**0.5
#: That of a layer's outputs, in steps of their quantization.
_LEVELS = 40.0


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Shape of a convolution or fully connected layer, in the field's names.

    Parameters
    ----------
    name : str
    M, C, R, S, U, G : int
        Outputs, input channels (over all groups), filter height and width, stride, groups.
    H : int
        Rows and columns of the (square) input.
    pad : (int, int)
        Rows (columns) of padding before and behind.
    """

    name: str
    M: int
    C: int
    R: int
    S: int
    H: int
    U: int = 1
    G: int = 1
    pad: tuple[int, int] = (0, 0)

    @property
    def E(self) -> int:
        """Rows and columns of the output."""
        return (self.H + sum(self.pad) - self.R) // self.U + 1

    @property
    def connected(self) -> bool:
        """Whether it is fully connected."""
        return self.H == 1

    @property
    def macs(self) -> int:
        """Nominal multiplications."""
        return self.M * self.E**2 * self.C // self.G * self.R * self.S

    @property
    def iact_shape(self) -> tuple[int, ...]:
        """Shape of the input, batch first."""
        return (1, self.C) if self.connected else (1, self.H, self.H, self.C)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        return (self.M, self.C) if self.connected else (self.M, self.R, self.S, self.C // self.G)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (1, self.M) if self.connected else (1, self.E, self.E, self.M)


def alexnet() -> tuple[Layer, ...]:
    """AlexNet with its groups: 724.4 M multiplications."""
    return (
        Layer(name="conv1", M=96, C=3, R=11, S=11, H=227, U=4),
        Layer(name="conv2", M=256, C=96, R=5, S=5, H=27, G=2, pad=(2, 2)),
        Layer(name="conv3", M=384, C=256, R=3, S=3, H=13, pad=(1, 1)),
        Layer(name="conv4", M=384, C=384, R=3, S=3, H=13, G=2, pad=(1, 1)),
        Layer(name="conv5", M=256, C=384, R=3, S=3, H=13, G=2, pad=(1, 1)),
        Layer(name="fc6", M=4096, C=9216, R=1, S=1, H=1),
        Layer(name="fc7", M=4096, C=4096, R=1, S=1, H=1),
        Layer(name="fc8", M=1000, C=4096, R=1, S=1, H=1),
    )


def mobilenet(width: float = 0.5, size: int = 128) -> tuple[Layer, ...]:
    """MobileNet v1: 49.16 M multiplications at width 0.5 and 128 x 128 pixels."""

    def same(kernel: int, stride: int, rows: int) -> tuple[int, int]:
        """TFLite's SAME."""
        total = max(0, (-(-rows // stride) - 1) * stride + kernel - rows)
        return total // 2, total - total // 2

    def channels(full: int) -> int:
        return max(8, int(full * width))

    made, rows = channels(32), -(-size // 2)
    out = [Layer(name="L01_conv", M=made, C=3, R=3, S=3, H=size, U=2, pad=same(3, 2, size))]
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    plan += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for full, stride in plan:
        pad, name = same(3, stride, rows), f"L{len(out) + 1:02}_dw"
        out.append(Layer(name=name, M=made, C=made, R=3, S=3, H=rows, U=stride, G=made, pad=pad))
        rows, more = -(-rows // stride), channels(full)
        out.append(Layer(name=f"L{len(out) + 1:02}_pw", M=more, C=made, R=1, S=1, H=rows))
        made = more
    out.append(Layer(name=f"L{len(out) + 1:02}_fc", M=1000, C=made, R=1, S=1, H=1))
    return tuple(out)


def workload(
    name: str,
    layers: tuple[Layer, ...],
    masks: Mapping[str, tuple[Mask, Mask]],
    *,
    psum_bits: int,
    seed: int,
) -> tuple[Graph, dict[str, Array], dict[str, float]]:
    """A graph of all layers, an input for each, and the part of each that is not zero.

    Parameters
    ----------
    name : str
    layers : tuple of Layer
    masks : mapping of (ndarray of bool, ndarray of bool)
        Non-zeros of the input and of the weights, by layer name, in their shapes; a layer that is
        not there is dense. With masks, inputs are unsigned (as behind a ReLU).
    psum_bits : int
        Sums stay within.
    seed : int

    Returns
    -------
    graph, inputs, densities
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    inputs: dict[str, Array] = {}
    densities: dict[str, float] = {}
    for layer in layers:
        masked = layer.name in masks
        iacts, weights = masks.get(
            layer.name, (np.ones(layer.iact_shape, bool), np.ones(layer.weight_shape, bool))
        )
        terms = float(weights.reshape(layer.M, -1).sum(axis=1).max()) * float(iacts.mean())
        sum_of_largest = _SIGMAS * _PRODUCT * max(1.0, terms) ** 0.5
        top = min(127, max(1, int((1 << psum_bits - 1) / sum_of_largest)))
        magnitude = rng.integers(1, top + 1, weights.shape)
        values = np.where(weights, magnitude * rng.choice((-1, 1), weights.shape), 0)
        if masked:
            stored = np.where(iacts, rng.integers(1, 129, iacts.shape), 0) - 128
        else:
            stored = rng.integers(1, 128, iacts.shape) * rng.choice((-1, 1), iacts.shape)
        source, made = f"{layer.name}/in", f"{layer.name}/out"
        zero = -128 if masked else 0
        spread = _PRODUCT * top * max(1.0, terms) ** 0.5
        tensors |= {
            source: Tensor(source, layer.iact_shape, "int8", Quant(np.ones(1), zero)),
            f"{layer.name}/w": Tensor(
                f"{layer.name}/w",
                layer.weight_shape,
                "int8",
                Quant(np.ones(1)),
                np.asarray(values, np.int8),
            ),
            made: Tensor(
                made, layer.output_shape, "int8", Quant(np.array([spread / _LEVELS]), zero)
            ),
        }
        clamp = (zero, 127) if masked else (-128, 127)
        names = (source, f"{layer.name}/w")
        if layer.connected:
            node = Node(Op.FULLY_CONNECTED, layer.name, names, (made,), FcAttrs(clamp=clamp))
        else:
            attrs = ConvAttrs(
                strides=(layer.U, layer.U), pads=layer.pad * 2, groups=layer.G, clamp=clamp
            )
            node = Node(Op.CONV, layer.name, names, (made,), attrs)
        nodes.append(node)
        inputs[source] = np.asarray(stored, np.int8)
        densities[source] = float(iacts.mean())
    graph = Graph(
        name=name,
        tensors=tensors,
        nodes=tuple(nodes),
        inputs=tuple(inputs),
        outputs=tuple(node.outputs[0] for node in nodes),
    )
    return graph, inputs, densities
