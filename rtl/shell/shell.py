"""The accelerator on a board: serial link, registers, memory."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from rowmesh.rtl.axi.signatures import axi4_signature, flat_members, join_flat
from rowmesh.rtl.config import Config
from rowmesh.rtl.shell.axi_merge import AxiMerge
from rowmesh.rtl.shell.baud import DEFAULT_BAUD, divisor_for
from rowmesh.rtl.shell.block_ram import PAGE_BYTES, BlockRam
from rowmesh.rtl.shell.bus import MEMORY_LIMIT
from rowmesh.rtl.shell.host_link import HostLink
from rowmesh.rtl.top import Top

__all__ = ["MEMORIES", "MOST_BLOCK_BYTES", "Shell"]

#: Kinds of memory: block RAM in the shell, or a port for a DRAM controller.
MEMORIES = ("block", "axi")
#: More block RAM than any ECP5 has.
MOST_BLOCK_BYTES = 1 << 20


class Shell(wiring.Component):
    """Everything that a board needs but the clock.

    Parameters
    ----------
    config : Config
        The accelerator.
    clock_hz : int
        Frequency of the clock.
    baud : int
        Bits a second on the serial line.
    memory_bytes : int
        Size of memory, a multiple of 4096: of the block RAM, or of what is behind the AXI port.
    memory : str
        ``block`` or ``axi``.

    Attributes
    ----------
    rx : In(1), tx : Out(1)
        The serial line: 8 data bits, no parity, one stop bit.
    leds : Out(4)
        From bit 0: heartbeat (about 1 Hz), a byte came within the last tenth of a second, the
        accelerator's interrupt, an error of the link or the bus since it was last asked for.
    m_axi_* : AXI4 master
        With ``memory="axi"``: all masters of the accelerator and the host, merged, one ID, in
        order. Address 0 is the first byte of memory; accesses beyond it must get an error response.

    Raises
    ------
    ValueError
        Names the field, its value and the limit.

    Notes
    -----
    Addresses of the host: `rowmesh.rtl.shell.bus`, `shell_registers`. The serial line is read
    through a synchronizer; `tx` and the port's addresses and data come from registers.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock_hz: int,
        baud: int = DEFAULT_BAUD,
        memory_bytes: int,
        memory: str = "block",
    ) -> None:
        self.config, self.memory = config, memory
        self.clock_hz, self.baud, self.memory_bytes = clock_hz, baud, memory_bytes
        for name, value in (("clock_hz", clock_hz), ("baud", baud), ("memory_bytes", memory_bytes)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} = {value!r}: must be an integer")
        self.divisor = divisor_for(clock_hz, baud)
        if memory not in MEMORIES:
            raise ValueError(f"memory = {memory!r}: must be one of {', '.join(MEMORIES)}")
        most = MOST_BLOCK_BYTES if memory == "block" else MEMORY_LIMIT
        if not PAGE_BYTES <= memory_bytes <= most:
            raise ValueError(
                f"memory_bytes = {memory_bytes}: must be within {PAGE_BYTES}..{most} "
                f"(memory = {memory})"
            )
        if memory_bytes % PAGE_BYTES:
            raise ValueError(f"memory_bytes = {memory_bytes}: must be a multiple of {PAGE_BYTES}")
        members: dict[str, Any] = {"rx": In(1), "tx": Out(1), "leds": Out(4)}
        if memory == "axi":
            members |= flat_members("m_axi", axi4_signature(config.axi_data_bits))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        m.submodules.top = top = Top(c)
        link: Any = HostLink(
            c.axi_data_bits,
            clock_hz=self.clock_hz,
            baud=self.baud,
            memory_bytes=self.memory_bytes,
        )
        m.submodules.link = link
        m.submodules.merge = merge = AxiMerge(c.axi_data_bits, c.axi_masters + 1)
        ports: Any = merge.i
        join_flat(m, link.registers, top, "s_axil")
        for i in range(c.axi_masters):
            join_flat(m, ports[i], top, f"m{i}_axi")
        connect(m, link.memory, ports[-1])
        self._build_memory(m, merge.o)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            self.leds.eq(link.leds),
            link.irq.eq(top.irq),
        ]
        return m

    def _build_memory(self, m: Module, port: Any) -> None:
        if self.memory == "axi":
            join_flat(m, port, self, "m_axi")
            return
        m.submodules.memory = ram = BlockRam(self.config.axi_data_bits, self.memory_bytes)
        connect(m, port, ram.axi)
