"""The register map: one description for the decoder, the driver, the C header and the manual.

`register_map` gives the registers of a configuration. `Csr` makes the decoder from it, the driver
finds offsets and fields in it, `to_markdown` and `to_c_header` write it down.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from rowmesh.rtl.codes import FAULT_BITS, Activity, Fault, Opcode, Unit
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.counters import counter_select

__all__ = [
    "ADDR_BITS",
    "HEADER_WORDS",
    "MAGIC",
    "PROGRAM_MAGIC",
    "PROGRAM_VERSION",
    "VERSION",
    "Access",
    "Field",
    "Register",
    "RegisterMap",
    "State",
    "register_map",
    "registers_table",
    "to_c_header",
    "to_markdown",
]

#: "RWMH" as the bytes lie in memory.
MAGIC = int.from_bytes(b"RWMH", "little")
#: Version of the register map: changes when a driver must change.
VERSION = 2
#: "RWMP": first word of a program.
PROGRAM_MAGIC = int.from_bytes(b"RWMP", "little")
#: Version of the program format.
PROGRAM_VERSION = 2
#: 64-bit words before the first instruction.
HEADER_WORDS = 4
#: Bits of a register's byte address.
ADDR_BITS = 12
REGISTER_BITS = 32
LAYER_BITS = 16


class Access(enum.StrEnum):
    """What the host may do with a field."""

    CONST = "constant"
    RO = "read only"
    RW = "read, write"
    STROBE = "write 1 to act, reads 0"
    W1C = "read, write 1 to clear"


class State(enum.IntEnum):
    """Bits of the STATUS register; exactly one is set."""

    IDLE = 0
    RUNNING = 1
    PAUSED = 2
    DONE = 3
    FAULT = 4


@dataclass(frozen=True)
class Field:
    """Some bits of a register; fields follow each other from bit 0 up.

    Parameters
    ----------
    name : str
        Lower case.
    bits : int
        Width.
    reset : int
        Value after reset, or the constant.
    doc : str
        One sentence for the manual.
    access : Access, optional
        Where it differs from the register's.
    """

    name: str
    bits: int
    reset: int
    doc: str
    access: Access | None = None


@dataclass(frozen=True)
class Register:
    """One 32-bit register.

    Parameters
    ----------
    name : str
        Upper case.
    offset : int
        Byte offset, a multiple of 4.
    access : Access
        Of the fields that do not say otherwise.
    fields : tuple of Field
        From bit 0 up.
    doc : str
        One sentence for the manual.
    """

    name: str
    offset: int
    access: Access
    fields: tuple[Field, ...]
    doc: str = ""

    def __post_init__(self) -> None:
        if self.offset % 4 or not 0 <= self.offset < 1 << ADDR_BITS:
            raise ValueError(f"{self.name}: offset 0x{self.offset:x} must be a multiple of 4")
        if sum(field.bits for field in self.fields) > REGISTER_BITS:
            raise ValueError(f"{self.name}: more than {REGISTER_BITS} bits")

    def field(self, name: str) -> Field:
        """Find a field by name; KeyError when there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.name} has no field {name!r}")

    def low(self, name: str) -> int:
        """Number of a field's lowest bit."""
        index = self.fields.index(self.field(name))
        return sum(field.bits for field in self.fields[:index])

    def mask(self, name: str) -> int:
        """Bits of a field, in place."""
        return ((1 << self.field(name).bits) - 1) << self.low(name)

    def access_of(self, field: Field) -> Access:
        """What the host may do with a field of this register."""
        return field.access or self.access

    def signal(self, field: Field) -> str:
        """Name of a field among all fields: the register's when it is the only one."""
        name = self.name.lower()
        return name if len(self.fields) == 1 else f"{name}_{field.name}"

    def extract(self, name: str, value: int) -> int:
        """Take a field out of the register's value."""
        return (value & self.mask(name)) >> self.low(name)

    def compose(self, values: Mapping[str, int]) -> int:
        """The register's value with these fields, the others 0.

        Raises
        ------
        ValueError
            A value does not fit its field.
        """
        word = 0
        for name, value in values.items():
            bits = self.field(name).bits
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{self.name}.{name} = {value}: must fit {bits} bits")
            word |= value << self.low(name)
        return word


