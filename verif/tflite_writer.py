"""Writes TFLite files: tensors and operators stated in the file format's own terms.

It knows nothing of the importer nor of the golden model: tests and references build files with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import tflite

from rowmesh.gen.graph import Array

__all__ = ["TfliteWriter"]

#: Versions of the operators that int8 scales along an axis came with.
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}


@dataclass
class _SubGraph:
    tensors: list[int] = field(default_factory=list)
    operators: list[int] = field(default_factory=list)


class TfliteWriter:
    """A model under construction.

    Tensors and operators go to the subgraph that `subgraph` began last; the first one is there
    from the start.
    """

    def __init__(self) -> None:
        self.b: Any = flatbuffers.Builder(1024)
        self._codes: list[tuple[int, int]] = []
        self._graphs = [_SubGraph()]
        self._ends: list[tuple[list[int], list[int]]] = []
        self._buffers = [self._buffer(None)]

    def _numbers(self, values: Any, dtype: type) -> int:
        return int(self.b.CreateNumpyVector(np.asarray(values, dtype).reshape(-1)))

    def _offsets(self, start: Any, offsets: Sequence[int]) -> int:
        start(self.b, len(offsets))
        for offset in reversed(offsets):
            self.b.PrependUOffsetTRelative(offset)
        return int(self.b.EndVector())

    def _buffer(self, data: Array | None) -> int:
        raw = None
        if data is not None:
            raw = self._numbers(np.frombuffer(data.tobytes(), np.uint8), np.uint8)
        tflite.BufferStart(self.b)
        if raw is not None:
            tflite.BufferAddData(self.b, raw)
        return int(tflite.BufferEnd(self.b))

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "int8",
        *,
        scale: Any = None,
        zero_point: Any = 0,
        axis: int = 0,
        data: Array | None = None,
        signature: Sequence[int] | None = None,
    ) -> int:
        """Add a tensor; its index.

        Parameters
        ----------
        dtype : str
            ``int8``, ``uint8``, ``int32``, ``float32``, ``resource`` ...
        scale, zero_point : array_like, optional
            Quantization: one number, or one for every index of `axis`.
        data : ndarray, optional
            The values of a constant.
        signature : sequence of int, optional
            Shape with -1 where it is dynamic.
        """
        b, buffer = self.b, 0
        if data is not None:
            buffer = len(self._buffers)
            self._buffers.append(self._buffer(data))
        quant = None
        if scale is not None:
            scales = self._numbers(scale, np.float32)
            zeros = self._numbers(np.broadcast_to(zero_point, np.size(scale)), np.int64)
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scales)
            tflite.QuantizationParametersAddZeroPoint(b, zeros)
            tflite.QuantizationParametersAddQuantizedDimension(b, axis)
            quant = tflite.QuantizationParametersEnd(b)
        text, dims = b.CreateString(name), self._numbers(shape, np.int32)
        dynamic = None if signature is None else self._numbers(signature, np.int32)
        tflite.TensorStart(b)
        tflite.TensorAddName(b, text)
        tflite.TensorAddShape(b, dims)
        tflite.TensorAddType(b, getattr(tflite.TensorType, dtype.upper()))
        tflite.TensorAddBuffer(b, buffer)
        if quant is not None:
            tflite.TensorAddQuantization(b, quant)
        if dynamic is not None:
            tflite.TensorAddShapeSignature(b, dynamic)
        graph = self._graphs[-1]
        graph.tensors.append(int(tflite.TensorEnd(b)))
        return len(graph.tensors) - 1

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        **fields: Any,
    ) -> None:
        """Add an operator.

        Parameters
        ----------
        name : str
            ``CONV_2D`` ...
        inputs, outputs : sequence of int
            Tensors; -1 for an input that is left out.
        options : str
            Table of its options, such as ``Conv2DOptions``.
        **fields
            The fields of that table: numbers, strings, or sequences of int.
        """
        b = self.b
        code = getattr(tflite.BuiltinOperator, name)
        version = _VERSIONS.get(name, 1)
        if (code, version) not in self._codes:
            self._codes.append((code, version))
        made = {
            key: b.CreateString(value)
            if isinstance(value, str)
            else self._numbers(value, np.int32)
            if isinstance(value, list | tuple)
            else value
            for key, value in fields.items()
        }
        table = None
        if options:
            getattr(tflite, f"{options}Start")(b)
            for key, value in made.items():
                getattr(tflite, f"{options}Add{key}")(b, value)
            table = getattr(tflite, f"{options}End")(b)
        sources, targets = self._numbers(inputs, np.int32), self._numbers(outputs, np.int32)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, self._codes.index((code, version)))
        tflite.OperatorAddInputs(b, sources)
        tflite.OperatorAddOutputs(b, targets)
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, options))
            tflite.OperatorAddBuiltinOptions(b, table)
        self._graphs[-1].operators.append(int(tflite.OperatorEnd(b)))

    def subgraph(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """End the subgraph with its inputs and outputs, and begin another."""
        self._ends.append((list(inputs), list(outputs)))
        self._graphs.append(_SubGraph())

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file; `inputs` and `outputs` are those of the subgraph begun last."""
        b, subgraphs = self.b, []
        for graph, (first, last) in zip(
            self._graphs, [*self._ends, (list(inputs), list(outputs))], strict=True
        ):
            operators = self._offsets(tflite.SubGraphStartOperatorsVector, graph.operators)
            tensors = self._offsets(tflite.SubGraphStartTensorsVector, graph.tensors)
            sources, targets = self._numbers(first, np.int32), self._numbers(last, np.int32)
            tflite.SubGraphStart(b)
            tflite.SubGraphAddTensors(b, tensors)
            tflite.SubGraphAddInputs(b, sources)
            tflite.SubGraphAddOutputs(b, targets)
            tflite.SubGraphAddOperators(b, operators)
            subgraphs.append(int(tflite.SubGraphEnd(b)))
        listed = self._offsets(tflite.ModelStartSubgraphsVector, subgraphs)
        codes = []
        for code, version in self._codes:
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
            tflite.OperatorCodeAddBuiltinCode(b, code)
            tflite.OperatorCodeAddVersion(b, version)
            codes.append(int(tflite.OperatorCodeEnd(b)))
        known = self._offsets(tflite.ModelStartOperatorCodesVector, codes)
        stored = self._offsets(tflite.ModelStartBuffersVector, self._buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, known)
        tflite.ModelAddSubgraphs(b, listed)
        tflite.ModelAddBuffers(b, stored)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())
