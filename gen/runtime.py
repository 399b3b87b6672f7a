"""Run a compiled network on a machine: tensors in, programs, host operators, tensors out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.compiled import Compiled, DeviceStep, HostStep
from rowmesh.gen.driver import Accelerator, Bus, DeviceFault
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array
from rowmesh.gen.tensors import Feature
from rowmesh.rtl.codes import Fault
from rowmesh.sim_models.golden import run_node, single_runs

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
    values : dict of ndarray
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
        counters: int = 0,
        image_done: Callable[[int, int], None] = lambda index, cycles: None,
    ) -> Result:
        """Run inputs through the network, image by image.

        Parameters
        ----------
        inputs : mapping of ndarray
            Every graph input in the graph's layout and type, any number of images along the first
            axis. To a network with states they are consecutive steps from its initial states.
        per_layer : bool
            Pause behind every layer: a `Measure` for each.
        counters : int
            Images, from the first on, whose activity counters are read too, which takes time.
        image_done : callable
            Gets the number of an image and its cycles when its last program has ended.

        Raises
        ------
        RowmeshError
            A fault of the hardware, with the layer; inputs of a wrong shape.
        """
        graph = self.compiled.graph
        given = self._given(inputs)
        states = dict(graph.states)
        parts: list[dict[str, Array]] = []
        images: list[list[Measure]] = []
        for part in single_runs(graph, given) if states else [given]:
            first = len(images)
            measures: list[list[Measure]] = [[] for _ in next(iter(part.values()))]
            images += measures
            values = dict(part)
            self._rename(values)
            steps = self.compiled.steps
            last = max((i for i, s in enumerate(steps) if isinstance(s, DeviceStep)), default=-1)
            for number, step in enumerate(steps):
                if isinstance(step, HostStep):
                    rounding = self.compiled.config.rounding
                    values.update(run_node(graph, step.node, values, rounding, states))
                else:
                    made: dict[str, list[Array]] = {}
                    for index, seen in enumerate(measures):
                        counted = first + index < counters
                        seen += self._device(step, values, index, made, per_layer, counted)
                        if number == last:
                            image_done(first + index, sum(measure.cycles for measure in seen))
                    values.update({name: np.stack(arrays) for name, arrays in made.items()})
                self._rename(values)
            parts.append(values)
        return Result(_concatenated(parts), images)

    def _given(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs, checked."""
        graph = self.compiled.graph
        for name in graph.inputs:
            tensor, array = graph.tensors[name], inputs[name]
            if array.shape[1:] != tensor.shape[1:] or array.dtype != tensor.dtype:
                raise RowmeshError(
                    f"input {name!r} is {array.dtype} {array.shape}: "
                    f"must be {tensor.dtype} (N, {', '.join(map(str, tensor.shape[1:]))})"
                )
        count = {len(inputs[name]) for name in graph.inputs}
        if len(count) != 1:
            raise RowmeshError(f"the inputs differ in their number of images: {sorted(count)}")
        return {name: inputs[name] for name in graph.inputs}

    def _rename(self, values: dict[str, Array]) -> None:
        """Tensors that are others under another shape, or that only the host looks at."""
        graph = self.compiled.graph
        for placed in self.compiled.placements:
            node = placed.node
            if placed.where == "none" and node.inputs[0] in values:
                if node.outputs[0] not in values:
                    values.update(run_node(graph, node, values, "single", {}))

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


def _concatenated(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Tensors of consecutive runs as one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
