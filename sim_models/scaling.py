"""The scaling study of Eyeriss v2's paper, and the check of the model of v1 that it rests on.

``python -m rowmesh.sim_models.scaling`` prints both tables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rowmesh.gen.study_networks import googlenet, vgg16
from rowmesh.gen.workloads import Layer, alexnet, mobilenet
from rowmesh.sim_models import eyeriss_v1, eyeriss_v2
from rowmesh.sim_models.eyeriss_v1 import V1, Buses, Mapped, best_mapping
from rowmesh.sim_models.eyeriss_v2 import V2

__all__ = ["ChipRow", "ScalingRow", "chip_table", "main", "scaling_table", "table_lines"]

#: Side of the grid of 4 x 4-PE clusters, by number of PEs: Chen et al., JETCAS 2019, section VI.
GRIDS = {256: 4, 1024: 8, 16384: 32}
_NETWORKS: dict[str, Callable[[], tuple[Layer, ...]]] = {
    "alexnet": alexnet,
    "googlenet": googlenet,
    "mobilenet": lambda: mobilenet(1.0, 224),
}
#: Speed-ups of v2 over v1 by number of PEs: JETCAS 2019, section VI (arXiv 1807.07928).
PUBLISHED_SPEEDUP = {
    "alexnet": {256: 17.9, 1024: 71.5, 16384: 1086.7},
    "googlenet": {256: 10.4, 1024: 37.8, 16384: 448.8},
    "mobilenet": {256: 15.7, 1024: 57.9, 16384: 873.0},
}
#: Processing time in ms at 200 MHz and busy PEs by layer: JSSC 2017, tables V and VI.
PUBLISHED_CHIP = {
    "alexnet": {
        "conv1": (16.5, 154),
        "conv2": (39.2, 135),
        "conv3": (21.8, 156),
        "conv4": (16.0, 156),
        "conv5": (10.0, 156),
    },
    "vgg16": {
        "conv1-1": (38.0, 156),
        "conv1-2": (810.6, 156),
        "conv2-1": (405.3, 156),
        "conv2-2": (810.8, 156),
        "conv3-1": (204.0, 156),
        "conv3-2": (408.1, 156),
        "conv3-3": (408.1, 156),
        "conv4-1": (105.1, 168),
        "conv4-2": (210.0, 168),
        "conv4-3": (210.0, 168),
        "conv5-1": (48.3, 168),
        "conv5-2": (48.5, 168),
        "conv5-3": (48.5, 168),
    },
}
_BATCH = {"alexnet": 4, "vgg16": 3}
_CYCLES_PER_MS = 200_000


@dataclass(frozen=True, kw_only=True)
class ChipRow:
    """A layer on the v1 chip: the model beside what was published, ``total`` last.

    Parameters
    ----------
    network, layer : str
    ms, published_ms : float
    pes, published_pes : int
    mapping : Mapped or None
        None for the total.
    """

    network: str
    layer: str
    ms: float
    published_ms: float
    pes: int = 0
    published_pes: int = 0
    mapping: Mapped | None = None


@dataclass(frozen=True, kw_only=True)
class ScalingRow:
    """A network on v1 and v2 with as many PEs each, batch 1, dense.

    Parameters
    ----------
    network : str
    pes : int
    v2_cycles : int
    v2_utilization : float
        Share of the multipliers' cycles that are of use.
    v1_cycles : float
        v1 at its best: published bus widths, the fastest mapping, a buffer that grows with the
        array.
    v1_narrow_cycles : float
        v1 with one word a cycle on every bus, its buffer as it is, mapped as the chip was.
    published : float
        Published speed-up.
    """

    network: str
    pes: int
    v2_cycles: int
    v2_utilization: float
    v1_cycles: float
    v1_narrow_cycles: float
    published: float

    @property
    def speedup(self) -> float:
        """v2 over v1 at its best."""
        return self.v1_cycles / self.v2_cycles

    @property
    def narrow_speedup(self) -> float:
        """v2 over v1 with narrow buses."""
        return self.v1_narrow_cycles / self.v2_cycles


def chip_table() -> list[ChipRow]:
    """The model of v1 at the chip's size beside its published processing times."""
    rows = []
    for network, published in PUBLISHED_CHIP.items():
        layers = alexnet() if network == "alexnet" else vgg16()
        total = 0.0
        for layer in layers:
            if layer.connected:
                continue
            mapped = best_mapping(layer, _BATCH[network])
            ms, pes = published[layer.name]
            total += mapped.cycles / _CYCLES_PER_MS
            rows.append(
                ChipRow(
                    network=network,
                    layer=layer.name,
                    ms=mapped.cycles / _CYCLES_PER_MS,
                    published_ms=ms,
                    pes=mapped.pes,
                    published_pes=pes,
                    mapping=mapped,
                )
            )
        wanted = sum(ms for ms, _ in published.values())
        rows.append(ChipRow(network=network, layer="total", ms=total, published_ms=wanted))
    return rows


