"""Cycles of a compiled network for the data of a run."""

from collections.abc import Mapping

import numpy as np

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.graph import Array
from rowmesh.gen.search import cycles_for

__all__ = ["cycles_with"]


def cycles_with(compiled: Compiled, values: Mapping[str, Array]) -> list[float]:
    """Predicted cycles of every layer, with the zeros that its iacts really have.

    Parameters
    ----------
    compiled : Compiled
        Mappings were chosen for densities that were expected.
    values : dict of ndarray
        Every tensor, images along the first axis; the mean density counts.

    Returns
    -------
    list of float
        For one image; the first layer of a program with its check.
    """
    cycles = []
    for layer in compiled.layers:
        item = layer.mapping.task.input
        found = values.get(item.name)
        predicted = layer.predicted_cycles
        if found is not None:
            density = float(np.mean(found.astype(np.int16) != -item.offset))
            expected = cycles_for(layer.mapping, item.density)
            predicted += cycles_for(layer.mapping, density) - expected
        cycles.append(predicted)
    return cycles
