"""A TFLite file as plain data: every table is read, so that a damaged file is found at once."""

import inspect
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tflite

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array

__all__ = ["IDENTIFIER", "RawGraph", "RawOperator", "RawTensor", "read_tflite"]

#: Bytes 4 to 7 of every TFLite file.
IDENTIFIER = b"TFL3"
#: What reading a damaged flatbuffer raises.
_DAMAGE = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor as the file states it.

    Parameters
    ----------
    name : str
        Unique in its graph.
    shape : tuple of int
    signature : tuple of int
        The shape with -1 where it is dynamic; empty where the file does not say.
    dtype : str
        ``INT8`` ...
    scale : ndarray of float64
        Empty without quantization.
    zero_point : ndarray of int64
    axis : int
        Axis of the scales.
    data : bytes
        Values of a constant; empty for an activation.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scale: Array
    zero_point: Array
    axis: int
    data: bytes
    variable: bool
    sparse: bool


@dataclass(frozen=True)
class RawOperator:
    """An operator: its code, tensors by index (-1 for one that is left out) and option fields."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class RawGraph:
    """One subgraph."""

    tensors: tuple[RawTensor, ...]
    operators: tuple[RawOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(data: bytes, label: str) -> tuple[RawGraph, ...]:
    """Read a file's bytes.

    Parameters
    ----------
    data : bytes
    label : str
        What errors call the file.

    Raises
    ------
    RowmeshError
        It is no TFLite file, or truncated or damaged.
    """
    if data[4:8] != IDENTIFIER:
        raise RowmeshError(f"{label}: not a TFLite file")
    try:
        model = tflite.Model.GetRootAs(data, 0)
        buffers = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
        contents = [b"" if isinstance(raw, int) else raw.tobytes() for raw in buffers]
        codes = [_code(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
        graphs = tuple(
            _graph(model.Subgraphs(i), contents, codes) for i in range(model.SubgraphsLength())
        )
    except _DAMAGE:
        raise RowmeshError(f"{label}: a TFLite file that is truncated or damaged") from None
    if not graphs or not graphs[0].operators:
        raise RowmeshError(f"{label}: a TFLite file without operators")
    return graphs


@cache
def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _code(entry: Any) -> str:
    number = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
    name = _names(tflite.BuiltinOperator)[number]
    return f"CUSTOM {entry.CustomCode().decode()!r}" if name == "CUSTOM" else name


def _integers(vector: Any) -> tuple[int, ...]:
    """A vector of integers; the reader gives the number 0 for an absent one."""
    return () if isinstance(vector, int) else tuple(int(value) for value in vector)


def _graph(graph: Any, contents: list[bytes], codes: list[str]) -> RawGraph:
    tensors: list[RawTensor] = []
    names: set[str] = set()
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        name = (tensor.Name() or b"").decode() or f"tensor_{index}"
        if name in names:
            name = f"{name}_{index}"
        names.add(name)
        quant = tensor.Quantization()
        scale = [] if quant is None else _vector(quant.ScaleAsNumpy())
        tensors.append(
            RawTensor(
                name=name,
                shape=_integers(tensor.ShapeAsNumpy()),
                signature=_integers(tensor.ShapeSignatureAsNumpy()),
                dtype=_names(tflite.TensorType)[tensor.Type()],
                scale=np.asarray(scale, np.float64),
                zero_point=np.asarray(
                    [] if quant is None else _vector(quant.ZeroPointAsNumpy()), np.int64
                ),
                axis=0 if quant is None else quant.QuantizedDimension(),
                data=contents[tensor.Buffer()],
                variable=tensor.IsVariable(),
                sparse=tensor.Sparsity() is not None,
            )
        )
    operators = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        read = RawOperator(
            codes[operator.OpcodeIndex()],
            _integers(operator.InputsAsNumpy()),
            _integers(operator.OutputsAsNumpy()),
            _options(operator),
        )
        for number in (*read.inputs, *read.outputs):
            if not -1 <= number < len(tensors):
                raise ValueError(f"tensor {number} of operator {index}")
        operators.append(read)
    ends = (_integers(graph.InputsAsNumpy()), _integers(graph.OutputsAsNumpy()))
    for number in (*ends[0], *ends[1]):
        if not 0 <= number < len(tensors):
            raise ValueError(f"tensor {number}")
    return RawGraph(tuple(tensors), tuple(operators), *ends)


def _vector(values: Any) -> Any:
    return [] if isinstance(values, int) else values


def _options(operator: Any) -> dict[str, Any]:
    """The scalar and string fields of an operator's options, by name."""
    kind = _names(tflite.BuiltinOptions)[operator.BuiltinOptionsType()]
    table = operator.BuiltinOptions()
    if kind == "NONE" or table is None:
        return {}
    options = getattr(tflite, kind)()
    options.Init(table.Bytes, table.Pos)
    return {name: getattr(options, name)() for name in _fields(kind)}


@cache
def _fields(kind: str) -> tuple[str, ...]:
    return tuple(
        name
        for name, method in vars(getattr(tflite, kind)).items()
        if inspect.isfunction(method)
        and not name.endswith("AsNumpy")
        and list(inspect.signature(method).parameters) == ["self"]
    )
