"""Plan the writes that give descriptors to many instances: few boxes, constant or affine.

A word that differs from cluster to cluster mostly is a base address, which rises by the same step
from row to row and from column to column. So what a box receives is a `Ramp`; one without steps
is a plain value. Any choice is right that leaves every instance with its word; this one is greedy
and depends on nothing but its arguments.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from rowmesh.gen.rectangles import Box, Grid, Place
from rowmesh.rtl.layouts import CONFIG_BITS, STEP_BITS

__all__ = ["Masks", "Ramp", "Write", "masks_for", "plan", "runs"]

#: Masks of rows, columns and numbers that are set; None is unknown.
Masks = tuple[int | None, int | None, int | None]
#: Instructions that a box takes beside its write, on the average.
_MASK_COST = 1.0
#: Steps along an axis that are tried, the most frequent ones.
_TRIED_STEPS = 3
_MODULO = 1 << CONFIG_BITS
_STEPS = 1 << STEP_BITS - 1


class Ramp(NamedTuple):
    """A value for every cluster: `base` at (0, 0), and what each row and column adds."""

    base: int
    row_step: int = 0
    col_step: int = 0

    @property
    def steps(self) -> tuple[int, int]:
        """What STEP sets."""
        return self.row_step, self.col_step

    def at(self, place: Place) -> int:
        """The word that an instance receives."""
        return (self.base + place[0] * self.row_step + place[1] * self.col_step) % _MODULO


class Write(NamedTuple):
    """A word for a box. Of one word, boxes overlap only at rising levels: the last one counts."""

    level: int
    box: Box
    word: int  # its number in the descriptor
    ramp: Ramp
    need: int  # instances that must have it from here; for the others of the box it is harmless
    go: bool


def plan(
    grid: Grid, wanted: Mapping[int, tuple[int, ...]], held: Mapping[int, list[int]]
) -> tuple[list[Write], list[Write]]:
    """Writes that bring `held` to `wanted`, then those that start every instance once.

    Every instance has its last word written, with go, by exactly one box; the other words come
    before. The last word is the one that makes the fewest writes.

    Parameters
    ----------
    grid : Grid
        Instances of the kind of unit.
    wanted, held : mapping
        Words of the descriptors, by the set of the one instance.
    """
    count = len(next(iter(wanted.values())))
    everyone = sum(wanted)
    paints: list[list[Write]] = []
    lasts: list[list[Write]] = []
    for index in range(count):
        values = {bit: words[index] for bit, words in wanted.items()}
        need = sum(bit for bit, value in values.items() if held[bit][index] != value)
        word = _Word(grid, index, values)
        paints.append(word.paint(need))
        lasts.append(word.split(everyone))
    last = min(range(count), key=lambda i: (_cost(lasts[i]) - _cost(paints[i]), -len(paints[i])))
    return [w for i, writes in enumerate(paints) if i != last for w in writes], lasts[last]


def runs(writes: Iterable[Write], masks: Masks) -> Iterator[tuple[Box, list[Write]]]:
    """Writes in an order that keeps levels and changes few masks, those of one box together."""
    left = sorted(writes)
    while left:
        lowest: dict[int, int] = {}
        for write in left:
            lowest.setdefault(write.word, write.level)
        ready = [write for write in left if write.level == lowest[write.word]]
        box = min({write.box for write in ready}, key=lambda box: (_changes(box, masks), box))
        chosen = [write for write in ready if write.box == box]
        left = [write for write in left if write not in chosen]
        masks = masks_for(box, masks)
        yield box, chosen


def masks_for(box: Box, masks: Masks) -> Masks:
    """Masks with which a write reaches a box: a single number is said by the write itself."""
    return box[0], box[1], box[2] if box[2].bit_count() > 1 else masks[2]


def _changes(box: Box, masks: Masks) -> int:
    return sum(new != old for new, old in zip(masks_for(box, masks), masks, strict=True))


def _signed(value: int) -> int:
    """A difference of words as the smallest number of its residue."""
    return (value + _MODULO // 2) % _MODULO - _MODULO // 2


def _cost(writes: Iterable[Write]) -> float:
    """Instructions, about: a box, or a write to every single instance."""
    total, steps = 0.0, set()
    for write in writes:
        total += min(write.need.bit_count(), 1 + _MASK_COST)
        steps.add(write.ramp.steps)
    return total + len(steps - {(0, 0)})


#: A ramp, the instances that are to have their word from it, and all that are on it.
_Parts = list[tuple[Ramp, int, int]]
_Ways = Callable[[_Parts], tuple[list[Write], ...]]


def _choose(ramps: Mapping[Ramp, int], need: int) -> _Parts:
    """Ramps that all of `need` are on, the fullest first; new steps must be worth a STEP.

    Of equal ones the first is taken.
    """
    parts: _Parts = []
    pool = {ramp: bits & need for ramp, bits in ramps.items() if bits & need}
    known = {(0, 0)}
    while need:
        best = max(pool, key=lambda ramp: 2 * pool[ramp].bit_count() - 5 * (ramp[1:] not in known))
        known.add(best.steps)
        parts.append((best, pool[best], ramps[best]))
        need &= ~pool[best]
        pool = {ramp: bits & need for ramp, bits in pool.items() if bits & need}
    return parts


class _Word:
    """One word of the descriptors of some instances."""

    def __init__(self, grid: Grid, index: int, values: Mapping[int, int]) -> None:
        self.grid, self.index, self.values = grid, index, values
        constants: dict[Ramp, int] = {}
        for bit, value in values.items():
            ramp = Ramp(value)
            constants[ramp] = constants.get(ramp, 0) | bit
        self.constants = dict(sorted(constants.items()))
        self._ramps: dict[Ramp, int] | None = None

    def paint(self, need: int) -> list[Write]:
        """Writes for all of `need`.

        A box may cover instances that another value will be written to later, so one wide write
        and some exceptions replace many narrow ones.
        """
        return self._best(need, lambda parts: (self._plain(parts), self._layered(parts)))

    def split(self, need: int) -> list[Write]:
        """Writes with go, exactly one for every instance."""
        return self._best(need, lambda parts: (self._exact(parts),))

    def _best(self, need: int, ways: _Ways) -> list[Write]:
        if not need:
            return []
        best = min(ways(_choose(self.constants, need)), key=_cost)
        if _cost(best) > 1 + _MASK_COST:
            if self._ramps is None:
                self._ramps = self.constants | self._find_ramps()
            best = min((best, *ways(_choose(self._ramps, need))), key=_cost)
        return best

    def _find_ramps(self) -> dict[Ramp, int]:
        """Ramps with the most frequent steps between neighbours, and who is on them."""
        places = {self.grid.place(bit): value for bit, value in self.values.items()}
        steps: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        for axis, found in enumerate(steps):
            lines: dict[Place, tuple[int, int]] = {}
            for place in sorted(places):
                line = (0, *place[1:]) if axis == 0 else (place[0], 0, place[2])
                at, value = place[axis], places[place]
                if line in lines:
                    step, rest = divmod(_signed(value - lines[line][1]), at - lines[line][0])
                    if not rest and -_STEPS <= step < _STEPS:
                        found[step] += 1
                lines[line] = at, value
        tried = [
            sorted({0, *(step for step, _ in found.most_common(_TRIED_STEPS))}) for found in steps
        ]
        ramps: dict[Ramp, int] = {}
        for row_step, col_step in product(*tried):
            if row_step or col_step:
                for bit, value in self.values.items():
                    y, x, _ = self.grid.place(bit)
                    ramp = Ramp((value - y * row_step - x * col_step) % _MODULO, row_step, col_step)
                    ramps[ramp] = ramps.get(ramp, 0) | bit
        found_ramps = (item for item in ramps.items() if item[1].bit_count() > 2)
        return dict(sorted(found_ramps, key=lambda item: tuple(map(abs, item[0]))))

    def _write(self, level: int, box: Box, ramp: Ramp, need: int, *, go: bool = False) -> Write:
        return Write(level, box, self.index, ramp, need & self.grid.inside(box), go)

    def _plain(self, parts: _Parts) -> list[Write]:
        """Boxes that touch nobody else."""
        return [
            self._write(0, box, ramp, need)
            for ramp, need, same in parts
            for box in self.grid.cover(need, same)
        ]

    def _layered(self, parts: _Parts) -> list[Write]:
        """Boxes that reach over what comes later."""
        later = sum(need for _, need, _ in parts)
        writes: list[Write] = []
        for level, (ramp, need, same) in enumerate(parts):
            later &= ~need
            boxes = self.grid.cover(need, same | later)
            writes += [self._write(level, box, ramp, need) for box in boxes]
        return writes

    def _exact(self, parts: _Parts) -> list[Write]:
        return [
            self._write(0, box, ramp, need, go=True)
            for ramp, need, _ in parts
            for box in self.grid.split(need)
        ]
