"""A whole network against its reference: LiteRT for TFLite files, ONNX Runtime for ONNX files.

Every tensor that the reference shows is compared twice: as the golden model has it after running
the whole network, and as it makes it from the reference's own inputs to that operator. The first
may drift behind a value that the reference rounded in float32; in the second every difference must
be explained on the spot.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rowmesh.gen.flow import load_graph
from rowmesh.gen.graph import Array, ConvAttrs, Graph, Node, Op, Tensor
from rowmesh.gen.tflite_reader import IDENTIFIER
from rowmesh.sim_models.golden import accumulate, run, run_node, single_runs
from rowmesh.verif.references import onnxruntime_tensors

__all__ = [
    "Comparison",
    "Count",
    "compare_network",
    "litert_tensors",
    "network_inputs",
]

#: Differing values of a layer type that rounding may explain: one in this many.
RARE = 100_000


@dataclass
class Count:
    """Values of one layer type.

    Parameters
    ----------
    values : int
        Compared.
    drifted : int
        Of them differ after the whole network.
    rounded : int
        Differ from the reference's own inputs, by one, as its float32 rounding explains.
    unexplained : int
        Differ from the reference's own inputs without that explanation.
    """

    values: int = 0
    drifted: int = 0
    rounded: int = 0
    unexplained: int = 0


@dataclass
class Comparison:
    """A network against its reference.

    Parameters
    ----------
    name : str
    runs : int
        Inputs, or consecutive steps.
    tensors : set of str
        That were compared.
    hidden : set of str
        That the reference does not show.
    counts : dict of Count
        By layer type.
    """

    name: str
    runs: int = 0
    tensors: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    counts: dict[str, Count] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        out = [] if self.tensors else [f"{self.name}: nothing was compared"]
        for kind, count in self.counts.items():
            if count.unexplained:
                out.append(f"{self.name}: {count.unexplained} values of {kind} are not explained")
            # A small network may have one such value among fewer than `RARE`.
            if count.rounded > max(1, count.values // RARE):
                out.append(
                    f"{self.name}: {count.rounded} of {count.values} values of {kind} differ"
                )
        return out


def network_inputs(graph: Graph, count: int, seed: int) -> dict[str, Array]:
    """Random inputs of a network in the model's layout and type: noise, ramps and level changes."""
    rng = np.random.default_rng(seed)
    out = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        shape = (count * tensor.shape[0], *tensor.shape[1:])
        noise = rng.integers(-128, 128, shape)
        ramp = np.linspace(-1, 1, noise[0].size).reshape(shape[1:]) * rng.uniform(-128, 128)
        level = rng.integers(-128, 128, (shape[0], *[1] * (len(shape) - 1)))
        share = rng.choice([0.0, 0.1, 0.5, 1.0], level.shape)
        values = np.clip(np.rint(share * noise + (1 - share) * (level + ramp)), -128, 127)
        if tensor.dtype == "float32":
            out[name] = tensor.to_model((values / 64).astype(np.float32))
        else:
            out[name] = tensor.to_model(values.astype(np.int8))
    return out


def litert_tensors(
    model: bytes, inputs: Sequence[Mapping[str, Array]], *, reference: bool = False
) -> Iterator[dict[str, Array]]:
    """Every tensor that LiteRT shows, for each of consecutive runs.

    Parameters
    ----------
    model : bytes
        The file.
    inputs : sequence of mapping
        Inputs by name for each run.
    reference : bool
        The reference kernels in place of the default ones.
    """
    import warnings

    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.BUILTIN
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*")
        interpreter = Interpreter(
            model_content=model,
            experimental_op_resolver_type=kind,
            experimental_preserve_all_tensors=True,
            num_threads=1,
        )
    interpreter.allocate_tensors()
    for values in inputs:
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], values[detail["name"]])
        interpreter.invoke()
        found = {}
        for detail in interpreter.get_tensor_details():
            if detail["dtype"] is np.object_ or detail["name"] == "":
                continue
            try:
                found[detail["name"]] = interpreter.get_tensor(detail["index"])
            except ValueError:  # a resource, or never allocated
                continue
        yield found


