"""Random work for a PE, its streams, and what must come out: straight from `docs/architecture.md`.

Shares no code with the RTL or the compiler; only layouts and the configuration.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Any

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.fields import pack

__all__ = ["Maker", "Shape", "Work", "iact_beats", "weight_beats"]

Pair = tuple[int, int]
#: Random work is smaller than this, to keep simulations short.
MAX_LOOKUPS = 400


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A descriptor and the kind of its data."""

    groups: int
    blocks: int
    rows: int
    windows: int
    segments: int
    segment_cols: int
    cols: int
    psums: int
    iact_signed: bool = False
    weight_dense: bool = False
    chain: bool = False
    iact_source: int = 0
    iact_density: float = 0.5
    weight_density: float = 0.5
    zeros_as_values: bool = False

    def fields(self) -> dict[str, int]:
        """As the descriptor's layout has them."""
        data = ("iact_density", "weight_density", "zeros_as_values")
        return {name: int(value) for name, value in vars(self).items() if name not in data}


@dataclass(kw_only=True)
class Work:
    """One descriptor with all that it meets, as packed payloads."""

    shape: Shape
    iact: list[int] = field(default_factory=list)
    weight: list[int] = field(default_factory=list)
    psum_in: list[int] = field(default_factory=list)
    psum_out: list[int] = field(default_factory=list)
    macs: int = 0
    #: Weight words that have to be multiplied, and pairs that have to be looked up.
    words: int = 0
    pairs: int = 0


def _pairs(values: list[int], max_run: int) -> list[Pair]:
    """(count, value) of a column or segment without its last zeros."""
    pairs, run = [], 0
    for value in values:
        if not value:
            run += 1
            continue
        while run > max_run:
            pairs.append((max_run, 0))
            run -= max_run + 1
        pairs.append((run, value))
        run = 0
    return pairs


def _pack_pairs(config: Config, pairs: list[Pair], bits: int, count: int) -> int:
    word = 0
    for n in range(count):
        run, value = pairs[n] if n < len(pairs) else (0, 0)
        width = bits + config.csc_count_bits
        word |= (value & (1 << bits) - 1 | run << bits) << n * width
    return word


def iact_beats(config: Config, values: list[int], zeros_as_values: bool = False) -> list[int]:
    """One segment: two pairs a beat, `last` above them."""
    pairs = _pairs(values, config.max_run)
    if zeros_as_values or not config.sparse:
        pairs = [(0, value) for value in values]
    pairs = pairs or [(0, 0)]
    size = 2 * (config.iact_bits + config.csc_count_bits)
    beats = [
        _pack_pairs(config, pairs[n : n + 2], config.iact_bits, 2) for n in range(0, len(pairs), 2)
    ]
    beats[-1] |= 1 << size
    return beats


def column_words(config: Config, column: list[int], dense: bool) -> list[int]:
    """The words of one column of a block."""
    macs = config.macs_per_pe
    if dense or not config.sparse:
        raw = replace(config, sparse=False)
        pairs = [(0, value) for value in column]
        return [
            _pack_pairs(raw, pairs[n : n + macs], config.weight_bits, macs)
            for n in range(0, len(pairs), macs)
        ]
    pairs = _pairs(column, config.max_run)
    return [
        _pack_pairs(config, pairs[n : n + macs], config.weight_bits, macs)
        for n in range(0, len(pairs), macs)
    ]


def weight_words(config: Config, block: list[list[int]], dense: bool) -> list[int]:
    """Header and words of one block."""
    words, ends = [], []
    for column in block:
        words += column_words(config, column, dense)
        ends.append(len(words))
    if dense or not config.sparse:
        return words
    header, bits, parts = [], config.weight_data_depth.bit_length(), config.weight_addrs_per_word
    for n in range(0, len(ends), parts):
        header.append(sum(end << i * bits for i, end in enumerate(ends[n : n + parts])))
    return header + words


def weight_beats(config: Config, block: list[list[int]], dense: bool) -> list[int]:
    """One block: `last` above the final word."""
    words = weight_words(config, block, dense)
    words[-1] |= 1 << config.weight_word_bits
    return words


