"""The host's registers on AXI4-Lite."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.axi.signatures import RESP_OKAY, RESP_SLVERR, axi_lite_signature
from rowmesh.rtl.config import Config
from rowmesh.rtl.control.counters import counter_select, counter_settle, next_counter
from rowmesh.rtl.control.registers import ADDR_BITS, Access, Field, Register, register_map

__all__ = ["Csr"]

_WRITABLE = (Access.RW, Access.STROBE, Access.W1C)


class Csr(wiring.Component):
    """AXI4-Lite slave that is the register map of `registers.py`.

    Writes honour the byte strobes. A read of an address without a register gives 0 and SLVERR; a
    write to one, or to a register without a field to write, changes nothing and gives SLVERR. The
    low two address bits do not count.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    bus : In(`axi_lite_signature`)
        The slave port.
    control : Out(struct)
        Every field that the host writes; commands are high for one cycle.
    status : In(struct)
        Every field that the machine writes.
    events : In(struct)
        Pulses that set the bits of IRQ_STATUS; an event wins against a clear in the same cycle.
    irq : Out(1)
        High while an enabled bit of IRQ_STATUS is set.

    Notes
    -----
    One access of each kind at a time: address and data of a write are taken in any order, its
    response comes 2 cycles after the later one; a read's data comes 2 cycles after its address. A
    read of COUNTER_VALUE waits until `counter_settle` cycles have passed since COUNTER_SELECT last
    changed, and then moves it on (`next_counter`). All outputs but `irq` come from registers; ready
    depends on registers only.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.map = register_map(config)
        super().__init__(
            {
                "bus": In(axi_lite_signature(ADDR_BITS)),
                "control": Out(self._layout(Access.RW, Access.STROBE)),
                "status": In(self._layout(Access.RO)),
                "events": In(self._layout(Access.W1C)),
                "irq": Out(1),
            }
        )

    def _layout(self, *access: Access) -> data.StructLayout:
        found = self.map.fields(*access)
        return data.StructLayout({reg.signal(field): field.bits for reg, field in found})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pending: Any = Signal(self._layout(Access.W1C), name="irq_status")
        control: Any = self.control
        enabled = Cat(
            getattr(control, register.signal(field).replace("irq_status", "irq_enable"))
            & pending[register.signal(field)]
            for register, field in self.map.fields(Access.W1C)
        )
        m.d.comb += self.irq.eq(enabled.any())
        selects = self._write(m, pending)
        self._read(m, pending, selects)
        return m

    def _value(self, register: Register, field: Field, pending: Any) -> Any:
        """What a read of the field gives."""
        name = register.signal(field)
        match register.access_of(field):
            case Access.CONST:
                return Const(field.reset, field.bits)
            case Access.STROBE:
                return Const(0, field.bits)
            case Access.RW:
                return self.control[name]
            case Access.W1C:
                return pending[name]
            case _:
                return self.status[name]

    def _write(self, m: Module, pending: Any) -> Any:
        """Write channels; the result says that COUNTER_SELECT is written."""
        bus: Any = self.bus
        control: Any = self.control
        address = Signal(ADDR_BITS)
        word, strobe = Signal(32), Signal(4)
        have_address, have_data = Signal(), Signal()
        writes, known = Signal(), Signal()
        m.d.comb += [
            bus.awready.eq(~have_address),
            bus.wready.eq(~have_data),
            writes.eq(have_address & have_data & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [have_address.eq(1), address.eq(bus.awaddr)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [have_data.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(writes):
            m.d.sync += [
                have_address.eq(0),
                have_data.eq(0),
                bus.bvalid.eq(1),
                bus.bresp.eq(Mux(known, RESP_OKAY, RESP_SLVERR)),
            ]
        mask = Cat(bit.replicate(8) for bit in strobe)

        for register, field in self.map.fields(Access.STROBE):
            m.d.sync += control[register.signal(field)].eq(0)
        clears: dict[str, Any] = {}
        for register in self.map.registers:
            fields = [f for f in register.fields if register.access_of(f) in _WRITABLE]
            if not fields:
                continue
            hit = Signal(name=f"write_{register.name.lower()}")
            m.d.comb += hit.eq(address[2:] == register.offset >> 2)
            with m.If(hit):
                m.d.comb += known.eq(1)
            for field in fields:
                low = register.low(field.name)
                bits = slice(low, low + field.bits)
                name = register.signal(field)
                asked = word[bits] & mask[bits]
                match register.access_of(field):
                    case Access.RW:
                        with m.If(writes & hit):
                            m.d.sync += control[name].eq(control[name] & ~mask[bits] | asked)
                    case Access.STROBE:
                        with m.If(writes & hit):
                            m.d.sync += control[name].eq(asked)
                    case _:
                        clears[name] = asked & (writes & hit).replicate(field.bits)
        for name, cleared in clears.items():
            m.d.sync += pending[name].eq(pending[name] & ~cleared | self.events[name])
        return writes & (address[2:] == self.map["COUNTER_SELECT"].offset >> 2)

    def _read(self, m: Module, pending: Any, selects: Any) -> None:
        """Read channels."""
        bus: Any = self.bus
        address = Signal(ADDR_BITS)
        have_address, answers, known = Signal(), Signal(), Signal()
        settle = counter_settle(self.config)
        unsettled = Signal(range(settle + 1))
        value_at = self.map["COUNTER_VALUE"].offset >> 2
        moves = Signal()
        with m.If(selects | moves):
            m.d.sync += unsettled.eq(settle)
        with m.Elif(unsettled != 0):
            m.d.sync += unsettled.eq(unsettled - 1)
        counter = address[2:] == value_at
        waits = counter & ((unsettled != 0) | selects)
        m.d.comb += [
            bus.arready.eq(~have_address),
            answers.eq(have_address & ~bus.rvalid & ~waits),
            moves.eq(answers & counter),
        ]
        with m.If(moves):
            control: Any = self.control
            names = [str(name) for name, _ in counter_select(self.config)]
            selected = {name: control[f"counter_select_{name}"] for name in names}
            for name, value in next_counter(self.config, selected).items():
                m.d.sync += selected[name].eq(value)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [have_address.eq(1), address.eq(bus.araddr)]
        word = Signal(32)
        with m.Switch(address[2:]):
            for register in self.map.registers:
                with m.Case(register.offset >> 2):
                    fields = [self._value(register, field, pending) for field in register.fields]
                    m.d.comb += [word.eq(Cat(fields)), known.eq(1)]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(answers):
            m.d.sync += [
                have_address.eq(0),
                bus.rvalid.eq(1),
                bus.rdata.eq(word),
                bus.rresp.eq(Mux(known, RESP_OKAY, RESP_SLVERR)),
            ]
