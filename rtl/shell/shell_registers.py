"""The shell's own registers: what the board is, and how the link fares."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.control.registers import Access, Field, Register
from rowmesh.rtl.shell.bus import SHELL_BASE, request_layout, response_layout

__all__ = ["ERRORS", "SHELL_MAGIC", "SHELL_VERSION", "ShellRegisters", "shell_registers"]

#: "RWSH" as the bytes lie in memory.
SHELL_MAGIC = int.from_bytes(b"RWSH", "little")
#: Changes when a host must change.
SHELL_VERSION = 1
#: What is counted, up to 255.
ERRORS = {
    "framing": "Bytes dropped because their stop bit was low.",
    "overrun": "Bytes dropped because there was no room.",
    "abandoned": "Commands dropped because they did not go on, or are not known.",
    "bus": "Accesses that the bus answered with an error.",
}
_ERROR_BITS = 8


def shell_registers(
    *, memory_bytes: int = 0, clock_hz: int = 0, baud: int = 0
) -> dict[str, Register]:
    """The registers by name; offsets count from `SHELL_BASE`.

    Parameters
    ----------
    memory_bytes, clock_hz, baud : int
        Constants of a shell, which a host that reads them does not know.
    """
    errors = tuple(Field(name, _ERROR_BITS, 0, doc) for name, doc in ERRORS.items())
    rows: list[tuple[str, Access, tuple[Field, ...], str]] = [
        ("MAGIC", Access.CONST, (Field("value", 32, SHELL_MAGIC, '"RWSH".'),), "Identification."),
        ("VERSION", Access.CONST, (Field("value", 32, SHELL_VERSION, "Of these registers."),), ""),
        ("MEMORY_BYTES", Access.CONST, (Field("bytes", 32, memory_bytes, "Size of memory."),), ""),
        ("CLOCK_HZ", Access.CONST, (Field("value", 32, clock_hz, "Of the accelerator."),), ""),
        ("BAUD", Access.CONST, (Field("value", 32, baud, "Of the serial line."),), ""),
        ("STATUS", Access.RO, (Field("irq", 1, 0, "The accelerator's interrupt."),), ""),
        (
            "LINK_SUM",
            Access.RO,
            (Field("sum", 32, 0, "Of data XOR word address, over all words moved before."),),
            "",
        ),
        ("ERRORS", Access.RO, errors, "Counters that stop at 255; any write clears all of them."),
    ]
    return {name: Register(name, 4 * i, *rest) for i, (name, *rest) in enumerate(rows)}  # type: ignore[arg-type]


class ShellRegisters(wiring.Component):
    """Answer requests to the addresses that neither memory nor accelerator has.

    Parameters
    ----------
    memory_bytes, clock_hz, baud : int
        Constants.

    Attributes
    ----------
    request : In(stream of `request_layout`), response : Out(stream of `response_layout`)
        Unknown addresses, and writes to anything but ERRORS, give an error.
    irq : In(1), sum : In(32)
        What STATUS and LINK_SUM read.
    errors : In(struct)
        Pulses, by name as `ERRORS`.
    any_error : Out(1)
        A counter is not zero.

    Notes
    -----
    1 cycle from the request to the response. Ready depends on registers only; the response comes
    from registers.
    """

    def __init__(self, *, memory_bytes: int, clock_hz: int, baud: int) -> None:
        self.constants = {"memory_bytes": memory_bytes, "clock_hz": clock_hz, "baud": baud}
        super().__init__(
            {
                "request": In(stream.Signature(request_layout())),
                "response": Out(stream.Signature(response_layout())),
                "irq": In(1),
                "sum": In(32),
                "errors": In(data.StructLayout(dict.fromkeys(ERRORS, 1))),
                "any_error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        registers = shell_registers(**self.constants)
        counters = {name: Signal(_ERROR_BITS, name=f"{name}_errors") for name in ERRORS}
        values: dict[str, Any] = {
            "STATUS": self.irq,
            "LINK_SUM": self.sum,
            "ERRORS": Cat(counters.values()),
        }
        clear = Signal()
        for name, counter in counters.items():
            with m.If(clear):
                m.d.sync += counter.eq(self.errors[name])
            with m.Elif(self.errors[name] & ~counter.all()):
                m.d.sync += counter.eq(counter + 1)
        m.d.comb += self.any_error.eq(Cat(counters.values()).any())

        asked: Any = self.request.payload
        answer: Any = self.response.payload
        m.d.comb += self.request.ready.eq(~self.response.valid)
        with m.If(self.response.ready):
            m.d.sync += self.response.valid.eq(0)
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [self.response.valid.eq(1), answer.error.eq(1), answer.data.eq(0)]
            with m.Switch(asked.address):
                for name, register in registers.items():
                    with m.Case((SHELL_BASE + register.offset) >> 2):
                        constant = sum(f.reset << register.low(f.name) for f in register.fields)
                        m.d.sync += [
                            answer.data.eq(values.get(name, constant)),
                            answer.error.eq(asked.write if name != "ERRORS" else 0),
                        ]
                        if name == "ERRORS":
                            m.d.comb += clear.eq(asked.write)
        return m
