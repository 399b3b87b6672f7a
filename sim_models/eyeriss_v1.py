"""Analytical cycles of Eyeriss v1: row-stationary mapping, three global multicast buses.

Chen et al., ISSCC 2016 and JSSC 2017. The mapping parameters have the names of JSSC 2017, table I:
a *set* is R x e PEs that hold R filter rows and make e rows of outputs; r sets take different
channels, t sets different filters; a PE holds p filters of q channels; a *pass* is what one loading
of the filters does, for n images; psums of m filters stay in the global buffer.

The machine waits for whatever is slowest in a pass: the PEs, or a bus. Buses do not widen with
the array, which is why v1 does not scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.workloads import Layer

__all__ = ["EYERISS_V1", "Buses", "Mapped", "Mapping", "V1", "best_mapping", "cycles_of"]

Ints = NDArray[np.int64]
#: The chip's mapping saves DRAM energy before time (JSSC 2017, section III). How much before is not
#: published: cost = DRAM words ** 3 x cycles. One constant for all layers; 4 gives the same
#: mappings of AlexNet and VGG-16, 2 maps conv1-2 to conv3-3 of VGG-16 to less than half the cycles.
_DRAM_POWER = 3
#: A mapping must keep this share busy of the PEs that any mapping of the layer can keep busy.
_BUSY = 0.9
#: Outputs of a row that are processed at once; longer rows are cut into equal parts. Inferred:
#: VGG-16's conv1-2 and conv2-2 were published with equal time and equal buffer traffic, which
#: holds only if rows of 224 were processed as two of 112.
_ROW = 128


@dataclass(frozen=True, kw_only=True)
class Buses:
    """Words a cycle of each network. JSSC 2017: 64 b filter, 16 b ifmap, 64 b psum."""

    filter: int = 4
    iact: int = 1
    psum: int = 4


@dataclass(frozen=True, kw_only=True)
class V1:
    """An Eyeriss v1 of any size.

    Parameters
    ----------
    rows, cols : int
        PEs, one MAC each (JSSC 2017: 12 x 14).
    iact_words, weight_words, psum_words : int
        SPad of a PE (JSSC 2017: 12, 224, 24).
    buffer_words : int
        Global buffer for ifmaps and psums (JSSC 2017: 100 kB of 16-bit words).
    buses : Buses
    """

    rows: int = 12
    cols: int = 14
    iact_words: int = 12
    weight_words: int = 224
    psum_words: int = 24
    buffer_words: int = 100 * 1024 // 2
    buses: Buses = Buses()


EYERISS_V1 = V1()


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Parameters of JSSC 2017, table I."""

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """A layer on the machine.

    Parameters
    ----------
    mapping : Mapping
    pes : int
        PEs with work.
    cycles : float
        Of the whole batch.
    dram_words : float
        Filters and ifmaps from DRAM, not compressed.
    """

    mapping: Mapping
    pes: int
    cycles: float
    dram_words: float


def _steps(limit: int) -> list[int]:
    """Sizes worth trying: 1, 2, 3, 4, 6, 8, 12, ... and the limit."""
    tried = {base << shift for base in (1, 3) for shift in range(limit.bit_length())}
    return sorted({size for size in tried if size <= limit} | {limit})


