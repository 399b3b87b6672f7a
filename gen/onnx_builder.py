"""The graph under construction while an ONNX file is read, and checked access to its nodes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import (
    Array,
    Attrs,
    Clamp,
    ClampAttrs,
    Graph,
    Node,
    Op,
    Quant,
    ReshapeAttrs,
    Tensor,
    TransposeAttrs,
)

__all__ = ["IMAGE_RANK", "Builder", "Integers", "OnnxNode"]

#: Axes of an image tensor.
IMAGE_RANK = 4
#: Operators that an activation function is fused into.
_FUSING = (Op.CONV, Op.FULLY_CONNECTED, Op.MAX_POOL, Op.AVG_POOL, Op.ADD, Op.CLAMP)


class OnnxNode:
    """One node of the file, with checked access to its attributes.

    Parameters
    ----------
    proto : onnx.NodeProto
        The node.
    """

    def __init__(self, proto: onnx.NodeProto) -> None:
        self.op = proto.op_type
        self.outputs = [name for name in proto.output if name]
        self.name = proto.name or (self.outputs[0] if self.outputs else proto.op_type)
        self.inputs = list(proto.input)
        self.attrs: dict[str, Any] = {
            attr.name: onnx.helper.get_attribute_value(attr) for attr in proto.attribute
        }
        self._used: set[str] = set()

    def error(self, message: str) -> RowmeshError:
        """An error that names this operator and the tensor it makes."""
        made = self.outputs[0] if self.outputs else "nothing"
        return RowmeshError(f"{self.op} {self.name!r} (makes {made!r}): {message}")

    def take(self, name: str, default: Any) -> Any:
        """The value of an attribute."""
        self._used.add(name)
        value = self.attrs.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def pair(self, name: str, default: int) -> tuple[int, int]:
        """A vertical and horizontal pair of positive integers."""
        values = [int(value) for value in self.take(name, [default, default])]
        if len(values) != 2 or min(values) < 1:
            raise self.error(f"unsupported {name} = {values}: only 2-d is")
        return values[0], values[1]

    def require(self, name: str, value: Any) -> None:
        """Refuse any value of an attribute but this one (its default)."""
        got = self.take(name, value)
        if got != value:
            raise self.error(f"unsupported attribute {name} = {got!r}")

    def done(self) -> None:
        """Refuse attributes that nobody asked for."""
        unknown = sorted(set(self.attrs) - self._used)
        if unknown:
            raise self.error(f"unsupported attribute {unknown[0]!r}")


@dataclass(frozen=True, eq=False)
class Integers:
    """What a dequantized constant was.

    Parameters
    ----------
    values : ndarray of int64
        The integers less their zero points.
    scale : ndarray of float64
        One, or one for every index of `axis`.
    zero_point : int
        As int8 stores it; 0 where there are several.
    """

    values: Array
    scale: Array
    axis: int
    zero_point: int


class Builder:
    """The graph under construction.

    Attributes
    ----------
    constants : dict of ndarray
        Constants of the model, by its own names.
    integers : dict of Integers
        Those that are dequantized.
    """

    def __init__(self, constants: Mapping[str, Array], uses: Counter[str]) -> None:
        self.constants = dict(constants)
        self.integers: dict[str, Integers] = {}
        self._uses = uses
        self._alias: dict[str, str] = {}
        self.tensors: dict[str, Tensor] = {}
        self.nodes: dict[str, Node] = {}

    # -- tensors -------------------------------------------------------------------------------

    def activation(self, node: OnnxNode, index: int) -> Tensor:
        """The activation that input `index` of a node reads."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        resolved = self.resolve(name)
        if resolved not in self.tensors or name in self.constants:
            kind = "a constant" if name in self.constants else "unknown"
            raise node.error(f"input {name!r} is {kind}: an activation is needed")
        return self.tensors[resolved]

    def constant(self, node: OnnxNode, index: int) -> Array:
        """The constant that input `index` of a node reads."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        if name not in self.constants:
            raise node.error(f"missing initializer {name!r}: it must be a constant")
        return self.constants[name]

    def optional_constant(self, node: OnnxNode, index: int) -> Array | None:
        """Like `constant`; None for an input that is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        return self.constant(node, index)

    def resolve(self, name: str) -> str:
        """The tensor that a name stands for (identities are followed)."""
        return self._alias.get(name, name)

    def alias(self, name: str, target: Tensor) -> None:
        """Let `name` stand for an existing tensor."""
        self._alias[name] = target.name
        self._uses[target.name] += self._uses[name] - 1

    def image(self, node: OnnxNode, tensor: Tensor) -> Tensor:
        """`tensor` as a 4-d image in NHWC order, transposed if it is a plain 4-d tensor."""
        if len(tensor.shape) != IMAGE_RANK:
            raise node.error(f"input {tensor.name!r} has shape {tensor.shape}: 4-d is needed")
        if tensor.model_image is not None:
            return tensor
        n, c, h, w = tensor.shape
        return self._helper(tensor, "nhwc", (n, h, w, c), (0, 2, 3, 1))

    def plain(self, tensor: Tensor) -> Tensor:
        """`tensor` in the model's own order, transposed if it is held as NHWC."""
        if tensor.model_image is None:
            return tensor
        h, w, c = tensor.model_image
        if len(tensor.shape) == IMAGE_RANK:
            return self._helper(tensor, "nchw", (tensor.shape[0], c, h, w), (0, 3, 1, 2))
        n = tensor.shape[0]
        image = self._helper(tensor, "hwc", (n, h, w, c), None)
        moved = self._helper(image, "chw", (n, c, h, w), (0, 3, 1, 2))
        return self._helper(moved, "flat", tensor.shape, None)

    def _helper(
        self, tensor: Tensor, suffix: str, shape: tuple[int, ...], perm: tuple[int, ...] | None
    ) -> Tensor:
        """A transpose (or a reshape without `perm`) that the model does not have, made once."""
        name = f"{tensor.name}_{suffix}"
        if name not in self.tensors:
            out = replace(tensor, name=name, shape=shape, model_image=None)
            if perm is None:
                self.emit(Op.RESHAPE, name, [tensor], out, ReshapeAttrs())
            else:
                self.emit(Op.TRANSPOSE, name, [tensor], out, TransposeAttrs(perm=perm))
        return self.tensors[name]

    # -- nodes ---------------------------------------------------------------------------------

    def emit(self, op: Op, name: str, inputs: list[Tensor], output: Tensor, attrs: Attrs) -> None:
        """Add a node and the tensors that are new."""
        for tensor in [*inputs, output]:
            self.tensors.setdefault(tensor.name, tensor)
        self.nodes[output.name] = Node(
            op, name, tuple(tensor.name for tensor in inputs), (output.name,), attrs
        )

    def weight(self, name: str, data: Array) -> Tensor:
        """A constant tensor under a name that is free."""
        name = self.free(name)
        return Tensor(name, data.shape, "float32", data=np.ascontiguousarray(data, np.float32))

    def quantized_weight(self, node: OnnxNode, index: int, data: Array, axis: int) -> Tensor:
        """The weights or the bias that input `index` reads, with the scales they were stored in.

        Parameters
        ----------
        data : ndarray
            The constant, output channels first.
        axis : int
            The axis of the output channels in the model.
        """
        name = node.inputs[index]
        tensor = self.weight(name, data)
        found = self.integers.get(name)
        if found is None:
            return tensor
        size = found.scale.size
        if size > 1 and (size != data.shape[0] or found.axis % found.values.ndim != axis):
            raise node.error(f"{name!r} has {size} scales along axis {found.axis}")
        # float32 cannot hold every 32-bit bias.
        exact = found.values * found.scale if found.values.ndim == 1 else tensor.data
        return replace(tensor, quant=Quant(found.scale), data=exact)

    def free(self, name: str) -> str:
        """A name that no tensor has yet, made of `name`."""
        while name in self.tensors:
            name += "_"
        return name

    def set_quant(self, name: str, quant: Quant) -> None:
        """Tell the quantization of a tensor, and of all that are the same values moved."""
        self.tensors[name] = replace(self.tensors[name], quant=quant)

    def producer(self, tensor: Tensor) -> Node | None:
        """The node that a following operator can be fused into: `tensor` has no other reader."""
        return self.nodes.get(tensor.name) if self._uses[tensor.name] == 1 else None

    def _rename(self, node: Node, output: str) -> None:
        """Let `node` write `output` in place of the tensor it wrote."""
        old = self.tensors.pop(node.outputs[0])
        del self.nodes[old.name]
        self.tensors[output] = replace(old, name=output)
        self.nodes[output] = Node(node.op, node.name, node.inputs, (output,), node.attrs)

    def fuse_clamp(self, node: OnnxNode, tensor: Tensor, bounds: Clamp) -> None:
        """Fuse an activation into the operator that makes `tensor`, or add it behind."""
        producer = self.producer(tensor)
        if producer is None or producer.op not in _FUSING:
            out = replace(tensor, name=node.outputs[0])
            self.emit(Op.CLAMP, node.name, [tensor], out, ClampAttrs(clamp=bounds))
            return
        if producer.clamp is not None:
            low, high = producer.clamp
            bounds = (min(max(low, bounds[0]), bounds[1]), max(min(high, bounds[1]), bounds[0]))
        self._rename(producer.with_clamp(bounds), node.outputs[0])

    def takes_bias(self, tensor: Tensor) -> bool:
        """Whether a bias can be fused into what makes `tensor`."""
        producer = self.producer(tensor)
        fits = producer is not None and producer.op in (Op.CONV, Op.FULLY_CONNECTED)
        return fits and producer is not None and producer.clamp is None

    def fuse_scale(self, node: OnnxNode, tensor: Tensor, factor: Array) -> None:
        """Fuse a factor of every output channel into the Conv or Gemm that makes `tensor`."""
        producer = self.nodes[tensor.name]
        for name in producer.inputs[1:]:
            old = self.tensors[name]
            assert old.data is not None
            shape = (-1, *[1] * (old.data.ndim - 1))
            data = (old.data * factor.reshape(shape)).astype(np.float32)
            self.tensors[name] = replace(old, data=data, quant=None)
        self._rename(producer, node.outputs[0])

    def fuse_bias(self, node: OnnxNode, tensor: Tensor, bias: Array, name: str) -> None:
        """Fuse the addition of a constant into the Conv or Gemm that makes `tensor`."""
        producer = self.nodes[tensor.name]
        channels = tensor.shape[-1]
        ndim = len(tensor.shape)
        per_channel = (1, channels, 1, 1) if ndim == IMAGE_RANK else (1, channels)
        try:
            column = np.broadcast_to(
                bias.reshape((1,) * (ndim - bias.ndim) + bias.shape), per_channel
            )
        except ValueError:
            raise node.error(f"constant {name!r} of shape {bias.shape} is no bias") from None
        values = column.reshape(channels).astype(np.float32)
        inputs = producer.inputs
        if len(inputs) > 2:
            old = self.tensors.pop(inputs[2]).data
            values = values if old is None else values + old
            inputs = inputs[:2]
        added = self.weight(name, values)
        self.tensors[added.name] = added
        fused = Node(
            producer.op, producer.name, (*inputs, added.name), producer.outputs, producer.attrs
        )
        self._rename(fused, node.outputs[0])

    def graph(self, name: str, inputs: list[str], outputs: list[str]) -> Graph:
        """The finished graph."""
        resolved = [self.resolve(output) for output in outputs]
        return Graph(name, self.tensors, tuple(self.nodes.values()), tuple(inputs), tuple(resolved))
