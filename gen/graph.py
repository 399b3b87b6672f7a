"""The internal graph: what every importer makes, and the quantizer, golden model and compiler read.

Activations are NHWC with the batch first. Convolution weights are ``[M, R, S, C/G]``, those of a
fully connected layer ``[M, C]``. A tensor that the model itself holds as NCHW (ONNX) says so in
`Tensor.model_image`, and `Tensor.to_model` and `Tensor.from_model` convert.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.operators import (
    AddAttrs,
    Attrs,
    Clamp,
    ClampAttrs,
    Clamped,
    ConcatAttrs,
    ConvAttrs,
    FcAttrs,
    Numerics,
    Op,
    PadAttrs,
    PoolAttrs,
    QuantizeAttrs,
    ReshapeAttrs,
    SliceAttrs,
    SoftmaxAttrs,
    StateAttrs,
    TransposeAttrs,
)

__all__ = [
    "ARITHMETIC",
    "AddAttrs",
    "Array",
    "Attrs",
    "Clamp",
    "ClampAttrs",
    "ConcatAttrs",
    "ConvAttrs",
    "FcAttrs",
    "Graph",
    "Node",
    "Numerics",
    "Op",
    "PadAttrs",
    "PoolAttrs",
    "Quant",
    "QuantizeAttrs",
    "ReshapeAttrs",
    "SliceAttrs",
    "SoftmaxAttrs",
    "StateAttrs",
    "Tensor",
    "TransposeAttrs",
]

Array = NDArray[Any]
A = TypeVar("A")
#: Operators that make an integer tensor in every quantized graph.
ARITHMETIC = (Op.CONV, Op.FULLY_CONNECTED, Op.MAX_POOL, Op.AVG_POOL, Op.ADD)


@dataclass(frozen=True, eq=False)
class Quant:
    """Quantization: ``real = scale * (quantized - zero_point)``.

    Parameters
    ----------
    scale : ndarray of float64
        Shape [1], or [M] for one scale per output channel (axis 0 of the weights).
    zero_point : int
        The quantized value of the real zero.
    """

    scale: NDArray[np.float64]
    zero_point: int = 0

    def __post_init__(self) -> None:
        scale = np.atleast_1d(np.asarray(self.scale, dtype=np.float64))
        if scale.ndim != 1 or not np.all(np.isfinite(scale)) or np.any(scale <= 0):
            raise RowmeshError("a quantization scale must be finite and positive")
        object.__setattr__(self, "scale", scale)

    @property
    def per_channel(self) -> bool:
        """Whether every output channel has a scale of its own."""
        return self.scale.size > 1

    def quantize(self, real: Array) -> NDArray[np.int8]:
        """Round real values (half to even) to int8, saturating; one scale only."""
        steps = np.rint(np.asarray(real, dtype=np.float64) / self.scale[0]) + self.zero_point
        quantized: NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
        return quantized

    def same(self, other: "Quant") -> bool:
        """Whether both quantize alike."""
        alike = self.zero_point == other.zero_point
        return alike and np.array_equal(self.scale, other.scale)

    def dequantize(self, values: Array) -> NDArray[np.float32]:
        """Real values of quantized ones; one scale only."""
        steps = np.asarray(values, dtype=np.float64) - self.zero_point
        real: NDArray[np.float32] = (steps * self.scale[0]).astype(np.float32)
        return real


@dataclass(frozen=True, eq=False)
class Tensor:
    """An activation or a constant.

    Parameters
    ----------
    name : str
        The name it has in the model.
    shape : tuple of int
        Static shape as stored here.
    dtype : str
        ``float32``, ``int8``, ``int32`` ...
    quant : Quant, optional
        Present on every tensor of a quantized graph.
    data : ndarray, optional
        The values of a constant.
    model_image : tuple of int, optional
        (H, W, C) when the model orders these values as NCHW (a 4-d image, or one flattened to
        [N, C*H*W]) while here they are in NHWC order. None: the same order as in the model.
    unsigned : bool
        The model holds these int8 values as uint8, all 128 more; so does its zero point.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None = None
    data: Array | None = None
    model_image: tuple[int, int, int] | None = None
    unsigned: bool = False

    @property
    def model_dtype(self) -> str:
        """The type that the values have in the model."""
        return "uint8" if self.unsigned else self.dtype

    @property
    def model_offset(self) -> int:
        """How much more than here the values are in the model."""
        return 128 if self.unsigned else 0

    @property
    def model_quant(self) -> Quant:
        """The quantization of the values as they are in the model.

        Raises
        ------
        RowmeshError
            The tensor has none.
        """
        if self.quant is None:
            raise RowmeshError(f"tensor {self.name!r} has no quantization")
        return Quant(self.quant.scale, self.quant.zero_point + self.model_offset)

    @property
    def model_shape(self) -> tuple[int, ...]:
        """The shape that the tensor has in the model."""
        if self.model_image is None or len(self.shape) != 4:
            return self.shape
        n, h, w, c = self.shape
        return (n, c, h, w)

    def to_model(self, values: Array) -> Array:
        """Values of this tensor ([N, ...], any batch) in the order, shape and type of the model."""
        if self.unsigned:
            values = (values.astype(np.int16) + 128).astype(np.uint8)
        if self.model_image is None:
            return values
        h, w, c = self.model_image
        nchw = values.reshape(-1, h, w, c).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(nchw if len(self.shape) == 4 else nchw.reshape(values.shape))

    def from_model(self, values: Array) -> Array:
        """Inverse of `to_model`."""
        if self.unsigned:
            values = (values.astype(np.int16) - 128).astype(np.int8)
        if self.model_image is None:
            return values
        h, w, c = self.model_image
        nhwc = values.reshape(-1, c, h, w).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(nhwc if len(self.shape) == 4 else nhwc.reshape(values.shape))


