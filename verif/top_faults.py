"""A network on a board that something goes wrong with, and what must be true then and after."""

from collections.abc import Mapping
from typing import Any

import cocotb
import numpy as np

from rowmesh.gen.compiled import DeviceStep
from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.driver import Accelerator, DeviceFault
from rowmesh.gen.graph import Array
from rowmesh.gen.runtime import Runtime
from rowmesh.rtl.codes import Fault
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.control.registers import State, register_map
from rowmesh.sim_models import golden
from rowmesh.sim_models.compress_weights import decode_weight_block
from rowmesh.verif.simulator import bench_config
from rowmesh.verif.stream import reset
from rowmesh.verif.top_harness import Board
from rowmesh.verif.top_work import check_values, sparse_image, two_layers, with_noise

__all__ = ["Bed", "WeightStream"]

#: Cycles in which a device that does not stop would write something.
_LATER = 200


class Bed:
    """`two_layers` on a board: good runs, and runs that must end with a fault.

    Attributes
    ----------
    board : Board
    image : bytes
        Memory as compiled, with noise where the activations go.
    program : range
        Addresses of the program.
    binary : bytes
        The program.
    weights, params : int
        Where those of the first layer begin.
    length : int
        Cycles of the last good run.
    """

    def __init__(self, dut: Any) -> None:
        rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.config = bench_config()
        graph = two_layers(rng)
        # Expected to be nearly all zero, so that the activations are coded.
        compiled = compile_graph(graph, self.config, densities=dict.fromkeys("xy", 0.05))
        self.compiled = with_noise(compiled, rng)
        self.image = self.compiled.image
        self.inputs = sparse_image(rng, graph, 0.7)
        (step,) = self.compiled.steps
        assert isinstance(step, DeviceStep)
        self.program = range(step.address, step.address + step.words * WORD_BYTES)
        self.binary = self.image[self.program.start : self.program.stop]
        # Weights come behind the activations, parameters behind the weights.
        self.weights = self.compiled.write_limit
        task = self.compiled.layers[0].mapping.task
        first = int(task.bias[0]) & 0xFFFF_FFFF | int(task.multiplier[0]) << 32
        self.params = self.image.index(first.to_bytes(WORD_BYTES, "little"), self.weights)
        self.length = 0
        self.board = Board(dut, self.config, len(self.image), pause=0.1, patience=20_000)

    async def start(self) -> None:
        """Clock and reset."""
        await self.board.start()

    def span(self, name: str) -> range:
        """Bytes of an activation."""
        feature = self.compiled.features[name]
        return range(feature.address, feature.address + feature.size)

    async def runs(self) -> None:
        """A good run, from whatever state."""
        self.board.dram.bad = range(0)

        def host() -> None:
            result = Runtime(self.compiled, self.board).run(self.inputs)
            self.length = result.cycles(0)
            check_values(self.compiled, result, self.inputs)

        await self.board.drive(host)

    async def fails(
        self,
        code: Fault,
        layer: int | None = None,
        *,
        damage: Mapping[int, bytes] | None = None,
        words: int | None = None,
        read: range | None = None,
        write: range | None = None,
        inputs: dict[str, Array] | None = None,
    ) -> None:
        """A run that must end with a fault; nothing wrong is written; then a good run.

        Parameters
        ----------
        code : Fault
            What the register must read.
        layer : int, optional
            What the layer's register must read; None: nothing of the program is executed, so
            nothing may be written at all.
        damage : mapping, optional
            Other bytes in memory, by address.
        words : int, optional
            Length of the program that the device is told.
        read, write : range, optional
            Windows.
        inputs : dict, optional
            Instead of those of the good runs.
        """
        dram = self.board.dram
        values = inputs or self.inputs
        readable = range(len(self.image)) if read is None else read
        writable = range(self.compiled.write_limit) if write is None else write

        def host() -> DeviceFault:
            device = self._set_up(values, words)
            for address, content in (damage or {}).items():
                self.board.write_memory(address, content)
            device.set_windows((readable.start, readable.stop), (writable.start, writable.stop))
            try:
                device.run()
            except DeviceFault as fault:
                assert device.state is State.FAULT
                return fault
            raise AssertionError(f"no fault {code.name}")

        fault = await self.board.drive(host)
        assert (fault.code, fault.layer) == (code, layer or 0), fault
        accesses = len(dram.fetched), len(dram.written)
        await self.board.cycles(_LATER)
        assert (len(dram.fetched), len(dram.written)) == accesses, "accessed after the fault"
        for window, made in ((readable, dram.fetched), (writable, dram.written)):
            for at, size in made:
                assert at in window and at + size - 1 in window, f"0x{at:x} is outside the window"
        if layer is None:
            assert not dram.written, "written though nothing was executed"
        self._check_written(values)
        await self.board.drive(self._reset)
        assert not int(self.board.dut.irq.value)
        await self.runs()

    async def interrupted(self, cycle: int, *, hard: bool) -> None:
        """Begin a run, and reset the device some cycles later: all of it, or by its register."""
        dram = self.board.dram

        def begin() -> None:
            self._set_up(self.inputs, None)
            control = register_map(self.config)["CONTROL"]
            self.board.write_register(control.offset, control.mask("start"))

        await self.board.drive(begin)
        await self.board.cycles(cycle)
        if hard:
            await reset(self.board.dut)
        else:
            await self.board.drive(self._reset)
        written = len(dram.written)
        await self.board.cycles(_LATER)
        assert len(dram.written) == written, "written after the reset"
        self._check_written(self.inputs)

    def _set_up(self, inputs: dict[str, Array], words: int | None) -> Accelerator:
        """Everything before the start (blocking)."""
        device = Runtime(self.compiled, self.board).device
        image = self.compiled.features["x"]
        self.board.write_memory(image.address, image.store(inputs["x"][0]))
        device.choose(self.program.start, words or len(self.program) // WORD_BYTES)
        self.board.dram.fetched.clear()
        self.board.dram.written.clear()
        return device

    def _check_written(self, inputs: dict[str, Array]) -> None:
        """What was written before the fault is part of the right result."""
        expected = golden.run(self.compiled.graph, inputs, self.config.rounding)
        right = bytearray(self.image)
        allowed: set[int] = set()
        for name in ("y", "z"):
            feature = self.compiled.features[name]
            span = self.span(name)
            right[span.start : span.stop] = feature.store(expected[name][0])
            allowed |= set(span)
        dram = self.board.dram
        for at, size in dram.written:
            assert allowed.issuperset(range(at, at + size)), f"0x{at:x} is in no output"
            if at not in dram.bad:
                assert dram.content[at : at + size] == right[at : at + size], f"at 0x{at:x}"

    def _reset(self) -> None:
        """A soft reset leads to IDLE (blocking)."""
        device = Accelerator(self.board, self.config)
        device.soft_reset(timeout=60)
        assert device.state is State.IDLE


class WeightStream:
    """The first weight stream of the first layer, word by word.

    Attributes
    ----------
    words : list of int
        From the length of the first block on.
    columns, addresses : int
        Columns of a block, and words of their addresses.
    """

    def __init__(self, bed: Bed) -> None:
        config, mapping = bed.config, bed.compiled.layers[0].mapping
        assert not mapping.dense
        self.config = config
        self.bits = config.weight_word_bits
        packed = int.from_bytes(bed.image[bed.weights : bed.params], "little")
        count = 8 * (bed.params - bed.weights) // self.bits
        self.words = [packed >> (self.bits * i) & ((1 << self.bits) - 1) for i in range(count)]
        self.columns = mapping.c0 * mapping.s0
        self.addresses = -(-self.columns // config.weight_addrs_per_word)
        block = self.words[: self.words[0] + 1]
        decode_weight_block(block, self.columns, mapping.m0, config)  # it is what we think

    def end(self, column: int) -> int:
        """Address at the end of a column of the first block."""
        word, at = self._place(column)
        return self.words[word] >> at & (1 << self.config.weight_addr_bits) - 1

    def set_end(self, column: int, value: int) -> None:
        """Say that a column of the first block ends elsewhere."""
        word, at = self._place(column)
        self.words[word] += value - self.end(column) << at

    def _place(self, column: int) -> tuple[int, int]:
        """Number of the word with a column's address, and its lowest bit there."""
        index, slot = divmod(column, self.config.weight_addrs_per_word)
        return 1 + index, slot * self.config.weight_addr_bits

    def to_bytes(self) -> bytes:
        """The stream as it lies in memory, as far as whole bytes go."""
        packed = sum(word << (self.bits * i) for i, word in enumerate(self.words))
        return packed.to_bytes(-(-len(self.words) * self.bits // 8), "little")
