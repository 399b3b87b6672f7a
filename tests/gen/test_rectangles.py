"""Boxes cover sets of instances."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rowmesh.gen.rectangles import Grid


@given(st.integers(0, (1 << 24) - 1), st.integers(0, (1 << 24) - 1))
@settings(max_examples=200, deadline=None)
def test_boxes_cover_exactly(need: int, more: int) -> None:
    grid = Grid(3, 2, 4)

    def inside(box: tuple[int, int, int]) -> set[int]:
        rows, cols, numbers = box
        return {
            (y * 2 + x) * 4 + i
            for y in range(3)
            for x in range(2)
            for i in range(4)
            if rows >> y & cols >> x & numbers >> i & 1
        }

    wanted = {i for i in range(24) if need >> i & 1}
    allowed = wanted | {i for i in range(24) if more >> i & 1}
    covered = set().union(*(inside(box) for box in grid.cover(need, need | more)))
    assert wanted <= covered <= allowed
    parts = [inside(box) for box in grid.split(need)]
    assert set().union(*parts) == wanted
    assert sum(map(len, parts)) == len(wanted)


def test_places() -> None:
    grid = Grid(3, 2, 4)
    places = [(0, 1, 3), (1, 0, 0), (2, 1, 2)]
    bits = [grid.bit(place, "PE") for place in places]
    assert [grid.place(bit) for bit in bits] == places
    assert grid.places(sum(bits)) == places
