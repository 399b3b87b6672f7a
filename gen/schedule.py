"""From a mapping to descriptors: what every unit of every cluster is told, layer by layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.mapping import Item, Mapping, Spread
from rowmesh.gen.tensors import Feature
from rowmesh.gen.tiling import Phase, Tile, factor, phases
from rowmesh.rtl.config import PSUM_LANES, WORD_BYTES
from rowmesh.rtl.layouts import IACT_LOOPS, POST_LOOPS, WRITER_LOOPS, Layouts, Source, Unit

__all__ = ["LayerMemory", "LayerSchedule", "Region"]

Instance = tuple[int, int, int]
Descriptors = dict[Instance, dict[str, Any]]
#: Loops of the iact reader that walk one item; the rest walk items and output groups.
_ITEM_LOOPS = 5


class Writer(Protocol):
    """The part of a program builder that a schedule needs."""

    def write_all(self, unit: Unit, descriptors: Descriptors) -> None:
        """Give descriptors to instances (cluster row, cluster column, number)."""


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
class _Place:
    """One cluster and its part of the layer."""

    y: int
    x: int
    chain: int
    space: int
    outputs: int


class LayerSchedule:
    """Descriptors of one layer.

    Parameters
    ----------
    mapping : Mapping
    memory : LayerMemory
    """

    def __init__(self, mapping: Mapping, memory: LayerMemory) -> None:
        self.mapping, self.task, self.config = mapping, mapping.task, mapping.config
        self.memory = memory
        self.phases = phases(mapping)
        self.layouts = Layouts(self.config)
        self.places = [
            self._place(y, x)
            for y in range(self.config.cluster_rows)
            for x in range(self.config.cluster_cols)
        ]
        self.rounds = [tiles for phase in self.phases for tiles in phase.rounds]
        self.last_round = {
            slot: max((i for i, tiles in enumerate(self.rounds) if tiles[slot]), default=-1)
            for slot in range(mapping.space_slots)
        }
        self.psum_passes = 1 if mapping.in_pe else mapping.passes

    def _place(self, y: int, x: int) -> _Place:
        m, c = self.mapping, self.config
        space = outputs = 0
        if m.vertical is Spread.SPACE:
            space = y
        if m.vertical is Spread.OUTPUTS:
            outputs = y
        if m.horizontal is Spread.SPACE:
            space = space * c.cluster_cols + x
        else:
            outputs = outputs * c.cluster_cols + x
        chain = y if m.chained else 0
        return _Place(y, x, chain, space, outputs)

    # -- program order -------------------------------------------------------------------------

    def prefetch(self, program: Writer) -> None:
        """What may be sent while the layer before still runs: no activation is read."""
        loaders: Descriptors = {
            (p.y, p.x, 0): {
                "base": self.memory.params + p.outputs * self.mapping.slot_outputs * 2 * WORD_BYTES,
                "channels": self.mapping.slot_outputs,
            }
            for p in self.places
            if self._has_bank(p) and self.last_round[p.space] >= 0
        }
        program.write_all(Unit.PARAM_LOADER, loaders)
        self._circuits(program, self.phases[0])

    def emit(self, program: Writer) -> None:
        """Everything else, after the layer before has written its output."""
        number = 0
        for index, phase in enumerate(self.phases):
            if index:
                self._circuits(program, phase)
            for tiles in phase.rounds:
                if number == 0:
                    self._load(program, tiles, number)
                if number + 1 < len(self.rounds):
                    # One round ahead, so that loading overlaps computing.
                    self._load(program, self.rounds[number + 1], number + 1)
                self._round(program, tiles, number)
                number += 1

    # -- one phase: circuits and PEs -----------------------------------------------------------

    def _active(self, phase: Phase) -> Iterator[tuple[_Place, Tile]]:
        for place in self.places:
            tile = phase.first[place.space]
            if tile is not None:
                yield place, tile

    def _columns(self, tile: Tile) -> int:
        return tile.cols if self.mapping.output_cols == 1 else self.mapping.output_cols

    def _has_bank(self, place: _Place) -> bool:
        return not self.mapping.chained or place.y == 0

    def _circuits(self, program: Writer, phase: Phase) -> None:
        """PEs, routers, weight loaders and psum banks for all rounds of a phase."""
        m, c = self.mapping, self.config
        count = len(phase.rounds)
        out: dict[Unit, Descriptors] = {
            unit: {}
            for unit in (
                Unit.PSUM_BANK,
                Unit.PSUM_ROUTER,
                Unit.PE,
                Unit.WEIGHT_ROUTER,
                Unit.IACT_ROUTER,
                Unit.WEIGHT_LOADER,
            )
        }
        for place, tile in self._active(phase):
            where = (place.y, place.x)
            cols = self._columns(tile)
            words = tile.rows * tile.width * m.m0 // PSUM_LANES
            for j in range(cols):
                out[Unit.PSUM_ROUTER][(*where, j)] = {
                    "beats": count * m.groups * self.psum_passes * words,
                    "to_north": int(not self._has_bank(place)),
                    "from_south": int(m.chained and place.y < c.cluster_rows - 1),
                }
                if self._has_bank(place):
                    out[Unit.PSUM_BANK][(*where, j)] = {
                        "words": words,
                        "passes": self.psum_passes,
                        "tiles": count * m.groups,
                        "single": int(m.single_bank_slot),
                    }
            for k in range(m.pe_rows):
                for j in range(cols):
                    out[Unit.PE][(*where, k * c.pe_cols + j)] = self._pe(place, tile, k, count)
                out[Unit.IACT_ROUTER][(*where, k)] = self._iact_router(place, tile, k, count)
                out[Unit.WEIGHT_ROUTER][(*where, k)] = self._weight_router(
                    place, phase, cols, count
                )
                if m.horizontal is Spread.OUTPUTS or place.x == 0:
                    region = self.memory.weights[(place.chain * m.pe_rows + k, place.outputs)]
                    out[Unit.WEIGHT_LOADER][(*where, k)] = {
                        "base": region.address,
                        "words": region.words,
                        "blocks": region.blocks,
                        "repeats": count,
                        "dense": int(not c.sparse),
                    }
        for unit, descriptors in out.items():
            program.write_all(unit, descriptors)

    def _pe(self, place: _Place, tile: Tile, k: int, count: int) -> dict[str, Any]:
        m, c = self.mapping, self.config
        below = k < m.pe_rows - 1 or (m.chained and place.y < c.cluster_rows - 1)
        return {
            "groups": count * m.groups * self.psum_passes,
            "blocks": m.passes if m.in_pe else 1,
            "rows": tile.rows,
            "windows": tile.width,
            "segments": m.segments,
            "segment_cols": m.c0 * m.pixels,
            "cols": m.cols,
            "psums": m.m0,
            "iact_source": k,
            "iact_signed": int(self.memory.input.signed),
            "weight_dense": int(not c.sparse),
            "chain": int(below),
        }

    def _iact_router(self, place: _Place, tile: Tile, k: int, count: int) -> dict[str, Any]:
        m, c = self.mapping, self.config
        source, south, east = Source.LOCAL, False, False
        if m.horizontal is Spread.OUTPUTS:
            east = place.x < c.cluster_cols - 1
            source = Source.WEST if place.x else source
        if m.vertical is Spread.OUTPUTS and (place.x == 0 or m.horizontal is Spread.SPACE):
            south = place.y < c.cluster_rows - 1
            source = Source.NORTH if place.y else source
        listeners = [{"enable": 0, "phase": 0} for _ in range(c.pes_per_cluster)]
        slots = tile.cols if m.output_cols == 1 else 1
        for j in range(self._columns(tile)):
            listeners[k * c.pe_cols + j] = {"enable": 1, "phase": j if slots > 1 else 0}
        steps = tile.rows * (tile.width + m.segments - 1)
        return {
            "segments": count * m.groups * m.passes * steps * slots,
            "source": int(source),
            "to_north": 0,
            "to_south": int(south),
            "to_west": 0,
            "to_east": int(east),
            "period": slots,
            "listeners": listeners,
        }

    def _weight_router(self, place: _Place, phase: Phase, cols: int, count: int) -> dict[str, Any]:
        m, c = self.mapping, self.config
        shared = m.horizontal is Spread.SPACE
        east = False
        if shared and place.x < c.cluster_cols - 1:
            east = phase.first[place.space + 1] is not None
        return {
            "blocks": count * m.groups * m.passes * m.output_cols,
            "source": int(Source.WEST if shared and place.x else Source.LOCAL),
            "to_west": 0,
            "to_east": int(east),
            "deal": int(m.output_cols > 1),
            "listeners": (1 << cols) - 1,
        }

    # -- one round: tiles in, tiles out --------------------------------------------------------

    def _load(self, program: Writer, tiles: tuple[Tile | None, ...], number: int) -> None:
        m = self.mapping
        program.write_all(
            Unit.IACT_LOADER,
            {
                (p.y, p.x, k): self._loader(tile, p.chain * m.pe_rows + k, number)
                for p in self.places
                if (tile := tiles[p.space]) is not None and self._loads_iacts(p)
                for k in range(m.pe_rows)
            },
        )

    def _round(self, program: Writer, tiles: tuple[Tile | None, ...], number: int) -> None:
        m = self.mapping
        readers: list[Descriptors] = []
        banks = [
            (p, tile)
            for p in self.places
            if (tile := tiles[p.space]) is not None and self._has_bank(p)
        ]
        for place in self.places:
            tile = tiles[place.space]
            if tile is None or not self._loads_iacts(place):
                continue
            for k in range(m.pe_rows):
                nests = self._readers(tile, place.chain * m.pe_rows + k, number)
                readers += [{} for _ in range(len(nests) - len(readers))]
                for reader, desc in zip(readers, nests, strict=False):
                    reader[(place.y, place.x, k)] = desc
        program.write_all(Unit.OUT_WRITER, {(p.y, p.x, 0): self._writer(p, t) for p, t in banks})
        # Readers and post units take turns, so that none waits for the bus behind the other.
        per_group = max(1, -(-len(readers) // m.groups))
        for group in range(m.groups):
            for reader in readers[group * per_group : (group + 1) * per_group]:
                program.write_all(Unit.IACT_READER, reader)
            program.write_all(
                Unit.POST, {(p.y, p.x, 0): self._post(p, t, group, number) for p, t in banks}
            )

    def _loads_iacts(self, place: _Place) -> bool:
        m = self.mapping
        return not (
            (m.horizontal is Spread.OUTPUTS and place.x)
            or (m.vertical is Spread.OUTPUTS and place.y)
        )

    def _geometry(self, tile: Tile, position: int) -> tuple[range, range, int, int]:
        """Planes, filter rows, input rows and input pixels of a bank's tile."""
        m, task = self.mapping, self.task
        planes, taps = m.row_box(position)
        rows = (tile.cols * tile.rows - 1) * task.stride[0] + (len(taps) - 1) * task.dilation[0] + 1
        return planes, taps, rows, m.input_width(tile.width)

    def _dest(self, number: int) -> int:
        m = self.mapping
        return (number % m.bank_slots) * (self.config.glb_iact_words // 2)

    def _loader(self, tile: Tile, position: int, number: int) -> dict[str, Any]:
        task, feature = self.task, self.memory.input
        planes, taps, rows, width = self._geometry(tile, position)
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

    def _readers(self, tile: Tile, position: int, number: int) -> list[dict[str, Any]]:
        m, task = self.mapping, self.task
        planes, taps, rows, width = self._geometry(tile, position)
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
        offsets = [offset(item) for item in m.row_items(position)] * m.groups
        nests = factor(offsets, IACT_LOOPS - _ITEM_LOOPS)
        return [
            {
                "base": base,
                "bytes": min(m.c0, WORD_BYTES),
                "dense": int(not self.config.sparse),
                "release": int(index == len(nests) - 1),
                "loops": [{"count": n, "stride": s if n > 1 else 0} for n, s in inner + outer],
            }
            for index, (base, outer) in enumerate(nests)
        ]

    def _post(self, place: _Place, tile: Tile, group: int, number: int) -> dict[str, Any]:
        m, task = self.mapping, self.task
        pair = m.m0 // PSUM_LANES
        word = WORD_BYTES // PSUM_LANES
        line = tile.width * pair
        bank = 1 << self.layouts.psum_word_bits
        pool_y, pool_x = task.pool
        planes = (m.m0 // WORD_BYTES, word, word)
        columns = (self._columns(tile), bank, pair if m.output_cols > 1 else 0)
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
            "banks": (1 << self._columns(tile)) - 1,
            "psum_base": 0,
            "param_base": group * m.output_cols * pair,
            "zero_point": self.memory.output.stored_zero,
            "low": task.low,
            "high": task.high,
            "pool": pool_y * pool_x,
            "release": int(number == self.last_round[place.space] and group == m.groups - 1),
            "loops": [
                {"count": n, "psum_stride": s if n > 1 else 0, "param_stride": q if n > 1 else 0}
                for n, s, q in loops
            ],
        }

    def _writer(self, place: _Place, tile: Tile) -> dict[str, Any]:
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
