"""Classification accuracy of an int8 network: by the golden model, and by ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rowmesh.gen.graph import Graph
from rowmesh.sim_models.golden import run

__all__ = ["golden_accuracy", "onnxruntime_accuracy", "onnxruntime_session"]

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
#: Images at once in the golden model.
_BATCH = 500


def golden_accuracy(graph: Graph, images: Images, labels: Labels) -> float:
    """Part of the images that the golden model (single rounding) classifies right.

    Parameters
    ----------
    graph : Graph
        int8, one input, one output [N, classes].
    images : ndarray of float32
        In the model's own layout.
    labels : ndarray of int64, [N]
    """
    (source,), (sink,) = graph.inputs, graph.outputs
    right = 0
    for at in range(0, len(images), _BATCH):
        inputs = graph.from_model({source: images[at : at + _BATCH]})
        scores = run(graph, inputs, "single")[sink]
        right += int(np.count_nonzero(scores.argmax(axis=1) == labels[at : at + _BATCH]))
    return right / len(images)


def onnxruntime_accuracy(path: Path, images: Images, labels: Labels) -> float:
    """Part of the images that ONNX Runtime classifies right with a file of batch 1."""
    session = onnxruntime_session(path.read_bytes())
    name = session.get_inputs()[0].name
    scores = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    return float(np.mean(scores.argmax(axis=1) == labels))


def onnxruntime_session(model: bytes) -> Any:
    """A model in ONNX Runtime: one thread, and integer products that are exact on every CPU.

    Without VNNI, products of unsigned and signed bytes saturate unless told otherwise. With int8
    activations they never do, and fewer kernels can be told: only uint8 models are.
    """
    import onnxruntime

    initializers = onnx.load_model_from_string(model).graph.initializer
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if any(item.data_type == onnx.TensorProto.UINT8 for item in initializers):
        options.add_session_config_entry("session.x64quantprecision", "1")
    else:
        # Between int8 tensors of the QDQ form it would compute in real numbers on x86.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
