"""The compiler: a quantized graph and a configuration become programs and a memory image."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Graph, Node, Op
from rowmesh.gen.lower import lower_node, stored_offsets
from rowmesh.gen.mapping import Mapping
from rowmesh.gen.placement import Placement, place_operators
from rowmesh.gen.program import Program
from rowmesh.gen.schedule import LayerSchedule
from rowmesh.gen.search import best_mapping
from rowmesh.gen.tensors import Feature
from rowmesh.gen.tile_work import LayerMemory, Region, block_matrix
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.layouts import PARAM_WORDS, RLC_PAIRS
from rowmesh.sim_models.compress_weights import weight_block

__all__ = ["CompiledLayer", "Compiled", "DeviceStep", "HostStep", "compile_graph"]

#: Alignment of everything in DRAM: an AXI burst never crosses it.
_PAGE = 4096


@dataclass(frozen=True)
class CompiledLayer:
    """A layer on the accelerator: mapping, prediction and psum bound."""

    mapping: Mapping
    predicted_cycles: float
    limit: str
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Operator name."""
        return self.mapping.task.name

    @property
    def psum_proved(self) -> bool:
        """Whether no input can overflow a psum of the configured width."""
        return self.mapping.task.psum_bits_needed <= self.mapping.config.psum_bits


@dataclass(frozen=True)
class DeviceStep:
    """One program: layers that run without the host in between.

    Parameters
    ----------
    layers : tuple of CompiledLayer
    inputs : tuple of str
        Tensors (names of features) that the program reads and does not make.
    address, words : int
        The program in DRAM.
    """

    layers: tuple[CompiledLayer, ...]
    inputs: tuple[str, ...]
    address: int
    words: int


@dataclass(frozen=True)
class HostStep:
    """One operator on the host."""

    node: Node


@dataclass(frozen=True)
class Compiled:
    """A network for one configuration.

    Parameters
    ----------
    graph : Graph
        The quantized graph.
    config : Config
        The machine.
    placements : tuple of Placement
        Where every operator runs.
    steps : tuple
        Programs and host operators in order.
    features : dict
        Activation tensors in DRAM by name.
    image : bytes
        DRAM from address 0: room for the features, weights, parameters, programs.
    write_limit : int
        The accelerator writes below this address only.
    """

    graph: Graph
    config: Config
    placements: tuple[Placement, ...]
    steps: tuple[DeviceStep | HostStep, ...]
    features: dict[str, Feature]
    image: bytes
    write_limit: int

    @property
    def layers(self) -> list[CompiledLayer]:
        """All layers on the accelerator."""
        return [
            layer for step in self.steps if isinstance(step, DeviceStep) for layer in step.layers
        ]

    def unproved(self) -> list[str]:
        """A warning for every layer whose psums are not proved to fit."""
        return [
            f"layer {layer.name}: psum_bits = {self.config.psum_bits} is not proved enough; "
            f"{layer.mapping.task.psum_bits_needed} would be (overflow is detected at run time)"
            for layer in self.layers
            if not layer.psum_proved
        ]

    def manifest(self) -> dict[str, Any]:
        """What a host needs beside the image."""
        return {
            "config_hash": self.config.hash,
            "write_limit": self.write_limit,
            "programs": [
                {"address": step.address, "words": step.words}
                for step in self.steps
                if isinstance(step, DeviceStep)
            ],
            "features": {name: dataclasses.asdict(f) for name, f in self.features.items()},
            "operators": [
                {
                    "name": p.node.name,
                    "operator": str(p.node.op),
                    "where": p.where,
                    "reason": p.reason,
                }
                for p in self.placements
            ],
        }


