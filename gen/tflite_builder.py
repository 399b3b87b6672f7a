"""The graph under construction while a TFLite file is read, and checked access to its tensors."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Array,
    Attrs,
    Clamp,
    Graph,
    Node,
    Op,
    Quant,
    ReshapeAttrs,
    Tensor,
)
from rowmesh.gen.tflite_reader import RawGraph, RawOperator, RawTensor

__all__ = ["TfliteBuilder"]

_CONSTANT_TYPES = {
    "BOOL": np.bool_,
    "FLOAT16": np.float16,
    "FLOAT32": np.float32,
    "INT32": np.int32,
    "INT64": np.int64,
    "INT8": np.int8,
    "UINT8": np.uint8,
}
#: Types of activations: as stored here, and whether the model has them as uint8.
_ACTIVATION_TYPES = {
    "FLOAT32": ("float32", False),
    "INT8": ("int8", False),
    "UINT8": ("int8", True),
}


class TfliteBuilder:
    """The graph under construction.

    Parameters
    ----------
    raw : RawGraph
        The main subgraph.
    states : dict of ndarray
        Initial values of the resource variables.

    Attributes
    ----------
    operator : RawOperator
        The one being read.
    resources : dict
        Names of the states by index of the tensor that stands for them.
    shapes : set of int
        Tensors that hold nothing but shapes; all shapes are static here.
    """

    def __init__(self, raw: RawGraph, states: dict[str, Array]) -> None:
        self.raw, self.states = raw, states
        self.tensors: dict[str, Tensor] = {}
        self.nodes: dict[str, Node] = {}
        self.resources: dict[int, str] = {}
        self.shapes: set[int] = set()
        self.operator = RawOperator("", (), (), {})
        self._index = 0
        self._folded: dict[str, Array] = {}

    # -- the operator being read ---------------------------------------------------------------

    def begin(self, index: int) -> RawOperator:
        """Turn to operator `index`, which errors are then about."""
        self._index, self.operator = index, self.raw.operators[index]
        return self.operator

    def error(self, message: str) -> RowmeshError:
        """An error that names the operator and the tensor it makes."""
        outputs = self.operator.outputs
        made = repr(self.raw.tensors[outputs[0]].name) if outputs else "nothing"
        return RowmeshError(f"{self.operator.code} {self._index} (makes {made}): {message}")

    def option(self, name: str, default: int = 0) -> int:
        """A field of the options."""
        return int(self.operator.options.get(name, default))

    def raw_input(self, index: int) -> RawTensor | None:
        """Input `index` as the file has it; None where it is left out."""
        inputs = self.operator.inputs
        if index >= len(inputs) or inputs[index] < 0:
            return None
        return self.raw.tensors[inputs[index]]

    # -- tensors -------------------------------------------------------------------------------

    def input(self, index: int, *, constant: bool = False) -> Tensor:
        """The activation that input `index` reads; with `constant` it may be one.

        Raises
        ------
        RowmeshError
            It is left out, not made yet, of an unsupported type, or not quantized.
        """
        raw = self.raw_input(index)
        if raw is None:
            raise self.error(f"input {index} is missing")
        if raw.name in self.tensors:
            return self.tensors[raw.name]
        if not raw.data:
            raise self.error(f"tensor {raw.name!r} is read before it is made")
        if not constant:
            raise self.error(f"tensor {raw.name!r} is a constant: an activation is needed")
        data = self.values(raw)
        tensor = self.activation(raw)
        stored = data.astype(np.int16) - 128 if tensor.unsigned else data
        return replace(tensor, data=stored.astype(tensor.dtype))

    def activation(self, raw: RawTensor) -> Tensor:
        """A tensor that is made at run time."""
        if raw.dtype not in _ACTIVATION_TYPES:
            raise self.error(f"tensor {raw.name!r} is {raw.dtype}: unsupported type")
        if raw.variable or raw.sparse:
            told = "a variable" if raw.variable else "stored sparsely"
            raise self.error(f"tensor {raw.name!r} is {told}: unsupported")
        # The first axis is the batch, and may be any.
        if any(size < 1 for size in raw.shape) or -1 in raw.signature[1:]:
            shape = raw.signature or raw.shape
            raise self.error(f"tensor {raw.name!r} has the dynamic shape {list(shape)}")
        dtype, unsigned = _ACTIVATION_TYPES[raw.dtype]
        quant = None if dtype == "float32" else self._quant(raw, unsigned)
        return Tensor(raw.name, raw.shape, dtype, quant, unsigned=unsigned)

    def _quant(self, raw: RawTensor, unsigned: bool) -> Quant:
        if raw.scale.size != 1 or raw.zero_point.size != 1:
            told = "no quantization" if not raw.scale.size else f"{raw.scale.size} scales"
            raise self.error(f"tensor {raw.name!r} is {raw.dtype} with {told}: one is needed")
        zero = int(raw.zero_point[0]) - (128 if unsigned else 0)
        if not -128 <= zero <= 127:
            raise self.error(f"tensor {raw.name!r} has the zero point {raw.zero_point[0]}")
        try:
            return Quant(raw.scale, zero)
        except RowmeshError as error:
            raise self.error(f"tensor {raw.name!r}: {error}") from None

    def output(self, index: int = 0) -> Tensor:
        """The tensor that output `index` makes."""
        return self.activation(self.raw.tensors[self.operator.outputs[index]])

    def values(self, raw: RawTensor) -> Array:
        """The values of a constant."""
        dtype = _CONSTANT_TYPES.get(raw.dtype)
        if dtype is None or raw.sparse:
            told = "stored sparsely" if raw.sparse else raw.dtype
            raise self.error(f"constant {raw.name!r} is {told}: unsupported")
        try:
            return np.frombuffer(raw.data, dtype).reshape(raw.shape)
        except ValueError:
            raise self.error(
                f"constant {raw.name!r} has {len(raw.data)} bytes for the shape {list(raw.shape)}"
            ) from None

    def constant(self, index: int) -> Array:
        """The values of the constant that input `index` reads."""
        raw = self.raw_input(index)
        if raw is None:
            raise self.error(f"input {index} is missing")
        if raw.name in self._folded:
            return self._folded[raw.name]
        if not raw.data:
            raise self.error(f"tensor {raw.name!r} must be a constant")
        return self.values(raw)

    def fold(self, values: Array) -> None:
        """Let the output be a constant."""
        self._folded[self.raw.tensors[self.operator.outputs[0]].name] = values

    def helper(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A tensor that the model does not have, like `tensor` but for its shape."""
        while name in self.tensors or any(raw.name == name for raw in self.raw.tensors):
            name += "_"
        return replace(tensor, name=name, shape=shape, data=None)

    # -- nodes ---------------------------------------------------------------------------------

    def emit(self, op: Op, inputs: Sequence[Tensor], output: Tensor, attrs: Attrs) -> None:
        """Add a node that makes `output`, with the tensors that are new."""
        if output.name in self.nodes:
            raise self.error(f"tensor {output.name!r} is made a second time")
        for tensor in [*inputs, output]:
            self.tensors.setdefault(tensor.name, tensor)
        names = tuple(tensor.name for tensor in inputs)
        self.nodes[output.name] = Node(op, output.name, names, (output.name,), attrs)

    def fuse(self, x: Tensor, output: Tensor, bounds: Clamp) -> None:
        """Put an activation function that stands alone into what makes its input."""
        node = self.nodes.get(x.name)
        readers = sum(self.raw.tensors[i].name == x.name for op in self.raw.operators
                      for i in op.inputs if i >= 0)  # fmt: skip
        known = node is not None and node.op in (Op.CONV, Op.FULLY_CONNECTED, Op.ADD)
        if node is None or not known or readers != 1 or node.clamp is not None:
            raise self.error(f"cannot be fused into what makes {x.name!r}")
        del self.nodes[x.name], self.tensors[x.name]
        self.tensors[output.name] = output
        fused = replace(node, name=output.name, outputs=(output.name,)).with_clamp(bounds)
        self.nodes[output.name] = fused

    def write_state(self, tensor: Tensor, attrs: Attrs) -> None:
        """Add a node that makes nothing."""
        name = f"write {self._index}"
        self.nodes[name] = Node(Op.WRITE_STATE, name, (tensor.name,), (), attrs)

    def reshape(self, tensor: Tensor, output: Tensor) -> None:
        """Add a reshape of `tensor` to `output`."""
        if np.prod(tensor.shape, dtype=np.int64) != np.prod(output.shape, dtype=np.int64):
            raise self.error(f"shapes {list(tensor.shape)} and {list(output.shape)} do not fit")
        self.require_same_quant(tensor, output)
        self.emit(Op.RESHAPE, [tensor], output, ReshapeAttrs())

    def require_same_quant(self, *tensors: Tensor) -> None:
        """Refuse an operator that cannot requantize between tensors of different quantization."""
        first = tensors[0]
        for other in tensors[1:]:
            a, b = first.quant, other.quant
            fits = first.dtype == other.dtype and first.unsigned == other.unsigned
            if not fits or (a is None) != (b is None) or (a and b and not a.same(b)):
                raise self.error(
                    f"tensors {first.name!r} and {other.name!r} differ in type or quantization"
                )

    def require_int8(self, tensor: Tensor) -> None:
        """Refuse the arithmetic of the older uint8 scheme."""
        if tensor.unsigned:
            raise self.error(
                f"tensor {tensor.name!r} is UINT8: of quantized networks only int8 is supported"
            )

    def clamp(self, output: Tensor) -> Clamp | None:
        """Bounds of the fused activation, in the domain of the output."""
        number = self.option("FusedActivationFunction")
        bounds = {0: None, 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
        if number not in bounds:
            raise self.error(f"unsupported fused activation {number}")
        return self.bounds(bounds[number], output)

    def bounds(self, real: Clamp | None, output: Tensor) -> Clamp | None:
        """Real bounds in the domain of a tensor; as TFLite rounds them."""
        if output.quant is None:
            return real
        if real is None:
            return (-128, 127)
        scale, zero = np.float32(output.quant.scale[0]), output.quant.zero_point
        low, high = (
            int(np.clip(np.sign(b) * np.floor(np.abs(np.float32(b) / scale) + 0.5), -512, 512))
            for b in real
        )
        return (max(-128, low + zero), min(127, high + zero))

    def graph(self, name: str) -> Graph:
        """The finished graph."""
        inputs = tuple(self.raw.tensors[index].name for index in self.raw.inputs)
        outputs = tuple(self.raw.tensors[index].name for index in self.raw.outputs)
        nodes = tuple(self.nodes.values())
        return Graph(name, self.tensors, nodes, inputs, outputs, states=self.states)
