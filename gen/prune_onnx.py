"""Magnitude pruning of an ONNX file: only values of weights change, everything else stays.

Weights are constant operands of Conv, Gemm, MatMul, QLinearConv and QLinearMatMul, float or
quantized, directly or behind the operators that exporters put on constants.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import numpy_helper

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import write_in_one_step
from rowmesh.gen.graph import Array
from rowmesh.gen.prune import LayerDensity, keep_masks

__all__ = ["onnx_densities", "prune_onnx_file", "prune_onnx_model"]

#: Operands that can be weights.
_FLOAT_OPERANDS = {"Conv": (1,), "Gemm": (1, 0), "MatMul": (1, 0)}
#: Axis of the scales of operators whose operands 3 to 5 are quantized weights.
_QUANTIZED_AXES = {"QLinearConv": 0, "QLinearMatMul": -1}
#: What may stand between a weight and its reader. Before a DequantizeLinear only Identity may:
#: the others would move the axis of its scales.
_MOVES = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_FLOATS = (np.float16, np.float32, np.float64)


def prune_onnx_file(
    path: Path,
    out: Path,
    target: float | None = None,
    layer_targets: Mapping[str, float] | None = None,
) -> tuple[list[LayerDensity], list[LayerDensity]]:
    """Prune a file.

    Parameters
    ----------
    path, out : Path
        Model, and where the pruned one goes (complete or not at all).
    target, layer_targets
        As of `rowmesh.gen.prune.keep_masks`, by the name of the operator or of its weights.

    Returns
    -------
    before, after : list of LayerDensity
        Every layer, in the order of the file.

    Raises
    ------
    RowmeshError
        The file is no ONNX model or cannot be written, and what `prune_onnx_model` refuses.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise RowmeshError(f"{path}: {error.strerror}") from None
    except DecodeError:
        raise RowmeshError(f"{path}: not an ONNX file, or truncated") from None
    try:
        pruned, before, after = prune_onnx_model(model, target, layer_targets)
    except RowmeshError as error:
        raise RowmeshError(f"{path}: {error}") from None
    data = pruned.SerializeToString()
    write_in_one_step(out, lambda part: part.write_bytes(data))
    return before, after


def onnx_densities(model: onnx.ModelProto) -> list[LayerDensity]:
    """Zero weights of every layer of a model, in the order of the file."""
    return [weight.density(name) for name, weight in _Constants(model).weights().items()]


def prune_onnx_model(
    model: onnx.ModelProto,
    target: float | None = None,
    layer_targets: Mapping[str, float] | None = None,
) -> tuple[onnx.ModelProto, list[LayerDensity], list[LayerDensity]]:
    """Prune a model, which is left as it is.

    Returns
    -------
    model : onnx.ModelProto
    before, after : list of LayerDensity

    Raises
    ------
    RowmeshError
        What `rowmesh.gen.prune.keep_masks` refuses, or weights of a type or quantization that is
        not known here; names the tensor.
    """
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    weights = _Constants(pruned).weights()
    named = {weight.constant: name for name, weight in weights.items()}
    wanted = {
        name if name in weights else named.get(name, name): fraction
        for name, fraction in (layer_targets or {}).items()
    }
    masks = keep_masks({name: w.magnitude for name, w in weights.items()}, target, wanted)
    after = [weight.pruned(masks[name]).density(name) for name, weight in weights.items()]
    return pruned, onnx_densities(model), after


@dataclass(frozen=True, eq=False)
class _Weight:
    """Weights of one layer: where the file holds them, their values, and how they are quantized.

    `constant` is their name in the file; `scale` and `zero_point` broadcast against `values`.
    """

    constant: str
    proto: onnx.TensorProto
    values: Array
    scale: Array
    zero_point: Array

    @property
    def magnitude(self) -> NDArray[np.float64]:
        """|real weight|."""
        steps: NDArray[np.float64] = self.values.astype(np.float64) - self.zero_point
        return np.abs(steps * self.scale)

    def density(self, name: str) -> LayerDensity:
        """How much of it is zero."""
        zeros = int(np.count_nonzero(self.values == self.zero_point))
        return LayerDensity(name=name, weights=self.values.size, zeros=zeros)

    def pruned(self, keep: NDArray[np.bool_]) -> "_Weight":
        """Write the zero point where `keep` is False into the file's tensor."""
        zero = np.broadcast_to(self.zero_point, self.values.shape)
        values = np.where(keep, self.values, zero.astype(self.values.dtype))
        for kind in ("float_data", "int32_data", "double_data"):
            self.proto.ClearField(kind)
        self.proto.raw_data = numpy_helper.from_array(values).raw_data
        return replace(self, values=values)


