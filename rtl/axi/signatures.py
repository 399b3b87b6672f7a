"""AXI4 and AXI4-Lite ports with the standard signal names.

Signatures are seen from the master: a master has ``Out(axi4_signature(...))``. A member of a
component comes out in Verilog as ``<port>__awaddr``; `flat_members` gives a top level the usual
``<port>_awaddr``.
"""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import ADDRESS_BITS

__all__ = [
    "MAX_BEATS",
    "RESP_DECERR",
    "RESP_OKAY",
    "RESP_SLVERR",
    "axi4_read_signature",
    "axi4_signature",
    "axi4_write_signature",
    "axi_lite_signature",
    "beat_bytes",
    "burst_layout",
    "flat_members",
    "join_flat",
    "write_beat_layout",
]

#: Beats of the longest burst that the DMA channels ask for.
MAX_BEATS = 16
RESP_OKAY, RESP_SLVERR, RESP_DECERR = 0b00, 0b10, 0b11
BURST_INCR = 1
#: Normal memory, not cacheable, bufferable.
CACHE_BUFFERABLE = 0b0011


def beat_bytes(config: Config) -> int:
    """Bytes of one AXI beat."""
    return config.axi_data_bits // 8


def burst_layout() -> data.StructLayout:
    """What a DMA channel asks its master for: `length` is the number of beats less one."""
    return data.StructLayout({"address": ADDRESS_BITS, "length": 8})


def write_beat_layout(config: Config) -> data.StructLayout:
    """A beat of a write burst."""
    return data.StructLayout({"data": config.axi_data_bits, "strobe": beat_bytes(config)})


def _address_members(letter: str) -> dict[str, wiring.Member]:
    widths = {
        "id": 1,
        "addr": ADDRESS_BITS,
        "len": 8,
        "size": 3,
        "burst": 2,
        "lock": 1,
        "cache": 4,
        "prot": 3,
        "valid": 1,
    }
    members = {f"a{letter}{name}": Out(width) for name, width in widths.items()}
    members[f"a{letter}ready"] = In(1)
    return members


def axi4_read_signature(data_bits: int) -> wiring.Signature:
    """Read channels of an AXI4 master."""
    return wiring.Signature(
        {
            **_address_members("r"),
            "rid": In(1),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def axi4_write_signature(data_bits: int) -> wiring.Signature:
    """Write channels of an AXI4 master."""
    return wiring.Signature(
        {
            **_address_members("w"),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def axi4_signature(data_bits: int) -> wiring.Signature:
    """All five channels of an AXI4 master."""
    write, read = axi4_write_signature(data_bits), axi4_read_signature(data_bits)
    return wiring.Signature({**dict(write.members.items()), **dict(read.members.items())})


def axi_lite_signature(addr_bits: int, data_bits: int = 32) -> wiring.Signature:
    """All five channels of an AXI4-Lite master."""
    return wiring.Signature(
        {
            "awaddr": Out(addr_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(data_bits),
            "wstrb": Out(data_bits // 8),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(addr_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(data_bits),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def flat_members(prefix: str, signature: wiring.Signature) -> dict[str, wiring.Member]:
    """Members of a top level that shows a port as ``<prefix>_<signal>`` in Verilog."""
    return {f"{prefix}_{name}": member for name, member in signature.members.items()}


def join_flat(m: Module, port: Any, component: Any, prefix: str) -> None:
    """Connect a port to a component's signals ``<prefix>_<signal>`` (see `flat_members`).

    An output of the port drives the signal, which is an input of a submodule or an output of the
    component itself; and the other way round.
    """
    for name, member in port.signature.members.items():
        flat, inner = getattr(component, f"{prefix}_{name}"), getattr(port, name)
        m.d.comb += flat.eq(inner) if member.flow is Out else inner.eq(flat)
