"""Run a compiled network on a machine: tensors in, programs, host operators, tensors out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.compiler import Compiled, DeviceStep, HostStep
from rowmesh.gen.driver import Accelerator, Bus, DeviceFault
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array
from rowmesh.gen.tensors import Feature
from rowmesh.rtl.layouts import Fault
from rowmesh.sim_models.golden import run_node

__all__ = ["Measure", "Result", "Runtime"]

#: Hardware counters wrap.
_COUNTER_RANGE = 1 << 32


@dataclass(frozen=True)
class Measure:
    """What the accelerator counted while it ran some layers.

    Parameters
    ----------
    layers : tuple of str
        Names of their operators: one, or all of a program.
    cycles : int
    bytes_read, bytes_written : int
        By all AXI masters.
    counters : ndarray of int64, [cluster row, cluster column, PE, entry], optional
        Cycles by `Activity`; the last entry counts effectual multiplications.
    """

    layers: tuple[str, ...]
    cycles: int
    bytes_read: int
    bytes_written: int
    counters: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Result:
    """Tensors and measurements of one run.

    Parameters
    ----------
    values : dict of ndarray of int8
        Every tensor that exists by name, in the graph's layout. A convolution whose pooling is
        fused has none of its own.
    images : list of list of Measure
        By image, in the order in which it ran.
    """

    values: dict[str, Array]
    images: list[list[Measure]]

    def cycles(self, image: int) -> int:
        """Cycles of the accelerator for one image."""
        return sum(measure.cycles for measure in self.images[image])


class Runtime:
    """A network on a machine.

    Parameters
    ----------
    compiled : Compiled
    machine : Bus
        A simulation, a model or a board whose memory holds the compiled image.
    timeout : float
        Seconds that one program may take.
    """

    def __init__(self, compiled: Compiled, machine: Bus, *, timeout: float = 600.0) -> None:
        self.compiled, self.machine, self.timeout = compiled, machine, timeout
        self.device = Accelerator(machine, compiled.config)
        machine.write_memory(0, compiled.image)
        self.device.set_windows((0, len(compiled.image)), (0, compiled.write_limit))

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        per_layer: bool = False,
        counters: bool = False,
        image_done: Callable[[int, int], None] = lambda index, cycles: None,
    ) -> Result:
        """Run inputs through the network, image by image.

        Parameters
        ----------
        inputs : mapping of ndarray of int8
            Every graph input in the graph's layout, any number of images along the first axis.
        per_layer : bool
            Pause behind every layer: a `Measure` for each.
        counters : bool
            Read the activity counters too, which takes time.
        image_done : callable
            Gets the number of an image and its cycles when its last program has ended.

        Raises
        ------
        RowmeshError
            A fault of the hardware, with the layer; inputs of a wrong shape.
        """
        graph = self.compiled.graph
        values: dict[str, Array] = {}
        for name in graph.inputs:
            shape = graph.tensors[name].shape
            if inputs[name].shape[1:] != shape[1:] or inputs[name].dtype != np.int8:
                raise RowmeshError(
                    f"input {name!r} is {inputs[name].dtype} {inputs[name].shape}: "
                    f"must be int8 (N, {', '.join(map(str, shape[1:]))})"
                )
            values[name] = inputs[name]
        count = {len(array) for array in values.values()}
        if len(count) != 1:
            raise RowmeshError(f"the inputs differ in their number of images: {sorted(count)}")
        images: list[list[Measure]] = [[] for _ in range(count.pop())]
        self._rename(values)
        steps = self.compiled.steps
        last = max((i for i, s in enumerate(steps) if isinstance(s, DeviceStep)), default=-1)
        for number, step in enumerate(steps):
            if isinstance(step, HostStep):
                operands = [values[name] for name in step.node.inputs if name in values]
                out = run_node(graph, step.node, operands, self.compiled.config.rounding)
                values[step.node.outputs[0]] = out
            else:
                made: dict[str, list[Array]] = {}
                for index, measures in enumerate(images):
                    measures += self._device(step, values, index, made, per_layer, counters)
                    if number == last:
                        image_done(index, sum(measure.cycles for measure in measures))
                values.update({name: np.stack(parts) for name, parts in made.items()})
            self._rename(values)
        return Result(values, images)

    def _rename(self, values: dict[str, Array]) -> None:
        """Tensors that are others under another shape."""
        graph = self.compiled.graph
        for placed in self.compiled.placements:
            source, target = placed.node.inputs[0], placed.node.outputs[0]
            if placed.where == "none" and source in values and target not in values:
                values[target] = run_node(graph, placed.node, [values[source]], "single")

    def _device(
        self,
        step: DeviceStep,
        values: Mapping[str, Array],
        index: int,
        made: dict[str, list[Array]],
        per_layer: bool,
        counters: bool,
    ) -> list[Measure]:
        """One program for one image."""
        for name in step.inputs:
            feature = self.compiled.features[name]
            image = values[name][index].reshape(feature.height, feature.width, feature.channels)
            self.machine.write_memory(feature.address, feature.store(image))
        names = tuple(layer.name for layer in step.layers)
        seen: list[Measure] = []

        def note(layers: tuple[str, ...]) -> None:
            read, written = self.device.beats
            beat = self.compiled.config.axi_data_bits // 8
            found = self.device.counters() if counters else None
            seen.append(Measure(layers, self.device.cycles, beat * read, beat * written, found))

        self.device.choose(step.address, step.words)
        try:
            self.device.run(
                self.timeout, (lambda layer: note((names[layer],))) if per_layer else None
            )
        except DeviceFault as fault:
            raise RowmeshError(self._explain(fault, step)) from fault
        note((names[-1],) if per_layer else names)
        for layer in step.layers:
            name = layer.outputs[0]
            shape = self.compiled.graph.tensors[name].shape[1:]
            made.setdefault(name, []).append(self._load(self.compiled.features[name], shape))
        return _differences(seen)

    def _load(self, feature: Feature, shape: tuple[int, ...]) -> Array:
        return feature.load(self.machine.read_memory(feature.address, feature.size)).reshape(shape)

    def _explain(self, fault: DeviceFault, step: DeviceStep) -> str:
        number = min(fault.layer, len(step.layers) - 1)
        layer = step.layers[number]
        text = f"layer {layer.name}: {fault}"
        if fault.code == Fault.PSUM_OVERFLOW:
            needed = layer.mapping.task.psum_bits_needed
            text += (
                f": a psum does not fit psum_bits = {self.compiled.config.psum_bits}; "
                f"{needed} would always be enough"
            )
        return text


def _differences(seen: list[Measure]) -> list[Measure]:
    """Measures of each layer from counters that go on over all of a program."""
    out = []
    before = Measure((), 0, 0, 0, None)
    for now in seen:
        counters = now.counters
        if counters is not None and before.counters is not None:
            counters = (counters - before.counters) % _COUNTER_RANGE
        out.append(
            Measure(
                now.layers,
                now.cycles - before.cycles,
                now.bytes_read - before.bytes_read,
                now.bytes_written - before.bytes_written,
                counters,
            )
        )
        before = now
    return out
