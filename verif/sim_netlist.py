"""`make sim-netlist`: the top's bench on its ECP5 netlist, bit-exact with the golden model."""

import dataclasses
import time
from typing import Annotated

import typer

from rowmesh.rtl.config import load_config
from rowmesh.rtl.top import Top
from rowmesh.verif.netlist.ecp5 import (
    CELLS,
    NETLIST_WAIVERS,
    cell_counts,
    netlist,
    simulation_cells,
    with_expressions,
)
from rowmesh.verif.simulator import Simulator, run_bench

__all__ = ["SMALL", "main", "run_netlist"]

#: Two PEs of two multipliers, one above the other and each with an iact bank, so that psums go from
#: PE to PE; everything that the accelerator has once. Four PEs take twice the time.
SMALL = dataclasses.replace(
    load_config("tiny"), pe_rows=2, pe_cols=1, glb_iact_banks=2, deep_pipeline=True
)
_TOP = "top"


def run_netlist(
    seed: int = 1, sim: Simulator = "verilator", tests: tuple[str, ...] | None = None
) -> None:
    """Synthesize, check that the netlist is one of the ECP5's cells, simulate.

    Parameters
    ----------
    seed : int
        Of the bench.
    sim : str
        Simulator.
    tests : tuple of str, optional
        Of `rowmesh.verif.bench_top`; all by default.

    Raises
    ------
    AssertionError
        A test failed, or a kind of cell is missing.
    RuntimeError
        A tool is missing or failed.
    """
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", flush=True)

    say(f"synthesis of {SMALL.pes} PEs with {SMALL.macs} multipliers for the ECP5")
    text = netlist(Top(SMALL), _TOP, progress=say)
    counts = cell_counts(text)
    say(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    missing = [name for name in CELLS if not counts.get(name)]
    assert not missing, f"the netlist has no {', '.join(missing)}"
    say(f"bench_top on {sim}")
    run_bench(
        f"{with_expressions(text)}\n{simulation_cells()}",
        "rowmesh.verif.bench_top",
        sim=sim,
        seed=seed,
        config=SMALL,
        tests=tests,
        name=_TOP,
        quick_build=True,
        waivers=NETLIST_WAIVERS,
    )
    say("every network equals the golden model")


def main(
    seed: Annotated[int, typer.Option(help="Of the bench.")] = 1,
    sim: Annotated[str, typer.Option(help="verilator or icarus.")] = "verilator",
) -> None:
    """Run the top's bench on its ECP5 netlist."""
    assert sim in ("verilator", "icarus"), sim
    run_netlist(seed, "icarus" if sim == "icarus" else "verilator")


if __name__ == "__main__":
    typer.run(main)
