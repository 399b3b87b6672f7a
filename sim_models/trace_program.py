"""When the descriptors of a layer reach their units."""

import math
from bisect import bisect_left
from collections.abc import Sequence

from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.descriptor import DescriptorBank
from rowmesh.rtl.layouts import CONFIG_BITS, Layouts

__all__ = ["ProgramTimes"]

#: Units whose descriptors all wait for the end of the one before the last of the same unit. Of the
#: readers every PE row has its own; circuits and PEs have one for a phase.
_IN_ORDER = (Unit.POST, Unit.OUT_WRITER, Unit.IACT_LOADER)


class ProgramTimes:
    """Descriptors in program order: an instruction a cycle, and nothing passes one that waits.

    A unit has the descriptor at work and the next one, so that the n-th waits for the end of
    number n - 2. Times are asked for in the order of the work, which is why the ends that matter
    are known by then.

    Parameters
    ----------
    config : Config
    sent : sequence of (Unit, int)
        As in `CompiledLayer`.
    overlap : float
        For how long the layer before went on after its last descriptor: that is when those follow
        that may be sent before its end.

    Attributes
    ----------
    ends : dict
        By unit: ends of its descriptors, in their order. Those who know them add them.
    waits : dict
        By place in `sent`: what else the descriptor waits for.
    """

    def __init__(
        self, config: Config, sent: Sequence[tuple[Unit, int]], overlap: float = math.inf
    ) -> None:
        self.sent = sent
        self._before = sent[0][1] + overlap
        self.places: dict[Unit, list[int]] = {}
        for place, (unit, _) in enumerate(sent):
            self.places.setdefault(unit, []).append(place)
        self.ends: dict[Unit, list[float]] = {unit: [] for unit in self.places}
        self.waits: dict[int, float] = {}
        self._layouts = Layouts(config)
        self._times: list[float] = []
        self._late = 0.0

    def at(self, unit: Unit, number: int) -> float:
        """Time at which descriptor `number` of a unit is complete."""
        place = self.places[unit][number]
        while len(self._times) <= place:
            here = len(self._times)
            kind, instruction = self.sent[here]
            after = self.waits.get(here, 0.0)
            if kind in _IN_ORDER:
                index = bisect_left(self.places[kind], here) - 2
                if 0 <= index < len(self.ends[kind]):
                    after = max(after, self.ends[kind][index])
            # The words of a descriptor are taken once the one before has been copied.
            words = instruction - (self.sent[here - 1][1] if here else 0)
            if after > 0:
                after += self.copying(kind) + words
            self._times.append(max(instruction + self._late, after))
            self._late = self._times[-1] - instruction
        return self._times[place]

    @property
    def last(self) -> tuple[Unit, int]:
        """The last descriptor."""
        unit = self.sent[-1][0]
        return unit, len(self.places[unit]) - 1

    def asked(self, unit: Unit) -> float:
        """When the first descriptor of a unit is complete, perhaps while the layer before runs."""
        at = self.at(unit, 0)
        return at if at > 0 else at - self._before

    def overlap(self, cycles: float) -> float:
        """For how long a layer of so many cycles goes on after its last descriptor."""
        return cycles - self._times[-1]

    def copying(self, unit: Unit) -> int:
        """Cycles in which a descriptor is copied once the unit has let go: see `DescriptorBank`."""
        words = -(-self._layouts.descriptor(unit).size // CONFIG_BITS)
        return words if words <= DescriptorBank.NARROW_WORDS else -(-words // 2)