class Maker:
    """Makes random work that fits a configuration.

    Parameters
    ----------
    config
        The machine.
    rng
        Source of everything random.
    """

    def __init__(self, config: Config, rng: random.Random) -> None:
        self.config, self.rng = config, rng
        self.layouts = Layouts(config)

    def shape(self) -> Shape:
        """Any descriptor whose group of psums fits; its data may still be too large."""
        c, rng = self.config, self.rng
        segments = rng.choice([1, 1, 2, 3, 4])
        segments = min(segments, c.iact_words - 1, c.iact_addr_depth, c.weight_addr_depth)
        cols = rng.randint(segments, c.weight_addr_depth)
        low = -(-cols // segments)
        most = (1 << c.weight_addr_depth.bit_length()) - 1
        high = min(cols + 7, most) if segments == 1 else (cols - 1) // (segments - 1)
        if low > high:
            low = segments = 1
            high = low = cols
        psums = rng.choice([2, 2 * rng.randint(1, c.psum_depth // 2)])
        if rng.random() < 0.5:
            psums = max(2, psums // 4 * 2)
        blocks = rng.choice([1, 1, 2, 3])
        rows, windows = rng.choice([1, 1, 2, 3]), rng.choice([1, 2, 3, 5])
        if blocks > 1:
            while rows * windows * psums > c.psum_depth:
                rows, windows, psums = max(1, rows - 1), max(1, windows - 1), max(2, psums // 4 * 2)
        densities = [0.0, 0.1, 0.3, 0.6, 1.0]
        return Shape(
            groups=rng.randint(1, 3),
            blocks=blocks,
            rows=rows,
            windows=windows,
            segments=segments,
            segment_cols=rng.randint(low, high),
            cols=cols,
            psums=psums,
            iact_signed=rng.random() < 0.5,
            weight_dense=not c.sparse or rng.random() < 0.3,
            chain=rng.random() < 0.5,
            iact_source=rng.randrange(c.glb_iact_banks),
            iact_density=rng.choice(densities),
            weight_density=rng.choice(densities),
            zeros_as_values=not c.sparse or rng.random() < 0.2,
        )

    def work(self, shape: Shape | None = None) -> Work:
        """Work of this shape, or of a random one."""
        for _ in range(500):
            found = shape or self.shape()
            size = found.groups * found.blocks * found.rows * found.windows * found.cols
            if shape is None and size > MAX_LOOKUPS:
                continue
            work = self._try(found)
            if work is not None:
                return work
        raise ValueError(f"nothing of this shape fits: {shape}")

    def segment(self, shape: Shape) -> list[int]:
        """Values of one segment."""
        rng, bits = self.rng, self.config.iact_bits
        low = -(1 << bits - 1) if shape.iact_signed else 1
        high = (1 << bits - 1) - 1 if shape.iact_signed else (1 << bits) - 1
        return [
            rng.choice([low, high, rng.randint(low, high) or 1])
            if rng.random() < shape.iact_density
            else 0
            for _ in range(shape.segment_cols)
        ]

    def block(self, shape: Shape) -> list[list[int]]:
        """Weights of one block, by column."""
        rng, half = self.rng, 1 << self.config.weight_bits - 1
        return [
            [
                rng.randrange(-half, half) or 1 if rng.random() < shape.weight_density else 0
                for _ in range(shape.psums)
            ]
            for _ in range(shape.cols)
        ]

    def _try(self, shape: Shape) -> Work | None:
        c = self.config
        work = Work(shape=shape)
        for _ in range(shape.groups):
            blocks = []
            for _ in range(shape.blocks):
                weights = self.block(shape)
                words = sum(len(column_words(c, column, shape.weight_dense)) for column in weights)
                rows = []
                for _ in range(shape.rows):
                    count = shape.windows + shape.segments - 1
                    segments = [self.segment(shape) for _ in range(count)]
                    beats = [iact_beats(c, s, shape.zeros_as_values) for s in segments]
                    if not self._fits(shape, words, [len(b) for b in beats]):
                        return None
                    rows.append(segments)
                    work.iact += [beat for segment in beats for beat in segment]
                work.weight += weight_beats(c, weights, shape.weight_dense)
                blocks.append((weights, rows))
            self._group(work, blocks)
        return work

    def _fits(self, shape: Shape, words: int, beats: list[int]) -> bool:
        c = self.config
        if words > c.weight_data_depth:
            return False
        # What stays while the newest segment of a window comes; nothing stays of the last window.
        kept = [sum(beats[n + 1 : n + shape.segments]) for n in range(shape.windows - 1)]
        return max(kept, default=0) <= c.iact_words

    def _group(self, work: Work, blocks: list[Any]) -> None:
        c, shape = self.config, work.shape
        size = shape.psums * (1 if shape.blocks == 1 else shape.rows * shape.windows)
        groups: list[list[int]] = []
        total = [0] * size
        for weights, rows in blocks:
            for r, segments in enumerate(rows):
                for w in range(shape.windows):
                    if shape.blocks == 1:
                        total = [0] * size
                        base = 0
                    else:
                        base = (r * shape.windows + w) * shape.psums
                    self._window(work, total, base, weights, segments[w : w + shape.segments])
                    if shape.blocks == 1:
                        groups.append(total)
        if shape.blocks > 1:
            groups.append(total)
        bits = c.psum_bits
        top = 1 << bits - 1
        for group in groups:
            assert all(-top <= value < top for value in group)
            below = [0] * size
            if shape.chain:
                below = [self.rng.randrange(max(-top, -top - v), min(top, top - v)) for v in group]
            for n in range(0, size, 2):
                beat = [below[n] + group[n], below[n + 1] + group[n + 1]]
                work.psum_out.append(pack(self.layouts.psum_beat, beat))
                if shape.chain:
                    work.psum_in.append(pack(self.layouts.psum_beat, below[n : n + 2]))

    def _window(self, work: Work, total: list[int], base: int, weights: Any, segments: Any) -> None:
        c, shape = self.config, work.shape
        for t, segment in enumerate(segments):
            work.pairs += sum(map(bool, segment)) if c.sparse else len(segment)
            for p, value in enumerate(segment):
                column = t * shape.segment_cols + p
                if column >= shape.cols or not (value or not c.sparse):
                    continue
                for m, weight in enumerate(weights[column]):
                    total[base + m] += value * weight
                    work.macs += bool(value and weight)
                work.words += len(column_words(c, weights[column], shape.weight_dense))
