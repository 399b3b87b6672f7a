"""The compiler: a quantized graph and a configuration become programs and a memory image."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rowmesh.gen import mapping as mappings
from rowmesh.gen.codec import choose_codec
from rowmesh.gen.compiled import Compiled, CompiledLayer, DeviceStep, HostStep
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Graph, Op
from rowmesh.gen.lower import lower_node, stored_offsets
from rowmesh.gen.memory_image import MemoryImage, place_params, place_weights, raw_bytes
from rowmesh.gen.placement import Placement, place_operators
from rowmesh.gen.program import Program
from rowmesh.gen.schedule import LayerSchedule
from rowmesh.gen.search import best_mapping
from rowmesh.gen.tensors import Feature
from rowmesh.gen.tile_work import LayerMemory
from rowmesh.gen.traffic import Traffic
from rowmesh.rtl.config import WORD_BYTES, Config

__all__ = ["compile_graph"]

Progress = Callable[[str], None]
#: Part of the values behind a ReLU that is expected not to be zero.
_BEHIND_RELU = 0.5


def compile_graph(
    graph: Graph,
    config: Config,
    progress: Progress = lambda line: None,
    densities: Mapping[str, float] | None = None,
) -> Compiled:
    """Compile a quantized graph.

    Parameters
    ----------
    graph : Graph
        int8 graph of batch 1 a run.
    config : Config
        The machine.
    progress : callable
        Gets one line for every layer whose mapping is searched, and one for every layer made.
    densities : mapping of float, optional
        Part of the values of activation tensors that is stored as other than zero, where it is
        known; half of them are expected to be zero where the zero point is the least value.

    Returns
    -------
    Compiled

    Raises
    ------
    RowmeshError
        A layer does not fit, or an operator has no place.
    """
    if config.iact_bits < 8 or config.weight_bits < 8:
        raise RowmeshError(
            f"iact_bits = {config.iact_bits}, weight_bits = {config.weight_bits}: "
            "int8 networks need 8"
        )
    return _Compiler(graph, config, progress, densities or {}).compile()


@dataclass(frozen=True)
class _Choice:
    """What the search chose for a layer."""

    mapping: mappings.Mapping
    cycles: float
    limit: str


@dataclass(frozen=True)
class _Pending:
    """A layer that waits for its program."""

    choice: _Choice
    schedule: LayerSchedule
    outputs: tuple[str, ...]


class _Compiler:
    """One compilation."""

    def __init__(
        self, graph: Graph, config: Config, progress: Progress, densities: Mapping[str, float]
    ) -> None:
        self.graph, self.config, self.progress = graph, config, progress
        self.densities = densities
        self.placements = place_operators(graph, config)
        self.offsets = stored_offsets(graph)
        self.alias: dict[str, str] = {}  # tensor -> the tensor whose bytes it shares
        self.features: dict[str, Feature] = {}
        self.memory = MemoryImage()
        self.steps: list[DeviceStep | HostStep] = []
        self.pending: list[_Pending] = []

    def compile(self) -> Compiled:
        """Mappings first, because they decide how tensors lie in memory; then addresses."""
        choices = self._search()
        choose_codec(self.features, [choice.mapping for choice in choices.values()])
        # Features first, so that one limit protects everything else.
        padded = {
            choice.mapping.task.output.name: choice.mapping.planes * choice.mapping.task.blocks
            for choice in choices.values()
        }
        for name, item in self.features.items():
            planes = max(item.planes, padded.get(name, 0))
            address = self.memory.reserve(planes * item.plane_stride)
            self.features[name] = dataclasses.replace(item, address=address)
        write_limit = self.memory.end
        for placed in self.placements:
            if placed.where == "host":
                self._flush()
                self.steps.append(HostStep(placed.node))
            if placed.node.name in choices:
                self._schedule(placed, choices[placed.node.name])
        self._flush()
        return Compiled(
            graph=self.graph,
            config=self.config,
            placements=tuple(self.placements),
            steps=tuple(self.steps),
            features={
                name: self._feature(name)
                for name in (*self.features, *self.alias)
                if self.alias.get(name, name) in self.features
            },
            image=self.memory.to_bytes(),
            write_limit=write_limit,
        )

    # -- tensors -------------------------------------------------------------------------------

    def _feature(self, name: str) -> Feature:
        """A tensor in DRAM; several names may share one."""
        root = self.alias.get(name, name)
        if root not in self.features:
            shape = self.graph.tensors[root].shape
            height, width, channels = (
                shape[1:] if len(shape) == 4 else (1, 1, int(np.prod(shape[1:])))
            )
            zero_point, offset = self.graph.quant(root).zero_point, self.offsets[root]
            self.features[root] = Feature(
                name=root,
                channels=channels,
                height=height,
                width=width,
                offset=offset,
                zero_point=zero_point,
                density=self.densities.get(root, 1.0 if zero_point + offset else _BEHIND_RELU),
            )
        return self.features[root]

    # -- layers --------------------------------------------------------------------------------

    def _search(self) -> dict[str, _Choice]:
        """The mapping of every layer; what is no layer of the accelerator is placed anew."""
        choices: dict[str, _Choice] = {}
        layers = [p for p in self.placements if p.where == "accelerator" and not p.reason]
        for index, placed in enumerate(self.placements):
            node = placed.node
            if placed.where == "none":
                self.alias[node.outputs[0]] = self.alias.get(node.inputs[0], node.inputs[0])
            if placed not in layers:
                continue
            self.progress(f"mapping {len(choices) + 1} of {len(layers)}: {node.op} {node.name}")
            try:
                task = lower_node(self.graph, placed, self._feature, self.config.rounding)
                choices[node.name] = _Choice(*best_mapping(self.config, task))
            except RowmeshError as error:
                if node.op in (Op.CONV, Op.FULLY_CONNECTED):
                    raise
                self.placements[index] = Placement(node, "host", str(error))
        return choices

    def _schedule(self, placed: Placement, choice: _Choice) -> None:
        """Lay out what a layer needs in memory, and its schedule."""
        task = lower_node(self.graph, placed, self._feature, self.config.rounding)
        mapping = dataclasses.replace(choice.mapping, task=task)
        memory = LayerMemory(
            task.input,
            task.output,
            task.second,
            place_weights(mapping, self.memory),
            place_params(mapping, self.memory),
        )
        outputs = (placed.pool or placed.node).outputs
        choice = dataclasses.replace(choice, mapping=mapping)
        self.pending.append(_Pending(choice, LayerSchedule(mapping, memory), outputs))

    def _flush(self) -> None:
        """One program of all layers that wait."""
        if not self.pending:
            return
        program = Program(self.config)
        layers: list[CompiledLayer] = []
        made: set[str] = set()
        inputs: dict[str, None] = {}
        for index, layer in enumerate(self.pending):
            schedule = layer.schedule
            counted = Traffic(program)
            if index:
                schedule.prefetch(counted)
                program.wait()
            program.layer(index)
            begin = len(program)
            schedule.load(counted)
            if not index:
                schedule.prefetch(counted)
            schedule.emit(counted)
            for source in (schedule.memory.input, schedule.memory.second):
                if source is not None and source.name not in made:
                    inputs[source.name] = None
            made.add(schedule.memory.output.name)
            regions = tuple(schedule.memory.weights.values())
            layers.append(
                CompiledLayer(
                    mapping=layer.choice.mapping,
                    predicted_cycles=layer.choice.cycles,
                    limit=layer.choice.limit,
                    outputs=layer.outputs,
                    bytes_read=counted.bytes_read,
                    bytes_written=counted.bytes_written,
                    weight_bytes=sum(r.words * WORD_BYTES for r in regions),
                    raw_weight_bytes=raw_bytes(layer.choice.mapping, regions),
                    sent=tuple((unit, at - begin) for unit, at in counted.sent),
                )
            )
            self.progress(f"{layers[-1].name}: {layers[-1].describe()}")
        program.end()
        binary = program.to_bytes()
        # It is checked, a word a cycle, before the first layer.
        words = len(binary) // WORD_BYTES
        first = layers[0]
        layers[0] = dataclasses.replace(first, predicted_cycles=first.predicted_cycles + words)
        self.steps.append(
            DeviceStep(
                layers=tuple(layers),
                inputs=tuple(inputs),
                address=self.memory.place(binary),
                words=words,
            )
        )
        self.pending.clear()
