"""How long masters take whom a narrow memory answers one before the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Demand", "cycles_in_order"]

#: Steps of time for a tile of post-processing, and the shortest step in cycles.
_STEPS, _SHORTEST = 32, 4.0


@dataclass(frozen=True)
class Demand:
    """What one master moves for a layer.

    Parameters
    ----------
    beats : float
    held : float
        Beats that its buffers hold.
    """

    beats: float
    held: float


def cycles_in_order(
    demands: Sequence[Demand], rate: float, cycles: float, tiles: int, ahead: int
) -> float:
    """Cycles in which all masters have done the work of a layer.

    Memory answers low masters first, so they get all that they can use and others wait. They do not
    get away: the program sends the same to all clusters, and nothing that waits for a tile of the
    last one. So when the last master has made a tile all others begin one more, which is what it
    waits for then: the less of it lies in its buffers, the longer.

    Parameters
    ----------
    demands : sequence of Demand
        In the order of the masters.
    rate : float
        Beats a cycle of all masters; one of them moves one at most.
    cycles : float
        That the layer takes if memory keeps no master waiting.
    tiles : int
        Tiles of post-processing, in each of which a master needs the same.
    ahead : int
        Tiles that a cluster may be ahead of the last one.
    """
    each = cycles / tiles
    step = max(_SHORTEST, each / _STEPS)
    need = [demand.beats / tiles for demand in demands]  # of a tile
    there = [min(demand.held, one) for demand, one in zip(demands, need, strict=True)]
    done = [0.0] * len(demands)  # tiles
    time = 0.0
    while min(done) < tiles - 1e-6:
        limit = min(tiles, math.floor(min(done) + 1e-6) + ahead)
        left = rate * step
        for i, demand in enumerate(demands):
            may = min(step / each, max(0.0, limit - done[i]))
            room = demand.held - there[i] + may * need[i]
            rest = max(0.0, (tiles - done[i]) * need[i] - there[i])
            moved = min(left, step, room, rest)
            left -= moved
            there[i] += moved
            made = min(may, there[i] / need[i]) if need[i] else may
            there[i] -= made * need[i]
            done[i] += made
        time += step
    return time
