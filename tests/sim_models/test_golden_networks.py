"""The golden model on real networks, unchanged files, against LiteRT in every tensor it shows."""

from pathlib import Path

import pytest

from rowmesh.gen.flow import load_graph
from rowmesh.gen.model_files import mlperf_tiny_models, real_models, wake_word_models

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
from rowmesh.verif.network_reference import compare_network, network_inputs

#: Steps of a streaming network, and images of another: what a test has time for.
STEPS, IMAGES = 30, 2


@pytest.mark.skipif(not mlperf_tiny_models(), reason="no folder shared/models beside the checkout")
def test_mlperf_tiny_models_are_found() -> None:
    assert len(mlperf_tiny_models()) >= 4


@pytest.mark.skipif(not wake_word_models(), reason="pymicro-wakeword is not installed")
def test_wake_word_models_are_found() -> None:
    assert len(wake_word_models()) >= 4


@pytest.mark.parametrize("rounding", ["single", "double"])
@pytest.mark.parametrize("path", real_models(), ids=lambda path: path.stem)
def test_equals_litert(path: Path, rounding: str) -> None:
    graph = load_graph(path).graph
    runs = STEPS if graph.states else IMAGES
    made = compare_network(path, network_inputs(graph, runs, 11), rounding=rounding)
    assert made.problems() == []
    assert made.runs == runs
    # Helpers of the importer are all that LiteRT does not have.
    assert all(name.endswith(("_flat", "_part", "_image")) for name in made.hidden)
    if rounding == "double":
        assert sum(count.drifted for count in made.counts.values()) == 0
