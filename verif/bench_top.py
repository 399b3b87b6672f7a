"""Bench of the whole accelerator: networks on the host's own driver, under any back-pressure."""

from typing import Any

import cocotb
import numpy as np

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.graph import Array
from rowmesh.gen.runtime import Runtime
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.top_harness import Board
from rowmesh.verif.top_work import (
    PATTERNS,
    check_counters,
    check_readout,
    check_values,
    random_work,
    sparse_image,
    two_layers,
    with_noise,
)

__all__: list[str] = []

#: Probabilities of a pause: none, so that everything is as fast as it can be, and others.
_PAUSES = (0.0, 0.2, 0.6)
#: Of the inputs, for each of `PATTERNS`.
_DENSITIES = (1.0, 0.5, 0.1, 0.8, 0.0)


async def run(
    dut: Any,
    rng: np.random.Generator,
    compiled: Compiled,
    inputs: dict[str, Array],
    pause: float,
    per_layer: bool = False,
) -> None:
    """Run a network in a memory full of noise and compare every layer."""
    noisy = with_noise(compiled, rng)
    board = Board(dut, compiled.config, len(noisy.image), pause=pause)
    await board.start()

    def host() -> None:
        result = Runtime(noisy, board).run(inputs, per_layer=per_layer, counters=int(per_layer))
        check_values(compiled, result, inputs)
        if per_layer:
            check_counters(compiled, result, inputs)
            check_readout(board, compiled.config)

    await board.drive(host)
    assert all(at + size <= compiled.write_limit for at, size in board.dram.written)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(case=range(2))
async def random_networks(dut: Any, case: int) -> None:
    """Random shapes, strides, padding, zero points, sparsity, pooling."""
    rng = np.random.default_rng([cocotb.RANDOM_SEED, case])
    compiled, inputs = random_work(rng, bench_config(), 4000)
    await run(dut, rng, compiled, inputs, _PAUSES[2 * case])


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("pattern", "density"), list(zip(PATTERNS, _DENSITIES, strict=True))))
async def sparsity(dut: Any, pattern: str, density: float) -> None:
    """Weights and inputs from full to none; empty first, consecutive and all columns."""
    rng = np.random.default_rng([cocotb.RANDOM_SEED, PATTERNS.index(pattern)])
    graph = two_layers(rng, pattern)
    compiled = compile_graph(graph, bench_config())
    await run(dut, rng, compiled, sparse_image(rng, graph, density), float(rng.choice(_PAUSES)))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def counts_every_cycle(dut: Any) -> None:
    """Layer by layer, the counters say where every cycle went and how many MACs had an effect."""
    rng = np.random.default_rng([cocotb.RANDOM_SEED])
    graph = two_layers(rng)
    compiled = compile_graph(graph, bench_config())
    await run(dut, rng, compiled, sparse_image(rng, graph, 0.3), 0.1, per_layer=True)
