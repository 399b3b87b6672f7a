"""The Fashion-MNIST networks in the repository: what they are, and what their records say."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rowmesh.gen.datasets import fashion_mnist
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.import_onnx import import_onnx
from rowmesh.gen.prune_onnx import onnx_densities
from rowmesh.verif.accuracy import golden_accuracy, onnxruntime_accuracy

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "fashion_mnist"
STAGES = ("dense", "pruned")


def record(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{stage}.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    try:
        return fashion_mnist("test")
    except RowmeshError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("stage", STAGES)
class TestFile:
    def test_is_the_one_of_the_record(self, stage: str) -> None:
        data = (FOLDER / f"{stage}.onnx").read_bytes()
        assert hashlib.sha256(data).hexdigest() == record(stage)["sha256"]
        assert len(data) < 300_000

    def test_structure(self, stage: str) -> None:
        """int8 weights, and every kind of layer that the network is there for."""
        model = onnx.load(FOLDER / f"{stage}.onnx")
        onnx.checker.check_model(model, full_check=True)
        arrays = {proto.name: numpy_helper.to_array(proto) for proto in model.graph.initializer}
        makes = {output: node for node in model.graph.node for output in node.output}
        kinds: Counter[str] = Counter()
        for node in model.graph.node:
            kind = node.op_type
            if kind in ("Conv", "Gemm"):
                weights = arrays[makes[node.input[1]].input[0]]
                assert weights.dtype == np.int8
                groups = next((a.i for a in node.attribute if a.name == "group"), 1)
                if kind == "Conv":
                    kind = "depthwise" if groups > 1 else f"conv{weights.shape[2]}"
            kinds[kind] += 1
        for kind in ("QuantizeLinear", "DequantizeLinear", "Reshape"):
            del kinds[kind]
        assert kinds == {
            "conv3": 2, "depthwise": 3, "conv1": 4, "Add": 2, "MaxPool": 1,
            "GlobalAveragePool": 1, "Gemm": 1,
        }  # fmt: skip

    def test_zeros(self, stage: str) -> None:
        layers = onnx_densities(onnx.load(FOLDER / f"{stage}.onnx"))
        told = record(stage)
        assert told["weights"] == sum(layer.weights for layer in layers)
        assert told["zeros"] == sum(layer.zeros for layer in layers)
        fractions = [round(layer.zero_fraction, 4) for layer in layers]
        assert fractions == list(told["zero_fraction"].values())
        assert stage == "dense" or told["zeros"] >= 0.65 * told["weights"]

    def test_accuracy_of_golden_model(
        self, stage: str, held_out: tuple[np.ndarray, np.ndarray]
    ) -> None:
        graph = import_onnx(FOLDER / f"{stage}.onnx")
        assert golden_accuracy(graph, *held_out) == record(stage)["accuracy_golden"]

    def test_accuracy_in_onnxruntime(
        self, stage: str, held_out: tuple[np.ndarray, np.ndarray]
    ) -> None:
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        found = onnxruntime_accuracy(FOLDER / f"{stage}.onnx", *held_out)
        # float32 may round a few values the other way on another CPU.
        assert abs(found - record(stage)["accuracy_onnxruntime"]) <= 3e-4


def test_recorded_accuracy() -> None:
    dense, pruned = (record(stage) for stage in STAGES)
    for kind in ("accuracy_golden", "accuracy_onnxruntime"):
        assert dense[kind] >= 0.88
        assert pruned[kind] >= dense[kind] - 0.01
    assert dense["test_images"] == pruned["test_images"] == 10_000
    assert dense["macs"] == pruned["macs"]