class _Constants:
    """Constants of a model, and what is made of them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = model.graph.node
        self.producers = {name: node for node in self.nodes for name in node.output}
        self.protos = {proto.name: proto for proto in model.graph.initializer}
        for node in self.nodes:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    self.protos[node.output[0]] = attribute.t

    def weights(self) -> dict[str, _Weight]:
        """Weights by layer name, each tensor once."""
        found: dict[str, _Weight] = {}
        taken: set[str] = set()
        for node in self.nodes:
            weight = self.weight(node)
            if weight is None or weight.constant in taken:
                continue
            taken.add(weight.constant)
            name = node.name or node.output[0]
            found[name if name not in found else node.output[0]] = weight
        return found

    def weight(self, node: onnx.NodeProto) -> _Weight | None:
        """The weights of one operator; None where it has none that are constant."""
        if node.op_type in _QUANTIZED_AXES and node.input[3] in self.protos:
            name, scale, zero_point = node.input[3:6]
            return self.quantized(name, scale, zero_point, _QUANTIZED_AXES[node.op_type])
        for operand in _FLOAT_OPERANDS.get(node.op_type, ()):
            origin = self.origin(node.input[operand])
            if origin is None:
                continue
            name, dequantize = origin
            if dequantize is None:
                return self.floating(name)
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in dequantize.attribute}
            if attributes.get("block_size"):
                raise RowmeshError(f"weights {name!r}: scales of blocks are not supported")
            scale, *optional = dequantize.input[1:]
            return self.quantized(name, scale, "".join(optional), attributes.get("axis", 1))
        return None

    def origin(self, name: str) -> tuple[str, onnx.NodeProto | None] | None:
        """The constant that a value is made of, and the DequantizeLinear that makes it real.

        None where it is no constant. Float weights that the model itself quantizes and
        dequantizes have no DequantizeLinear here.
        """
        dequantize: onnx.NodeProto | None = None
        while name not in self.protos:
            node = self.producers.get(name)
            if node is None:
                return None
            if node.op_type == "DequantizeLinear" and dequantize is None:
                dequantize = node
            elif node.op_type == "QuantizeLinear" and dequantize is not None:
                dequantize = None
            elif node.op_type not in (_MOVES if dequantize is None else ("Identity",)):
                return None
            name = node.input[0]
        return name, dequantize

    def floating(self, name: str) -> _Weight:
        values = self.array(name)
        if values.dtype not in _FLOATS:
            raise RowmeshError(f"weights {name!r} are {values.dtype}: not supported")
        return _Weight(name, self.protos[name], values, np.ones(()), np.zeros(()))

    def quantized(self, name: str, scale: str, zero_point: str, axis: int) -> _Weight:
        values = self.array(name)
        if values.dtype not in (np.int8, np.uint8):
            raise RowmeshError(f"weights {name!r} are {values.dtype}: not supported")
        parameters = [self.array(scale), self.array(zero_point) if zero_point else np.zeros(())]
        for index, array in enumerate(parameters):
            along = array.astype(np.float64)
            if along.size > 1:
                shape = [1] * values.ndim
                shape[axis] = -1
                along = along.reshape(shape)
            parameters[index] = along if along.size > 1 else along.reshape(())
        return _Weight(name, self.protos[name], values, *parameters)

    def array(self, name: str) -> Array:
        """The values of a constant."""
        proto = self.protos.get(name)
        if proto is None:
            raise RowmeshError(f"{name!r} must be a constant")
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            raise RowmeshError(f"{name!r} lies outside the file: not supported")
        try:
            return numpy_helper.to_array(proto)
        except (ValueError, TypeError):
            raise RowmeshError(f"{name!r} cannot be read") from None