def square_v1(pes: int, *, narrow: bool) -> V1:
    """A v1 with a square array: see `ScalingRow`."""
    side, chip = round(pes**0.5), V1()
    if narrow:
        return V1(rows=side, cols=side, buses=Buses(filter=1, iact=1, psum=1))
    words = chip.buffer_words * pes // (chip.rows * chip.cols)
    return V1(rows=side, cols=side, buffer_words=words)


def scaling_table(networks: Sequence[str] = tuple(_NETWORKS)) -> list[ScalingRow]:
    """The study: networks by numbers of PEs.

    Parameters
    ----------
    networks : sequence of str
        ``alexnet``, ``googlenet``, ``mobilenet``.
    """
    rows = []
    for network in networks:
        layers = _NETWORKS[network]()
        macs = sum(layer.macs for layer in layers)
        for pes, side in GRIDS.items():
            cycles = eyeriss_v2.cycles_of(layers, V2(cluster_rows=side, cluster_cols=side))
            wide, narrow = square_v1(pes, narrow=False), square_v1(pes, narrow=True)
            rows.append(
                ScalingRow(
                    network=network,
                    pes=pes,
                    v2_cycles=cycles,
                    v2_utilization=macs / (cycles * pes),
                    v1_cycles=eyeriss_v1.cycles_of(layers, 1, wide, "cycles"),
                    v1_narrow_cycles=eyeriss_v1.cycles_of(layers, 1, narrow, "dram"),
                    published=PUBLISHED_SPEEDUP[network][pes],
                )
            )
    return rows


def table_lines(chip: Sequence[ChipRow], scaling: Sequence[ScalingRow]) -> list[str]:
    """Both tables as Markdown."""
    lines = [
        "| network | layer | ms | published | | PEs | published | m n e p q r t |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in chip:
        error = f"{row.ms / row.published_ms - 1:+.0%}"
        pes = mapping = published = ""
        if row.mapping is not None:
            pes, published = str(row.pes), str(row.published_pes)
            one = row.mapping.mapping
            mapping = f"{one.m} {one.n} {one.e} {one.p} {one.q} {one.r} {one.t}"
        lines.append(
            f"| {row.network} | {row.layer} | {row.ms:.1f} | {row.published_ms:.1f} | {error} "
            f"| {pes} | {published} | {mapping} |"
        )
    lines += [
        "",
        "| network | PEs | v2: cycles | utilization | v1 at its best: cycles | speed-up "
        "| v1, one word a cycle: cycles | speed-up | published | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for point in scaling:
        lines.append(
            f"| {point.network} | {point.pes:,} | {point.v2_cycles:,} | {point.v2_utilization:.0%} "
            f"| {point.v1_cycles:,.0f} | {point.speedup:.1f} "
            f"| {point.v1_narrow_cycles:,.0f} | {point.narrow_speedup:.1f} | {point.published} "
            f"| {point.narrow_speedup / point.published - 1:+.0%} |"
        )
    return lines


def main() -> None:
    """Print both tables."""
    print("\n".join(table_lines(chip_table(), scaling_table())))


if __name__ == "__main__":
    main()
