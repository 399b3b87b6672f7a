"""Real networks: against their reference, and on the RTL of several machines (`make networks`).

Each network file runs through the golden model, which is compared with LiteRT or ONNX Runtime
tensor by tensor, and on the generated RTL, which is compared with the golden model. The results
go to ``summary.json``; the exit status is 1 when anything differs.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.datasets import mnist_conv_path, synthetic_digits, wake_word_paths
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.export_onnx import export_onnx
from rowmesh.gen.files import write_in_one_step
from rowmesh.gen.graph import Array, Graph, Op
from rowmesh.gen.macs import effectual_macs, node_macs
from rowmesh.gen.network import import_model, quantized_network
from rowmesh.gen.predict import cycles_with
from rowmesh.gen.runtime import Runtime
from rowmesh.rtl.config import Config, load_config
from rowmesh.sim_models import golden
from rowmesh.verif.benchmarks import CLOSE, LONG
from rowmesh.verif.fast.machine import FastMachine, build_library
from rowmesh.verif.network_reference import compare_network, network_inputs

__all__ = ["MACHINES", "NetworkRun", "known_networks", "main", "run_on_rtl"]

#: Configurations by name: the default, and one that differs in mesh, PEs, SPads and SIMD width.
MACHINES: dict[str, Config] = {
    "demo": load_config("demo"),
    "quad": Config(
        cluster_rows=1,
        cluster_cols=3,
        pe_rows=4,
        pe_cols=2,
        macs_per_pe=4,
        iact_addr_depth=12,
        iact_data_depth=32,
        weight_addr_depth=32,
        weight_data_depth=128,
        psum_depth=64,
        glb_iact_banks=4,
        glb_iact_bytes=4096,
        glb_psum_count=2048,
        axi_data_bits=256,
    ),
}
#: Operators that must run on the accelerator.
_COMPUTE = (Op.CONV, Op.FULLY_CONNECTED, Op.MAX_POOL, Op.AVG_POOL, Op.ADD)
#: MACs from which on a network gets fewer inputs.
_LARGE = 5_000_000


@dataclass(frozen=True, kw_only=True)
class NetworkRun:
    """A network on one machine: the fields of ``summary.json``.

    Parameters
    ----------
    network, config : str
    images : int
        Inputs, or consecutive steps of a streaming network.
    layers, mismatches : int
        Tensors that the accelerator made, and their values that differ from the golden model.
    cycles, bytes_read, bytes_written : int
        Of the accelerator for one image.
    pe_utilization : float
        Multiplications of non-zero operands by cycles x multipliers.
    operators_on_accelerator, operators_on_host : int
    macs_on_accelerator : float
        Part of the network's MACs.
    host_operators : list of str
        Each with its reason.
    wall_seconds : float
    layer_cycles : list of dict
        ``name, cycles, model_cycles, mapping`` of every layer.
    """

    network: str
    config: str
    images: int
    layers: int
    mismatches: int
    cycles: int
    pe_utilization: float
    bytes_read: int
    bytes_written: int
    operators_on_accelerator: int
    operators_on_host: int
    macs_on_accelerator: float
    host_operators: list[str]
    wall_seconds: float
    layer_cycles: list[dict[str, Any]]

    def problems(self) -> list[str]:
        """What must not be, a line each."""
        out = []
        if self.mismatches:
            out.append(f"{self.mismatches} values differ from the golden model")
        if not self.layers:
            out.append("no layer was compared")
        if self.macs_on_accelerator < 0.95:
            out.append(f"only {self.macs_on_accelerator:.1%} of the MACs are on the accelerator")
        compute = [line for line in self.host_operators if line.split()[0] in _COMPUTE]
        if compute:
            out.append(f"on the host: {'; '.join(compute)}")
        return [f"{self.network} on {self.config}: {text}" for text in out]


def run_on_rtl(
    name: str, graph: Graph, inputs: Mapping[str, Array], config_name: str, config: Config
) -> NetworkRun:
    """Run int8 inputs on the RTL and compare every tensor with the golden model."""
    begin = time.monotonic()
    compiled = compile_graph(graph, config)
    machine = FastMachine(config, len(compiled.image))
    try:
        result = Runtime(compiled, machine).run(inputs, per_layer=True)
    finally:
        machine.close()
    wanted = golden.run(graph, inputs, config.rounding)
    mismatches = sum(int((wanted[key] != values).sum()) for key, values in result.values.items())
    count = len(result.images)
    measures = [measure for image in result.images for measure in image]
    cycles = sum(measure.cycles for measure in measures)
    predicted = cycles_with(compiled, {**inputs, **wanted})
    multiplications = sum(
        int(effectual_macs(graph, layer, wanted).sum()) for layer in compiled.layers
    )
    return NetworkRun(
        network=name,
        config=config_name,
        images=count,
        layers=len(compiled.layers) * count,
        mismatches=mismatches,
        cycles=cycles // count,
        pe_utilization=round(multiplications / (cycles * config.macs), 4),
        bytes_read=sum(measure.bytes_read for measure in measures) // count,
        bytes_written=sum(measure.bytes_written for measure in measures) // count,
        wall_seconds=round(time.monotonic() - begin, 1),
        layer_cycles=[
            {
                "name": layer.name,
                "cycles": sum(image[at].cycles for image in result.images) // count,
                "model_cycles": round(predicted[at]),
                "mapping": layer.mapping.describe(),
            }
            for at, layer in enumerate(compiled.layers)
        ],
        **_placement(compiled),
    )


def _placement(compiled: Compiled) -> dict[str, Any]:
    """Where the operators run, and the part of the MACs that the accelerator does."""
    where = {True: 0, False: 0}
    macs = {True: 0, False: 0}
    host = []
    for placed in compiled.placements:
        if placed.where == "none":
            continue
        here = placed.where == "accelerator"
        where[here] += 1
        macs[here] += node_macs(compiled.graph, placed.node)
        if not here:
            host.append(f"{placed.node.op} {placed.node.name}: {placed.reason}")
    return {
        "operators_on_accelerator": where[True],
        "operators_on_host": where[False],
        "macs_on_accelerator": macs[True] / max(1, sum(macs.values())),
        "host_operators": host,
    }


def machine_config(name: str) -> Config:
    """One of `MACHINES`, or what `load_config` finds."""
    return MACHINES[name] if name in MACHINES else load_config(name)


def known_networks(work: Path) -> list[Path]:
    """All network files of the regression that are there, and on standard error what is not.

    Parameters
    ----------
    work : Path
        Folder for the demo's network, which is quantized here.
    """
    root = Path(__file__).resolve().parents[1]
    sources: list[Callable[[], list[Path]]] = [
        lambda: _files(root.parent / "shared" / "models", "*.tflite"),
        wake_word_paths,
        lambda: [_quantized_demo(work)],
        lambda: _files(root / "examples" / "fashion_mnist", "*.onnx"),
    ]
    found = []
    for source in sources:
        try:
            found += source()
        except RowmeshError as error:
            print(f"networks: left out: {error}", file=sys.stderr)
    return found


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise RowmeshError(f"no {pattern} in {folder.parent.name}/{folder.name}")
    return found


def _quantized_demo(work: Path) -> Path:
    """The demo's network as an int8 ONNX file."""
    graph = import_model(mnist_conv_path())
    samples = {graph.inputs[0]: synthetic_digits(200, 1)}
    path = work / "mnist-conv.onnx"
    export_onnx(quantized_network(graph, path.name, samples, "digits").graph, path)
    return path