class _Memory:
    """Bump allocator and image of DRAM."""

    def __init__(self) -> None:
        self.end = 0
        self.parts: list[tuple[int, bytes]] = []

    def reserve(self, size: int) -> int:
        address = self.end
        self.end += -(-size // _PAGE) * _PAGE
        return address

    def place(self, content: bytes) -> int:
        address = self.reserve(len(content))
        self.parts.append((address, content))
        return address

    def image(self) -> bytes:
        out = bytearray(self.end)
        for address, content in self.parts:
            out[address : address + len(content)] = content
        return bytes(out)


def pack_words(words: Sequence[int], bits: int) -> bytes:
    """Pack words of `bits` bits back to back from the low bits, padded to 64-bit words."""
    table = np.asarray(words, np.uint64)
    one = (table[:, None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)
    packed = np.packbits(one.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    return packed + bytes(-len(packed) % WORD_BYTES)


def _weights(mapping: Mapping, memory: _Memory) -> dict[tuple[int, int, int], Region]:
    """Encode the weight stream of every position in the chain, output slot and block slot."""
    config, m0, cols = mapping.config, mapping.m0, mapping.output_cols
    bits = config.weight_word_bits if config.sparse else config.weight_dense_word_bits
    out: dict[tuple[int, int, int], Region] = {}
    for key in np.ndindex(mapping.depth, mapping.output_slots, mapping.block_slots):
        position, outputs, blocks = key
        words: list[int] = []
        count = 0
        items = mapping.row_items(position)
        for block in mapping.slot_blocks(blocks):
            start = block * mapping.task.block_outputs + outputs * mapping.slot_outputs
            for group, item, column in product(range(mapping.groups), items, range(cols)):
                matrix = block_matrix(mapping, item, start + m0 * (group * cols + column))
                words += weight_block(matrix.tolist(), config, dense=not config.sparse)
                count += 1
        content = pack_words(words, bits)
        out[position, outputs, blocks] = Region(
            memory.place(content), len(content) // WORD_BYTES, count
        )
    return out


def _params(mapping: Mapping, memory: _Memory) -> dict[tuple[int, int], int]:
    """Place the parameters of every output slot and block slot, in the order of its work."""
    task = mapping.task
    table = _param_table(mapping).reshape(
        task.blocks, mapping.output_slots, mapping.slot_outputs, PARAM_WORDS
    )
    return {
        (outputs, blocks): memory.place(table[list(mapping.slot_blocks(blocks)), outputs].tobytes())
        for outputs, blocks in np.ndindex(mapping.output_slots, mapping.block_slots)
    }


def _param_table(mapping: Mapping) -> NDArray[np.uint64]:
    """Bias, multiplier and shift of every psum of a position, padding too: two DRAM words each."""
    task = mapping.task
    table = np.zeros((task.blocks * task.block_outputs, PARAM_WORDS), np.uint64)
    bias = task.bias.astype(np.int32).view(np.uint32).astype(np.uint64)
    table[: task.outputs, 0] = bias | task.multiplier.astype(np.uint64) << np.uint64(32)
    table[:, 1] = 1
    table[: task.outputs, 1] = task.shift.astype(np.uint64)
    return table


def _image_shape(graph: Graph, name: str) -> tuple[int, int, int]:
    """(height, width, channels) of an activation."""
    shape = graph.tensors[name].shape
    if len(shape) == 4:
        return (shape[1], shape[2], shape[3])
    return (1, 1, int(np.prod(shape[1:])))


def _feature(graph: Graph, name: str, offset: int) -> Feature:
    height, width, channels = _image_shape(graph, name)
    return Feature(
        name=name,
        channels=channels,
        height=height,
        width=width,
        offset=offset,
        zero_point=graph.quant(name).zero_point,
    )


def compile_graph(
    graph: Graph,
    config: Config,
    progress: Callable[[str], None] = lambda line: None,
) -> Compiled:
    """Compile a quantized graph.

    Parameters
    ----------
    graph : Graph
        int8 graph of batch 1 a run.
    config : Config
        The machine.
    progress : callable
        Gets one line for every layer.

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
    placements = place_operators(graph, config)
    offsets = stored_offsets(graph)
    alias: dict[str, str] = {}  # tensor -> the tensor whose bytes it shares
    features: dict[str, Feature] = {}

    def feature(name: str) -> Feature:
        root = alias.get(name, name)
        if root not in features:
            features[root] = _feature(graph, root, offsets[root])
        return features[root]

    # Pass 1: tasks and mappings, which decide how tensors lie in memory.
    found: dict[str, tuple[Mapping, float, str]] = {}
    for index, placed in enumerate(placements):
        node = placed.node
        if placed.where == "none":
            alias[node.outputs[0]] = alias.get(node.inputs[0], node.inputs[0])
        if placed.where != "accelerator" or placed.reason:
            continue
        try:
            found[node.name] = best_mapping(
                config, lower_node(graph, placed, feature, config.rounding)
            )
        except RowmeshError as error:
            if node.op in (Op.CONV, Op.FULLY_CONNECTED):
                raise
            placements[index] = Placement(node, "host", str(error))
            continue
        mapping, cycles, limit = found[node.name]
        progress(f"{node.name}: {mapping.describe()}: {cycles:.0f} cycles predicted, limit {limit}")

    # Pass 2: addresses; features first, so that one limit protects everything else.
    memory = _Memory()
    _choose_codec(features, [mapping for mapping, _, _ in found.values()])
    for name, item in features.items():
        features[name] = dataclasses.replace(item, address=memory.reserve(item.size))
    write_limit = memory.end

    steps: list[DeviceStep | HostStep] = []
    pending: list[tuple[CompiledLayer, LayerSchedule]] = []

    def flush() -> None:
        if pending:
            steps.append(_device_step(config, pending, memory))
            pending.clear()

    for placed in placements:
        node = placed.node
        if placed.where == "host":
            flush()
            steps.append(HostStep(node))
        if node.name not in found:
            continue
        mapping, cycles, limit = found[node.name]
        task = lower_node(graph, placed, feature, config.rounding)
        mapping = dataclasses.replace(mapping, task=task)
        layer = CompiledLayer(mapping, cycles, limit, (placed.pool or node).outputs)
        weights, params = _weights(mapping, memory), _params(mapping, memory)
        schedule = LayerSchedule(
            mapping, LayerMemory(task.input, task.output, task.second, weights, params)
        )
        pending.append((layer, schedule))
    flush()
    return Compiled(
        graph=graph,
        config=config,
        placements=tuple(placements),
        steps=tuple(steps),
        features={
            name: features[alias.get(name, name)]
            for name in (*features, *alias)
            if alias.get(name, name) in features
        },
        image=memory.image(),
        write_limit=write_limit,
    )


def _device_step(
    config: Config, pending: list[tuple[CompiledLayer, LayerSchedule]], memory: _Memory
) -> DeviceStep:
    program = Program(config)
    for index, (_, schedule) in enumerate(pending):
        if index:
            schedule.prefetch(program)
            program.wait()
        program.layer(index)
        schedule.load(program)
        if not index:
            schedule.prefetch(program)
        schedule.emit(program)
    program.end()
    binary = program.to_bytes()
    address = memory.place(binary)
    made: set[str] = set()
    inputs: dict[str, None] = {}
    for _, schedule in pending:
        for source in (schedule.memory.input, schedule.memory.second):
            if source is not None and source.name not in made:
                inputs[source.name] = None
        made.add(schedule.memory.output.name)
    return DeviceStep(
        layers=tuple(layer for layer, _ in pending),
        inputs=tuple(inputs),
        address=address,
        words=len(binary) // WORD_BYTES,
    )


#: A tensor is compressed when that is expected to take less than this part of its raw size.
_CODEC_GAIN = 0.8
#: Narrower rows are not worth a chunk each.
_CODEC_WIDTH = 8


def _choose_codec(features: dict[str, Feature], mappings: list[Mapping]) -> None:
    """Compress the tensors that are smaller so and whose rows are always moved as a whole."""
    for name, item in features.items():
        whole = item.width >= _CODEC_WIDTH
        for mapping in mappings:
            task = mapping.task
            if name == task.output.name:
                whole &= mapping.width == task.used_size[1]
            if task.second is not None:
                # The same walk reads both tensors.
                whole &= name not in (task.input.name, task.second.name)
            if name == task.input.name:
                # Not when the last columns are never read, nor as a flat input of another width.
                reach = mapping.input_width(mapping.width) - task.pad[1]
                whole &= task.input.width == item.width <= reach
                whole &= mapping.width == task.used_size[1]
        # Half of the values behind a ReLU are taken to be zero; padding channels all are.
        density = (0.5 if item.stored_zero == 0 else 1.0) * item.channels / item.planes / WORD_BYTES
        if whole and WORD_BYTES * density / RLC_PAIRS < _CODEC_GAIN:
            features[name] = dataclasses.replace(item, compressed=True)
