"""Bench of the whole accelerator: what goes wrong is told, does no harm, and is over after a reset.

The network and its memory are in `rowmesh.verif.top_faults`; the cases are those of section 5 of
the architecture's requirements.
"""

from typing import Any

import cocotb
import numpy as np
from cocotbext.axi import AxiResp

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.program import Program
from rowmesh.gen.runtime import Runtime
from rowmesh.rtl.codes import Fault, Opcode
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.control.registers import PROGRAM_VERSION
from rowmesh.verif.controller_harness import binary, instruction
from rowmesh.verif.top_faults import Bed, WeightStream

__all__: list[str] = []

_RESPONSES = {"SLVERR": AxiResp.SLVERR, "DECERR": AxiResp.DECERR}


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def refuses_other_headers(dut: Any) -> None:
    """Programs for other machines: another configuration, magic or version."""
    bed = Bed(dut)
    await bed.start()
    instructions = list(Program.from_bytes(bed.config, bed.binary))
    for field, value, code in (
        ("hash", bed.config.hash ^ 1 << bed.board.rng.randrange(32), Fault.PROGRAM_CONFIG),
        ("magic", 0x464C457F, Fault.PROGRAM_MAGIC),
        ("version", PROGRAM_VERSION + 1, Fault.PROGRAM_VERSION),
    ):
        other = bytes(binary(bed.config, instructions, **{field: value}))
        await bed.fails(code, damage={bed.program.start: other})


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def refuses_damaged_programs(dut: Any) -> None:
    """A bit that is wrong anywhere, lost words, a wrong length."""
    bed = Bed(dut)
    await bed.start()
    rng, start, words = bed.board.rng, bed.program.start, len(bed.program) // WORD_BYTES
    damaged = bytearray(bed.binary)
    damaged[rng.randrange(4 * WORD_BYTES, len(damaged))] ^= 1 << rng.randrange(8)
    await bed.fails(Fault.PROGRAM_CRC, damage={start: bytes(damaged)})
    tail = WORD_BYTES * rng.randrange(1, words // 2)
    await bed.fails(Fault.PROGRAM_CRC, damage={bed.program.stop - tail: bytes(tail)})
    for length in (words - 1, 3):
        await bed.fails(Fault.PROGRAM_LENGTH, words=length)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stops_at_bad_instructions(dut: Any) -> None:
    """An operation that does not exist, and a program without an end."""
    bed = Bed(dut)
    await bed.start()
    instructions = list(Program.from_bytes(bed.config, bed.binary))
    unknown = binary(bed.config, [instruction(12), *instructions[1:]])
    await bed.fails(Fault.PROGRAM_OPCODE, damage={bed.program.start: bytes(unknown)})
    endless = binary(bed.config, instructions[:-1])
    assert instructions[-1] == instruction(Opcode.END)
    await bed.fails(Fault.PROGRAM_LENGTH, 1, damage={bed.program.start: bytes(endless)})


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(response=list(_RESPONSES))
async def stops_at_error_responses(dut: Any, response: str) -> None:
    """Program, inputs, weights, parameters that cannot be read, outputs that cannot be written."""
    bed = Bed(dut)
    await bed.start()
    dram = bed.board.dram
    dram.response = _RESPONSES[response]
    end = bed.program.stop
    for place, layer in (
        (bed.board.rng.choice([bed.program, range(end - WORD_BYTES, end)]), None),
        (bed.span("x"), 0),
        (range(bed.weights, bed.weights + WORD_BYTES), 0),
        (range(bed.params, bed.params + WORD_BYTES), 0),
        (bed.span("y"), 0),
        (bed.span("z"), 1),
    ):
        dram.bad = place
        await bed.fails(Fault.AXI_RESPONSE, layer)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stays_inside_the_windows(dut: Any) -> None:
    """What lies outside is not accessed: program, weights, inputs, outputs."""
    bed = Bed(dut)
    await bed.start()
    end, half = len(bed.image), bed.span("z").start + 2 * WORD_BYTES
    for read, layer in (
        (range(bed.program.start), None),
        (range(bed.program.stop - WORD_BYTES), None),
        (range(bed.weights + WORD_BYTES, end), 0),
        (range(bed.span("x").stop, end), 0),
    ):
        await bed.fails(Fault.AXI_WINDOW, layer, read=read)
    await bed.fails(Fault.AXI_WINDOW, 0, write=range(0))
    await bed.fails(Fault.AXI_WINDOW, 1, write=range(half))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stops_at_malformed_weights(dut: Any) -> None:
    """CSC streams that no encoder writes."""
    bed = Bed(dut)
    await bed.start()
    config = bed.config
    for case in ("no words", "too long", "short", "long", "order", "past the SPad", "count"):
        stream = WeightStream(bed)
        words = stream.words
        match case:
            case "no words":
                words[0] = 0
            case "too long":
                words[0] = config.weight_data_depth + config.weight_addr_depth + 1
            case "short":
                words[0] -= 1
            case "long":
                words[0] += 1
            case "order":
                stream.set_end(0, stream.end(1) + 1)
            case "past the SPad":
                stream.set_end(stream.columns - 1, config.weight_data_depth + 1)
            case "count":
                # Of the first pair of the second column.
                pair = 1 + stream.addresses + stream.end(0)
                words[pair] |= config.max_run << config.weight_bits
        await bed.fails(Fault.WEIGHT_FORMAT, 0, damage={bed.weights: stream.to_bytes()})


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stops_at_malformed_iacts(dut: Any) -> None:
    """RLC chunks that no encoder writes: too many pairs in a word, pairs past the end."""
    bed = Bed(dut)
    await bed.start()
    feature = bed.compiled.features["x"]
    assert feature.compressed
    pair = 15 << 8 | 77
    full = sum(pair << (12 * i) for i in range(5))
    for word in (6 << 60 | full, 15 << 60, 5 << 60 | full):
        content = word.to_bytes(WORD_BYTES, "little") * 2
        await bed.fails(Fault.RLC_FORMAT, 0, damage={feature.address: content})


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def tells_psum_overflow(dut: Any) -> None:
    """Inputs that are too large for the second layer: the error names it."""
    bed = Bed(dut)
    await bed.start()
    bright = {"x": np.full_like(bed.inputs["x"], 127)}
    await bed.fails(Fault.PSUM_OVERFLOW, 1, inputs=bright)

    def host() -> str:
        try:
            Runtime(bed.compiled, bed.board).run(bright)
        except RowmeshError as error:
            return str(error)
        return ""

    told = await bed.board.drive(host)
    assert told.startswith("layer to_z: fault PSUM_OVERFLOW in layer 1"), told
    assert "psum_bits = 20" in told
    await bed.runs()


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def is_reset_at_any_time(dut: Any) -> None:
    """Resets of both kinds in the middle of a run; the next one is right."""
    bed = Bed(dut)
    await bed.start()
    await bed.runs()
    length = bed.length
    for number in range(8):
        await bed.interrupted(bed.board.rng.randrange(length), hard=bool(number % 2))
        await bed.runs()
