"""A network as the flow handles it: the int8 graph, and what the model itself takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import read_file
from rowmesh.gen.graph import ARITHMETIC, Array, Graph

__all__ = ["Network", "import_model", "quantized_network"]


@dataclass(frozen=True)
class Network:
    """A quantized graph, and whether the model itself has real numbers.

    Parameters
    ----------
    graph : Graph
        int8.
    real : bool
        The model is float and was quantized here: its inputs and outputs stay float32.
    """

    graph: Graph
    real: bool

    def take(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs in the graph's layout and type from the model's own.

        Raises
        ------
        RowmeshError
            An input is missing or unknown, of a wrong type or shape, or holds NaN or infinity.
        """
        graph = self.graph
        unknown = sorted(set(inputs) - set(graph.inputs))
        if unknown:
            raise RowmeshError(f"unknown input {unknown[0]!r}; inputs: {', '.join(graph.inputs)}")
        out: dict[str, Array] = {}
        for name in graph.inputs:
            if name not in inputs:
                raise RowmeshError(f"input {name!r} is missing")
            array, tensor = inputs[name], graph.tensors[name]
            shape = tensor.model_shape
            wanted = np.dtype("float32" if self.real else tensor.model_dtype)
            if array.dtype != wanted:
                raise RowmeshError(f"input {name!r} is {array.dtype}: must be {wanted}")
            fits = array.ndim == len(shape) and array.shape[1:] == shape[1:]
            if not fits or not len(array) or len(array) % shape[0]:
                first = "N" if shape[0] == 1 else f"N x {shape[0]}"
                told = ", ".join((first, *map(str, shape[1:])))
                raise RowmeshError(f"input {name!r} has shape {array.shape}: must be ({told})")
            if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
                raise RowmeshError(f"input {name!r} holds NaN or infinity")
            values = tensor.from_model(array)
            out[name] = graph.quant(name).quantize(values) if self.real else values
        runs = {name: len(array) // graph.tensors[name].shape[0] for name, array in out.items()}
        if len(set(runs.values())) > 1:
            sizes = ", ".join(f"{name} {count}" for name, count in runs.items())
            raise RowmeshError(f"the inputs differ in their number of images: {sizes}")
        return out

    def give(self, values: Mapping[str, Array], all_layers: bool) -> dict[str, Array]:
        """Tensors in the model's own layout and type: its outputs, or everything computed."""
        graph = self.graph
        names = [name for name in values if name not in graph.inputs]
        out = {}
        for name in names if all_layers else graph.outputs:
            array = graph.quant(name).dequantize(values[name]) if self.real else values[name]
            out[name] = graph.tensors[name].to_model(array)
        return out


def quantized_network(
    graph: Graph, label: str, samples: Mapping[str, Array] | None, told: str
) -> Network:
    """A network ready to run; a float one is quantized.

    Parameters
    ----------
    graph : Graph
        As an importer made it.
    label : str
        What errors call the model.
    samples : mapping of ndarray, optional
        Example inputs by name, in the model's layout.
    told : str
        What errors call the samples, and how they are given.

    Raises
    ------
    RowmeshError
        A float network without samples, or samples that are no examples of its inputs.
    """
    from rowmesh.gen.quantize import quantize_graph

    if graph.quantized:
        return Network(graph, real=False)
    _refuse_mixed(graph)
    if samples is None:
        node = next((n for n in graph.nodes if n.op in ARITHMETIC), None)
        what = "" if node is None else f"{node.op} {node.name!r} reads float {node.inputs[0]!r}: "
        raise RowmeshError(f"{label}: {what}a float network needs example inputs: {told}")
    known = {}
    for name in graph.inputs:
        if name not in samples:
            continue
        shape = graph.tensors[name].model_shape
        if samples[name].shape[1:] != shape[1:]:
            raise RowmeshError(
                f"{told}: input {name!r} has shape {samples[name].shape}: "
                f"must be (N, {', '.join(map(str, shape[1:]))})"
            )
        known[name] = samples[name]
    return Network(quantize_graph(graph, graph.from_model(known)), real=True)


def _refuse_mixed(graph: Graph) -> None:
    """Refuse a network that is int8 in one part and float in another."""
    kinds = {graph.tensors[n.outputs[0]].dtype: n for n in graph.nodes if n.op in ARITHMETIC}
    if len(kinds) > 1:
        node = kinds["float32"]
        raise RowmeshError(
            f"{node.op} {node.name!r} of an int8 network computes tensor {node.outputs[0]!r} in "
            "float32: quantize the whole network"
        )


def import_model(path: Path) -> Graph:
    """The graph of a file, by the importer for what it holds."""
    from rowmesh.gen.tflite_reader import IDENTIFIER

    if read_file(path)[4:8] == IDENTIFIER:
        from rowmesh.gen.import_tflite import import_tflite

        return import_tflite(path)
    if path.suffix.lower() in (".tflite", ".lite"):
        raise RowmeshError(f"{path}: not a TFLite file, or truncated")
    from rowmesh.gen.import_onnx import import_onnx

    return import_onnx(path)
