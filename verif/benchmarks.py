"""Cycles of the published workloads on the RTL, beside the published ones (`make bench`).

Every case is a whole network in one program, with its zeros, compared with the golden model in
every layer. Results go to ``bench.json``, a table to ``bench.md``, and a plot of predicted against
measured cycles to ``bench.svg``, anew after every case. The exit status is 1 when a value differs.
Layers of more than 2,000 cycles that the cycle model misses by more than 5 % are listed.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.files import write_in_one_step
from rowmesh.gen.macs import effectual_macs, node_macs
from rowmesh.gen.predict import cycles_with
from rowmesh.gen.runtime import Runtime
from rowmesh.gen.sparsity import Masks, alexnet_masks, mobilenet_masks
from rowmesh.gen.workloads import Layer, alexnet, mobilenet, workload
from rowmesh.rtl.axi.signatures import beat_bytes
from rowmesh.rtl.config import load_config
from rowmesh.sim_models import golden
from rowmesh.sim_models.scaling import chip_table, scaling_table, table_lines
from rowmesh.verif.bench_report import markdown, plot
from rowmesh.verif.fast.machine import FastMachine, build_library

__all__ = ["CLOSE", "LONG", "Case", "Outcome", "main", "run_case"]

#: Of the random values and masks.
_SEED = 1
#: Layers over this many cycles count for the accuracy of the cycle model, and how near it must be.
LONG, CLOSE = 2000, 0.05
#: Cycles of the chip for one inference with 128 B/cycle off the chip, where published, else with
#: any number: Chen et al., JETCAS 2019, table VI, and its section on the off-chip bandwidth.
_PUBLISHED = {
    ("mobilenet", "dense"): 156_000,
    ("mobilenet", "sparse"): 178_900,
    ("alexnet", "dense"): 1_959_000,
    ("alexnet", "sparse"): 854_000,
}
_REAL_MASKS = "shared/published/mobilenet05_sparse_masks.npz"


@dataclass(frozen=True)
class Case:
    """What is run.

    Parameters
    ----------
    network, sparsity, config : str
        ``mobilenet`` or ``alexnet``; ``dense`` or ``sparse``; a preset.
    bytes_per_cycle : float
        Off-chip, over all masters.
    layers : str
        Only the layers from this one on (their names begin with it); empty: all.
    """

    network: str
    sparsity: str
    config: str
    bytes_per_cycle: float
    layers: str = ""

    @property
    def name(self) -> str:
        """As it is reported."""
        return self.network + (f" from {self.layers}" if self.layers else "")

    @property
    def narrow(self) -> bool:
        """Whether memory moves less than the configuration's masters could read."""
        config = load_config(self.config)
        return self.bytes_per_cycle < config.axi_masters * beat_bytes(config)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One entry of ``results``.

    Parameters
    ----------
    network, sparsity, config, backend : str
    bytes_per_cycle : float
    cycles, macs_nominal, macs_effectual : int
    pe_utilization : float
        Effectual multiplications by cycles x multipliers.
    published_cycles : int, optional
        Only for whole networks on `eyeriss_v2` at 128 B/cycle.
    model_cycles : float
        Predicted.
    mismatches : int
    sim_hz, pe_sim_hz, sim_build_seconds, compile_seconds : float
    masks : str
        Where the zeros come from.
    layers : list of dict
        ``name, cycles, model_cycles, macs_nominal, macs_effectual, bytes_read, bytes_written,
        mapping``.
    """

    network: str
    sparsity: str
    config: str
    backend: str
    bytes_per_cycle: float
    cycles: int
    macs_nominal: int
    macs_effectual: int
    pe_utilization: float
    published_cycles: int | None
    model_cycles: float
    mismatches: int
    sim_hz: float
    pe_sim_hz: float
    sim_build_seconds: float
    compile_seconds: float
    masks: str
    layers: list[dict[str, Any]] = field(default_factory=list)

    def errors(self) -> dict[str, float]:
        """Relative errors of the cycle model on the long layers."""
        return {
            layer["name"]: layer["model_cycles"] / layer["cycles"] - 1
            for layer in self.layers
            if layer["cycles"] > LONG
        }

    def missed(self) -> list[str]:
        """Layers that the cycle model misses, a line each."""
        return [
            f"{name}: the cycle model is off by {error:+.1%}"
            for name, error in self.errors().items()
            if abs(error) > CLOSE
        ]


#: All workloads, those with a target first; the narrower links only for MobileNet, whose runs are
#: short.
FULL = [
    *(Case(n, s, "eyeriss_v2", 128) for n in ("mobilenet", "alexnet") for s in ("sparse", "dense")),
    Case("mobilenet", "sparse", "demo", 32),
    *(Case("mobilenet", s, "eyeriss_v2", b) for b in (64, 16, 8) for s in ("sparse", "dense")),
]
QUICK = [
    Case("mobilenet", "sparse", "eyeriss_v2", 128, "L24"),
    Case("mobilenet", "dense", "demo", 32, "L24"),
]


def run_case(case: Case, build_seconds: float) -> Outcome:
    """Compile, simulate layer by layer, and compare every tensor."""
    config = load_config(case.config)
    layers = mobilenet() if case.network == "mobilenet" else alexnet()
    masks: dict[str, Masks] = {}
    origin = "dense"
    if case.sparsity == "sparse":
        masks, origin = _masks(case.network, layers)
    first = next(i for i, layer in enumerate(layers) if layer.name.startswith(case.layers))
    layers = layers[first:]
    graph, inputs, densities = workload(
        case.name, layers, masks, psum_bits=config.psum_bits, seed=_SEED
    )
    begin = time.monotonic()
    compiled = compile_graph(graph, config, densities=densities)
    compiled_at = time.monotonic()
    machine = FastMachine(config, len(compiled.image), bytes_per_cycle=case.bytes_per_cycle)
    try:
        result = Runtime(compiled, machine, timeout=24 * 3600).run(inputs, per_layer=True)
        simulated = machine.cycles
    finally:
        machine.close()
    seconds = time.monotonic() - compiled_at
    wanted = golden.run(graph, inputs, config.rounding)
    outputs = [layer.outputs[0] for layer in compiled.layers]
    cycles = result.cycles(0)
    rows: list[dict[str, Any]] = []
    predicted = cycles_with(compiled, {**inputs, **wanted}, case.bytes_per_cycle)
    for layer, node, measure, model in zip(
        compiled.layers, graph.nodes, result.images[0], predicted, strict=True
    ):
        rows.append(
            {
                "name": layer.name,
                "cycles": measure.cycles,
                "model_cycles": round(model),
                "macs_nominal": node_macs(graph, node),
                "macs_effectual": int(effectual_macs(graph, layer, wanted)[0]),
                "bytes_read": measure.bytes_read,
                "bytes_written": measure.bytes_written,
                "mapping": layer.mapping.describe(),
            }
        )
    effectual = sum(row["macs_effectual"] for row in rows)
    whole = not case.layers and case.config == "eyeriss_v2" and case.bytes_per_cycle == 128
    return Outcome(
        network=case.name,
        sparsity=case.sparsity,
        config=case.config,
        backend="rtl",
        bytes_per_cycle=case.bytes_per_cycle,
        cycles=cycles,
        macs_nominal=sum(row["macs_nominal"] for row in rows),
        macs_effectual=effectual,
        pe_utilization=round(effectual / (cycles * config.macs), 4),
        published_cycles=_PUBLISHED[case.network, case.sparsity] if whole else None,
        model_cycles=round(sum(predicted)),
        mismatches=sum(int((wanted[n] != result.values[n]).sum()) for n in outputs),
        sim_hz=round(simulated / seconds, 1),
        pe_sim_hz=round(simulated / seconds * config.pes),
        sim_build_seconds=round(build_seconds, 1),
        compile_seconds=round(compiled_at - begin, 1),
        masks=origin,
        layers=rows,
    )


def _masks(network: str, layers: tuple[Layer, ...]) -> tuple[dict[str, Masks], str]:
    """Zeros of the sparse network, and where they come from."""
    if network == "alexnet":
        return alexnet_masks(layers, _SEED), "seeded, published totals"
    real = Path(__file__).resolve().parents[2] / _REAL_MASKS
    found = real if real.exists() else None
    origin = "real for four layers, else seeded" if found else "seeded, published totals"
    return mobilenet_masks(layers, _SEED, found), origin


def main(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder.")] = Path("build/bench"),
    quick: Annotated[bool, typer.Option(help="A few layers instead of whole networks.")] = False,
    only: Annotated[str, typer.Option(help="Network, or network/sparsity/config/bytes.")] = "",
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Run the published workloads on the RTL and write what was measured.

    Ends with status 1 if a value differs, or the cycle model misses a layer on a link that is not
    narrow.
    """
    console = Console(highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    cases = [case for case in (QUICK if quick else FULL) if _name(case).startswith(only)]
    if not cases:
        sys.exit(f"bench: no case begins with {only!r}")
    builds = {}
    for name in dict.fromkeys(case.config for case in cases):
        begin = time.monotonic()
        with console.status(f"building the simulation of {name}"):
            build_library(load_config(name))
        builds[name] = time.monotonic() - begin
        console.print(f"simulation of {name}: built in {builds[name]:.0f} s (0: was there)")
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        study = None if quick or only else pool.submit(_study)
        jobs = [pool.submit(run_case, case, builds[case.config]) for case in cases]
        for number, (case, job) in enumerate(zip(cases, jobs, strict=True)):
            done = job.result()
            outcomes.append(done)
            write_results(out, outcomes, {})
            worst = max(map(abs, done.errors().values()), default=0.0)
            console.print(
                f"[{number + 1}/{len(cases)}] {_name(case)}: {done.cycles} cycles, "
                f"{done.mismatches} mismatches, model off by {worst:.1%} at most"
            )
            for line in done.missed():
                console.print(f"    {line}")
        if study is not None:
            console.print("Eyeriss v1 and the scaling study: modelled")
    write_results(out, outcomes, study.result() if study is not None else {})
    console.print(f"{out / 'bench.json'}: {len(outcomes)} results")
    wide = [done for case, done in zip(cases, outcomes, strict=True) if not case.narrow]
    missed = any(done.missed() for done in wide)
    sys.exit(int(missed or any(done.mismatches for done in outcomes)))


def _study() -> dict[str, Any]:
    """The model of Eyeriss v1 beside the chip, and the scaling study."""
    chip, rows = chip_table(), scaling_table()
    print("\n".join(table_lines(chip, rows)))
    return {
        "eyeriss_v1": [dataclasses.asdict(row) for row in chip],
        "scaling": [dataclasses.asdict(row) for row in rows],
    }


def _name(case: Case) -> str:
    return f"{case.network}/{case.sparsity}/{case.config}/{case.bytes_per_cycle:g}"


def write_results(out: Path, outcomes: list[Outcome], study: Mapping[str, Any]) -> None:
    """Write ``bench.json`` (with the entries of `study`), ``bench.md`` and ``bench.svg``."""
    results = [dataclasses.asdict(done) for done in outcomes]
    text = json.dumps({"results": results, **study}, indent=1) + "\n"
    for name, content in (
        ("bench.json", text),
        ("bench.md", markdown(results)),
        ("bench.svg", plot(results)),
    ):
        write_in_one_step(out / name, partial(_write, content))


def _write(content: str, path: Path) -> None:
    path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
