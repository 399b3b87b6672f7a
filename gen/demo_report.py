"""What the demo found: the numbers, the table on the screen and the JSON summary."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.demo_workers import RtlImage
from rowmesh.gen.graph import Array, Op
from rowmesh.gen.macs import effectual_macs, nominal_macs
from rowmesh.gen.tables import operator_rows
from rowmesh.rtl.codes import Activity

__all__ = ["Findings", "Layer"]

#: What the activities of a PE mean to the reader.
_MEANING = {
    Activity.IDLE: "without work",
    Activity.COMPUTE: "computing",
    Activity.IACT_STALL: "waiting for activations",
    Activity.WEIGHT_STALL: "waiting for weights",
    Activity.PSUM_STALL: "waiting to drain psums",
    Activity.DONE: "done, draining or waiting for slower PEs",
}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer on the RTL, means over the images.

    Parameters
    ----------
    name : str
    convolution : bool
    cycles : float
        Of the run that pauses behind every layer.
    predicted : float
        Cycles that the compiler expected.
    effectual, nominal : float
        Multiplications of non-zeros, and all.
    """

    name: str
    convolution: bool
    cycles: float
    predicted: float
    effectual: float
    nominal: int


@dataclass(kw_only=True)
class Findings:
    """Everything that the demo reports.

    Parameters
    ----------
    config_name, network : str
    compiled : Compiled
    golden : mapping of ndarray of int8
        Every tensor of the images that the RTL runs, in their order.
    labels : ndarray
        Of those images.
    accuracy_float, accuracy_int8 : float
        On all images.
    all_images : int
    images : list of RtlImage
    area : dict
        As `measure_area` gives it.
    """

    config_name: str
    network: str
    compiled: Compiled
    golden: Mapping[str, Array]
    labels: Array
    accuracy_float: float
    accuracy_int8: float
    all_images: int
    images: list[RtlImage] = field(default_factory=list)
    area: dict[str, Any] = field(default_factory=dict)

    # -- the comparison ------------------------------------------------------------------------

    @property
    def compared(self) -> list[str]:
        """Tensors that are compared: the output of every layer on the accelerator."""
        return [name for layer in self.compiled.layers for name in layer.outputs]

    def mismatches(self, index: int) -> int:
        """Values of one image that differ from the golden model, or between its two runs."""
        image = self.images[index]
        wrong = [(image.values[n][0] != self.golden[n][index]).sum() for n in self.compared]
        return int(sum(wrong)) + image.stepped_mismatches

    @property
    def all_mismatches(self) -> int:
        """Over all images."""
        return sum(self.mismatches(index) for index in range(len(self.images)))

    def predictions(self, index: int) -> tuple[int, int]:
        """Class by the golden model and by the RTL."""
        (name,) = self.compiled.graph.outputs
        made = self.images[index].values[name][0]
        return int(self.golden[name][index].argmax()), int(made.argmax())

    @property
    def accuracy_rtl(self) -> float:
        """On the images of the RTL."""
        right = [self.predictions(i)[1] == self.labels[i] for i in range(len(self.images))]
        return float(np.mean(right))

    # -- cycles --------------------------------------------------------------------------------

    @property
    def cycles(self) -> float:
        """Mean cycles of an image in the undisturbed run."""
        return float(np.mean([image.cycles for image in self.images]))

    @property
    def layers(self) -> list[Layer]:
        """All layers on the accelerator."""
        graph = self.compiled.graph
        out = []
        for number, layer in enumerate(self.compiled.layers):
            node = next(node for node in graph.nodes if node.name == layer.name)
            counted = effectual_macs(graph, layer, dict(self.golden))[: len(self.images)]
            out.append(
                Layer(
                    name=layer.name,
                    convolution=node.op is Op.CONV,
                    cycles=float(np.mean([image.layers[number].cycles for image in self.images])),
                    predicted=layer.predicted_cycles,
                    effectual=float(counted.mean()),
                    nominal=nominal_macs(graph, layer),
                )
            )
        return out

    @property
    def utilization(self) -> float:
        """Effectual MACs of the whole network by cycles x MACs."""
        effectual = sum(layer.effectual for layer in self.layers)
        return effectual / (self.cycles * self.compiled.config.macs)

    @property
    def convolution_utilization(self) -> float:
        """The same for the convolutions: all cycles but those of the other layers measured alone.

        Alone the others are quicker at most, so that the convolutions are charged with the rest:
        program fetch, loads, drains.
        """
        layers = self.layers
        cycles = self.cycles - sum(layer.cycles for layer in layers if not layer.convolution)
        effectual = sum(layer.effectual for layer in layers if layer.convolution)
        return effectual / (cycles * self.compiled.config.macs)

    def split(self) -> dict[str, float]:
        """Where the MAC slots of the convolutions go, by the counters of the first image."""
        config = self.compiled.config
        slots: dict[str, float] = {}
        total = 0.0
        for layer, measure in zip(self.layers, self.images[0].layers, strict=True):
            if not layer.convolution or measure.counters is None:
                continue
            by_entry = measure.counters.sum(axis=(0, 1, 2))
            total += measure.cycles * config.macs
            for activity, meaning in _MEANING.items():
                lost = float(by_entry[activity] * config.macs_per_pe)
                if activity is Activity.COMPUTE:
                    slots["effectual multiplications"] = slots.get(
                        "effectual multiplications", 0.0
                    ) + float(by_entry[-1])
                    meaning, lost = (
                        "computing, but this multiplier has no weight",
                        lost - by_entry[-1],
                    )
                slots[meaning] = slots.get(meaning, 0.0) + lost
        return {meaning: count / total for meaning, count in slots.items()} if total else {}

    # -- the end -------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """What must not be: one line each."""
        out = []
        if self.all_mismatches:
            out.append(f"{self.all_mismatches} values differ from the golden model")
        on_host = [
            placed.node.name
            for placed in self.compiled.placements
            if placed.where == "host" and placed.node.op in (Op.CONV, Op.FULLY_CONNECTED)
        ]
        if on_host:
            out.append(f"not on the accelerator: {', '.join(on_host)}")
        for measure in self.images[0].layers:
            counters = measure.counters
            if counters is None:
                continue
            sums = counters[..., : len(Activity)].sum(axis=-1)
            if (sums != measure.cycles).any():
                out.append(
                    f"layer {measure.layers[0]}: activities sum to {sums.min()}..{sums.max()}, "
                    f"not to {measure.cycles} cycles"
                )
        out += self._multiplications()
        return out

    def _multiplications(self) -> list[str]:
        """Layers whose counted multiplications are not those of the tensors."""
        out = []
        graph = self.compiled.graph
        for layer, measure in zip(self.compiled.layers, self.images[0].layers, strict=True):
            if layer.mapping.task.input.stored_zero or measure.counters is None:
                continue  # a zero point that is no stored zero is multiplied like any value
            expected = int(effectual_macs(graph, layer, dict(self.golden))[0])
            counted = int(measure.counters[..., -1].sum())
            if counted != expected:
                out.append(f"layer {layer.name}: {counted} MACs counted, {expected} expected")
        return out

    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        count = len(self.images)
        layers = self.layers
        return {
            "config": self.config_name,
            "network": self.network,
            "images": count,
            "images_all": self.all_images,
            "layers": len(self.compared),
            "layers_compared": len(self.compared) * count,
            "values_compared": sum(i.values[n].size for i in self.images for n in self.compared),
            "mismatches": self.all_mismatches,
            "accuracy_float": self.accuracy_float,
            "accuracy_int8": self.accuracy_int8,
            "accuracy_rtl": self.accuracy_rtl,
            "cycles_per_image": self.cycles,
            "cycles_of_images": [image.cycles for image in self.images],
            "bytes_read_per_image": float(np.mean([i.bytes_read for i in self.images])),
            "bytes_written_per_image": float(np.mean([i.bytes_written for i in self.images])),
            "pe_utilization": self.utilization,
            "pe_utilization_convolutions": self.convolution_utilization,
            "mac_slots_of_convolutions": self.split(),
            "effectual_macs": sum(layer.effectual for layer in layers),
            "nominal_macs": sum(layer.nominal for layer in layers),
            "by_layer": [vars(layer) for layer in layers],
            "area_nand2": self.area.get("nand2"),
            "area": self.area,
            "operators": [
                {"name": name, "operator": kind, "where": where, "note": note}
                for name, kind, where, _, _, note in operator_rows(self.compiled)
            ],
            "psum_warnings": self.compiled.unproved(),
            "problems": self.problems(),
        }

    def show(self, console: Console) -> None:
        """Print the closing table."""
        table = Table(title=f"{self.network} on {self.config_name}", show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name, text in self._rows():
            table.add_row(name, text)
        # Wide enough that no line is folded.
        Console(file=console.file, width=max(console.width, 110), highlight=False).print(table)

    def _rows(self) -> Iterator[tuple[str, str]]:
        count, layers = len(self.images), self.layers
        yield "accuracy, float", f"{self.accuracy_float:.2%} of {self.all_images} images"
        yield "accuracy, int8 golden", f"{self.accuracy_int8:.2%} of {self.all_images} images"
        yield "accuracy, RTL", f"{self.accuracy_rtl:.2%} of {count} images"
        told = f"{len(self.compared)} on each of {count} images, {self.all_mismatches} mismatches"
        yield "layers compared", told
        alone = ", ".join(f"{layer.name} {layer.cycles:,.0f}" for layer in layers)
        yield "cycles per image", f"{self.cycles:,.0f} ({alone})"
        effectual, nominal = sum(x.effectual for x in layers), sum(x.nominal for x in layers)
        yield "effectual MACs", f"{effectual:,.0f} of {nominal:,}"
        macs = self.compiled.config.macs
        yield "PE utilization", f"{self.utilization:.1%} of {macs} multipliers"
        yield "  convolutions", f"{self.convolution_utilization:.1%}; image 1 by the counters:"
        for meaning, part in self.split().items():
            yield "", f"{part:6.1%} {meaning}"
        memory = self.area["spad_bits"] + self.area["sram_bits"]
        yield "area", f"{self.area['nand2']:,.0f} NAND2 equivalents, {memory:,} bits of memory"
        for name, kind, where, _, _, note in operator_rows(self.compiled):
            yield f"{kind} {name}", f"{where}: {note}"
