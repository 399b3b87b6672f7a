"""16,384 PEs: what generation costs does not grow with the number of clusters."""

import re

import pytest

from rowmesh.gen.verilog import emit_rtlil, instance_counts
from rowmesh.rtl.config import Config
from rowmesh.rtl.top import Top


def test_largest_machine() -> None:
    config = Config(
        cluster_rows=32, cluster_cols=32, pe_rows=4, pe_cols=4, macs_per_pe=1, weight_data_depth=192
    )
    assert config.pes == 16384
    text = emit_rtlil(Top(config), "top")
    counts = instance_counts(text, "top")
    assert counts["pe"] == 16384
    assert counts["cluster"] == 1024
    assert counts["cluster_group"] == 32
    # Each once: 8.5 MB when this was written, 36.6 MB with a port for every stream of a group.
    assert len(re.findall(r"^module \\cluster(_group)?$", text, re.MULTILINE)) == 2
    assert len(text) < 12e6


def test_too_many_channels_for_a_master() -> None:
    with pytest.raises(ValueError, match=r"rows_per_axi_master = 8: 1537 read channels of 128 b"):
        Config(cluster_rows=8, cluster_cols=32, rows_per_axi_master=8, pe_rows=2)
    Config(cluster_rows=8, cluster_cols=32, rows_per_axi_master=2, pe_rows=2)
