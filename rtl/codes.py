"""Numbers with a meaning that parts of the machine and the host agree on."""

import enum

__all__ = [
    "ACTIVITY_BITS",
    "FAULT_BITS",
    "Activity",
    "Fault",
    "Opcode",
    "Source",
    "Stepping",
    "Unit",
]


class Fault(enum.IntEnum):
    """What a unit reports; 0 is no fault. The controller latches the first one."""

    NONE = 0
    PSUM_OVERFLOW = 1
    IACT_FORMAT = 2
    WEIGHT_FORMAT = 3
    RLC_FORMAT = 4
    AXI_RESPONSE = 5
    AXI_WINDOW = 6
    PROGRAM_MAGIC = 7
    PROGRAM_VERSION = 8
    PROGRAM_CONFIG = 9
    PROGRAM_CRC = 10
    PROGRAM_OPCODE = 11
    PROGRAM_LENGTH = 12


FAULT_BITS = 4


class Activity(enum.IntEnum):
    """What a PE does in one cycle: exactly one of these, so that the counters sum to 100 %."""

    IDLE = 0  # no descriptor
    COMPUTE = 1  # at least one multiplier works on a word of weights
    IACT_STALL = 2
    WEIGHT_STALL = 3
    PSUM_STALL = 4  # both psum banks wait for the drain
    DONE = 5  # all windows computed, waiting for the last drain


ACTIVITY_BITS = 3


class Unit(enum.IntEnum):
    """Kinds of units that take a descriptor; instances of a kind are chosen by a mask."""

    PE = 0
    IACT_ROUTER = 1
    WEIGHT_ROUTER = 2
    PSUM_ROUTER = 3
    IACT_LOADER = 4
    IACT_READER = 5
    WEIGHT_LOADER = 6
    PSUM_BANK = 7
    POST = 8
    OUT_WRITER = 9
    PARAM_LOADER = 10


class Source(enum.IntEnum):
    """Where a router takes its stream from (LOCAL: GLB bank or DMA channel)."""

    LOCAL = 0
    NORTH = 1
    SOUTH = 2
    WEST = 3
    EAST = 4


class Opcode(enum.IntEnum):
    """Operations of a program: 64-bit words, see `Layouts.instruction` and `Layouts.steps`."""

    END = 0
    ROWS = 1  # data: mask of cluster rows that the next WRITEs reach
    COLS = 2  # data: mask of cluster columns
    UNITS = 3  # data: mask of the instances of a unit kind
    WRITE = 4  # one 32-bit word of a descriptor of `unit`; `go` on its last word
    WAIT = 5  # until every output writer has all its responses
    LAYER = 6  # data: number of the layer, for faults, counters and single stepping
    ONE = 7  # WRITE to the one instance `row`, `col`, `number`, whatever the masks are
    WRITE_NUMBER = 8  # WRITE to instance `number`, of clusters as the masks say
    STEP = 9  # what ramps add for every cluster row and every cluster column
    RAMP = 10  # WRITE of data + y row_step + x col_step to cluster (y, x)
    RAMP_NUMBER = 11  # WRITE_NUMBER of the same


class Stepping(enum.IntEnum):
    """Words of the configuration bus that set a step of every node, in place of a `Unit`."""

    ROWS = 14  # of the nodes that pass words on from north
    COLS = 15  # and from west
