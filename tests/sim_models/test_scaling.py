"""The analytical models of Eyeriss v1 and v2 against what was published."""

import dataclasses

import pytest

from rowmesh.gen.study_networks import googlenet, vgg16
from rowmesh.gen.workloads import Layer, alexnet, mobilenet
from rowmesh.sim_models.eyeriss_v1 import EYERISS_V1, Buses, Mapping, best_mapping
from rowmesh.sim_models.eyeriss_v2 import V2, best_placement
from rowmesh.sim_models.scaling import chip_table, main, scaling_table, square_v1, table_lines

#: Chen et al., JSSC 2017, table III: the chip's mapping of AlexNet's conv1 to conv5.
PUBLISHED_MAPPING = (
    Mapping(m=96, n=1, e=7, p=16, q=1, r=1, t=2),
    Mapping(m=64, n=1, e=27, p=16, q=2, r=1, t=1),
    Mapping(m=64, n=4, e=13, p=16, q=4, r=1, t=4),
    Mapping(m=64, n=4, e=13, p=16, q=3, r=2, t=2),
    Mapping(m=64, n=4, e=13, p=16, q=3, r=2, t=2),
)
#: JSSC 2017, tables V and VI: processing time of all convolutions in ms at 200 MHz, batch 4 and 3.
PUBLISHED_TOTAL = {"alexnet": 103.5, "vgg16": 3755.2}
SHAPES = [
    Layer(name="conv", M=64, C=48, R=3, S=3, H=28, pad=(1, 1)),
    Layer(name="strided", M=96, C=3, R=11, S=11, H=227, U=4),
    Layer(name="grouped", M=96, C=64, R=5, S=5, H=27, G=2, pad=(2, 2)),
    Layer(name="depthwise", M=128, C=128, R=3, S=3, H=14, G=128, pad=(1, 1)),
    Layer(name="pointwise", M=120, C=72, R=1, S=1, H=14),
    Layer(name="fc", M=1000, C=1024, R=1, S=1, H=1),
]


def test_macs() -> None:
    """Szegedy et al., CVPR 2015: about 1.5 G; Simonyan and Zisserman, ICLR 2015: 15.3 G."""
    assert sum(layer.macs for layer in googlenet()) == 1_582_671_872
    assert sum(layer.macs for layer in vgg16()) == 15_346_630_656
    assert len(googlenet()) == 58
    # Channels that meet in an inception module are the next one's input.
    by_name = {layer.name: layer for layer in googlenet()}
    for name, following in zip(("3a", "4a", "5a"), ("3b", "4b", "5b"), strict=True):
        parts = ("1x1", "3x3", "5x5", "pool")
        joined = sum(by_name[f"{name}_{part}"].M for part in parts)
        assert joined == by_name[f"{following}_1x1"].C


def test_v1_times() -> None:
    rows = chip_table()
    for network, published in PUBLISHED_TOTAL.items():
        (total,) = (row for row in rows if row.network == network and row.layer == "total")
        assert total.ms == pytest.approx(published, rel=0.10)
        assert total.published_ms == pytest.approx(published, rel=1e-3)
    for row in rows:
        assert row.ms == pytest.approx(row.published_ms, rel=0.12), row
        assert row.pes == row.published_pes, row


def test_v1_mapping_is_the_published_one() -> None:
    """All but what the model cannot tell apart: how often the buffer's psums are gone through.

    In conv1 it keeps half as many filters' psums, because it wants room for two ifmap tiles; in
    conv4 and conv5 four channels of one set stand for twice three of two sets.
    """
    for layer, wanted in zip(alexnet()[:5], PUBLISHED_MAPPING, strict=True):
        found = best_mapping(layer, 4)
        mine = found.mapping
        assert (mine.n, mine.e, mine.r * mine.t) == (wanted.n, wanted.e, wanted.r * wanted.t)
        assert (layer.M // layer.G) % mine.m == 0
        if layer.name in ("conv2", "conv3"):
            assert mine == wanted


@pytest.mark.parametrize("layer", SHAPES, ids=lambda layer: layer.name)
@pytest.mark.parametrize("goal", ["dram", "cycles"])
def test_v1_stays_within_the_machine(layer: Layer, goal: str) -> None:
    for machine in (EYERISS_V1, square_v1(256, narrow=False), square_v1(1024, narrow=True)):
        found = best_mapping(layer, 1, machine, goal)
        one = found.mapping
        pes = machine.rows * machine.cols
        assert layer.R * one.e * one.r * one.t == found.pes <= pes
        assert one.p * one.q * layer.S <= machine.weight_words
        assert one.p <= machine.psum_words
        assert one.q * layer.S <= machine.iact_words
        assert one.m * one.n * one.e * min(layer.E, 128) <= machine.buffer_words
        assert layer.macs <= found.cycles * found.pes


def test_v1_waits_for_its_buses() -> None:
    """A fully connected layer cannot be faster than its weights come, whatever the array."""
    layer = Layer(name="fc", M=4096, C=4096, R=1, S=1, H=1)
    for pes in (256, 16384):
        machine = square_v1(pes, narrow=False)
        assert best_mapping(layer, 1, machine, "cycles").cycles >= layer.macs / Buses().filter


def test_v1_that_does_not_fit() -> None:
    small = dataclasses.replace(EYERISS_V1, buffer_words=10)
    with pytest.raises(ValueError, match="conv"):
        best_mapping(SHAPES[0], 1, small)


@pytest.mark.parametrize("layer", SHAPES, ids=lambda layer: layer.name)
def test_v2_stays_within_the_machine(layer: Layer) -> None:
    before = None
    for side in (1, 2, 4, 8, 16):
        machine = V2(cluster_rows=side, cluster_cols=side)
        found = best_placement(layer, machine)
        for parts, size in ((found.in_cluster, 16), (found.over_clusters, side * side)):
            product = 1
            for count in parts.values():
                product *= count
            assert product <= size
        assert 0 < found.utilization <= 1
        if before is not None:
            assert found.cycles <= before
        before = found.cycles


def test_v2_weights_of_a_connected_layer() -> None:
    """Four weights a cycle for a row of PEs, of which its port brings three."""
    layer = Layer(name="fc", M=4096, C=4096, R=1, S=1, H=1)
    found = best_placement(layer, V2(cluster_rows=4, cluster_cols=4))
    assert found.bound == "weight"
    assert found.utilization == pytest.approx(0.75, rel=0.01)


def test_study(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scaling_table(("alexnet", "mobilenet"))
    assert [row.pes for row in rows] == [256, 1024, 16384] * 2
    for network in ("alexnet", "mobilenet"):
        mine = [row for row in rows if row.network == network]
        assert all(row.v2_utilization <= 1 for row in mine)
        # v2 scales with the PEs, v1 does not.
        assert mine[0].v2_cycles > 3.8 * mine[1].v2_cycles > 14 * 3.8 * mine[2].v2_cycles
        assert mine[0].v1_cycles < 2 * mine[2].v1_cycles
        for row in mine:
            # docs/benchmarks.md explains both sides.
            assert row.speedup < row.published < 1.5 * row.narrow_speedup
    macs = sum(layer.macs for layer in mobilenet(1.0, 224))
    assert rows[3].v2_cycles >= macs / 256
    monkeypatch.setattr("rowmesh.sim_models.scaling.scaling_table", lambda: rows)
    main()
    assert capsys.readouterr().out.splitlines() == table_lines(chip_table(), rows)
