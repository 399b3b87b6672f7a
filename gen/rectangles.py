"""Cover sets of unit instances by few boxes: cluster rows x cluster columns x instance numbers."""

from functools import lru_cache
from itertools import permutations

__all__ = ["Box", "Grid", "Place"]

#: Masks of cluster rows, cluster columns and instances.
Box = tuple[int, int, int]
#: Cluster row, cluster column, number of the unit in the cluster.
Place = tuple[int, int, int]


class Grid:
    """Instances of one kind of unit; a set of them is an integer with a bit each.

    Parameters
    ----------
    rows, cols, count : int
        Cluster rows, cluster columns, instances in a cluster.
    """

    def __init__(self, rows: int, cols: int, count: int) -> None:
        self.shape = (rows, cols, count)
        # The set of all instances at one coordinate of an axis.
        self._slabs: list[list[int]] = [[0] * size for size in self.shape]
        for y in range(rows):
            for x in range(cols):
                for i in range(count):
                    bit = 1 << (y * cols + x) * count + i
                    for slabs, at in zip(self._slabs, (y, x, i), strict=True):
                        slabs[at] |= bit
        self.cover = lru_cache(maxsize=4096)(self._cover)
        self.split = lru_cache(maxsize=4096)(self._split)
        self.inside = lru_cache(maxsize=4096)(self._inside)

    def bit(self, place: Place, name: str) -> int:
        """The set of one instance.

        Raises
        ------
        ValueError
            There is no such instance.
        """
        if any(not 0 <= at < size for at, size in zip(place, self.shape, strict=True)):
            raise ValueError(f"{name} {place}: there are {self.shape}")
        rows, cols, count = self.shape
        return 1 << (place[0] * cols + place[1]) * count + place[2]

    def place(self, bit: int) -> Place:
        """Where the instance of a set of one is."""
        _, cols, count = self.shape
        cluster, number = divmod(bit.bit_length() - 1, count)
        return *divmod(cluster, cols), number

    def places(self, bits: int) -> list[Place]:
        """Where the instances of a set are, in ascending order."""
        result = []
        while bits:
            result.append(self.place(bits & -bits))
            bits &= bits - 1
        return result

    def _inside(self, box: Box) -> int:
        """The set of instances of a box."""
        result = -1
        for slabs, mask in zip(self._slabs, box, strict=True):
            union = 0
            for at, slab in enumerate(slabs):
                if mask >> at & 1:
                    union |= slab
            result &= union
        return result

    def _grow(self, seed: int, allowed: int, order: tuple[int, ...]) -> Box:
        """The largest box around one instance, axis after axis."""
        box = [0, 0, 0]
        for axis, slabs in enumerate(self._slabs):
            box[axis] = next(1 << at for at, slab in enumerate(slabs) if slab & seed)
        for axis in order:
            # What the box has on the other axes, at any coordinate of this one.
            others = list(box)
            others[axis] = (1 << self.shape[axis]) - 1
            line = self.inside((others[0], others[1], others[2]))
            for at, slab in enumerate(self._slabs[axis]):
                if not line & slab & ~allowed:
                    box[axis] |= 1 << at
        return box[0], box[1], box[2]

    def _cover(self, need: int, allowed: int) -> tuple[Box, ...]:
        """Boxes inside `allowed` that cover all of `need`; they may overlap."""
        return tuple(self._greedy(need, allowed, disjoint=False))

    def _split(self, need: int) -> tuple[Box, ...]:
        """Boxes that cover `need` exactly, every instance once."""
        return tuple(self._greedy(need, need, disjoint=True))

    def _greedy(self, need: int, allowed: int, *, disjoint: bool) -> list[Box]:
        boxes: list[Box] = []
        while need:
            seed = need & -need
            grown = [self._grow(seed, allowed, order) for order in permutations(range(3))]
            box = max(grown, key=lambda box: (self.inside(box) & need).bit_count())
            boxes.append(box)
            need &= ~self.inside(box)
            if disjoint:
                allowed = need
        return boxes