def compare_network(
    path: Path,
    inputs: Mapping[str, Array],
    *,
    rounding: str = "single",
    progress: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Compare the golden model of a network file with the file's reference.

    Parameters
    ----------
    path : Path
        A quantized TFLite or ONNX file.
    inputs : mapping of ndarray
        By name, in the model's layout and type; steps of a streaming network in order.
    rounding : str
        ``single``: LiteRT's default kernels, ONNX Runtime. ``double``: LiteRT's reference kernels.
    progress : callable
        Gets a line now and then.
    """
    network = load_graph(path)
    graph, data = network.graph, path.read_bytes()
    given = network.take(inputs)
    result = Comparison(path.stem)
    golden = run(graph, given, rounding)
    parts = [graph.to_model(part) for part in single_runs(graph, given)]
    if data[4:8] == IDENTIFIER:
        shown = litert_tensors(data, parts, reference=rounding == "double")
    else:
        shown = onnxruntime_tensors(data, parts)
    for index, found in enumerate(shown):
        mine = {}
        for name, array in golden.items():
            size = len(array) // len(parts)
            mine[name] = array[index * size : (index + 1) * size]
        _compare_run(result, graph, mine, found, rounding)
        if (index + 1) % 10 == 0 or index + 1 == len(parts):
            progress(f"{result.name}: {index + 1} of {len(parts)} runs compared")
    return result


def _layer_type(graph: Graph, node: Node) -> str:
    if node.op is Op.CONV and node.attrs_as(ConvAttrs).groups > 1:
        groups = node.attrs_as(ConvAttrs).groups
        depthwise = groups == graph.tensors[node.inputs[0]].shape[-1]
        return "depthwise" if depthwise else "grouped conv"
    return str(node.op)


def _compare_run(
    result: Comparison,
    graph: Graph,
    golden: Mapping[str, Array],
    shown: Mapping[str, Array],
    rounding: str,
) -> None:
    """Compare one run: `golden` of the whole network, and every node on what was `shown`."""
    result.runs += 1
    values: dict[str, Array] = {name: golden[name] for name in graph.inputs}
    states = dict(graph.states)
    for node in graph.nodes:
        if node.op is Op.WRITE_STATE:
            continue
        name = node.outputs[0]
        tensor = graph.tensors[name]
        alone = None
        if node.op is not Op.READ_STATE:
            alone = run_node(graph, node, values, rounding, states)[name]
        other = _as_stored(tensor, shown.get(name))
        if other is None:
            result.hidden.add(name)
            values[name] = golden[name] if alone is None else alone
            continue
        result.tensors.add(name)
        count = result.counts.setdefault(_layer_type(graph, node), Count())
        count.values += other.size
        count.drifted += int(np.count_nonzero(golden[name] != other))
        if alone is not None:
            differs = alone != other
            if differs.any():
                explained = differs & _float32_rounding(graph, node, values, alone, other)
                count.rounded += int(np.count_nonzero(explained))
                count.unexplained += int(np.count_nonzero(differs & ~explained))
        values[name] = other


def _as_stored(tensor: Tensor, shown: Any) -> Array | None:
    """What the reference shows, in the graph's layout; None where it shows nothing of use."""
    if shown is None or shown.dtype != tensor.model_dtype:
        return None
    return tensor.from_model(shown)


def _float32_rounding(
    graph: Graph, node: Node, values: Mapping[str, Array], golden: Array, other: Array
) -> Array:
    """Where `other` is what float32 requantization gives, one away from the exact rounding."""
    if node.op not in (Op.CONV, Op.FULLY_CONNECTED):
        return np.zeros(other.shape, bool)
    s_x, s_y = (np.float32(graph.quant(n).scale[0]) for n in (node.inputs[0], node.outputs[0]))
    scale = s_x * graph.quant(node.inputs[1]).scale.astype(np.float32) / s_y
    acc = accumulate(graph, node, values[node.inputs[0]])
    steps = np.rint(acc.astype(np.float32) * scale)
    low, high = node.clamp or (-128, 127)
    rule = np.clip(steps + graph.quant(node.outputs[0]).zero_point, low, high)
    one = np.abs(golden.astype(np.int64) - other) == 1
    result: Array = (other == rule) & one
    return result
