"""Cycles of a compiled network for the data of a run."""

import dataclasses
import math
from collections.abc import Mapping
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.compiled import Compiled, CompiledLayer, DeviceStep
from rowmesh.gen.graph import Array
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.sim_models.trace_model import trace_layers

__all__ = ["cycles_with", "filled_bytes"]

#: From the start of a program to its first layer, besides a word a cycle of its check: counters
#: are cleared, the header is read, the program is read again.
_BEGIN = 110.0


def cycles_with(
    compiled: Compiled, values: Mapping[str, Array], bytes_per_cycle: float = math.inf
) -> list[float]:
    """Predicted cycles of every layer, from the zeros of its iacts and weights, PE by PE.

    Parameters
    ----------
    compiled : Compiled
    values : dict of ndarray
        Every tensor, images along the first axis; the first image counts. Of a layer whose input
        is missing the result is what the search expected.
    bytes_per_cycle : float
        What the memory moves, over all masters and both directions.

    Returns
    -------
    list of float
        For one image; the first layer of a program with its check.
    """
    cycles: list[float] = []
    for step in compiled.steps:
        if not isinstance(step, DeviceStep):
            continue
        first = len(cycles)
        found = [(layer, filled_bytes(compiled, layer, values)) for layer in step.layers]
        for known, part in groupby(found, key=lambda item: item[1] is not None):
            if known:
                traced = (
                    (layer.mapping, bits, layer.sent) for layer, bits in part if bits is not None
                )
                cycles += trace_layers(traced, bytes_per_cycle)
            else:
                cycles += [layer.predicted_cycles for layer, _ in part]
        if found[0][1] is not None:
            # A word a cycle at most.
            check = step.words * max(1.0, WORD_BYTES / bytes_per_cycle)
            cycles[first] += check + _BEGIN
    return cycles


def filled_bytes(
    compiled: Compiled, layer: CompiledLayer, values: Mapping[str, Array]
) -> NDArray[np.bool_] | None:
    """Where the stored bytes of a layer's input are not zero, as `TraceWork` wants them.

    Returns
    -------
    ndarray of bool, shape (channels, height, width), or None
        None if a tensor is missing.
    """
    planes = []
    for item in (layer.mapping.task.input, layer.mapping.task.second):
        if item is None:
            continue
        if item.name not in values:
            return None
        # The tensor, and the view of it that the layer has (a fully connected one: a pixel).
        tensor = dataclasses.replace(compiled.features[item.name], compressed=False)
        image = values[item.name][0].reshape(tensor.height, tensor.width, tensor.channels)
        stored = np.frombuffer(tensor.store(image), np.uint8)
        planes.append(stored.reshape(item.planes, item.height, item.width, WORD_BYTES) != 0)
    turns = np.stack(planes, axis=1).transpose(0, 1, 4, 2, 3)
    return turns.reshape(-1, *turns.shape[3:])
