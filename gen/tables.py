"""Where every operator ran and how long it took, as lines of text."""

from collections.abc import Sequence

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.runtime import Measure

__all__ = ["operator_lines", "operator_rows"]

HEADER = ("operator", "kind", "runs on", "cycles predicted", "measured", "note")


def operator_rows(compiled: Compiled, measures: Sequence[Measure] = ()) -> list[tuple[str, ...]]:
    """One row an operator, as `HEADER` says.

    Parameters
    ----------
    compiled : Compiled
    measures : sequence of Measure
        One for each layer on the accelerator, where it was run.
    """
    layers = {layer.name: layer for layer in compiled.layers}
    cycles = {measure.layers[0]: measure.cycles for measure in measures}
    rows: list[tuple[str, ...]] = []
    for placed in compiled.placements:
        name = placed.node.name
        where = "nowhere" if placed.where == "none" else placed.where
        predicted = measured = ""
        note = placed.reason
        if name in layers:
            predicted = f"{layers[name].predicted_cycles:.0f}"
            measured = str(cycles.get(name, ""))
            note = f"limited by {layers[name].limit}"
        rows.append((name, str(placed.node.op), where, predicted, measured, note))
    return rows


def operator_lines(compiled: Compiled, measures: Sequence[Measure] = ()) -> list[str]:
    """The rows under their headings, in columns; the measured cycles only where there are some."""
    rows = [HEADER, *operator_rows(compiled, measures)]
    if not measures:
        rows = [(*row[:4], *row[5:]) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
