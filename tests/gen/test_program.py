"""The program builder against a model of the descriptor ports that replays its words.

The model takes instructions apart and packs descriptors by itself.
"""

import dataclasses
import struct
import zlib
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmesh.gen.program import Program, ProgramError
from rowmesh.rtl.codes import Opcode, Unit
from rowmesh.rtl.config import PRESETS, Config
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.soak import SMALL_MACHINES

CONFIG = dataclasses.replace(SMALL_MACHINES["small"], cluster_rows=3, cluster_cols=2)
UNITS = [Unit.PE, Unit.IACT_LOADER, Unit.WEIGHT_ROUTER, Unit.PARAM_LOADER, Unit.OUT_WRITER]
COUNTS = {
    Unit.PE: 4,
    Unit.IACT_LOADER: 2,
    Unit.WEIGHT_ROUTER: 2,
    Unit.PARAM_LOADER: 1,
    Unit.OUT_WRITER: 1,
}
Place = tuple[int, int, int]


class Ports:
    """All descriptor ports of a machine; unknown words are None until they are written."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.held: defaultdict[tuple[int, Place], dict[int, int]] = defaultdict(dict)
        self.started: defaultdict[tuple[int, Place], list[dict[int, int]]] = defaultdict(list)
        self.masks = [0, 0, 0]
        self.steps: tuple[int, int] | None = None
        self.writes = self.ones = self.ramps = 0

    def replay(self, words: tuple[int, ...]) -> None:
        """Execute instructions."""
        for word in words:
            opcode = word >> 58
            if opcode in (1, 2, 3):
                self.masks[opcode - 1] = word & 0xFFFF_FFFF
            elif opcode == 9:
                row, col = word & 0xFF_FFFF, word >> 24 & 0xFF_FFFF
                self.steps = (row ^ 0x80_0000) - 0x80_0000, (col ^ 0x80_0000) - 0x80_0000
            elif opcode in (4, 7, 8, 10, 11):
                self.write(word, opcode)

    def write(self, word: int, opcode: int) -> None:
        """All kinds of writes."""
        self.writes += 1
        rows, cols, numbers = self.masks
        place = word >> 49 & 31, word >> 44 & 31, word >> 39 & 31
        if opcode == 7:
            self.ones += 1
            rows, cols = 1 << place[0], 1 << place[1]
        if opcode in (7, 8, 11):
            numbers = 1 << place[2]
        row_step = col_step = 0
        if opcode in (10, 11):
            self.ramps += 1
            assert self.steps is not None
            row_step, col_step = self.steps
        for y in range(self.config.cluster_rows):
            for x in range(self.config.cluster_cols):
                for i in range(32):
                    if rows >> y & cols >> x & numbers >> i & 1:
                        held = self.held[word >> 54 & 15, (y, x, i)]
                        value = (word & 0xFFFF_FFFF) + y * row_step + x * col_step
                        held[word >> 33 & 63] = value % 2**32
                        if word >> 32 & 1:
                            self.started[word >> 54 & 15, (y, x, i)].append(dict(held))


def packed(layout: Any, values: Any) -> int:
    """Fields from the low bits up."""
    total = at = 0
    if isinstance(values, dict):
        parts = [(field.shape, field.width, values[name]) for name, field in layout]
    elif isinstance(values, list):
        width = layout.size // layout.length
        parts = [(layout.elem_shape, width, value) for value in values]
    else:
        return int(values)
    for shape, width, value in parts:
        total |= (packed(shape, value) & ((1 << width) - 1)) << at
        at += width
    return total


def with_steps(values: dict[str, Any]) -> dict[str, Any]:
    """Strides as hardware has them: from the last address of all inner loops to the next."""
    stored = dict(values)
    if "plane_stride" in stored:
        walked = (stored["rows"] - 1) * stored["row_stride"]
        stored["plane_step"] = stored.pop("plane_stride") - walked
    if "loops" in stored:
        walked, levels = 0, {}
        for i, loop in enumerate(stored["loops"]):
            more = loop["count"] - 1
            step = loop["stride"] - walked if more else 0
            levels[f"level_{i}"] = {"count": loop["count"], "step": step}
            walked += more * loop["stride"]
        stored["loops"] = levels
    return stored


def words_of(config: Config, unit: Unit, values: dict[str, Any]) -> dict[int, int]:
    """What a port must hold."""
    layout = Layouts(config).descriptor(unit)
    bits = packed(layout, with_steps(values))
    return {i: bits >> 32 * i & 0xFFFF_FFFF for i in range(-(-layout.size // 32))}


def descriptor(unit: Unit, a: int, b: int) -> dict[str, Any]:
    """Descriptors that differ here and there."""
    match unit:
        case Unit.PE:
            fields = {name: 1 for name, _ in Layouts(CONFIG).pe}
            return {**fields, "groups": a, "windows": b, "chain": a % 2}
        case Unit.IACT_LOADER:
            names = [str(name) for name, _ in Layouts(CONFIG).iact_loader]
            fields = {name.replace("_step", "_stride"): 3 for name in names}
            return {**fields, "base": a << 10, "plane_stride": b, "compressed": 0, "dest": a}
        case Unit.WEIGHT_ROUTER:
            return dict(blocks=a, source=b % 5, to_west=0, to_east=1, deal=0, listeners=b % 4)
        case Unit.PARAM_LOADER:
            return {"base": a * 16, "channels": b}
        case _:
            loops = [{"count": 1 + level % 3, "stride": -a * level} for level in range(4)]
            return {"base": b << 8, "words": a, "compressed": b % 2, "loops": loops}


@st.composite
def works(draw: st.DrawFn) -> tuple[Unit, dict[Place, dict[str, Any]]]:
    """A kind of unit, some instances of it, a descriptor for each."""
    unit = draw(st.sampled_from(UNITS))
    places = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, COUNTS[unit] - 1))
    chosen = draw(st.lists(places, unique=True, max_size=24))
    values = st.tuples(st.integers(0, 3), st.integers(0, 2))
    return unit, {place: descriptor(unit, *draw(values)) for place in chosen}


@st.composite
def ramped(draw: st.DrawFn) -> tuple[Unit, dict[Place, dict[str, Any]]]:
    """Addresses that rise over the mesh, up and down and around 2^32, but for some."""
    number = st.sampled_from([0, 8, 0x1000, -0x1800, 0x7F_FFF8, -0x80_0000, 0x80_0000, 12345])
    everywhere = [(y, x, i) for y in range(3) for x in range(2) for i in range(2)]
    missing = draw(st.lists(st.sampled_from(everywhere), max_size=3))
    others = draw(st.dictionaries(st.sampled_from(everywhere), st.integers(0, 2**32 - 1)))
    base, row, col, per_number = draw(st.integers(0, 2**32 - 1)), *(draw(number) for _ in "123")
    return Unit.IACT_LOADER, {
        (y, x, i): {
            **descriptor(Unit.IACT_LOADER, 1, draw(st.integers(0, 1))),
            "base": others.get((y, x, i), (base + y * row + x * col + i * per_number) % 2**32),
        }
        for y, x, i in everywhere
        if (y, x, i) not in missing
    }


@given(st.lists(st.one_of(works(), ramped()), max_size=8))
@settings(max_examples=100, deadline=None)
def test_every_instance_gets_what_was_asked(steps: list[Any]) -> None:
    program = Program(CONFIG)
    expected: defaultdict[tuple[int, Place], list[dict[int, int]]] = defaultdict(list)
    for unit, descriptors in steps:
        program.write_all(unit, descriptors)
        for place, values in descriptors.items():
            expected[int(unit), place].append(words_of(CONFIG, unit, values))
    ports = Ports(CONFIG)
    ports.replay(program.instructions)
    assert ports.started == expected
    # Nobody else's words are touched.
    assert set(ports.held) == set(expected)


def test_equal_descriptors_take_one_write_a_word() -> None:
    config = PRESETS["eyeriss_v2"]()
    program = Program(config)
    values = {name: 1 for name, _ in Layouts(config).pe}
    places = [(y, x, i) for y in range(8) for x in range(2) for i in range(12)]
    program.write_all(Unit.PE, dict.fromkeys(places, values))
    words = len(words_of(config, Unit.PE, values))
    assert len(program.instructions) == 3 + words
    # Again: only the word that starts them. One field changed: only its word.
    before = len(program.instructions)
    program.write_all(Unit.PE, dict.fromkeys(places, values))
    assert len(program.instructions) == before + 1
    program.write_all(Unit.PE, dict.fromkeys(places, {**values, "groups": 7}))
    assert len(program.instructions) == before + 2


def test_exceptions_are_painted_over() -> None:
    config = PRESETS["eyeriss_v2"]()
    program = Program(config)
    places = [(y, x, 0) for y in range(8) for x in range(2)]
    values = {place: {"base": 64, "channels": 16} for place in places}
    for at, place in enumerate([(0, 1, 0), (3, 0, 0), (6, 1, 0)]):
        values[place] = {"base": 128 + 8 * at, "channels": 16}
    program.write_all(Unit.PARAM_LOADER, values)
    ports = Ports(config)
    ports.replay(program.instructions)
    # `base` for all, three exceptions, then `channels` with go for all.
    assert ports.writes == 5
    for place in places:
        key = (int(Unit.PARAM_LOADER), place)
        assert ports.started[key] == [words_of(config, Unit.PARAM_LOADER, values[place])]


def loaders(row: int, col: int, number: int, **more: int) -> dict[Place, dict[str, Any]]:
    """Parameter loaders of `eyeriss_v2`, which has 8 x 2 clusters."""
    return {
        (y, x, 0): {"base": (number + y * row + x * col) % 2**32, "channels": 16, **more}
        for y in range(8)
        for x in range(2)
    }


def replayed(program: Program, descriptors: dict[Place, dict[str, Any]]) -> Ports:
    ports = Ports(program.config)
    ports.replay(program.instructions)
    for place, values in descriptors.items():
        expected = words_of(program.config, Unit.PARAM_LOADER, values)
        assert ports.started[int(Unit.PARAM_LOADER), place][-1] == expected
    return ports


def test_ramps_take_one_write() -> None:
    program = Program(PRESETS["eyeriss_v2"]())
    values = loaders(0x4000, -0x100, 0xFFFF_F000)
    program.write_all(Unit.PARAM_LOADER, values)
    ports = replayed(program, values)
    # ROWS, COLS, STEP, a ramp, and the channels with go.
    assert len(program.instructions) == 5 and ports.ramps == 1 and ports.writes == 2
    # The steps stay: one ramp, which starts them. Flat words do not need them to be zero.
    for values in (loaders(0x4000, -0x100, 8), loaders(0, 0, 24)):
        before = len(program.instructions)
        program.write_all(Unit.PARAM_LOADER, values)
        assert len(program.instructions) == before + 1
        replayed(program, values)
    # Other steps are set anew, and an exception is written for itself.
    values = loaders(-0x80_0000, 0x7F_FFFF, 8)
    values[5, 1, 0]["base"] = 1
    before = len(program.instructions)
    program.write_all(Unit.PARAM_LOADER, values)
    assert len(program.instructions) <= before + 5
    assert replayed(program, values).ones <= 2


def test_steps_that_do_not_fit_are_not_used() -> None:
    program = Program(PRESETS["eyeriss_v2"]())
    values = loaders(0x80_0000, 0, 0)
    program.write_all(Unit.PARAM_LOADER, values)
    ports = replayed(program, values)
    assert ports.ramps == 0 and ports.ones == 16


def test_one_instance_takes_no_masks() -> None:
    program = Program(PRESETS["eyeriss_v2"]())
    values = {(7, 1, 0): {"base": 8, "channels": 2}}
    program.write_all(Unit.PARAM_LOADER, values)
    assert len(program.instructions) == 2
    assert replayed(program, values).ones == 2
    assert program.instructions[1] == 7 << 58 | 10 << 54 | 7 << 49 | 1 << 44 | 1 << 32 | 8


def test_one_number_takes_no_mask_of_units() -> None:
    config = PRESETS["eyeriss_v2"]()
    program = Program(config)
    places = [(y, x, 2) for y in range(8) for x in range(2)]
    values = {name: 1 for name, _ in Layouts(config).weight_router}
    program.write_all(Unit.WEIGHT_ROUTER, dict.fromkeys(places, values))
    assert [word >> 58 for word in program.instructions] == [1, 2, 8, 8]


def test_plans_are_the_same_every_time() -> None:
    values = loaders(0x4000, 0x100, 0)
    values[0, 0, 0]["base"], values[7, 1, 0]["channels"] = 99, 2
    programs = [Program(PRESETS["eyeriss_v2"]()) for _ in range(2)]
    programs[0].write_all(Unit.PARAM_LOADER, values)
    programs[1].write_all(Unit.PARAM_LOADER, dict(reversed(values.items())))
    assert programs[0].instructions == programs[1].instructions


def test_select_and_write() -> None:
    program = Program(CONFIG)
    program.select(rows=[0, 2], cols=[1], units=[0, 1])
    values = descriptor(Unit.IACT_LOADER, 1, 2)
    program.write(Unit.IACT_LOADER, values)
    ports = Ports(CONFIG)
    ports.replay(program.instructions)
    places = [(y, 1, i) for y in (0, 2) for i in (0, 1)]
    assert set(ports.started) == {(int(Unit.IACT_LOADER), place) for place in places}


def test_control_instructions() -> None:
    program = Program(CONFIG)
    program.layer(65535)
    program.wait()
    program.end()
    assert program.instructions == (6 << 58 | 65535, 5 << 58, 0)
    with pytest.raises(ValueError, match=r"layer 65536: must be within 0..65535"):
        program.layer(65536)


def test_nothing_is_written_when_a_descriptor_is_bad() -> None:
    program = Program(CONFIG)
    good = {"base": 0, "channels": 2}
    with pytest.raises(ValueError, match=r"PARAM_LOADER \(0, 0, 1\): there are \(3, 2, 1\)"):
        program.write_all(Unit.PARAM_LOADER, {(0, 0, 0): good, (0, 0, 1): good})
    with pytest.raises(ValueError, match=r"channels = 65536: must be within 0..65535"):
        bad = {"base": 0, "channels": 65536}
        program.write_all(Unit.PARAM_LOADER, {(0, 0, 0): good, (1, 0, 0): bad})
    with pytest.raises(ValueError, match="missing or unknown fields"):
        program.write_all(Unit.PARAM_LOADER, {(0, 0, 0): {"base": 0}})
    assert program.instructions == ()
    program.write_all(Unit.PARAM_LOADER, {})
    assert program.instructions == ()


# -- binary -------------------------------------------------------------------------------------


def binary() -> tuple[Program, bytearray]:
    program = Program(CONFIG)
    program.write_all(Unit.PARAM_LOADER, {(1, 1, 0): {"base": 8, "channels": 4}})
    program.end()
    return program, bytearray(program.to_bytes())


def test_header() -> None:
    program, content = binary()
    body = bytes(content[32:])
    assert content[:4] == b"RWMP"
    fields = struct.unpack_from("<7I", content, 4)
    count = len(program.instructions)
    assert fields == (2, CONFIG.hash, count, zlib.crc32(body), count + 4, 0, 0)
    assert struct.unpack(f"<{count}Q", body) == program.instructions
    assert Program.from_bytes(CONFIG, bytes(content)) == program.instructions
    assert Program.from_bytes(CONFIG, bytes(content) + b"more") == program.instructions


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0, "program magic is 0x"),
        (4, "program version is"),
        (8, "program is for configuration 0x"),
        (12, "program length"),
        (16, "program CRC is 0x"),
        (20, "program length"),
        (24, "program version is"),
        (31, "program version is"),
        (32, "program CRC is 0x"),
        (-1, "program CRC is 0x"),
    ],
)
def test_damage_is_found(at: int, message: str) -> None:
    _, content = binary()
    content[at] ^= 0x10
    with pytest.raises(ProgramError, match=message):
        Program.from_bytes(CONFIG, bytes(content))


@pytest.mark.parametrize("size", [0, 31, 32, -1])
def test_truncation_is_found(size: int) -> None:
    _, content = binary()
    with pytest.raises(ProgramError, match="shorter than its header|program length"):
        Program.from_bytes(CONFIG, bytes(content[:size]))


def test_another_configuration_is_refused() -> None:
    _, content = binary()
    with pytest.raises(ProgramError, match="program is for configuration"):
        Program.from_bytes(PRESETS["demo"](), bytes(content))


def test_opcodes_are_those_of_the_model() -> None:
    assert [int(op) for op in Opcode] == list(range(12))
    assert (Opcode.ROWS, Opcode.COLS, Opcode.UNITS, Opcode.WRITE) == (1, 2, 3, 4)
    assert (Opcode.ONE, Opcode.WRITE_NUMBER, Opcode.STEP) == (7, 8, 9)
    assert (Opcode.RAMP, Opcode.RAMP_NUMBER) == (10, 11)
