"""The golden model on real networks, unchanged files, against LiteRT in every tensor it shows.

`make networks` compares more inputs.
"""

from pathlib import Path

import pytest

from rowmesh.gen.datasets import wake_word_paths
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.flow import load_graph

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
from rowmesh.verif.network_reference import compare_network, network_inputs

#: Steps of a streaming network, and images of another: what a test has time for.
STEPS, IMAGES = 30, 2


def compare(path: Path, rounding: str) -> None:
    graph = load_graph(path).graph
    runs = STEPS if graph.states else IMAGES
    made = compare_network(path, network_inputs(graph, runs, 11), rounding=rounding)
    assert made.problems() == []
    assert made.runs == runs
    # Helpers of the importer are all that LiteRT does not have.
    assert all(name.endswith(("_flat", "_part", "_image")) for name in made.hidden)
    if rounding == "double":
        assert sum(count.drifted for count in made.counts.values()) == 0


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_mlperf_tiny_equals_litert(shared: Path, rounding: str) -> None:
    paths = sorted((shared / "models").glob("*.tflite"))
    assert len(paths) >= 4
    for path in paths:
        compare(path, rounding)


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_wake_words_equal_litert(rounding: str) -> None:
    try:
        paths = wake_word_paths()
    except RowmeshError as error:
        pytest.skip(str(error))
    for path in paths:
        assert load_graph(path).graph.states
        compare(path, rounding)
