"""Where every operator ran and how long it took, as lines of text."""

from collections.abc import Iterator, Mapping, Sequence

from rowmesh.gen.codec import expected_part
from rowmesh.gen.compiled import Compiled
from rowmesh.gen.graph import Array
from rowmesh.gen.run_record import SHARES, RunRecord
from rowmesh.gen.runtime import Measure

__all__ = ["activity_lines", "codec_lines", "operator_lines", "operator_rows"]

HEADER = ("operator", "kind", "runs on", "cycles predicted", "measured", "note")
_CODEC_HEADER = ("in DRAM", "form", "raw bytes", "bytes", "saved")


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
    return _columns(rows)


def codec_lines(compiled: Compiled, values: Mapping[str, Array] | None = None) -> list[str]:
    """The form of every tensor in DRAM, and the bytes that its coding saves.

    Parameters
    ----------
    compiled : Compiled
    values : mapping of ndarray, optional
        Tensors of a run, the first image of which is counted; without, what is expected of them.
    """
    rows: list[tuple[str, ...]] = [_CODEC_HEADER]
    total = [0, 0]
    for name, form, raw, stored, exact in _codings(compiled, values or {}):
        total[0] += raw
        total[1] += stored
        about = "" if exact else "about "
        rows.append((name, form, str(raw), f"{about}{stored}", _saved(raw, stored)))
    rows.append(("together", "", str(total[0]), str(total[1]), _saved(*total)))
    return _columns(rows)


def activity_lines(record: RunRecord) -> list[str]:
    """What the cycles of all PEs were spent on, and multiplications: one line a layer."""
    rows: list[tuple[str, ...]] = [("PE cycles of", "cycles", *SHARES, "multiplications")]
    for layer in record.layers:
        parts = (f"{part:.1%}" for part in layer.shares().values())
        rows.append((layer.name, str(layer.cycles), *parts, str(layer.multiplications)))
    return _columns(rows)


def _codings(
    compiled: Compiled, values: Mapping[str, Array]
) -> Iterator[tuple[str, str, int, int, bool]]:
    """Name, form, raw bytes, bytes, whether these are counted."""
    for layer in compiled.layers:
        form = "raw" if layer.mapping.dense else "CSC"
        raw = layer.raw_weight_bytes
        yield f"weights of {layer.name}", form, raw, layer.weight_bytes, True
    for feature in {item.name: item for item in compiled.features.values()}.values():
        raw = feature.raw_size
        form = "RLC" if feature.compressed else "raw"
        if feature.compressed and feature.name in values:
            shape = (feature.height, feature.width, feature.channels)
            moved = feature.moved(values[feature.name][0].reshape(shape))
            yield feature.name, form, raw, moved, True
        else:
            part = expected_part(feature) if feature.compressed else 1.0
            yield feature.name, form, raw, round(raw * part), part == 1.0


def _saved(raw: int, stored: int) -> str:
    return f"{raw - stored} ({1 - stored / raw:.1%})"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows under each other, every column as wide as it must be."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
