"""Analytical cycles of an Eyeriss v2 of any size, dense: row-stationary plus on the mesh.

Chen et al., JETCAS 2019, sections III and IV. Any dimension of the loop nest may be spread over PE
rows, PE columns, cluster rows and cluster columns, two to an axis; what is left runs in time. A
cluster takes what it needs over its own routers, however large the mesh is: that is why v2 scales.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.workloads import Layer

__all__ = ["V2", "Placed", "best_placement", "cycles_of"]

Ints = NDArray[np.int64]
#: Dimensions that may be spread, in the order of every vector here. S stays in the PE (its row of
#: the filter is what "row stationary" means), N is 1.
_DIMS = ("G", "M", "C", "R", "E", "F")
_G, _M, _E, _F = 0, 1, 4, 5


@dataclass(frozen=True, kw_only=True)
class V2:
    """The machine: 1 MAC a PE.

    Parameters
    ----------
    cluster_rows, cluster_cols, pe_rows, pe_cols : int
    iact_words, weight_words, psum_words : int
        SPad of a PE (JETCAS 2019, table III: 16 iacts, 192 weights, 32 psums).
    bank_psums : int
        psums that one psum bank holds (1.875 kB of 20 b, one bank a PE column).
    port_iacts, port_weights, port_psums : int
        Values a cycle of one router: 24 b, 24 b and 40 b (JETCAS 2019, table II); in dense
        mode values travel without counts, 8 b each, psums have 20 b.

    Notes
    -----
    An iact and a weight router for every PE row, a psum router for every PE column.
    """

    cluster_rows: int
    cluster_cols: int
    pe_rows: int = 4
    pe_cols: int = 4
    iact_words: int = 16
    weight_words: int = 192
    psum_words: int = 32
    bank_psums: int = 768
    port_iacts: int = 3
    port_weights: int = 3
    port_psums: int = 2

    @property
    def pes(self) -> int:
        """PEs of the whole array."""
        return self.cluster_rows * self.cluster_cols * self.pe_rows * self.pe_cols


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A layer on the machine.

    Parameters
    ----------
    in_cluster, over_clusters : dict of str to int
        How many parts of each dimension lie side by side.
    cycles : int
    bound : str
        What the layer waits for: ``compute``, ``iact``, ``weight`` or ``psum``.
    utilization : float
        Share of the multipliers' cycles that are of use.
    """

    in_cluster: dict[str, int]
    over_clusters: dict[str, int]
    cycles: int
    bound: str
    utilization: float


def _parts(size: int, extent: int) -> list[int]:
    """Numbers of parts worth trying: powers of two, and the largest."""
    most = min(size, extent)
    return sorted({1 << shift for shift in range(most.bit_length())} | {most})


def _axis(size: int, shape: tuple[int, ...], dims: tuple[int, ...]) -> Ints:
    """Ways to spread at most two dimensions over an axis of `size`, (way, dimension)."""
    live = [d for d in dims if shape[d] > 1]
    ways = {(1,) * len(shape)}
    for first, second in product(live, repeat=2):
        for a in _parts(size, shape[first]):
            way = [1] * len(shape)
            way[first] = a
            if first != second:
                way[second] = min(size // a, shape[second])
            ways.add(tuple(way))
    return np.array(sorted(ways), dtype=np.int64)


def _pairs(rows: Ints, cols: Ints) -> tuple[Ints, Ints]:
    """Every way over the rows with every way over the columns."""
    down, across = np.meshgrid(np.arange(len(rows)), np.arange(len(cols)), indexing="ij")
    return rows[down.ravel()], cols[across.ravel()]


def _loads(layer: Layer, machine: V2, rows: Ints, cols: Ints, rest: Ints) -> dict[str, Ints]:
    """Cycles that the PEs and each kind of router of a cluster are busy.

    `rows`, `cols`: parts over the rows and columns of PEs; `rest`: what a PE does in time; all
    (..., dimension).
    """
    S, U = layer.S, layer.U
    G, M, C, R, E, F = np.moveaxis(rest, -1, 0)
    # A block of weights has M0 outputs of C0 channels; its psums leave the PE after C0 x S.
    C0 = np.clip(machine.iact_words // S, 1, C)
    held = np.maximum(1, machine.weight_words // (C0 * S))
    M0 = np.minimum(np.minimum(M, machine.psum_words), held)
    spills = -(-C // C0) * R
    # A window slides by U, so a value comes once for a block; PEs on a diagonal share lines.
    g, _, c, r, e, f = np.moveaxis(rows * cols, -1, 0)
    lines = np.minimum(r * e, (e - 1) * U + r)
    iacts = G * -(-M // M0) * C * R * E * ((F - 1) * U + S) * g * c * f * lines
    # All PEs of a row listen to one weight router, but for parts that have weights of their own.
    down, across = (np.prod(side[..., [_G, _M, _E, _F]], axis=-1) for side in (rows, cols))
    # Weights come again for every bank full of psums that still accumulate.
    tiles = np.where(spills > 1, -(-M0 * E * F * down // machine.bank_psums), 1)
    weights = G * M * C * R * S * tiles * cols[..., _G] * cols[..., _M]
    psums = G * M * E * F * spills * down
    return {
        "compute": G * M * C * R * S * E * F,
        "iact": -(-iacts // (machine.pe_rows * machine.port_iacts)),
        "weight": -(-weights // machine.port_weights),
        "psum": -(-psums // machine.port_psums),
    }


@cache
def best_placement(layer: Layer, machine: V2) -> Placed:
    """Spread a layer so that it takes the fewest cycles.

    Parameters
    ----------
    layer : Layer
    machine : V2

    Returns
    -------
    Placed
    """
    depth = layer.C // layer.G
    shape = (layer.G, layer.M // layer.G, depth, layer.R, layer.E, layer.E)
    # Psums accumulate only vertically.
    flat = (_G, _M, _E, _F)
    over = _pairs(
        _axis(machine.cluster_rows, shape, tuple(range(6))),
        _axis(machine.cluster_cols, shape, flat),
    )
    clusters = np.unique(over[0] * over[1], axis=0)
    inside = _pairs(
        _axis(machine.pe_rows, shape, tuple(range(6))), _axis(machine.pe_cols, shape, flat)
    )
    best: tuple[int, int, int, str] | None = None
    for index, (rows, cols) in enumerate(zip(*inside, strict=True)):
        rest = -(-np.array(shape) // (clusters * rows * cols))
        loads = _loads(layer, machine, rows, cols, rest)
        cycles = np.max(list(loads.values()), axis=0)
        at = int(cycles.argmin())
        if best is None or cycles[at] < best[0]:
            bound = max(loads, key=lambda kind: int(loads[kind][at]))
            best = (int(cycles[at]), index, at, bound)
    assert best is not None
    cycles_, index, at, bound = best
    return Placed(
        in_cluster=_named(inside[0][index] * inside[1][index]),
        over_clusters=_named(clusters[at]),
        cycles=cycles_,
        bound=bound,
        utilization=layer.macs / (cycles_ * machine.pes),
    )


def _named(way: Ints) -> dict[str, int]:
    return {name: int(parts) for name, parts in zip(_DIMS, way, strict=True) if parts > 1}


def cycles_of(layers: tuple[Layer, ...], machine: V2) -> int:
    """Cycles of all layers; equal ones are placed once."""
    return sum(best_placement(replace(layer, name=""), machine).cycles for layer in layers)
