"""The record of a run on the RTL: what every PE spent its cycles on, layer by layer, as JSON."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import read_file, write_in_one_step
from rowmesh.gen.macs import effectual_macs, nominal_macs
from rowmesh.gen.predict import cycles_with
from rowmesh.gen.runtime import Result
from rowmesh.rtl.codes import Activity
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.counters import COUNTER_ENTRIES

__all__ = ["SHARES", "LayerRun", "RunRecord", "load_record", "make_record", "save_record"]

FORMAT, VERSION = "rowmesh run", 1
#: Names of what a PE counts, in the order of the record.
ENTRIES = (*(activity.name.lower() for activity in Activity), "multiplications")
#: What a cycle of a PE is spent on. Two kinds of idle: without a descriptor in a layer in which
#: the PE works at some time, and in one that has no work for it at all.
SHARES = (
    "compute",
    "iact stall",
    "weight stall",
    "psum stall",
    "imbalance, done",
    "configuration",
    "not mapped",
)
_COUNTED = (
    Activity.COMPUTE,
    Activity.IACT_STALL,
    Activity.WEIGHT_STALL,
    Activity.PSUM_STALL,
    Activity.DONE,
)


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """One layer of the first image, run alone: the machine pauses behind it.

    The first layer of a program has its fetch and check too, the last one its end.

    Parameters
    ----------
    name, operator, mapping, limit : str
        Operator and its kind; how it is spread; what limits it, as predicted.
    cycles, predicted_cycles : int
    bytes_read, bytes_written : int
    macs_nominal, macs_effectual : int
        All multiplications of the operator, and those of two values that are not zero.
    counters : ndarray of int64, [cluster row, cluster column, PE, entry]
        Entries are `ENTRIES`; the activities of every PE sum to `cycles`.
    """

    name: str
    operator: str
    mapping: str
    limit: str
    cycles: int
    predicted_cycles: int
    bytes_read: int
    bytes_written: int
    macs_nominal: int
    macs_effectual: int
    counters: NDArray[np.int64]

    @property
    def unmapped(self) -> NDArray[np.bool_]:
        """PEs that are not mapped, [cluster row, cluster column, PE]."""
        found: NDArray[np.bool_] = self.counters[..., Activity.IDLE] == self.cycles
        return found

    @property
    def compute(self) -> NDArray[np.float64]:
        """Part of the cycles in which a PE computes, [cluster row, cluster column, PE]."""
        return self.counters[..., Activity.COMPUTE] / self.cycles

    @property
    def multiplications(self) -> int:
        """Multiplications of two stored values that are not zero, as the PEs counted them."""
        return int(self.counters[..., -1].sum())

    def pe_cycles(self) -> dict[str, int]:
        """Cycles of all PEs by `SHARES`; they sum to `cycles` times PEs."""
        counts = [int(self.counters[..., activity].sum()) for activity in _COUNTED]
        nothing = int(self.unmapped.sum()) * self.cycles
        configuration = int(self.counters[..., Activity.IDLE].sum()) - nothing
        return dict(zip(SHARES, (*counts, configuration, nothing), strict=True))

    def shares(self) -> dict[str, float]:
        """Parts of all PE cycles by `SHARES`; they sum to 1."""
        total = self.cycles * self.counters[..., 0].size
        return {name: count / total for name, count in self.pe_cycles().items()}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run on the RTL.

    Parameters
    ----------
    model : str
        Name of the file.
    simulator : str
    config : Config
    image_cycles : tuple of int
        Of every image. Verilator runs programs without a pause, Icarus layer by layer.
    host : tuple of (str, str, str)
        Name, kind and reason of the operators on the host.
    layers : tuple of LayerRun
        On the accelerator.
    """

    model: str
    simulator: str
    config: Config
    image_cycles: tuple[int, ...]
    host: tuple[tuple[str, str, str], ...]
    layers: tuple[LayerRun, ...]

    @property
    def cycles(self) -> int:
        """Of the first image, layer by layer."""
        return sum(layer.cycles for layer in self.layers)

    def utilization(self, layers: Sequence[LayerRun]) -> float:
        """Effectual MACs of some layers by their cycles x MACs of the machine."""
        slots = sum(layer.cycles for layer in layers) * self.config.macs
        return sum(layer.macs_effectual for layer in layers) / slots if slots else 0.0


