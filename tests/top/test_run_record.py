"""`rowmesh run --backend rtl` on two machines: where every cycle of every PE went, and the page."""

import json
from pathlib import Path

import numpy as np
import pytest

from rowmesh.gen.api import GraphRun, run_graph
from rowmesh.gen.graph import Graph
from rowmesh.gen.report import to_html
from rowmesh.gen.run_record import SHARES, load_record, save_record
from rowmesh.rtl.codes import Activity
from rowmesh.sim_models import golden
from rowmesh.verif.soak import SMALL_MACHINES
from rowmesh.verif.top_work import sparse_image, two_layers


def _run(machine: str) -> tuple[Graph, GraphRun, list[str]]:
    rng = np.random.default_rng(1)
    graph = two_layers(rng)
    images = [sparse_image(rng, graph, density)["x"] for density in (0.4, 1.0)]
    values = {"x": np.concatenate(images)}
    lines: list[str] = []
    config = SMALL_MACHINES[machine]
    made = run_graph(graph, config, values, "rtl", lines.append, model="two.onnx")
    expected = golden.run(graph, values, config.rounding)
    for name, array in made.values.items():
        np.testing.assert_array_equal(array, expected[name])
    return graph, made, lines


@pytest.mark.parametrize("machine", ["small", "mesh"])
def test_every_cycle_of_every_pe_is_accounted_for(machine: str, tmp_path: Path) -> None:
    _, made, lines = _run(machine)
    record = made.record
    assert record is not None
    config = SMALL_MACHINES[machine]
    assert [layer.name for layer in record.layers] == ["to_y", "to_z"]
    for layer in record.layers:
        shape = (config.cluster_rows, config.cluster_cols, config.pes_per_cluster)
        sums = layer.counters[..., : len(Activity)].sum(axis=-1)
        np.testing.assert_array_equal(sums, np.full(shape, layer.cycles), err_msg=layer.name)
        assert tuple(layer.shares()) == SHARES
        assert sum(layer.pe_cycles().values()) == layer.cycles * config.pes
        assert layer.multiplications == layer.macs_effectual <= layer.macs_nominal
        assert layer.bytes_read and layer.bytes_written
        assert any(line.startswith(f"{layer.name} ") and "%" in line for line in lines)
    # A pause takes no cycles, but what follows it begins a few cycles later or earlier.
    assert abs(record.cycles - record.image_cycles[0]) < 50
    assert record.image_cycles[1] > record.image_cycles[0]

    path, again = tmp_path / "y.run.json", tmp_path / "again.run.json"
    save_record(record, path)
    second = _run(machine)[1].record
    assert second is not None
    save_record(second, again)
    assert path.read_bytes() == again.read_bytes(), "equal runs give equal records"
    assert json.loads(path.read_text())["config"]["pe_cols"] == config.pe_cols
    assert to_html(load_record(path)) == to_html(record)
