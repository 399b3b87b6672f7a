"""What the commands `rowmesh compile` and `rowmesh run` do, from files to files."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import write_in_one_step
from rowmesh.gen.graph import Array, Graph
from rowmesh.rtl.config import Config

__all__ = ["Network", "compile_model", "load_graph", "read_arrays", "run_model", "write_arrays"]

Progress = Callable[[str], None]


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
            if array.shape[1:] != shape[1:] or not len(array) or len(array) % shape[0]:
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


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Arrays of a ``.npy`` file (for a single name) or of a ``.npz`` file by name.

    Raises
    ------
    RowmeshError
        The file cannot be read, or is for several inputs and has no names.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise RowmeshError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise RowmeshError(f"{path}: not a .npy or .npz file, or damaged") from None
    if isinstance(found, np.ndarray):
        if len(names) != 1:
            raise RowmeshError(f"{path}: the inputs {', '.join(names)} need a .npz file by name")
        return {names[0]: found}
    try:
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise RowmeshError(f"{path}: not a .npy or .npz file, or damaged") from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a ``.npz`` file in one step: it is complete or not there."""

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            for name, array in arrays.items():
                # A fixed date: the same results give the same bytes.
                with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array))

    write_in_one_step(path, write)


def load_graph(path: Path, calibration: Path | None = None) -> Network:
    """Read a network and quantize it where it is float.

    Parameters
    ----------
    path : Path
        TFLite or ONNX file; which one, the content says.
    calibration : Path, optional
        Inputs (.npy, or .npz by name) for a float network.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the files.
    """
    from rowmesh.gen.quantize import quantize_graph

    graph = _import(path)
    if graph.quantized:
        return Network(graph, real=False)
    if calibration is None:
        raise RowmeshError(
            f"{path}: a float network is quantized with example inputs: --calibration X.npy"
        )
    samples = read_arrays(calibration, graph.inputs)
    for name in graph.inputs:
        if name in samples:
            shape = graph.tensors[name].model_shape
            if samples[name].shape[1:] != shape[1:]:
                raise RowmeshError(
                    f"{calibration}: input {name!r} has shape {samples[name].shape}: "
                    f"must be (N, {', '.join(map(str, shape[1:]))})"
                )
    known = {name: samples[name] for name in graph.inputs if name in samples}
    return Network(quantize_graph(graph, graph.from_model(known)), real=True)


def _import(path: Path) -> Graph:
    """The graph of a file, by the importer for what it holds."""
    from rowmesh.gen.tflite_reader import IDENTIFIER

    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise RowmeshError(f"{path}: {error.strerror}") from None
    if head[4:8] == IDENTIFIER:
        from rowmesh.gen.import_tflite import import_tflite

        return import_tflite(path)
    if path.suffix.lower() in (".tflite", ".lite"):
        raise RowmeshError(f"{path}: not a TFLite file, or truncated")
    from rowmesh.gen.import_onnx import import_onnx

    return import_onnx(path)


def compile_model(
    model: Path,
    config: Config,
    out: Path,
    *,
    calibration: Path | None = None,
    strict: bool = False,
    progress: Progress = lambda line: None,
) -> None:
    """Compile a network file to a program file and its manifest (``.json`` beside it).

    Parameters
    ----------
    model, out : Path
        Network, and where the program goes; nothing is written unless all succeeded.
    config : Config
        The machine.
    calibration : Path, optional
        Inputs to quantize a float network with.
    strict : bool
        Refuse a layer whose psums are not proved to fit.
    progress : callable
        Gets a line for every layer, and the warnings.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the network or the files.
    """
    from rowmesh.gen.compiler import compile_graph
    from rowmesh.gen.tables import operator_lines

    _check_folder(out)
    compiled = compile_graph(load_graph(model, calibration).graph, config, progress)
    warnings = compiled.unproved()
    if strict and warnings:
        raise RowmeshError(f"{warnings[0]} (--strict)")
    for line in (*operator_lines(compiled), *(f"warning: {text}" for text in warnings)):
        progress(line)
    manifest = out.with_name(out.name + ".json")
    text = json.dumps(compiled.manifest(), indent=1) + "\n"
    write_in_one_step(manifest, lambda part: part.write_text(text, encoding="utf-8"))
    write_in_one_step(out, lambda part: part.write_bytes(compiled.image))
    progress(f"{out}: {len(compiled.image)} bytes")


