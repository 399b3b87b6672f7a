"""Descriptors of the units that move one tile: iact loader and reader, post unit, output writer."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.mapping import Item, Mapping
from rowmesh.gen.tensors import Feature
from rowmesh.gen.tiling import Tile, factor
from rowmesh.rtl.config import PSUM_LANES, WORD_BYTES
from rowmesh.rtl.layouts import (
    DRAM_STEP_BITS,
    IACT_LOOPS,
    ITEM_LOOPS,
    PARAM_WORDS,
    POST_LOOPS,
    WRITER_LOOPS,
    Layouts,
)

__all__ = ["LayerMemory", "Place", "Region", "TileWork", "block_matrix", "reader_parts"]


@dataclass(frozen=True)
class Region:
    """A weight stream in DRAM."""

    address: int
    words: int
    blocks: int


@dataclass(frozen=True)
class LayerMemory:
    """Addresses of one layer's data.

    Parameters
    ----------
    input, output : Feature
        With their final addresses.
    second : Feature, optional
        As in `ConvTask`.
    weights : dict
        By (position in the psum chain, output slot, block slot).
    params : dict
        Byte address of the parameters of one (output slot, block slot): its blocks in their order,
        16 bytes a psum of a position.
    """

    input: Feature
    output: Feature
    second: Feature | None
    weights: dict[tuple[int, int, int], Region]
    params: dict[tuple[int, int], int]


@dataclass(frozen=True)
class Place:
    """One cluster and its part of the layer: `slot` as in `Phase`, then its parts by use."""

    y: int
    x: int
    slot: int
    chain: int
    outputs: int
    blocks: int


class TileWork:
    """Descriptors that depend on where a tile lies.

    Parameters
    ----------
    mapping : Mapping
    memory : LayerMemory
    """

    def __init__(self, mapping: Mapping, memory: LayerMemory) -> None:
        self.mapping, self.task, self.config = mapping, mapping.task, mapping.config
        self.memory = memory
        self.layouts = Layouts(self.config)

    def _geometry(self, tile: Tile, position: int, fold: int) -> tuple[range, range, int, int]:
        """Planes, filter rows, input rows and input pixels of a bank's tile."""
        m, task = self.mapping, self.task
        planes, taps = m.row_box(position, fold)
        last = (tile.cols - 1) * tile.step + tile.rows - 1
        rows = last * task.stride[0] + (len(taps) - 1) * task.dilation[0] + 1
        return planes, taps, rows, m.input_width(tile.width)

    def _dest(self, number: int) -> int:
        m = self.mapping
        return (number % m.bank_slots) * (self.config.glb_iact_words // 2)

    def loader(self, tile: Tile, position: int, fold: int, number: int) -> dict[str, Any]:
        """Load `number` of the layer for the bank at `position` of the psum chain."""
        task, feature, second = self.task, self.memory.input, self.memory.second
        plane_stride = feature.plane_stride
        if second is not None:
            # From a plane to that of the other tensor.
            plane_stride = second.address - feature.address
            if not -(1 << DRAM_STEP_BITS - 2) <= plane_stride < 1 << DRAM_STEP_BITS - 2:
                raise RowmeshError(
                    f"layer {task.name}: its operands lie {abs(plane_stride)} bytes apart in DRAM: "
                    f"must be less than {1 << DRAM_STEP_BITS - 2}"
                )
        planes, taps, rows, width = self._geometry(tile, position, fold)
        first_row = tile.row * task.stride[0] + taps[0] * task.dilation[0] - task.pad[0]
        first_col = tile.left * task.stride[1] - task.pad[1]
        top = min(rows, max(0, -first_row))
        bottom = min(rows - top, max(0, first_row + rows - feature.height))
        left = min(width, max(0, -first_col))
        right = min(width - left, max(0, first_col + width - feature.width))
        inside = (rows - top - bottom, width - left - right)
        count, words = len(planes), inside[1]
        base = feature.address + tile.block * task.block_planes * feature.plane_stride
        base += planes[0] * plane_stride
        if inside[0] and inside[1]:  # else all of the tile is border
            base += (first_row + top) * feature.row_stride
            base += 0 if feature.compressed else (first_col + left) * WORD_BYTES
        plain = not feature.compressed and not (top or bottom or left or right)
        if plain and words == feature.width:
            # Rows, and then planes, that follow each other in DRAM are one long row.
            words, inside = words * inside[0], (1, words)
            if plane_stride == words * WORD_BYTES:
                words, count = words * count, 1
        if feature.compressed and inside[0] and words not in (0, feature.width):
            raise RowmeshError(f"layer {task.name}: a compressed row must be read as a whole")
        return {
            "base": base,
            "plane_stride": plane_stride,
            "row_stride": feature.row_stride,
            "words": words,
            "planes": count,
            "rows": inside[0],
            "top": top,
            "bottom": bottom,
            "left": left,
            "right": right,
            "pad": task.pad_value,
            "compressed": int(feature.compressed),
            "slots": self.mapping.bank_slots,
            "dest": self._dest(number),
        }

    def readers(
        self, tile: Tile, position: int, fold: int, number: int
    ) -> list[tuple[dict[str, Any], int]]:
        """Walks over that load, one after the other, each with its number of items.

        The last one frees the tile.
        """
        m, task = self.mapping, self.task
        _, _, rows, width = self._geometry(tile, position, fold)
        line = width * WORD_BYTES
        start = self._dest(number) * WORD_BYTES
        slots = tile.cols if m.output_cols == 1 else 1
        inner = [
            (-(-m.c0 // WORD_BYTES), rows * line),
            (m.pixels, WORD_BYTES),
            (slots, tile.step * task.stride[0] * line),
            (tile.width + m.segments - 1, task.stride[1] * WORD_BYTES),
            (tile.rows, task.stride[0] * line),
        ]
        offsets = [start + at for at in item_offsets(m, rows, width, position, fold)]
        offsets *= m.groups if m.folds == 1 else 1
        nests = factor(offsets, IACT_LOOPS - ITEM_LOOPS)
        return [
            (
                {
                    "base": base,
                    "bytes": min(m.c0, WORD_BYTES),
                    "dense": int(not self.config.sparse),
                    "release": int(index == len(nests) - 1),
                    "loops": [{"count": n, "stride": s if n > 1 else 0} for n, s in inner + outer],
                },
                math.prod(n for n, _ in outer),
            )
            for index, (base, outer) in enumerate(nests)
        ]

    def params(self, place: Place, chunk: int) -> dict[str, Any]:
        """Parameters of some groups of psums."""
        m = self.mapping
        size = m.param_groups * m.m0 * m.output_cols
        total = len(m.slot_blocks(place.blocks)) * m.slot_outputs
        base = self.memory.params[(place.outputs, place.blocks)]
        return {
            "base": base + chunk * size * PARAM_WORDS * WORD_BYTES,
            "channels": min(size, total - chunk * size),
        }

    def post(self, tile: Tile, number: int, *, release: bool) -> dict[str, Any]:
        """The psums of group `number` of all blocks; `release` frees the parameters."""
        m, task = self.mapping, self.task
        pair = m.m0 // PSUM_LANES
        word = task.word_psums // PSUM_LANES
        line = tile.width * pair
        bank = 1 << self.layouts.psum_word_bits
        pool_y, pool_x = task.pool
        stride_y, stride_x = task.pool_stride
        planes = (m.m0 // task.word_psums, word, word)
        columns = (m.columns(tile.cols), bank, pair if m.output_cols > 1 else 0)
        loops = [
            (word, 1, 1),
            (pool_x, pair, 0),
            (pool_y, line, 0),
            (task.pooled(1, tile.width), stride_x * pair, 0),
            (task.pooled(0, tile.rows), stride_y * line, 0),
            *((columns, planes) if m.output_cols == 1 else (planes, columns)),
        ]
        assert len(loops) == POST_LOOPS
        return {
            "tiles": 1,
            "banks": (1 << m.columns(tile.cols)) - 1,
            "psum_base": 0,
            "param_base": number % m.param_groups * m.output_cols * pair,
            "zero_point": task.zero_point,
            "low": task.low,
            "high": task.high,
            "pool": pool_y * pool_x,
            "sum": int(task.lanes > 1),
            "release": int(release),
            "loops": [
                {"count": n, "psum_stride": s if n > 1 else 0, "param_stride": q if n > 1 else 0}
                for n, s, q in loops
            ],
        }

    def writer(self, place: Place, tile: Tile) -> dict[str, Any]:
        """The output rows of one tile."""
        m, task, out = self.mapping, self.task, self.memory.output
        planes = m.slot_outputs // task.word_psums
        first = tile.block * task.block_words + place.outputs * planes
        base = out.address + first * out.plane_stride
        base += tile.row // task.pool_stride[0] * out.row_stride
        base += tile.left // task.pool_stride[1] * WORD_BYTES
        loops = [
            (tile.cols * task.pooled(0, tile.rows), out.row_stride),
            (planes, out.plane_stride),
        ]
        loops += [(1, 0)] * (WRITER_LOOPS - len(loops))
        return {
            "base": base,
            "words": task.pooled(1, tile.width),
            "compressed": int(out.compressed),
            "loops": [{"count": n, "stride": s if n > 1 else 0} for n, s in loops],
        }


def item_offsets(mapping: Mapping, rows: int, width: int, position: int, fold: int) -> list[int]:
    """Where the items of the PE at `position` begin in a tile of `rows` x `width` pixels a plane.

    Returns
    -------
    list of int
        Bytes from the start of the tile; 0 for a dummy.
    """
    planes, taps = mapping.row_box(position, fold)
    dilation, line = mapping.task.dilation, width * WORD_BYTES
    out = []
    for item in mapping.fold_items(position, fold):
        if item is None:
            out.append(0)
            continue
        row = (item.c // WORD_BYTES - planes[0]) * rows + (item.r - taps[0]) * dilation[0]
        out.append(row * line + item.s * dilation[1] * WORD_BYTES + item.c % WORD_BYTES)
    return out


def reader_parts(mapping: Mapping) -> int:
    """Descriptors that all readers of a psum chain need for one load, of the largest tile."""
    width = mapping.input_width(mapping.width)
    total = 0
    for position in range(mapping.depth):
        rows = mapping.input_rows(mapping.rows, len(mapping.row_box(position, 0)[1]))
        offsets = item_offsets(mapping, rows, width, position, 0)
        total += len(factor(offsets, IACT_LOOPS - ITEM_LOOPS))
    return total


def block_matrix(mapping: Mapping, item: Item | None, first: int) -> NDArray[np.int8]:
    """Weights of one block: shape (columns K, M0), zeros outside the layer.

    Parameters
    ----------
    mapping
        The mapping.
    item
        Part of the window; None is a block of zeros.
    first
        First psum of a position, over all blocks.
    """
    task = mapping.task
    out = np.zeros((mapping.s0, mapping.c0, mapping.m0), np.int8)
    if item is not None:
        part = task.weights[
            first : first + mapping.m0,
            item.r,
            item.s : item.s + mapping.s0,
            item.c : item.c + mapping.c0,
        ]
        out[: part.shape[1], : part.shape[2], : part.shape[0]] = part.transpose(1, 2, 0)
    return out.reshape(mapping.cols, mapping.m0)
