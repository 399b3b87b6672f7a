"""Random networks on the RTL of random machines, against the golden model.

``python -m rowmesh.verif.soak -n 5000`` (`make soak N=5000`) draws networks, machines, inputs and
back-pressure, and compares every layer. hypothesis draws what has a structure (operators, sizes,
strides, padding, groups, zero points, sparsity), so that a failing case shrinks to a small one;
the command that repeats it is printed.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Annotated, Any

import hypothesis
import numpy as np
import typer
from hypothesis import strategies as st
from rich.progress import Progress

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array, Graph
from rowmesh.gen.runtime import Runtime
from rowmesh.rtl.config import Config, load_config
from rowmesh.sim_models import golden
from rowmesh.verif.fast.machine import FastMachine, build_library
from rowmesh.verif.random_networks import random_config, random_input, random_network

__all__ = ["SMALL_MACHINES", "Draws", "Tally", "check_on_rtl", "run_cases"]

#: Machines that build quickly and differ in everything; the regression adds random ones. The
#: cluster of `small` has two of everything.
SMALL_MACHINES: dict[str, Config] = {
    "small": dataclasses.replace(load_config("tiny"), pe_rows=2, glb_iact_banks=2),
    "mesh": Config(
        cluster_rows=2,
        cluster_cols=2,
        pe_rows=1,
        pe_cols=2,
        macs_per_pe=1,
        glb_iact_banks=1,
        psum_depth=16,
        axi_data_bits=64,
        rows_per_axi_master=2,
    ),
    "wide": dataclasses.replace(
        load_config("tiny"),
        cluster_cols=2,
        glb_iact_banks=2,
        macs_per_pe=4,
        psum_bits=32,
        count_bits=2,
        iact_data_depth=32,
        weight_addr_depth=32,
        weight_data_depth=160,
        psum_depth=64,
        axi_data_bits=256,
        deep_pipeline=True,
    ),
    "dense": dataclasses.replace(
        load_config("tiny"),
        sparse=False,
        cluster_rows=2,
        pe_rows=2,
        pe_cols=1,
        glb_iact_banks=2,
        rounding="double",
    ),
}
#: PEs of a random machine; larger ones take minutes to build.
_MOST_PES = 12


class Draws:
    """What `random_networks` asks of a random generator, drawn by hypothesis.

    Single numbers are hypothesis' choices, which shrink; arrays come from a seed that it draws.

    Parameters
    ----------
    data : hypothesis data object
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        self._arrays = np.random.default_rng(data.draw(st.integers(0, 1 << 16)))

    def integers(self, low: int, high: int, size: Any = None) -> Any:
        """Integers of ``low .. high - 1``."""
        if size is not None:
            return self._arrays.integers(low, high, size)
        return self._data.draw(st.integers(low, high - 1))

    def random(self, size: Any = None) -> Any:
        """Numbers of [0, 1)."""
        if size is not None:
            return self._arrays.random(size)
        return self._data.draw(st.integers(0, 999)) / 1000

    def uniform(self, low: float, high: float, size: Any = None) -> Any:
        """Numbers of [low, high): scales, which have no simpler value."""
        return self._arrays.uniform(low, high, size)


@dataclasses.dataclass
class Tally:
    """What a regression did.

    Parameters
    ----------
    cases : int
        Networks that ran to their end.
    refused : int
        Networks that the compiler refused for a machine too small: each with its reason.
    overflows : int
        Runs that ended with the overflow of a psum that was not proved to fit.
    layers, values, cycles : int
        Compared, and simulated.
    operators : dict of int
        Operators by where they ran.
    """

    cases: int = 0
    refused: int = 0
    overflows: int = 0
    layers: int = 0
    values: int = 0
    cycles: int = 0
    operators: dict[str, int] = dataclasses.field(default_factory=dict)

    def note(self, compiled: Compiled) -> None:
        """Count the operators of a network."""
        for placed in compiled.placements:
            key = f"{placed.node.op} {placed.where}"
            self.operators[key] = self.operators.get(key, 0) + 1


