"""From a mapping to descriptors: what every unit of every cluster is told, layer by layer."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate, product
from typing import Any, Protocol

from rowmesh.gen.mapping import Mapping, Spread
from rowmesh.gen.tile_work import LayerMemory, Place, TileWork
from rowmesh.gen.tiling import Phase, Round, Tile, phases
from rowmesh.rtl.codes import Source, Unit
from rowmesh.rtl.config import PSUM_LANES

__all__ = ["Descriptors", "LayerSchedule", "Writer"]

Instance = tuple[int, int, int]
Descriptors = dict[Instance, dict[str, Any]]
#: Order of what waits for the same item.
_LOAD, _READER, _WRITER, _POST = range(4)


class Writer(Protocol):
    """The part of a program builder that a schedule needs."""

    def write_all(self, unit: Unit, descriptors: Descriptors) -> None:
        """Give descriptors to instances (cluster row, cluster column, number)."""


class LayerSchedule:
    """Descriptors of one layer.

    Parameters
    ----------
    mapping : Mapping
    memory : LayerMemory
    """

    def __init__(self, mapping: Mapping, memory: LayerMemory) -> None:
        self.mapping, self.config = mapping, mapping.config
        self.memory = memory
        self.phases = phases(mapping)
        self.work = TileWork(mapping, memory)
        self.places = [
            self._place(y, x)
            for y in range(self.config.cluster_rows)
            for x in range(self.config.cluster_cols)
        ]
        self.rounds = [tiles for phase in self.phases for tiles in phase.rounds]
        #: Of every round and slot: tiles that the slot had before.
        self.ordinals = [
            tuple(accumulate((int(tile is not None) for tile in tiles), initial=0))
            for tiles in zip(*self.rounds, strict=True)
        ]
        self.pending: deque[tuple[int, int]] = deque()  # (round, load in it) not sent yet
        self.psum_passes = 1 if mapping.in_pe else mapping.passes

    def _place(self, y: int, x: int) -> Place:
        m, c = self.mapping, self.config
        part = dict.fromkeys(Spread, 0)
        part[m.vertical] = y
        part[m.horizontal] = part[m.horizontal] * c.cluster_cols + x
        return Place(
            y=y,
            x=x,
            slot=part[Spread.GROUPS] * m.space_slots + part[Spread.SPACE],
            chain=part[Spread.CHAIN],
            outputs=part[Spread.OUTPUTS],
            blocks=part[Spread.GROUPS],
        )

    # -- program order -------------------------------------------------------------------------

    def load(self, program: Writer) -> None:
        """The first tiles: after the layer before has written its output."""
        self.pending = deque(product(range(len(self.rounds)), range(self.mapping.loads)))
        self._load(program)

    def prefetch(self, program: Writer) -> None:
        """What may be sent while the layer before still runs: no activation is read."""
        self._circuits(program, self.phases[0])
        first = self.phases[0].first
        self._params(program, {place: 0 for place, _ in self._with_bank(first)})

    def emit(self, program: Writer) -> None:
        """Everything else, after `load` and `prefetch`."""
        number = 0
        for index, phase in enumerate(self.phases):
            if index:
                self._circuits(program, phase)
            for tiles in phase.rounds:
                self._round(program, tiles, number)
                number += 1

    def _params(self, program: Writer, chunks: dict[Place, int]) -> None:
        """A chunk of parameters for some clusters; the only one is loaded once for all rounds."""
        program.write_all(
            Unit.PARAM_LOADER,
            {(p.y, p.x, 0): self.work.params(p, chunk) for p, chunk in chunks.items()},
        )

    def _with_bank(self, tiles: Round) -> list[tuple[Place, Tile]]:
        """Clusters whose psum banks make a tile."""
        return [
            (p, tile)
            for p in self.places
            if (tile := tiles[p.slot]) is not None and self._has_bank(p)
        ]

    # -- one phase: circuits and PEs -----------------------------------------------------------

    def _active(self, phase: Phase) -> Iterator[tuple[Place, Tile]]:
        first = phase.first
        for place in self.places:
            tile = first[place.slot]
            if tile is not None:
                yield place, tile

    def _has_bank(self, place: Place) -> bool:
        return not self.mapping.chained or place.y == 0

    def _circuits(self, program: Writer, phase: Phase) -> None:
        """PEs, routers, weight loaders and psum banks for all rounds of a phase."""
        m, c = self.mapping, self.config
        first = phase.first
        out: dict[Unit, Descriptors] = {
            unit: {}
            for unit in (
                Unit.WEIGHT_LOADER,  # first, so that DRAM works while the rest is sent
                Unit.IACT_ROUTER,
                Unit.WEIGHT_ROUTER,
                Unit.PE,
                Unit.PSUM_ROUTER,
                Unit.PSUM_BANK,
            )
        }
        for place, tile in self._active(phase):
            where = (place.y, place.x)
            count = phase.count(place.slot)
            cols = self.mapping.columns(tile.cols)
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
                    place, first, cols, count
                )
                if m.horizontal is not Spread.SPACE or place.x == 0:
                    key = (place.chain * m.pe_rows + k, place.outputs, place.blocks)
                    region = self.memory.weights[key]
                    out[Unit.WEIGHT_LOADER][(*where, k)] = {
                        "base": region.address,
                        "words": region.words,
                        "blocks": region.blocks,
                        "repeats": count // len(m.slot_blocks(place.blocks)),
                        "dense": int(m.dense),
                    }
        for unit, descriptors in out.items():
            program.write_all(unit, descriptors)

    def _pe(self, place: Place, tile: Tile, k: int, count: int) -> dict[str, Any]:
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
            "weight_dense": int(m.dense),
            "chain": int(below),
        }

    def _iact_router(self, place: Place, tile: Tile, k: int, count: int) -> dict[str, Any]:
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
        for j in range(self.mapping.columns(tile.cols)):
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

    def _weight_router(self, place: Place, first: Round, cols: int, count: int) -> dict[str, Any]:
        m, c = self.mapping, self.config
        shared = m.horizontal is Spread.SPACE
        east = False
        if shared and place.x < c.cluster_cols - 1:
            east = first[place.slot + 1] is not None
        return {
            "blocks": count * m.groups * m.passes * m.output_cols,
            "source": int(Source.WEST if shared and place.x else Source.LOCAL),
            "to_west": 0,
            "to_east": int(east),
            "deal": int(m.output_cols > 1),
            "listeners": (1 << cols) - 1,
        }

    # -- one round: tiles in, tiles out --------------------------------------------------------

    def _load(self, program: Writer) -> None:
        """The next tile for the iact banks, if there is one more."""
        if not self.pending:
            return
        m = self.mapping
        number, load = self.pending.popleft()
        program.write_all(
            Unit.IACT_LOADER,
            {
                (p.y, p.x, k): self.work.loader(
                    tile,
                    p.chain * m.pe_rows + k,
                    load % m.folds,
                    self._load_number(p, number, load),
                )
                for p in self.places
                if (tile := self.rounds[number][p.slot]) is not None and self._loads_iacts(p)
                for k in range(m.pe_rows)
            },
        )

    def _load_number(self, place: Place, number: int, load: int) -> int:
        """Loads of a cluster before load `load` of round `number`."""
        return self.ordinals[place.slot][number] * self.mapping.loads + load

    def _round(self, program: Writer, tiles: Round, number: int) -> None:
        """All that one tile of every cluster needs, in an order in which the bus cannot stop.

        A port holds one descriptor, so sending a unit's n-th one waits until its (n-2)-th is done.
        Descriptors are sent in the order of the item whose end they wait for; what that item needs
        waits for less and is therefore sent already.
        """
        m = self.mapping
        writers: Descriptors = {
            (p.y, p.x, 0): self.work.writer(p, tile) for p, tile in self._with_bank(tiles)
        }
        # By (item waited for, kind, number): loads go one tile ahead of the readers.
        events: dict[tuple[int, int, int], Callable[[], None]] = {
            (0, _WRITER, 0): partial(program.write_all, Unit.OUT_WRITER, writers)
        }
        for load in range(m.loads):
            start = self._items_before(load)
            # The very first work has nothing to overlap with: readers first.
            kind = _LOAD if number or load else _WRITER
            events[(start, kind, load + 1)] = partial(self._load, program)
            for key, readers in self._readers(number, load, start).items():
                events[key] = partial(program.write_all, Unit.IACT_READER, readers)
        for group in range(m.groups):
            wait = max(0, group - 1) * m.passes
            events[(wait, _POST, group)] = partial(self._post, program, tiles, group, number)
        for key in sorted(events):
            events[key]()

    def _items_before(self, load: int) -> int:
        """Items of a round that come before the tile number `load` of an iact bank."""
        m = self.mapping
        group, fold = divmod(load, m.folds)
        return group * m.passes + min(m.passes, fold * -(-m.passes // m.folds))

    def _readers(
        self, number: int, load: int, start: int
    ) -> dict[tuple[int, int, int], Descriptors]:
        """Descriptors of all readers for one tile, by when they are sent."""
        out: dict[tuple[int, int, int], Descriptors] = {}
        for place in self.places:
            tile = self.rounds[number][place.slot]
            if tile is None or not self._loads_iacts(place):
                continue
            loaded = self._load_number(place, number, load)
            for k in range(self.mapping.pe_rows):
                position = place.chain * self.mapping.pe_rows + k
                nests = self.work.readers(tile, position, load % self.mapping.folds, loaded)
                ends = [start, start]
                for index, (desc, items) in enumerate(nests):
                    key = (ends[-2], _READER, 3 * load + min(index, 2))
                    out.setdefault(key, {})[(place.y, place.x, k)] = desc
                    ends.append(ends[-1] + items)
        return out

    def _post(self, program: Writer, tiles: Round, group: int, number: int) -> None:
        """One group of psums leaves; parameters in chunks are loaded one chunk ahead."""
        m = self.mapping
        posts: Descriptors = {}
        chunks: dict[Place, int] = {}
        for place, tile in self._with_bank(tiles):
            # Groups of all blocks come again for every tile in space, and so do chunks.
            period = len(m.slot_blocks(place.blocks)) * m.groups
            ordinals = self.ordinals[place.slot]
            done, total = ordinals[number] * m.groups + group, ordinals[-1] * m.groups
            at = done % period
            chunked = period > m.param_groups
            if chunked and at % m.param_groups == 0:
                if at + m.param_groups < period:
                    chunks[place] = at // m.param_groups + 1
                elif done - at + period < total:
                    chunks[place] = 0
            ends = at + 1 == period or (at + 1) % m.param_groups == 0
            last = ends if chunked else done + 1 == total
            posts[(place.y, place.x, 0)] = self.work.post(tile, at, release=last)
        self._params(program, chunks)
        program.write_all(Unit.POST, posts)

    def _loads_iacts(self, place: Place) -> bool:
        m = self.mapping
        return not (
            (m.horizontal is Spread.OUTPUTS and place.x)
            or (m.vertical is Spread.OUTPUTS and place.y)
        )