def _fewest(total: int, limit: int) -> list[int]:
    """The smallest size for each number of parts of `total`, up to `limit`."""
    sizes = {-(-total // parts) for parts in range(1, total + 1)}
    return sorted(size for size in sizes if size <= limit)


def _heights(machine: V1, layer: Layer, goal: str) -> list[int]:
    """Heights of a strip. The last one may be lower, so any up to the width of the array pays."""
    heights = set(_fewest(layer.E, machine.rows * machine.cols // layer.R))
    if goal == "dram":
        heights |= set(range(1, min(layer.E, machine.cols) + 1))
    return sorted(heights)


def _sets(machine: V1, layer: Layer, e: int, goal: str) -> int:
    """How many sets of R x e fit.

    A set wider than the array is folded (JSSC 2017, section III-B). Sets are stacked; side by side
    they are where only one fits on another, or where it is the cycles that count.
    """
    stacked = machine.rows // layer.R
    if e > machine.cols:
        return stacked // -(-e // machine.cols)
    return stacked * (machine.cols // e if stacked < 2 or goal == "cycles" else 1)


def _candidates(layer: Layer, batch: int, machine: V1, goal: str) -> Ints:
    """Rows n, e, p, q, r, t: mappings that the PEs can hold."""
    C, M, S = layer.C // layer.G, layer.M // layer.G, layer.S
    filters: Sequence[int] = range(1, machine.psum_words + 1)
    if goal == "cycles":
        filters = _steps(machine.psum_words)
    found = []
    for e in _heights(machine, layer, goal):
        sets = _sets(machine, layer, e, goal)
        if not sets:
            continue
        shapes = [(r, t) for r in _steps(min(sets, C)) for t in _steps(min(sets // r, M))]
        images = [n for n in range(1, batch + 1) if batch % n == 0]
        depths = range(1, max(1, machine.iact_words // S) + 1)
        grid = np.meshgrid(np.arange(len(shapes)), images, filters, depths, indexing="ij")
        shape, n, p, q = (axis.ravel() for axis in grid)
        r, t = np.array(shapes)[shape].T
        found.append(np.stack([n, np.full_like(n, e), p, q, r, t]))
    rows: Ints = np.concatenate(found, axis=1)
    n, e, p, q, r, t = rows
    fits = (p * q * S <= machine.weight_words) & (p * t <= M) & (q * r <= C)
    if goal == "dram":
        fits &= (M % (p * t) == 0) & (C % (q * r) == 0)
    return rows[:, fits]


def _filters_kept(M: int, most: Ints, in_pass: Ints) -> Ints:
    """The largest divisor of M that is a multiple of `in_pass` and at most `most`; 0 if none."""
    kept = np.zeros_like(most)
    for m in (d for d in range(1, M + 1) if M % d == 0):
        kept = np.where((m <= most) & (m % in_pass == 0), m, kept)
    return kept


def _cycles(layer: Layer, batch: int, machine: V1, rows: Ints, width: int) -> NDArray[np.float64]:
    """Cycles of the batch for every mapping; `width` outputs of a row at once.

    A pass takes what the slowest of PEs, ifmap bus and psum bus takes; before it, filters and the
    first windows come in, which nothing hides.
    """
    n, e, p, q, r, t = rows
    buses, U, R, S = machine.buses, layer.U, layer.R, layer.S
    words = (width - 1) * U + S
    total = np.zeros(rows.shape[1])
    for height, count in ((e, layer.E // e), (layer.E % e, (layer.E % e > 0).astype(np.int64))):
        lines = np.maximum((height - 1) * U + R, 0)
        compute = n * width * p * q * S
        iact = n * r * q * lines * words / buses.iact
        psum = n * p * t * height * width / buses.psum
        start = p * t * r * q * R * S / buses.filter + r * q * lines * S / buses.iact
        total += count * (np.maximum(np.maximum(compute, iact), psum) + start)
    passes = -(-(layer.C // layer.G) // (r * q)) * -(-(layer.M // layer.G) // (p * t))
    cuts = layer.E / width
    result: NDArray[np.float64] = total * passes * (batch // n) * layer.G * cuts
    return result


def _dram_words(layer: Layer, batch: int, rows: Ints, m: Ints, width: int) -> NDArray[np.float64]:
    """Filters, once a strip and n images; ifmaps, once for every m filters."""
    n, e = rows[:2]
    strips, cuts = -(-layer.E // e), layer.E / width
    words = cuts * ((width - 1) * layer.U + layer.S)
    lines = (layer.E - strips) * layer.U + strips * layer.R
    filters = batch / n * strips * cuts * layer.M * (layer.C // layer.G) * layer.R * layer.S
    iacts = batch * layer.C * (layer.M // layer.G / m) * lines * words
    result: NDArray[np.float64] = filters + iacts
    return result


@cache
def best_mapping(layer: Layer, batch: int, machine: V1 = EYERISS_V1, goal: str = "dram") -> Mapped:
    """Map a layer.

    Parameters
    ----------
    layer : Layer
    batch : int
        Images.
    machine : V1
    goal : str
        ``dram`` as the chip's designers chose (whole passes, psums and two ifmap tiles in the
        global buffer, DRAM words before cycles); ``cycles`` for the fastest.

    Returns
    -------
    Mapped
    """
    M = layer.M // layer.G
    width = -(-layer.E // -(-layer.E // _ROW))
    rows = _candidates(layer, batch, machine, goal)
    n, e, p, q, r, t = rows
    tile = n * r * q * ((e - 1) * layer.U + layer.R) * ((width - 1) * layer.U + layer.S)
    most = np.maximum(0, machine.buffer_words - 2 * tile) // (n * e * width)
    m = _filters_kept(M, most, p * t) if goal == "dram" else np.minimum(p * t, most)
    cycles = _cycles(layer, batch, machine, rows, width)
    fits = m >= p * t
    if not fits.any():
        raise ValueError(f"layer {layer.name}: no mapping fits {machine}")
    dram = _dram_words(layer, batch, rows, np.maximum(m, 1), width)
    busy = layer.R * e * r * t
    cost = cycles if goal == "cycles" else dram**_DRAM_POWER * cycles
    if goal == "dram":
        fits &= busy >= _BUSY * busy[fits].max()
    best = int(np.flatnonzero(fits)[np.argmin(cost[fits])])
    n_, e_, p_, q_, r_, t_ = (int(value) for value in rows[:, best])
    chosen = Mapping(m=int(m[best]), n=n_, e=e_, p=p_, q=q_, r=r_, t=t_)
    return Mapped(
        mapping=chosen,
        pes=int(busy[best]),
        cycles=float(cycles[best]),
        dram_words=float(dram[best]),
    )


def cycles_of(
    layers: tuple[Layer, ...], batch: int, machine: V1 = EYERISS_V1, goal: str = "dram"
) -> float:
    """Cycles of all layers; equal ones are mapped once."""
    return sum(best_mapping(replace(one, name=""), batch, machine, goal).cycles for one in layers)
