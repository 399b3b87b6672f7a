"""QLinear operators as what they stand for: dequantize, compute in real numbers, quantize.

ONNX Runtime runs both forms with the same kernels, so that only one has to be imported.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from rowmesh.gen.graph import Array
from rowmesh.gen.onnx_builder import OnnxNode

__all__ = ["expand_qlinear"]

_Proto = Any


class _Expansion:
    """The nodes that one QLinear operator becomes."""

    def __init__(self, proto: _Proto, constants: dict[str, Array]) -> None:
        self.node, self.constants = OnnxNode(proto), constants
        self.attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        self.made: list[_Proto] = []

    def _input(self, index: int) -> str:
        return self.node.inputs[index] if index < len(self.node.inputs) else ""

    def real(self, index: int, axis: int | None = None) -> str:
        """The real values of the input at `index`, whose scale and zero point follow it."""
        names = [self._input(i) for i in range(index, index + 3)]
        name = f"{self.node.outputs[0]}_real{index}"
        keywords: dict[str, Any] = {} if axis is None else {"axis": axis}
        while names and not names[-1]:
            names.pop()
        self.made.append(helper.make_node("DequantizeLinear", names, [name], **keywords))
        return name

    def bias(self, index: int) -> str:
        """The real values of an int32 bias, whose scale is that of the products."""
        if not self._input(index):
            return ""
        scales = []
        for at in (1, 4):
            if self._input(at) not in self.constants:
                raise self.node.error(f"scale {self._input(at)!r} must be a constant")
            scales.append(self.constants[self._input(at)].astype(np.float64))
        name, scale = f"{self.node.outputs[0]}_bias", f"{self.node.outputs[0]}_bias_scale"
        alpha = float(self.attributes.get("alpha", 1.0))
        self.constants[scale] = np.asarray(scales[0] * scales[1] * alpha)
        inputs = [self._input(index), scale]
        self.made.append(helper.make_node("DequantizeLinear", inputs, [name], axis=0))
        return name

    def compute(self, op: str, inputs: Sequence[str], scale: int, drop: Sequence[str] = ()) -> None:
        """The operator itself, and the quantization of what it makes."""
        if not self._input(scale):
            raise self.node.error("without a scale of its output it is not supported")
        out = self.node.outputs[0]
        name = f"{out}_real"
        kept = {key: v for key, v in self.attributes.items() if key not in drop}
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.made.append(helper.make_node(op, list(inputs), [name], name=self.node.name, **kept))
        quantize = [name, self._input(scale), self._input(scale + 1)]
        self.made.append(helper.make_node("QuantizeLinear", [n for n in quantize if n], [out]))

    def require(self, name: str, value: Any) -> None:
        """Refuse any value of an attribute but this one."""
        if self.attributes.get(name, value) != value:
            raise self.node.error(f"unsupported attribute {name} = {self.attributes[name]!r}")


def _conv(e: _Expansion) -> None:
    e.compute("Conv", [e.real(0), e.real(3, axis=0), e.bias(8)], 6)


def _matmul(e: _Expansion) -> None:
    e.compute("MatMul", [e.real(0), e.real(3, axis=1)], 6)


def _gemm(e: _Expansion) -> None:
    axis = 0 if e.attributes.get("transB", 0) else 1
    e.compute("Gemm", [e.real(0), e.real(3, axis=axis), e.bias(6)], 7)


def _add(e: _Expansion) -> None:
    e.compute("Add", [e.real(0), e.real(3)], 6)


def _concat(e: _Expansion) -> None:
    count = (len(e.node.inputs) - 2) // 3
    parts = [e.real(2 + 3 * index) for index in range(count)]
    e.compute("Concat", parts, 0)


def _unary(op: str, drop: Sequence[str] = ()) -> Callable[[_Expansion], None]:
    def expand(e: _Expansion) -> None:
        e.require("channels_last", 0)
        e.compute(op, [e.real(0)], 3, drop)

    return expand


_EXPANSIONS: dict[str, Callable[[_Expansion], None]] = {
    "QGemm": _gemm,
    "QLinearAdd": _add,
    "QLinearAveragePool": _unary("AveragePool", ("channels_last",)),
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool", ("channels_last",)),
    "QLinearMatMul": _matmul,
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearSoftmax": _unary("Softmax", ("opset",)),
}


def expand_qlinear(
    protos: Sequence[onnx.NodeProto], constants: dict[str, Array]
) -> list[onnx.NodeProto]:
    """Nodes with every QLinear operator replaced.

    Parameters
    ----------
    protos : sequence of NodeProto
    constants : dict of ndarray
        Initializers by name; scales of biases are added.

    Raises
    ------
    RowmeshError
        A form that is not supported; names the operator.
    """
    out: list[onnx.NodeProto] = []
    for proto in protos:
        expand = _EXPANSIONS.get(proto.op_type)
        if expand is None:
            out.append(proto)
            continue
        expansion = _Expansion(proto, constants)
        expand(expansion)
        out += expansion.made
    return out
