"""Import of TFLite models, int8 or float, into the internal graph.

Tensors keep their names and their NHWC order. Arithmetic is int8 in and out; uint8 tensors appear
only where a model quantizes to them, and are stored as int8. The resource variables of streaming
models become states of the graph, with the values that the model's initialization assigns.
"""

from pathlib import Path

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import read_file
from rowmesh.gen.fold_padding import fold_padding
from rowmesh.gen.graph import Array, Graph
from rowmesh.gen.tflite_builder import TfliteBuilder
from rowmesh.gen.tflite_operators import HANDLERS, state_name
from rowmesh.gen.tflite_reader import RawGraph, read_tflite

__all__ = ["import_tflite", "import_tflite_model"]


def import_tflite(path: str | Path) -> Graph:
    """Read a TFLite file.

    Returns
    -------
    Graph
        int8 or float graph, tensors under the model's names.

    Raises
    ------
    RowmeshError
        The file does not exist, is no TFLite file, or what `import_tflite_model` refuses.
    """
    path = Path(path)
    data = read_file(path)
    return import_tflite_model(data, path.stem, label=str(path))


def import_tflite_model(data: bytes, name: str, *, label: str = "model") -> Graph:
    """Turn a file's bytes into a graph called `name`.

    Raises
    ------
    RowmeshError
        Truncated or damaged; unsupported operator, option, type or quantization; dynamic shape.
        Names the operator and the tensor.
    """
    graphs = read_tflite(data, label)
    main = graphs[0]
    builder = TfliteBuilder(main, _initial_states(graphs))
    if not main.inputs:
        raise RowmeshError(f"{label}: the model has no inputs")
    for index in main.inputs:
        raw = main.tensors[index]
        builder.tensors[raw.name] = builder.activation(raw)
    for index in range(len(main.operators)):
        operator = builder.begin(index)
        if _only_shapes(builder, main, index):
            builder.shapes.update(operator.outputs)
        elif operator.code in HANDLERS:
            HANDLERS[operator.code](builder)
        else:
            raise builder.error(f"unsupported operator {operator.code}")
    return fold_padding(builder.graph(name))


def _only_shapes(builder: TfliteBuilder, graph: RawGraph, index: int) -> bool:
    """Whether an operator computes a shape; all are static, and in the file with their tensors."""
    operator = graph.operators[index]
    integers = all(graph.tensors[i].dtype in ("INT32", "INT64") for i in operator.outputs)
    known = all(graph.tensors[i].data or i in builder.shapes for i in operator.inputs if i >= 0)
    return bool(operator.outputs) and integers and (operator.code == "SHAPE" or known)


def _initial_states(graphs: tuple[RawGraph, ...]) -> dict[str, Array]:
    """What the subgraph that CALL_ONCE names assigns to the variables."""
    states: dict[str, Array] = {}
    for call in graphs[0].operators:
        if call.code != "CALL_ONCE":
            continue
        number = call.options.get("InitSubgraphIndex", 0)
        if not 0 < number < len(graphs):
            raise RowmeshError(f"CALL_ONCE: there is no subgraph {number}")
        builder = TfliteBuilder(graphs[number], {})
        for index in range(len(graphs[number].operators)):
            operator = builder.begin(index)
            if operator.code == "VAR_HANDLE":
                builder.resources[operator.outputs[0]] = state_name(operator)
            elif operator.code == "ASSIGN_VARIABLE":
                name = builder.resources[operator.inputs[0]]
                states[name] = builder.constant(1)
            else:
                raise builder.error(f"unsupported operator {operator.code} in an initialization")
    return states
