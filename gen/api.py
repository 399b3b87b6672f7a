"""The Python interface: what the command line does, on arrays.

`rowmesh.compile` and `rowmesh.run` are these functions.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.driver import Accelerator, Bus
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import check_folder, write_in_one_step
from rowmesh.gen.graph import Array, Graph
from rowmesh.gen.network import Network, import_model, quantized_network
from rowmesh.gen.predict import cycles_with
from rowmesh.gen.run_record import RunRecord, make_record
from rowmesh.gen.runtime import Result, Runtime
from rowmesh.gen.tables import activity_lines, codec_lines, operator_lines
from rowmesh.rtl.config import Config, load_config
from rowmesh.rtl.shell.baud import DEFAULT_BAUD

__all__ = [
    "BACKENDS",
    "SIMULATORS",
    "CompiledNetwork",
    "GraphRun",
    "Progress",
    "compile",
    "run",
    "run_graph",
]

Progress = Callable[[str], None]
#: What can run a network.
BACKENDS = ("golden", "cycle", "rtl", "board")
#: What simulates the RTL.
SIMULATORS = ("verilator", "icarus")


def _silent(line: str) -> None:
    """Take a line of progress and say nothing."""


@dataclass(frozen=True)
class CompiledNetwork:
    """A network compiled for one configuration.

    Parameters
    ----------
    network : Network
        The int8 graph, and what the model itself takes and gives.
    compiled : Compiled
        Programs, memory image and where every operator runs.
    """

    network: Network
    compiled: Compiled

    @classmethod
    def of(
        cls, network: Network, config: Config, *, strict: bool, progress: Progress
    ) -> "CompiledNetwork":
        """Compile a network.

        Raises
        ------
        RowmeshError
            A layer does not fit; with `strict`, a layer whose psums are not proved to fit.
        """
        compiled = compile_graph(network.graph, config, progress)
        warnings = compiled.unproved()
        if strict and warnings:
            raise RowmeshError(f"{warnings[0]} (--strict)")
        lines = [*operator_lines(compiled), *codec_lines(compiled)]
        for line in (*lines, *(f"warning: {text}" for text in warnings)):
            progress(line)
        return cls(network, compiled)

    def save(self, path: str | Path) -> None:
        """Write the memory image with its programs, and the manifest (``.json``) beside it.

        Raises
        ------
        RowmeshError
            A file cannot be written.
        """
        path = Path(path)
        check_folder(path)
        text = json.dumps(self.compiled.manifest(), indent=1) + "\n"
        manifest = path.with_name(path.name + ".json")
        write_in_one_step(manifest, lambda part: part.write_text(text, encoding="utf-8"))
        write_in_one_step(path, lambda part: part.write_bytes(self.compiled.image))

    def run(
        self, inputs: Array | Mapping[str, Array], bus: Bus, *, all_layers: bool = False
    ) -> dict[str, Array]:
        """Run inputs on a machine: a board, or a simulation of one.

        Parameters
        ----------
        inputs : ndarray or mapping of ndarray
            Images along the first axis, in the model's layout and type; by name, or the array
            for the only input.
        bus : Bus
            Registers, memory and interrupt of the machine: all that is used of it.
        all_layers : bool
            Give every tensor that there is.

        Returns
        -------
        dict of ndarray
            The outputs by the model's names, in its layout and type.

        Raises
        ------
        RowmeshError
            Inputs of a wrong name, shape or type; a fault of the machine, with the layer.
        """
        values = self.network.take(named(self.network.graph, inputs))
        result = Runtime(self.compiled, bus).run(values)
        return self.network.give(result.values, all_layers)


def named(graph: Graph, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
    """Arrays by input name; a single array is for the only input."""
    if isinstance(inputs, Mapping):
        return {name: np.asarray(array) for name, array in inputs.items()}
    if len(graph.inputs) != 1:
        raise RowmeshError(f"the inputs {', '.join(graph.inputs)} need arrays by name")
    return {graph.inputs[0]: np.asarray(inputs)}


def _load(model: str | Path, calibration: Array | Mapping[str, Array] | None) -> Network:
    graph = import_model(Path(model))
    samples = None if calibration is None else named(graph, calibration)
    return quantized_network(graph, str(model), samples, "calibration")


def _config(config: str | Path | Config) -> Config:
    return config if isinstance(config, Config) else load_config(str(config))


def compile(
    model: str | Path,
    config: str | Path | Config = "demo",
    *,
    calibration: Array | Mapping[str, Array] | None = None,
    strict: bool = False,
    progress: Progress = _silent,
) -> CompiledNetwork:
    """Compile a network file for an accelerator.

    Parameters
    ----------
    model : str or Path
        TFLite or ONNX file.
    config : str, Path or Config
        Preset, TOML file, or the configuration itself.
    calibration : ndarray or mapping of ndarray, optional
        Example inputs to quantize a float network with.
    strict : bool
        Refuse a layer whose psums are not proved to fit.
    progress : callable
        Gets a line for every layer, the table of operators, and the warnings.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the network; names the operator and the tensor.
    """
    network = _load(model, calibration)
    return CompiledNetwork.of(network, _config(config), strict=strict, progress=progress)


def run(
    model: str | Path,
    inputs: Array | Mapping[str, Array],
    config: str | Path | Config = "demo",
    *,
    backend: str = "golden",
    port: str | None = None,
    baud: int = DEFAULT_BAUD,
    all_layers: bool = False,
    calibration: Array | Mapping[str, Array] | None = None,
    progress: Progress = _silent,
) -> dict[str, Array]:
    """Run a network file on inputs.

    Parameters
    ----------
    model, config, calibration, progress
        As `compile` takes them.
    inputs : ndarray or mapping of ndarray
        Images (of a streaming network: steps) along the first axis, in the model's layout and
        type; by name, or the array for the only input.
    backend : str
        ``golden`` (the numpy model), ``cycle`` (the program-level model), ``rtl`` or ``board``.
    port, baud : str, int
        Serial port of ``board``, and its bits a second.
    all_layers : bool
        Give every tensor that there is.

    Returns
    -------
    dict of ndarray
        The outputs by the model's names, in its layout and type.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the network, the inputs or the run.
    """
    network = _load(model, calibration)
    values = network.take(named(network.graph, inputs))
    where = _config(config), values, backend, progress
    results = run_graph(network.graph, *where, port=port, baud=baud)
    return network.give(results.values, all_layers)


@dataclass(frozen=True)
class GraphRun:
    """What came of a run.

    Parameters
    ----------
    values : dict of ndarray
        Every tensor that exists.
    record : RunRecord, optional
        What the RTL was measured to do.
    """

    values: dict[str, Array]
    record: RunRecord | None = None


def run_graph(
    graph: Graph,
    config: Config,
    values: Mapping[str, Array],
    backend: str,
    progress: Progress,
    sim: str = "verilator",
    model: str = "",
    *,
    port: str | None = None,
    baud: int = DEFAULT_BAUD,
) -> GraphRun:
    """Run an int8 graph on one of the `BACKENDS`, the RTL on one of the `SIMULATORS`.

    `model` is the name of the network in the record of the run; `port` and `baud` say where the
    board is.

    Raises
    ------
    RowmeshError
        Unknown backend or simulator; a layer does not fit; a fault of the machine; no board, or
        not one of this configuration and with this much memory.
    """
    for name, value, known in (("backend", backend, BACKENDS), ("simulator", sim, SIMULATORS)):
        if value not in known:
            raise RowmeshError(f"{name} {value!r}: must be one of {', '.join(known)}")
    if (backend == "board") != (port is not None):
        raise RowmeshError("the backend board, and no other, needs a serial port (--port)")
    if backend == "golden":
        from rowmesh.sim_models import golden

        return GraphRun(golden.run(graph, values, config.rounding))
    if port is not None:
        return _run_on_board(graph, config, values, progress, model, port, baud)
    compiled = _compiled(graph, config, progress)
    machine: Any
    if backend == "cycle":
        from rowmesh.sim_models.model_machine import ModelMachine

        machine = ModelMachine(config, len(compiled.image))
        result = Runtime(compiled, machine).run(values)
        for line in (*operator_lines(compiled), *codec_lines(compiled, result.values)):
            progress(line)
        cycles = sum(cycles_with(compiled, result.values))
        progress(f"{cycles:.0f} cycles an image predicted")
        return GraphRun(result.values)
    if sim == "icarus":
        from rowmesh.verif.icarus_run import run_on_icarus

        progress("running on Icarus, about a thousand cycles a second")
        result = run_on_icarus(compiled, values)
        return _finished(model, sim, compiled, result, result, progress)
    from rowmesh.verif.fast.machine import FastMachine

    progress(f"building the simulation of {config.clusters} clusters, {config.pes} PEs")
    machine = FastMachine(config, len(compiled.image))
    try:
        return _measured(model, sim, compiled, machine, values, progress)
    finally:
        machine.close()


def _compiled(graph: Graph, config: Config, progress: Progress) -> Compiled:
    compiled = compile_graph(graph, config, progress)
    for text in compiled.unproved():
        progress(f"warning: {text}")
    return compiled


def _run_on_board(
    graph: Graph,
    config: Config,
    values: Mapping[str, Array],
    progress: Progress,
    model: str,
    port: str,
    baud: int,
) -> GraphRun:
    """Run a graph on a board; refuses the wrong board before it compiles."""
    from rowmesh.gen.board import SerialBoard

    with SerialBoard(port, baud) as board:
        Accelerator(board, config)
        progress(f"{port}: {board.memory_bytes} bytes of memory, {board.clock_hz / 1e6:g} MHz")
        compiled = _compiled(graph, config, progress)
        board.check_room(len(compiled.image))
        return _measured(model, "board", compiled, board, values, progress)


def _measured(
    model: str,
    sim: str,
    compiled: Compiled,
    machine: Bus,
    values: Mapping[str, Array],
    progress: Progress,
) -> GraphRun:
    """Run the first image layer by layer, then all of them."""
    from rowmesh.sim_models.golden import single_runs

    runtime = Runtime(compiled, machine)
    first = single_runs(compiled.graph, values)[0]
    measured = runtime.run(first, per_layer=True, counters=1)
    result = runtime.run(
        values, image_done=lambda n, cycles: progress(f"image {n + 1}: {cycles} cycles")
    )
    return _finished(model, sim, compiled, measured, result, progress)


def _finished(
    model: str,
    sim: str,
    compiled: Compiled,
    measured: Result,
    result: Result,
    progress: Progress,
) -> GraphRun:
    """Say what ran where, how the tensors lay in DRAM and where the cycles went; make the record.

    `measured` has the first image layer by layer, `result` all images.
    """
    cycles = [result.cycles(n) for n in range(len(result.images))]
    record = make_record(model, sim, compiled, measured, cycles)
    for lines in (
        operator_lines(compiled, measured.images[0]),
        codec_lines(compiled, measured.values),
        activity_lines(record),
    ):
        for line in lines:
            progress(line)
    progress(f"{sum(cycles) / len(cycles):.0f} cycles an image measured")
    return GraphRun(result.values, record)
