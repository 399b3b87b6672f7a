"""Which activity counter the host reads."""

from amaranth.lib import data

from rowmesh.rtl.config import Config, bits_for

__all__ = ["COUNTER_ENTRY_BITS", "counter_select", "counter_settle"]

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

    More than any path through the array's status network and a PE's counter memory, with a
    stage a cluster to spare.
    """
    return config.cluster_rows + config.cluster_cols + 16
