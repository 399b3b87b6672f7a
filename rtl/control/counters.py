"""Which activity counter the host reads, and in which order it reads them all."""

from typing import Any

from amaranth.hdl import Mux
from amaranth.lib import data

from rowmesh.rtl.codes import Activity
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.pe.activity_counters import MACS_ENTRY
from rowmesh.rtl.pe.pe_cluster import counter_latency

__all__ = [
    "COUNTER_ENTRIES",
    "COUNTER_ENTRY_BITS",
    "counter_select",
    "counter_settle",
    "next_counter",
]

#: What a PE counts, in the order in which it is read: activities, effectual multiplications.
COUNTER_ENTRIES = (*Activity, MACS_ENTRY)

COUNTER_ENTRY_BITS = 3


def counter_select(config: Config) -> data.StructLayout:
    """Cluster row and column, number of the PE, entry of its `ActivityCounters`."""
    return data.StructLayout(
        {
            "row": bits_for(config.cluster_rows - 1),
            "col": bits_for(config.cluster_cols - 1),
            "pe": bits_for(config.pes_per_cluster - 1),
            "entry": COUNTER_ENTRY_BITS,
        }
    )


def counter_settle(config: Config) -> int:
    """Cycles from a new selection until the value is surely there.

    A register of the selection, the sum over a PE's counter memory, two registers of the status
    network, and one cycle to spare.
    """
    return counter_latency(config) + 4


def next_counter(config: Config, select: Any) -> dict[str, Any]:
    """Fields of the selection that follows: the next entry, PE, column, row, or the very first.

    A field beyond its last value is taken for the last.
    """
    last = {
        "entry": MACS_ENTRY,
        "pe": config.pes_per_cluster - 1,
        "col": config.cluster_cols - 1,
        "row": config.cluster_rows - 1,
    }
    found: dict[str, Any] = {}
    step: Any = 1
    for name, end in last.items():
        here = select[name]
        ends = here >= end
        behind = Mux(here >= max(Activity), MACS_ENTRY, here + 1) if name == "entry" else here + 1
        found[name] = Mux(step, Mux(ends, 0, behind), here)
        step = step & ends
    return found