def check_on_rtl(
    config: Config,
    graph: Graph,
    inputs: dict[str, Array],
    tally: Tally,
    *,
    latency: int = 20,
    stall: float = 0.0,
) -> None:
    """Run a network on the RTL and compare every tensor with the golden model.

    Raises
    ------
    AssertionError
        A tensor differs, or a run ends with a fault that it must not have.
    """
    try:
        compiled = compile_graph(graph, config)
    except RowmeshError as error:
        # A machine too small for a layer is a right answer; the message says what to change.
        assert "must be at least" in str(error), str(error)
        tally.refused += 1
        return
    machine = FastMachine(config, len(compiled.image), latency=latency, stall=stall)
    # What a program does not write must not matter.
    machine.memory[:] = np.random.default_rng(0).integers(0, 256, len(machine.memory))
    noisy = machine.read_memory(0, compiled.write_limit) + compiled.image[compiled.write_limit :]
    try:
        runtime = Runtime(dataclasses.replace(compiled, image=noisy), machine, timeout=120)
        result = runtime.run(inputs)
    except RowmeshError as error:
        unproved = [layer.name for layer in compiled.layers if not layer.psum_proved]
        expected = "PSUM_OVERFLOW" in str(error)
        expected &= any(f"layer {name}:" in str(error) for name in unproved)
        assert expected, str(error)
        tally.overflows += 1
        return
    finally:
        tally.cycles += machine.cycles
        machine.close()
    wanted = golden.run(graph, inputs, config.rounding)
    for name, values in result.values.items():
        np.testing.assert_array_equal(values, wanted[name], err_msg=name)
        tally.values += values.size
    tally.cases += 1
    tally.layers += len(compiled.layers)
    tally.note(compiled)


def run_cases(
    config: Config, cases: int, seed: int, tally: Tally, done: Callable[[], None] = lambda: None
) -> None:
    """Draw and check `cases` networks on one machine.

    Raises
    ------
    AssertionError
        The smallest failing case that hypothesis finds, with what it drew.
    """
    build_library(config)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def check(data: Any) -> None:
        rng: Any = Draws(data)
        graph = random_network(rng)
        inputs = random_input(rng, graph)
        latency = data.draw(st.integers(1, 60), label="latency")
        stall = data.draw(st.sampled_from([0.0, 0.2, 0.6]), label="stall")
        hypothesis.note(describe(graph))
        check_on_rtl(config, graph, inputs, tally, latency=latency, stall=stall)
        done()

    check()


def describe(graph: Graph) -> str:
    """One line an operator: what a person needs to see of a failing case."""
    return "\n".join(
        f"{node.op} {node.name}: "
        + ", ".join(f"{name} {graph.tensors[name].shape}" for name in (*node.inputs, *node.outputs))
        + f" {node.attrs}"
        for node in graph.nodes
    )


def machine(number: int) -> Config:
    """The machine of a seed: one of `SMALL_MACHINES`, then random ones."""
    fixed = list(SMALL_MACHINES.values())
    if number < len(fixed):
        return fixed[number]
    rng = np.random.default_rng([17, number])
    while True:
        config = random_config(rng)
        if config.pes <= _MOST_PES:
            return config


def main(
    cases: Annotated[int, typer.Option("-n", help="Networks in all.")] = 5000,
    first: Annotated[int, typer.Option("--seed", help="First seed.")] = 0,
    each: Annotated[int, typer.Option(help="Networks on each machine.")] = 250,
) -> None:
    """Run the regression: seed s is machine s and what hypothesis draws with that seed."""
    tally = Tally()
    with Progress() as progress:
        task = progress.add_task("networks", total=cases)
        for seed in range(first, first + -(-cases // each)):
            config = machine(seed)
            before = tally.cases
            try:
                run_cases(config, each, seed, tally, lambda: progress.advance(task))
            except Exception as error:  # whatever it is, a person must be able to repeat it
                progress.stop()
                print(config.to_toml(), error, *getattr(error, "__notes__", []), sep="\n")
                print(f"repeat: make soak SEED={seed} N={each} EACH={each}")
                sys.exit(1)
            progress.console.print(
                f"seed {seed}: {config.clusters} clusters, {config.pes} PEs, hash "
                f"0x{config.hash:08x}: {tally.cases - before} networks equal"
            )
    print(f"seeds {first}..{seed}: {tally}; 0 mismatches")


if __name__ == "__main__":
    typer.run(main)