def make_record(
    model: str, simulator: str, compiled: Compiled, measured: Result, image_cycles: Sequence[int]
) -> RunRecord:
    """The record of a run whose first image was run layer by layer, with counters.

    Parameters
    ----------
    model, simulator : str
    compiled : Compiled
    measured : Result
        The run, or another of its first image.
    image_cycles : sequence of int
    """
    kinds = {placed.node.name: str(placed.node.op) for placed in compiled.placements}
    layers = []
    predicted = cycles_with(compiled, measured.values)
    for layer, measure, cycles in zip(compiled.layers, measured.images[0], predicted, strict=True):
        assert measure.layers == (layer.name,) and measure.counters is not None
        source = {name: values[:1] for name, values in measured.values.items()}
        layers.append(
            LayerRun(
                name=layer.name,
                operator=kinds[layer.name],
                mapping=layer.mapping.describe(),
                limit=layer.limit,
                cycles=measure.cycles,
                predicted_cycles=round(cycles),
                bytes_read=measure.bytes_read,
                bytes_written=measure.bytes_written,
                macs_nominal=nominal_macs(compiled.graph, layer),
                macs_effectual=int(effectual_macs(compiled.graph, layer, source)[0]),
                counters=measure.counters[..., COUNTER_ENTRIES],
            )
        )
    return RunRecord(
        model=model,
        simulator=simulator,
        config=compiled.config,
        image_cycles=tuple(image_cycles),
        host=tuple(
            (placed.node.name, str(placed.node.op), placed.reason)
            for placed in compiled.placements
            if placed.where == "host"
        ),
        layers=tuple(layers),
    )


def save_record(record: RunRecord, path: Path) -> None:
    """Write a record as JSON, in one step; equal runs give equal bytes."""
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "entries": ENTRIES}
    content |= {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    content["config"] = dataclasses.asdict(record.config)
    layers = [json.dumps(vars(layer), default=np.ndarray.tolist) for layer in record.layers]
    # A line for every layer: for people who look, and for diff.
    content.pop("layers")
    head = json.dumps(content, indent=1).removesuffix("\n}")
    text = head + ',\n "layers": [\n  ' + ",\n  ".join(layers) + "\n ]\n}\n"
    write_in_one_step(path, lambda part: part.write_text(text, encoding="utf-8"))


def load_record(path: Path) -> RunRecord:
    """Read a record and check it.

    Raises
    ------
    RowmeshError
        The file cannot be read, is none, of another version, or damaged: says where.
    """
    text = read_file(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise RowmeshError(f"{path}: not a run record: no JSON, or truncated") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RowmeshError(f"{path}: not a run record, which `rowmesh run --backend rtl` writes")
    if content.get("version") != VERSION:
        raise RowmeshError(
            f"{path}: a run record of version {content.get('version')!r}; this is for {VERSION}"
        )
    try:
        return _record(content)
    except ValueError as error:
        raise RowmeshError(f"{path}: damaged run record: {error}") from None


def _record(content: Mapping[str, Any]) -> RunRecord:
    config = Config.from_mapping(_take(content, "config", dict))
    host = [tuple(map(str, row)) for row in _take(content, "host", list) if isinstance(row, list)]
    if any(len(row) != 3 for row in host) or len(host) != len(content["host"]):
        raise ValueError("'host' must hold name, kind and reason of operators")
    cycles = _take(content, "image_cycles", list)
    return RunRecord(
        model=_take(content, "model", str),
        simulator=_take(content, "simulator", str),
        config=config,
        image_cycles=tuple(_count(value, "image_cycles") for value in cycles),
        host=tuple((name, kind, reason) for name, kind, reason in host),
        layers=tuple(_layer(layer, config) for layer in _take(content, "layers", list)),
    )


def _layer(content: Any, config: Config) -> LayerRun:
    if not isinstance(content, dict):
        raise ValueError("'layers' must hold objects")
    texts = {key: _take(content, key, str) for key in ("name", "operator", "mapping", "limit")}
    numbers: dict[str, Any] = {
        field.name: _count(content.get(field.name), field.name)
        for field in dataclasses.fields(LayerRun)
        if field.type is int
    }
    shape = (config.cluster_rows, config.cluster_cols, config.pes_per_cluster, len(ENTRIES))
    name = texts["name"]
    try:
        counters = np.asarray(content.get("counters"))
    except ValueError:
        counters = np.empty(0)
    if counters.shape != shape or counters.dtype != np.int64 or (counters < 0).any():
        raise ValueError(f"layer {name}: 'counters' must be counts of shape {shape}")
    layer = LayerRun(**texts, **numbers, counters=counters)
    if not layer.cycles or (counters[..., :-1].sum(axis=-1) != layer.cycles).any():
        raise ValueError(f"layer {name}: the activities of a PE do not sum to its cycles")
    return layer


def _take(content: Mapping[str, Any], key: str, kind: type) -> Any:
    value = content.get(key)
    if not isinstance(value, kind):
        raise ValueError(f"{key!r} is missing or no {kind.__name__}")
    return value


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{key!r} must be a number that is not negative")
    return value
