"""Loop nests of descriptors: strides in programs, steps in hardware."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

__all__ = ["Nest"]


class Nest(data.StructLayout):
    """Loops of an address generator: `level_0` innermost; a count and a step an address each.

    Programs say strides: ``address = base + sum(i_level * stride[level])``. Stored is the step from
    the last address of all inner loops to the first one of the next round, ``stride[level] -
    sum_inner((count - 1) * stride)``, so that the hardware needs one register and one adder for an
    address.

    Parameters
    ----------
    counts
        Width of the count of every level.
    strides
        For every address the name of its stride in programs, which has "stride" in it (hardware
        has "step" there), and the shape of its steps. Steps without a sign wrap with the address.
    """

    def __init__(self, counts: Sequence[int], **strides: Any) -> None:
        self.strides = {name: Shape.cast(shape) for name, shape in strides.items()}
        steps = {_step(name): shape for name, shape in strides.items()}
        levels = [data.StructLayout({"count": bits, **steps}) for bits in counts]
        super().__init__({f"level_{i}": level for i, level in enumerate(levels)})

    def store(self, loops: Sequence[Mapping[str, int]], path: str = "loops") -> dict[str, Any]:
        """Fields of a nest, from loops with strides.

        Raises
        ------
        ValueError
            Another number of loops, unknown or missing fields, a stride beyond its address.
        """
        if len(loops) != len(self.members):
            raise ValueError(f"{path}: {len(loops)} entries, not {len(self.members)}")
        rewinds = dict.fromkeys(self.strides, 0)
        levels: dict[str, Any] = {}
        for i, loop in enumerate(loops):
            if set(loop) != {"count", *self.strides}:
                wrong = sorted(set(loop) ^ {"count", *self.strides})
                raise ValueError(f"{path}[{i}]: missing or unknown fields {wrong}")
            level = {"count": loop["count"]}
            again = max(0, loop["count"] - 1)
            for name, shape in self.strides.items():
                limit = 1 << (shape.width - shape.signed)
                if not -limit <= loop[name] < limit:
                    where = f"{path}[{i}].{name} = {loop[name]}"
                    raise ValueError(f"{where}: must be within {-limit}..{limit - 1}")
                step = loop[name] - rewinds[name] if again else 0
                level[_step(name)] = step if shape.signed else step & (limit - 1)
                rewinds[name] += again * loop[name]
            levels[f"level_{i}"] = level
        return levels

    def loops(self, stored: Mapping[str, Any]) -> list[dict[str, int]]:
        """Inverse of `store`: strides that wrap come out with the smaller magnitude."""
        rewinds = dict.fromkeys(self.strides, 0)
        loops = []
        for i in range(len(self.members)):
            level = stored[f"level_{i}"]
            loop = {"count": level["count"]}
            again = max(0, level["count"] - 1)
            for name, shape in self.strides.items():
                stride = level[_step(name)] + rewinds[name] if again else 0
                if not shape.signed:
                    half = 1 << (shape.width - 1)
                    stride = (stride + half) % (2 * half) - half
                loop[name] = stride
                rewinds[name] += again * stride
            loops.append(loop)
        return loops


def _step(stride: str) -> str:
    return stride.replace("stride", "step")
