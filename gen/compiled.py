"""What the compiler makes: programs, host operators, and the memory image."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from rowmesh.gen.graph import Graph, Node
from rowmesh.gen.mapping import Mapping
from rowmesh.gen.placement import Placement
from rowmesh.gen.tensors import Feature
from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import Config

__all__ = ["Compiled", "CompiledLayer", "DeviceStep", "HostStep"]


@dataclass(frozen=True)
class CompiledLayer:
    """A layer on the accelerator.

    Parameters
    ----------
    mapping : Mapping
    predicted_cycles : float
    limit : str
        The unit that limits it.
    outputs : tuple of str
        Tensors that it makes.
    bytes_read, bytes_written : int
        Moved to and from DRAM; coded tensors count as raw ones.
    weight_bytes, raw_weight_bytes : int
        Weights in DRAM, and what they would take as raw values.
    sent : tuple of (Unit, int)
        Order of the descriptors in the program: whose, and the instructions since the layer began
        (negative: before the layer).
    """

    mapping: Mapping
    predicted_cycles: float
    limit: str
    outputs: tuple[str, ...]
    bytes_read: int
    bytes_written: int
    weight_bytes: int
    raw_weight_bytes: int
    sent: tuple[tuple[Unit, int], ...] = ()

    @property
    def name(self) -> str:
        """Operator name."""
        return self.mapping.task.name

    @property
    def utilization(self) -> float:
        """Predicted part of all multiplier slots that multiply two non-zeros."""
        task = self.mapping.task
        pixels = task.used_size[0] * task.used_size[1]
        effectual = np.count_nonzero(task.weights) * pixels * task.input.density
        return float(effectual / (self.predicted_cycles * self.mapping.config.macs))

    def describe(self) -> str:
        """Mapping, predicted cycles, utilization, bytes moved and limiting unit in one line."""
        return (
            f"{self.mapping.describe()}: {self.predicted_cycles:.0f} cycles predicted, "
            f"{self.utilization:.1%} utilization, {self.bytes_read} bytes read, "
            f"{self.bytes_written} written, limited by {self.limit}"
        )

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
