"""The benchmark's runner on the smallest machine, and its reports."""

import json
from pathlib import Path

import pytest

from rowmesh.gen.workloads import mobilenet
from rowmesh.verif.benchmarks import Case, run_case, write_results


@pytest.mark.parametrize("sparsity", ["dense", "sparse"])
def test_last_layer(sparsity: str, tmp_path: Path) -> None:
    done = run_case(Case("mobilenet", sparsity, "tiny", 8, "L28"), build_seconds=0.0)
    assert done.mismatches == 0
    layer = mobilenet()[-1]
    assert done.macs_nominal == layer.macs
    assert (done.macs_effectual == layer.macs) == (sparsity == "dense")
    assert done.cycles > done.macs_effectual / 8
    assert done.published_cycles is None
    write_results(tmp_path, [done], {})
    (entry,) = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert entry["cycles"] == sum(row["cycles"] for row in entry["layers"])
    assert f"{done.cycles:,}" in (tmp_path / "bench.md").read_text()
    assert "<svg" in (tmp_path / "bench.svg").read_text()
