"""The 32-bit bus between the serial bridge and what it reaches, and where that lies."""

from amaranth.lib import data

__all__ = [
    "MEMORY_LIMIT",
    "READ_FAILED",
    "REGISTERS_BASE",
    "SHELL_BASE",
    "TIMEOUT_SECONDS",
    "WORD_ADDRESS_BITS",
    "request_layout",
    "response_layout",
]

#: Bits of the address of a 32-bit word.
WORD_ADDRESS_BITS = 30
#: First byte behind the room for memory, which begins at 0 as the accelerator sees it.
MEMORY_LIMIT = 0xF000_0000
#: The accelerator's registers.
REGISTERS_BASE = 0xF000_0000
#: The shell's own registers.
SHELL_BASE = 0xF000_1000
#: What a read without an answer gives.
READ_FAILED = 0xFFFF_FFFF

#: Silence of the host after which a command that is not complete is dropped, as in LiteX.
TIMEOUT_SECONDS = 0.1


def request_layout() -> data.StructLayout:
    """A read or a write of one word; `address` counts words."""
    return data.StructLayout({"write": 1, "address": WORD_ADDRESS_BITS, "data": 32})


def response_layout() -> data.StructLayout:
    """What came of it; a write has no data."""
    return data.StructLayout({"data": 32, "error": 1})