def _check(task: tuple[str, Path, int]) -> tuple[str, list[str], Any]:
    """One piece of work of a worker process: a name, what is wrong, and the result."""
    kind, path, count = task
    network = quantized_network(import_model(path), path.name, None, "a quantized file is needed")
    graph = network.graph
    if kind == "reference":
        compared = compare_network(path, network_inputs(graph, count, 5))
        counts = {key: dataclasses.asdict(value) for key, value in compared.counts.items()}
        shown = {"network": path.stem, "runs": compared.runs, "tensors": len(compared.tensors)}
        return f"{path.stem} reference", compared.problems(), {**shown, "types": counts}
    inputs = network.take(network_inputs(graph, count, 6))
    done = run_on_rtl(path.stem, graph, inputs, kind, machine_config(kind))
    return f"{path.stem} on {kind}", done.problems(), done


def main(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder.")] = Path("build/networks"),
    only: Annotated[str, typer.Option(help="Part of the names of networks.")] = "",
    images: Annotated[int, typer.Option(help="Inputs (steps) on the RTL.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    machines: Annotated[
        list[str] | None,
        typer.Option("--config", help=f"Instead of {' and '.join(MACHINES)}; several times."),
    ] = None,
) -> None:
    """Run every network against its reference and on the RTL of every machine."""
    console = Console(highlight=False)
    machines = machines or list(MACHINES)
    out.mkdir(parents=True, exist_ok=True)
    paths = [path for path in known_networks(out) if only in path.stem]
    if not paths:
        sys.exit(f"networks: none with {only!r} in its name")
    for name in machines:
        with console.status(f"building the simulation of {name} (minutes the first time)"):
            build_library(machine_config(name))
    tasks = []
    for path in paths:
        graph = import_model(path)
        macs = sum(node_macs(graph, node) for node in graph.nodes)
        runs = 30 if graph.states else 10 if macs > _LARGE else 100
        tasks += [(kind, path, images) for kind in machines]
        tasks.append(("reference", path, runs))
    references: list[Any] = []
    runs_done: list[NetworkRun] = []
    problems: list[str] = []
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for number, (name, wrong, result) in enumerate(pool.map(_check, tasks)):
            console.print(f"[{number + 1}/{len(tasks)}] {name}: {'; '.join(wrong) or 'equal'}")
            problems += wrong
            (runs_done if isinstance(result, NetworkRun) else references).append(result)
    summary = {
        "runs": [dataclasses.asdict(run) for run in runs_done],
        "references": references,
        "problems": problems,
    }
    text = json.dumps(summary, indent=1) + "\n"
    write_in_one_step(out / "summary.json", lambda part: part.write_text(text, encoding="utf-8"))
    # Wide enough that no line is folded.
    Console(width=max(console.width, 130), highlight=False).print(_table(runs_done))
    long = [row for run in runs_done for row in run.layer_cycles if row["cycles"] > LONG]
    off = [row for row in long if abs(row["model_cycles"] / row["cycles"] - 1) > CLOSE]
    console.print(f"cycle model: {len(off)} of {len(long)} long layers are off by over {CLOSE:.0%}")
    console.print(f"{out / 'summary.json'}: {len(problems)} problems")
    sys.exit(int(bool(problems)))


def _table(runs: list[NetworkRun]) -> Table:
    columns = ("network", "config", "layers", "mismatches", "cycles", "pe_utilization")
    table = Table(*columns, "accelerator", "host", "MACs", "seconds")
    for run in runs:
        table.add_row(
            *(str(getattr(run, column)) for column in columns),
            str(run.operators_on_accelerator),
            str(run.operators_on_host),
            f"{run.macs_on_accelerator:.1%}",
            str(run.wall_seconds),
        )
    return table


if __name__ == "__main__":
    typer.run(main)
