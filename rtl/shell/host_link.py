"""From the serial line to registers and memory."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out, connect

from rowmesh.rtl.axi.signatures import axi4_signature, axi_lite_signature
from rowmesh.rtl.control.registers import ADDR_BITS
from rowmesh.rtl.shell.baud import divisor_for
from rowmesh.rtl.shell.bridge import Bridge
from rowmesh.rtl.shell.bus import TIMEOUT_SECONDS
from rowmesh.rtl.shell.host_bus import HostBus
from rowmesh.rtl.shell.lite_master import LiteMaster
from rowmesh.rtl.shell.memory_port import MemoryPort
from rowmesh.rtl.shell.shell_registers import ShellRegisters
from rowmesh.rtl.shell.uart_rx import UartRx
from rowmesh.rtl.shell.uart_tx import UartTx

__all__ = ["HostLink"]

#: Bytes that wait for the bridge while the bus is busy.
_RX_DEPTH = 16


class HostLink(wiring.Component):
    """UART, `Bridge`, and where the addresses lead; the shell's registers.

    Parameters
    ----------
    data_bits : int
        Of a beat of memory.
    clock_hz, baud : int
        Clock cycles and bits a second.
    memory_bytes : int
        What the shell's register says of the memory.

    Attributes
    ----------
    rx : In(1), tx : Out(1)
        The serial line.
    registers : Out(`axi_lite_signature`)
        The accelerator's registers.
    memory : Out(`axi4_signature`)
        The accelerator's memory.
    irq : In(1)
        What STATUS reads.
    leds : Out(4)
        See `rowmesh.rtl.shell.shell.Shell`.

    Raises
    ------
    ValueError
        The clock cannot make the baud rate.

    Notes
    -----
    Latency is that of the line. Combinational from the responses of both buses to their ready and
    to the bridge's registers; everything else comes from registers.
    """

    def __init__(self, data_bits: int, *, clock_hz: int, baud: int, memory_bytes: int) -> None:
        self.data_bits = data_bits
        self.clock_hz, self.baud, self.memory_bytes = clock_hz, baud, memory_bytes
        self.divisor = divisor_for(clock_hz, baud)
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1),
                "registers": Out(axi_lite_signature(ADDR_BITS)),
                "memory": Out(axi4_signature(data_bits)),
                "irq": In(1),
                "leds": Out(4),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.uart_rx = rx = UartRx(self.divisor)
        m.submodules.uart_tx = tx = UartTx(self.divisor)
        m.submodules.received = received = fifo.SyncFIFO(width=8, depth=_RX_DEPTH)
        m.submodules.bridge = bridge = Bridge(max(1, round(TIMEOUT_SECONDS * self.clock_hz)))
        m.submodules.host_bus = bus = HostBus()
        registers: Any = LiteMaster(ADDR_BITS)
        memory: Any = MemoryPort(self.data_bits)
        m.submodules.registers_port, m.submodules.memory_port = registers, memory
        own: Any = ShellRegisters(
            memory_bytes=self.memory_bytes, clock_hz=self.clock_hz, baud=self.baud
        )
        m.submodules.own = own
        connect(m, rx.o, received.w_stream)
        connect(m, received.r_stream, bridge.i)
        connect(m, bridge.o, tx.i)
        connect(m, bridge.request, bus.request)
        connect(m, bus.response, bridge.response)
        for name, target in (("memory", memory), ("registers", registers), ("own", own)):
            connect(m, getattr(bus, f"{name}_request"), target.request)
            connect(m, target.response, getattr(bus, f"{name}_response"))
        connect(m, registers.bus, wiring.flipped(self.registers))
        connect(m, memory.axi, wiring.flipped(self.memory))
        m.d.comb += [
            rx.rx.eq(self.rx),
            self.tx.eq(tx.tx),
            own.irq.eq(self.irq),
            own.sum.eq(bridge.sum),
            own.errors.framing.eq(rx.framing_error),
            own.errors.overrun.eq(rx.overrun),
            own.errors.abandoned.eq(bridge.abandoned),
            own.errors.bus.eq(bridge.failed),
        ]
        beat = Signal(max(2, self.clock_hz.bit_length()))
        activity = Signal(range(max(2, round(self.clock_hz / 10))))
        m.d.sync += beat.eq(beat + 1)
        with m.If(rx.o.valid):
            m.d.sync += activity.eq(~0)
        with m.Elif(activity != 0):
            m.d.sync += activity.eq(activity - 1)
        m.d.comb += self.leds.eq(Cat(beat[-1], activity != 0, self.irq, own.any_error))
        return m
