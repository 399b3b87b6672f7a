"""Import of ONNX models, float or quantized (QDQ, QLinear), into the internal graph.

Activations of rank 4 are NCHW in the model and NHWC in the graph. A flattening of an image keeps
the NHWC order, and the fully connected layer that reads it gets its weight columns permuted, so
that nothing has to be transposed at run time; `Tensor.model_image` remembers the model's order.
Any other use of an image as a plain tensor gets a transpose node. uint8 activations are stored as
int8, 128 less.
"""

import math
from collections import Counter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import read_file
from rowmesh.gen.fold_padding import fold_padding
from rowmesh.gen.graph import Array, Graph, Op, Tensor
from rowmesh.gen.onnx_builder import IMAGE_RANK, Builder, OnnxNode
from rowmesh.gen.onnx_folding import fold_constant
from rowmesh.gen.onnx_operators import HANDLERS
from rowmesh.gen.onnx_qdq import fuse_quantized
from rowmesh.gen.onnx_qlinear import expand_qlinear
from rowmesh.gen.onnx_quantized import fold_quantized

__all__ = ["import_onnx", "import_onnx_model"]

#: Types of inputs: as stored here, and whether the model has them as uint8.
_INPUT_TYPES: dict[int, tuple[str, bool]] = {
    onnx.TensorProto.FLOAT: ("float32", False),
    onnx.TensorProto.INT8: ("int8", False),
    onnx.TensorProto.UINT8: ("int8", True),
}


def import_onnx(path: str | Path) -> Graph:
    """Read an ONNX file.

    Returns
    -------
    Graph
        int8 or float graph, tensors under the model's names.

    Raises
    ------
    RowmeshError
        The file does not exist, is no ONNX file or truncated, or what `import_onnx_model` refuses.
    """
    path = Path(path)
    data = read_file(path)
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise RowmeshError(f"{path}: not an ONNX file, or truncated") from None
    if not model.graph.node or not model.graph.output:
        raise RowmeshError(f"{path}: not an ONNX file, or truncated (no operators)")
    return import_onnx_model(model, path.stem)


def import_onnx_model(model: onnx.ModelProto, name: str) -> Graph:
    """Turn a loaded model into a graph called `name`.

    Raises
    ------
    RowmeshError
        Unsupported operator, attribute or type, dynamic shape, a quantized network with an
        operator that is not, or a missing initializer; names the operator and the tensor.
    """
    proto = model.graph
    constants = {init.name: _initializer(init) for init in proto.initializer}
    nodes = expand_qlinear(proto.node, constants)
    uses: Counter[str] = Counter(name for node in nodes for name in node.input)
    uses.update(output.name for output in proto.output)
    builder = Builder(constants, uses)
    inputs = [value.name for value in proto.input if value.name not in constants]
    for value in proto.input:
        if value.name in inputs:
            builder.tensors[value.name] = _input(value)
    for node_proto in nodes:
        node = OnnxNode(node_proto)
        plain = node_proto.domain in ("", "ai.onnx")
        quantizing = node.op in ("QuantizeLinear", "DequantizeLinear")
        if not plain and not quantizing:
            raise node.error(f"unsupported operator {node.op} of domain {node_proto.domain!r}")
        if all(item in builder.constants or not item for item in node.inputs):
            if quantizing:
                builder.constants[node.outputs[0]] = fold_quantized(builder, node)
                continue
            builder.constants[node.outputs[0]] = fold_constant(node, builder.constants)
        elif node.op not in HANDLERS:
            raise node.error(f"unsupported operator {node.op}")
        else:
            HANDLERS[node.op](builder, node)
            node.done()
    graph = builder.graph(name, inputs, [output.name for output in proto.output])
    if any(node.op in (Op.QUANTIZE, Op.DEQUANTIZE) for node in graph.nodes):
        graph = fuse_quantized(graph)
    return fold_padding(graph)


def _initializer(init: onnx.TensorProto) -> Array:
    try:
        return numpy_helper.to_array(init)
    except (ValueError, OSError, TypeError):
        raise RowmeshError(f"initializer {init.name!r} cannot be read") from None


def _input(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    if kind.elem_type not in _INPUT_TYPES:
        told = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise RowmeshError(f"input {value.name!r} is {told}: must be FLOAT, INT8 or UINT8")
    dtype, unsigned = _INPUT_TYPES[kind.elem_type]
    shape = []
    for axis, dim in enumerate(kind.shape.dim):
        if dim.WhichOneof("value") != "dim_value" or dim.dim_value < 1:
            told = dim.dim_param or "unknown"
            raise RowmeshError(
                f"input {value.name!r} has a dynamic shape: dimension {axis} is {told}"
            )
        shape.append(int(dim.dim_value))
    if not shape or math.prod(shape) < 1:
        raise RowmeshError(f"input {value.name!r} has no shape")
    if len(shape) == IMAGE_RANK:
        n, c, h, w = shape
        image = (h, w, c)
        return Tensor(value.name, (n, *image), dtype, model_image=image, unsigned=unsigned)
    return Tensor(value.name, tuple(shape), dtype, unsigned=unsigned)
