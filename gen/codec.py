"""Which activation tensors are run-length coded in DRAM."""

import dataclasses

from rowmesh.gen.mapping import Mapping
from rowmesh.gen.tensors import Feature
from rowmesh.rtl.layouts import RLC_PAIRS

__all__ = ["choose_codec", "expected_part", "worth_coding"]

#: A tensor is compressed when that is expected to take less than this part of its raw size.
_CODEC_GAIN = 0.8
#: Narrower rows are not worth a chunk each.
_CODEC_WIDTH = 8


def choose_codec(features: dict[str, Feature], mappings: list[Mapping]) -> None:
    """Compress the tensors that are smaller so and whose rows are always moved as a whole."""
    for name, item in features.items():
        whole = True
        for mapping in mappings:
            task = mapping.task
            if name == task.output.name:
                whole &= mapping.width == task.used_size[1]
            if task.second is not None:
                # The same walk reads both tensors.
                whole &= name not in (task.input.name, task.second.name)
            if name == task.input.name:
                # Not when the last columns are never read, nor as a flat input of another width.
                reach = mapping.input_width(mapping.width) - task.pad[1]
                whole &= task.input.width == item.width <= reach
                whole &= mapping.width == task.used_size[1]
        if whole and worth_coding(item):
            features[name] = dataclasses.replace(item, compressed=True)


def worth_coding(item: Feature) -> bool:
    """Whether a tensor is to be coded, if its rows are moved as a whole."""
    return item.width >= _CODEC_WIDTH and expected_part(item) < _CODEC_GAIN


def expected_part(item: Feature) -> float:
    """Coded over raw bytes, as long as the values are not known."""
    return item.density * item.channels / item.planes / RLC_PAIRS