@dataclass(frozen=True)
class RegisterMap:
    """All registers of one configuration, by rising offset."""

    config: Config
    registers: tuple[Register, ...]

    def __post_init__(self) -> None:
        offsets = [register.offset for register in self.registers]
        if offsets != sorted(set(offsets)):
            raise ValueError("register offsets must rise")
        if len(self._by_name) != len(self.registers):
            raise ValueError("two registers have the same name")

    @cached_property
    def _by_name(self) -> dict[str, Register]:
        return {register.name: register for register in self.registers}

    def __getitem__(self, name: str) -> Register:
        return self._by_name[name]

    def fields(self, *access: Access) -> list[tuple[Register, Field]]:
        """All fields with one of these kinds of access, in order."""
        return [
            (register, field)
            for register in self.registers
            for field in register.fields
            if register.access_of(field) in access
        ]


def register_map(config: Config) -> RegisterMap:
    """The registers of a configuration."""
    c = config
    selected = ("Cluster row", "Cluster column", "PE", "Entry")
    select = zip(counter_select(config), selected, strict=True)
    geometry = (
        Field("cluster_rows", 8, c.cluster_rows, "Rows of the cluster mesh."),
        Field("cluster_cols", 8, c.cluster_cols, "Columns of the cluster mesh."),
        Field("pe_rows", 8, c.pe_rows, "Rows of PEs of a cluster."),
        Field("pe_cols", 8, c.pe_cols, "Columns of PEs of a cluster."),
    )
    control = (
        Field("start", 1, 0, "Run the program; ignored while one runs.", Access.STROBE),
        Field("soft_reset", 1, 0, "Stop the bus masters, reset the array, go idle.", Access.STROBE),
        Field("single_step", 1, 0, "Pause before every layer but the first."),
        Field("continue", 1, 0, "Leave a pause.", Access.STROBE),
    )
    events = ("done", "fault", "paused")
    docs = {"done": "The program ended.", "fault": "A fault stopped it.", "paused": "It paused."}
    windows = {
        "READ_BASE": "First byte that may be read.",
        "READ_LIMIT": "First byte after those that may be read.",
        "WRITE_BASE": "First byte that may be written.",
        "WRITE_LIMIT": "First byte after those that may be written.",
    }
    rows: list[tuple[str, Access, tuple[Field, ...], str]] = [
        ("MAGIC", Access.CONST, (Field("value", 32, MAGIC, '"RWMH".'),), "Identification."),
        ("VERSION", Access.CONST, (Field("value", 32, VERSION, "Of this register map."),), ""),
        (
            "CONFIG_HASH",
            Access.CONST,
            (Field("value", 32, c.hash, "Hash of the configuration that was built."),),
            "A program made for another configuration is refused.",
        ),
        ("GEOMETRY", Access.CONST, geometry, "Sizes of the array."),
        ("CONTROL", Access.RW, control, "Commands."),
        (
            "STATUS",
            Access.RO,
            tuple(
                Field(state.name.lower(), 1, int(state is State.IDLE), f"State {state.name}.")
                for state in State
            ),
            "State of the controller: one bit is set.",
        ),
        ("FAULT", Access.RO, (Field("code", FAULT_BITS, 0, "First fault of the run."),), ""),
        ("FAULT_LAYER", Access.RO, (Field("layer", LAYER_BITS, 0, "Layer at the fault."),), ""),
        (
            "FAULT_INDEX",
            Access.RO,
            (Field("index", 24, 0, "Instruction at the fault; the first one is 0."),),
            "",
        ),
        ("IRQ_ENABLE", Access.RW, tuple(Field(e, 1, 0, docs[e]) for e in events), ""),
        ("IRQ_STATUS", Access.W1C, tuple(Field(e, 1, 0, docs[e]) for e in events), ""),
        (
            "PROGRAM",
            Access.RW,
            (Field("address", 32, 0, "Byte address of the program, a multiple of 8."),),
            "",
        ),
        (
            "PROGRAM_WORDS",
            Access.RW,
            (Field("words", 24, 0, "64-bit words of the program, header included."),),
            "A program that says it is longer is refused.",
        ),
        *((name, Access.RW, (Field("address", 32, 0, doc),), "") for name, doc in windows.items()),
        ("CYCLES_LOW", Access.RO, (Field("value", 32, 0, "Cycles of the run, low half."),), ""),
        ("CYCLES_HIGH", Access.RO, (Field("value", 32, 0, "Cycles of the run, high half."),), ""),
        ("LAYER", Access.RO, (Field("layer", LAYER_BITS, 0, "Layer that runs."),), ""),
        (
            "COUNTER_SELECT",
            Access.RW,
            tuple(
                Field(str(name), field.width, 0, f"{doc} whose counter is read.")
                for (name, field), doc in select
            ),
            "Entries: " + ", ".join(f"{a.value} {a.name}" for a in Activity) + ", 7 MACs.",
        ),
        (
            "COUNTER_VALUE",
            Access.RO,
            (Field("value", 32, 0, "The selected counter; the read waits until it is there."),),
            "Reading moves COUNTER_SELECT on: next entry, PE, column, row, at the end the first.",
        ),
        ("BEATS_READ", Access.RO, (Field("beats", 32, 0, "AXI beats read in the run."),), ""),
        ("BEATS_WRITTEN", Access.RO, (Field("beats", 32, 0, "AXI beats written."),), ""),
    ]
    return RegisterMap(
        config,
        tuple(Register(name, 4 * i, *rest) for i, (name, *rest) in enumerate(rows)),  # type: ignore[arg-type]
    )


