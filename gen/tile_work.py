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
from rowmesh.rtl.layouts import IACT_LOOPS, PARAM_WORDS, POST_LOOPS, WRITER_LOOPS, Layouts

__all__ = ["LayerMemory", "Place", "Region", "TileWork", "block_matrix"]

#: Loops of the iact reader that walk one item; the rest walk items and output groups.
_ITEM_LOOPS = 5


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
    weights : dict
        By (position in the psum chain, output slot).
    params : int
        Byte address of the parameters of channel 0; 16 bytes a channel.
    """

    input: Feature
    output: Feature
    weights: dict[tuple[int, int], Region]
    params: int


@dataclass(frozen=True)
class Place:
    """One cluster and its part of the layer."""

    y: int
    x: int
    chain: int
    space: int
    outputs: int


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
        rows = (tile.cols * tile.rows - 1) * task.stride[0] + (len(taps) - 1) * task.dilation[0] + 1
        return planes, taps, rows, m.input_width(tile.width)

    def _dest(self, number: int) -> int:
        m = self.mapping
        return (number % m.bank_slots) * (self.config.glb_iact_words // 2)

    def loader(self, tile: Tile, position: int, fold: int, number: int) -> dict[str, Any]:
        """Load `number` of the layer for the bank at `position` of the psum chain."""
        task, feature = self.task, self.memory.input
        planes, taps, rows, width = self._geometry(tile, position, fold)
        first_row = tile.row * task.stride[0] + taps[0] * task.dilation[0] - task.pad[0]
        first_col = tile.left * task.stride[1] - task.pad[1]
        top = min(rows, max(0, -first_row))
        bottom = min(rows - top, max(0, first_row + rows - feature.height))
        left = min(width, max(0, -first_col))
        right = min(width - left, max(0, first_col + width - feature.width))
        inside = (rows - top - bottom, width - left - right)
        count, words = len(planes), inside[1]
        base = feature.address + planes[0] * feature.plane_stride
        if inside[0] and inside[1]:  # else all of the tile is border
            base += (first_row + top) * feature.row_stride
            base += 0 if feature.compressed else (first_col + left) * WORD_BYTES
        plain = not feature.compressed and not (top or bottom or left or right)
        if plain and words == feature.width:
            # Rows, and then planes, that follow each other in DRAM are one long row.
            words, inside = words * inside[0], (1, words)
            if feature.plane_stride == words * WORD_BYTES:
                words, count = words * count, 1
        if feature.compressed and inside[0] and words not in (0, feature.width):
            raise RowmeshError(f"layer {task.name}: a compressed row must be read as a whole")
        return {
            "base": base,
            "plane_stride": feature.plane_stride,
            "row_stride": feature.row_stride,
            "words": words,
            "planes": count,
            "rows": inside[0],
            "top": top,
            "bottom": bottom,
            "left": left,
            "right": right,
            "pad": feature.stored_zero & 0xFF,
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
        planes, taps, rows, width = self._geometry(tile, position, fold)
        line = width * WORD_BYTES
        start = self._dest(number) * WORD_BYTES

        def offset(item: Item | None) -> int:
            if item is None:
                return start
            plane = item.c // WORD_BYTES - planes[0]
            row = (item.r - taps[0]) * task.dilation[0]
            at = (plane * rows + row) * line + item.s * task.dilation[1] * WORD_BYTES
            return start + at + item.c % WORD_BYTES

        slots = tile.cols if m.output_cols == 1 else 1
        inner = [
            (-(-m.c0 // WORD_BYTES), rows * line),
            (m.pixels, WORD_BYTES),
            (slots, tile.rows * task.stride[0] * line),
            (tile.width + m.segments - 1, task.stride[1] * WORD_BYTES),
            (tile.rows, task.stride[0] * line),
        ]
        offsets = [offset(item) for item in m.fold_items(position, fold)]
        offsets *= m.groups if m.folds == 1 else 1
        nests = factor(offsets, IACT_LOOPS - _ITEM_LOOPS)
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
        """Parameters of some groups of output channels."""
        m = self.mapping
        size = m.param_groups * m.m0 * m.output_cols
        first = place.outputs * m.slot_outputs + chunk * size
        return {
            "base": self.memory.params + first * PARAM_WORDS * WORD_BYTES,
            "channels": min(size, m.slot_outputs - chunk * size),
        }

    def post(self, tile: Tile, group: int, *, release: bool) -> dict[str, Any]:
        """The psums of one group of output channels; `release` frees the parameters."""
        m, task = self.mapping, self.task
        pair = m.m0 // PSUM_LANES
        word = WORD_BYTES // PSUM_LANES
        line = tile.width * pair
        bank = 1 << self.layouts.psum_word_bits
        pool_y, pool_x = task.pool
        planes = (m.m0 // WORD_BYTES, word, word)
        columns = (m.columns(tile.cols), bank, pair if m.output_cols > 1 else 0)
        loops = [
            (word, 1, 1),
            (pool_x, pair, 0),
            (pool_y, line, 0),
            (tile.width // pool_x, pool_x * pair, 0),
            (tile.rows // pool_y, pool_y * line, 0),
            *((columns, planes) if m.output_cols == 1 else (planes, columns)),
        ]
        assert len(loops) == POST_LOOPS
        return {
            "tiles": 1,
            "banks": (1 << m.columns(tile.cols)) - 1,
            "psum_base": 0,
            "param_base": group % m.param_groups * m.output_cols * pair,
            "zero_point": self.memory.output.stored_zero,
            "low": task.low,
            "high": task.high,
            "pool": pool_y * pool_x,
            "release": int(release),
            "loops": [
                {"count": n, "psum_stride": s if n > 1 else 0, "param_stride": q if n > 1 else 0}
                for n, s, q in loops
            ],
        }

    def writer(self, place: Place, tile: Tile) -> dict[str, Any]:
        """The output rows of one tile."""
        m, out = self.mapping, self.memory.output
        pool_y, pool_x = self.task.pool
        base = out.address + place.outputs * (m.slot_outputs // WORD_BYTES) * out.plane_stride
        base += tile.row // pool_y * out.row_stride + tile.left // pool_x * WORD_BYTES
        loops = [
            (tile.cols * tile.rows // pool_y, out.row_stride),
            (m.slot_outputs // WORD_BYTES, out.plane_stride),
        ]
        loops += [(1, 0)] * (WRITER_LOOPS - len(loops))
        return {
            "base": base,
            "words": tile.width // pool_x,
            "compressed": int(out.compressed),
            "loops": [{"count": n, "stride": s if n > 1 else 0} for n, s in loops],
        }


def block_matrix(mapping: Mapping, item: Item | None, first: int) -> NDArray[np.int8]:
    """Weights of one block: shape (columns K, M0), zeros outside the layer.

    Parameters
    ----------
    mapping
        The mapping.
    item
        Part of the window; None is a block of zeros.
    first
        First output channel.
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