def run_model(
    model: Path,
    config: Config,
    inputs: Path,
    out: Path,
    *,
    backend: str = "golden",
    sim: str = "verilator",
    all_layers: bool = False,
    calibration: Path | None = None,
    progress: Progress = lambda line: None,
) -> None:
    """Run a network file on input arrays.

    Inputs and outputs are in the model's own layout and type, outputs under the model's names.

    Parameters
    ----------
    model, inputs, out : Path
        Network; ``.npy`` or ``.npz`` with images along the first axis; ``.npz`` for the outputs,
        which is written only when all succeeded.
    config : Config
        The machine (and the rounding of the golden model).
    backend : str
        ``golden``, ``cycle`` (the program-level model, with predicted cycles), ``rtl``.
    sim : str
        Simulator of ``rtl``.
    all_layers : bool
        Write every tensor that there is. On the accelerator a convolution with a fused pooling
        has none of its own.
    calibration : Path, optional
        Inputs to quantize a float network with.
    progress : callable
        Gets lines.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the network, the files or the run.
    """
    _check_folder(out)
    if backend == "rtl" and sim != "verilator":
        raise RowmeshError(
            f"--sim {sim}: whole networks run on verilator only; `make sim SIM={sim}` runs the "
            "benches, with that of the whole accelerator"
        )
    network = load_graph(model, calibration)
    values = network.take(read_arrays(inputs, network.graph.inputs))
    if backend == "golden":
        from rowmesh.sim_models.golden import run

        results = run(network.graph, values, config.rounding)
    else:
        results = _run_compiled(network.graph, config, values, backend, progress)
    write_arrays(out, network.give(results, all_layers))
    progress(f"{out}: {len(next(iter(values.values())))} images, backend {backend}")


def _run_compiled(
    graph: Graph, config: Config, values: Mapping[str, Array], backend: str, progress: Progress
) -> dict[str, Array]:
    from rowmesh.gen.compiler import compile_graph
    from rowmesh.gen.runtime import Runtime
    from rowmesh.gen.tables import operator_lines

    compiled = compile_graph(graph, config, progress)
    for text in compiled.unproved():
        progress(f"warning: {text}")
    if backend == "cycle":
        from rowmesh.sim_models.model_machine import ModelMachine

        result = Runtime(compiled, ModelMachine(config, len(compiled.image))).run(values)
        for line in operator_lines(compiled):
            progress(line)
        cycles = sum(layer.predicted_cycles for layer in compiled.layers)
        progress(f"{cycles:.0f} cycles an image predicted")
        return result.values
    from rowmesh.verif.fast.machine import FastMachine

    progress(f"building the simulation of {config.clusters} clusters, {config.pes} PEs")
    machine = FastMachine(config, len(compiled.image))
    try:
        runtime = Runtime(compiled, machine)
        first = {name: array[:1] for name, array in values.items()}
        layers = runtime.run(first, per_layer=True).images[0]
        for line in operator_lines(compiled, layers):
            progress(line)
        result = runtime.run(
            values, image_done=lambda n, cycles: progress(f"image {n + 1}: {cycles} cycles")
        )
    finally:
        machine.close()
    cycles = sum(result.cycles(n) for n in range(len(result.images)))
    progress(f"{cycles / len(result.images):.0f} cycles an image measured")
    return result.values


def _check_folder(out: Path) -> None:
    """Before work that takes minutes."""
    if not out.parent.is_dir():
        raise RowmeshError(f"cannot write {out}: the folder {out.parent} does not exist")
    if out.is_dir():
        raise RowmeshError(f"cannot write {out}: it is a folder")