def _span(register: Register, field: Field) -> str:
    low = register.low(field.name)
    return f"{low + field.bits - 1}..{low}" if field.bits > 1 else str(low)


def to_markdown(config: Config) -> str:
    """The register map as tables for the manual."""
    return registers_table(register_map(config).registers)


def registers_table(registers: Iterable[Register]) -> str:
    """Registers as a table of Markdown."""
    lines = [
        "| offset | register | bits | field | access | reset | meaning |",
        "|---|---|---|---|---|---|---|",
    ]
    for register in registers:
        head = f"0x{register.offset:03x} | {register.name}"
        for i, field in enumerate(register.fields):
            doc = field.doc if i or not register.doc else f"{register.doc} {field.doc}"
            lines.append(
                f"| {head} | {_span(register, field)} | {field.name} | "
                f"{register.access_of(field)} | 0x{field.reset:x} | {doc} |"
            )
            head = " | "
    return "\n".join(lines) + "\n"


def to_c_header(config: Config) -> str:
    """Offsets, masks and codes as a C header."""
    guard = "ROWMESH_REGISTERS_H"
    lines = [
        "/* Made by rowmesh from the register map: do not edit. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        f"#define ROWMESH_MAGIC 0x{MAGIC:08x}u",
        f"#define ROWMESH_VERSION {VERSION}u",
        f"#define ROWMESH_CONFIG_HASH 0x{config.hash:08x}u",
        f"#define ROWMESH_PROGRAM_MAGIC 0x{PROGRAM_MAGIC:08x}u",
        f"#define ROWMESH_PROGRAM_VERSION {PROGRAM_VERSION}u",
        f"#define ROWMESH_PROGRAM_HEADER_WORDS {HEADER_WORDS}u",
    ]
    for kind, codes in (("OP", Opcode), ("FAULT", Fault), ("UNIT", Unit), ("ACTIVITY", Activity)):
        lines.append("")
        lines += [f"#define ROWMESH_{kind}_{code.name} {code.value}u" for code in codes]
    for register in register_map(config).registers:
        name = f"ROWMESH_{register.name}"
        lines += ["", f"#define {name}_OFFSET 0x{register.offset:03x}u"]
        for field in register.fields:
            full = f"{name}_{field.name.upper()}"
            lines.append(f"#define {full}_SHIFT {register.low(field.name)}u")
            lines.append(f"#define {full}_MASK 0x{register.mask(field.name):08x}u")
    lines += ["", f"#endif /* {guard} */"]
    return "\n".join(lines) + "\n"