@dataclass(frozen=True)
class Node:
    """One operator: tensors by name. A missing bias is left out of `inputs`."""

    op: Op
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Attrs = field(default_factory=ReshapeAttrs)

    @property
    def clamp(self) -> Clamp | None:
        """Bounds of the output, where the operator has some."""
        return self.attrs.clamp if isinstance(self.attrs, Clamped) else None

    def with_clamp(self, bounds: Clamp) -> "Node":
        """The same node with other bounds; unchanged where the operator has none."""
        if not isinstance(self.attrs, Clamped):
            return self
        return replace(self, attrs=replace(self.attrs, clamp=bounds))

    def attrs_as(self, kind: type[A]) -> A:
        """The attributes, checked to be of the type `kind`."""
        if not isinstance(self.attrs, kind):
            raise TypeError(f"{self.op} {self.name!r} has no {kind.__name__}")
        return self.attrs


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: tensors by name, and nodes in an order in which they can run.

    Parameters
    ----------
    name : str
    tensors : mapping of Tensor
        By their names in the model.
    nodes : tuple of Node
    inputs, outputs : tuple of str
    numerics : Numerics
        Whose rounding it has; a network that the project quantizes itself has TFLite's.
    states : mapping of ndarray
        Initial values of what a streaming network keeps from one run to the next.

    Raises
    ------
    RowmeshError
        A node reads a tensor that is unknown or not computed yet, two nodes write the same, or
        a state is unknown.
    """

    name: str
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numerics: Numerics = Numerics.TFLITE
    states: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ready = {name for name, tensor in self.tensors.items() if tensor.data is not None}
        ready |= set(self.inputs)
        for node in self.nodes:
            if isinstance(node.attrs, StateAttrs) and node.attrs.state not in self.states:
                raise RowmeshError(f"{node.op} {node.name!r}: unknown state {node.attrs.state!r}")
            for name in node.inputs:
                if name not in self.tensors or name not in ready:
                    raise RowmeshError(f"{node.op} {node.name!r} reads {name!r} before it exists")
            for name in node.outputs:
                if name not in self.tensors:
                    raise RowmeshError(f"{node.op} {node.name!r} writes unknown tensor {name!r}")
                if name in ready:
                    raise RowmeshError(f"{node.op} {node.name!r} writes {name!r} a second time")
                ready.add(name)
        for name in self.outputs:
            if name not in ready:
                raise RowmeshError(f"no operator computes the graph output {name!r}")

    @property
    def quantized(self) -> bool:
        """Whether the arithmetic (or, without any, every input) is on integers."""
        made = [node.outputs[0] for node in self.nodes if node.op in ARITHMETIC]
        return all(self.tensors[name].dtype != "float32" for name in made or self.inputs)

    def from_model(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Named tensors (any batch) from the model's own layout to the one stored here."""
        return {name: self.tensors[name].from_model(array) for name, array in values.items()}

    def to_model(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Named tensors (any batch) in the order and shape that the model has."""
        return {name: self.tensors[name].to_model(array) for name, array in values.items()}

    def constant(self, name: str) -> Array:
        """The values of a constant tensor.

        Raises
        ------
        RowmeshError
            The tensor is not a constant.
        """
        data = self.tensors[name].data
        if data is None:
            raise RowmeshError(f"tensor {name!r} must be a constant")
        return data

    def quant(self, name: str) -> Quant:
        """The quantization of a tensor.

        Raises
        ------
        RowmeshError
            The tensor has none.
        """
        quant = self.tensors[name].quant
        if quant is None:
            raise RowmeshError(f"tensor {name!r} has no quantization")
        return quant
