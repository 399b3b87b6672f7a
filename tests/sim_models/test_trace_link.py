"""What the cycle model moves over a narrow link: against the descriptors, and by hand."""

import dataclasses

import pytest

from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.predict import cycles_with, filled_bytes
from rowmesh.gen.workloads import Layer, workload
from rowmesh.rtl.config import load_config
from rowmesh.rtl.dma.burst_planner import FIFO_BEATS
from rowmesh.sim_models import golden
from rowmesh.sim_models.trace_link import Link, read_ahead
from rowmesh.sim_models.trace_memory import touched_beats
from rowmesh.sim_models.trace_order import Demand, cycles_in_order
from rowmesh.sim_models.trace_work import TraceWork

DEMO = load_config("demo")
#: A depthwise layer moves little itself, and reads much for the one behind it.
LAYERS = (
    Layer(name="first", M=16, C=16, R=3, S=3, H=8, G=16, pad=(1, 1)),
    Layer(name="dw", M=64, C=64, R=3, S=3, H=8, G=64, pad=(1, 1)),
    Layer(name="pw", M=128, C=64, R=1, S=1, H=8),
)


def test_narrow_link_moves_all_bytes_of_the_descriptors() -> None:
    """A link of two bytes a cycle is all that counts: what all layers move, and hardly more."""
    graph, inputs, densities = workload("test", LAYERS, {}, psum_bits=DEMO.psum_bits, seed=2)
    compiled = compile_graph(graph, DEMO, densities=densities)
    values = {**inputs, **golden.run(graph, inputs, DEMO.rounding)}
    least = sum(layer.bytes_read + layer.bytes_written for layer in compiled.layers) / 2
    cycles = cycles_with(compiled, values, bytes_per_cycle=2)
    assert least < sum(cycles) < 1.25 * least
    # The depthwise layer also fills the buffers of the loaders for the next one.
    dw, pw = compiled.layers[1:]
    found = filled_bytes(compiled, pw, values)
    assert found is not None
    ahead = read_ahead(TraceWork(pw.mapping, found))
    outside = dw.bytes_written + 16 * (ahead.weights.sum() + ahead.params.sum())
    assert cycles[1] > outside / 2


def test_what_is_read_ahead_fills_the_buffers() -> None:
    layer = Layer(name="fc", M=64, C=1024, R=1, S=1, H=1)
    graph, inputs, densities = workload("test", (layer,), {}, psum_bits=DEMO.psum_bits, seed=2)
    compiled = compile_graph(graph, DEMO, densities=densities)
    mapping = compiled.layers[0].mapping
    found = filled_bytes(compiled, compiled.layers[0], inputs)
    assert found is not None
    loaders = mapping.pe_rows * DEMO.cluster_cols
    assert read_ahead(TraceWork(mapping, found)).weights.tolist() == [loaders * FIFO_BEATS] * 2


def test_link_is_shared_and_kept_over_layers() -> None:
    link = Link(DEMO, bytes_per_cycle=8)  # half a beat a cycle
    assert link.read(0, 16, 0) == 32
    assert link.read(1, 16, 0) == 64
    assert link.write(8, 100) == pytest.approx(116)
    assert link.read(0, 16, 0) == 96  # room that was left
    assert link.beats.tolist() == [36, 20]
    link.end_layer(64)
    assert link.read(1, 8, 0) == 64  # behind all of that


def test_a_master_reads_a_beat_a_cycle() -> None:
    link = Link(DEMO, bytes_per_cycle=32)
    assert link.read(0, 64, 0) == 64
    assert link.read(1, 64, 0) == 64
    for wide in (64, 1e9, float("inf")):  # all that two masters can read and write
        assert Link(DEMO, wide).read(0, 64, 5) == 5


@pytest.mark.parametrize(("base", "words", "beats"), [(0, 8, 4), (8, 8, 5), (8, 9, 5), (0, 0, 0)])
def test_touched_beats(base: int, words: int, beats: int) -> None:
    """A beat is two words; rows of ten words begin where the first one does."""
    assert touched_beats(DEMO, base, words, [(2, 10 * 8), (3, 1024)]) == 6 * beats


def test_masters_in_order() -> None:
    """Two masters of which each could use all of the link."""
    both = [Demand(beats=400, held=0)] * 2
    assert cycles_in_order(both, rate=2, cycles=400, tiles=4, ahead=1) == pytest.approx(
        400, rel=0.1
    )
    # The first one makes a tile, then the last one, which is what both wait for.
    assert cycles_in_order(both, rate=1, cycles=400, tiles=4, ahead=1) == pytest.approx(
        800, rel=0.1
    )
    # Half as much: while the last one makes a tile, the first one cannot go on.
    slow = [dataclasses.replace(demand, beats=300) for demand in both]
    found = cycles_in_order(slow, rate=1, cycles=400, tiles=4, ahead=1)
    assert 600 < found <= 800
