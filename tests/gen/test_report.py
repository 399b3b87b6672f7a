"""`rowmesh report`: records that are read back, the page made of them, and what is refused."""

import dataclasses
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rowmesh.gen import cli
from rowmesh.gen.report import to_html
from rowmesh.gen.report_svg import heat_colour
from rowmesh.gen.run_record import SHARES, LayerRun, RunRecord, load_record, save_record
from rowmesh.gen.tables import activity_lines
from rowmesh.rtl.config import load_config

EVIL = 'conv<1> & "2"'


def layer(name: str, cycles: int, **changes: Any) -> LayerRun:
    """A layer on `demo`: half of the PEs compute a quarter of the time, the others do nothing."""
    counters = np.zeros((2, 2, 12, 7), np.int64)
    counters[:, 0] = [cycles // 8, cycles // 4, cycles // 8, cycles // 4, cycles // 8, 0, 40]
    counters[:, 0, :, 5] = cycles - counters[:, 0, :, :5].sum(axis=-1)
    counters[:, 1, :, 0] = cycles
    values: dict[str, Any] = {
        "name": name,
        "operator": "conv",
        "mapping": "C0=1 S0=3",
        "limit": "PE",
        "cycles": cycles,
        "predicted_cycles": cycles + 7,
        "bytes_read": 4096,
        "bytes_written": 512,
        "macs_nominal": 1500,
        "macs_effectual": 960,
        "counters": counters,
    }
    return LayerRun(**values | changes)


def record(*layers: LayerRun) -> RunRecord:
    return RunRecord(
        model="net.onnx",
        simulator="verilator",
        config=load_config("demo"),
        image_cycles=(2400, 2500),
        host=(("soft", "softmax", "not exact <here>"),),
        layers=layers,
    )


SMALL = record(layer(EVIL, 1600), layer("fc", 800))


def test_shares_sum_to_one() -> None:
    shares = SMALL.layers[0].shares()
    assert tuple(shares) == SHARES
    expected = [0.125, 0.0625, 0.125, 0.0625, 0.0625, 0.0625, 0.5]
    assert list(shares.values()) == pytest.approx(expected)
    assert SMALL.layers[0].multiplications == 24 * 40
    assert SMALL.utilization(SMALL.layers) == 1920 / (2400 * 96)


def test_lines() -> None:
    head, first, second = activity_lines(SMALL)
    assert all(name in head for name in SHARES)
    assert first.startswith(EVIL)
    assert second.split() == ["fc", "800", "12.5%"] + ["6.2%", "12.5%"] + ["6.2%"] * 3 + [
        "50.0%",
        "960",
    ]


def test_record_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "y.run.json"
    save_record(SMALL, path)
    found = load_record(path)
    for old, new in zip(SMALL.layers, found.layers, strict=True):
        np.testing.assert_array_equal(old.counters, new.counters)
        assert dataclasses.replace(old, counters=new.counters).name == new.name
    assert to_html(found) == to_html(SMALL)
    content = json.loads(path.read_text())
    assert content["layers"][0]["counters"][1][0][3][1] == 400, "[row][column][PE][compute]"
    assert content["entries"][1] == "compute"


class Structure(HTMLParser):
    """Checks that elements are closed in order; collects texts and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.values: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.values += [value or "" for name, value in attrs if name != "xmlns"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(page: str) -> Structure:
    found = Structure()
    found.feed(page)
    found.close()
    assert not found.open
    return found


def test_page_stands_alone() -> None:
    page = to_html(SMALL)
    found = parsed(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.seen)
    assert not [value for value in found.values if "//" in value]
    assert "url(" not in page and "@import" not in page
    assert EVIL in found.texts
    assert "<1>" not in page
    assert {"net.onnx on demo", "2,400", "2,450", "8,192", "1,024"} <= set(found.texts)
    assert {"not exact <here>", "rounding", "single"} <= set(found.texts)


def test_pictures_are_svg_with_every_pe() -> None:
    pictures = re.findall(r"<svg.*?</svg>", to_html(SMALL), re.DOTALL)
    assert len(pictures) == 4, "bars, legend, an array for each layer"
    space = "{http://www.w3.org/2000/svg}"
    bars, _, array, _ = (ElementTree.fromstring(picture) for picture in pictures)
    widths = [float(rect.attrib["width"]) for rect in bars.iter(f"{space}rect")]
    assert sum(widths[:7]) == pytest.approx(480, abs=0.5), "100 %"
    assert sum(widths[7:14]) == pytest.approx(2 * sum(widths[21:]), abs=1), "1600 and 800 cycles"
    titles = [rect.findtext(f"{space}title") for rect in array.iter(f"{space}rect")]
    assert titles.count(None) == 4, "boxes of clusters"
    told = [title for title in titles if title]
    assert len(told) == len(set(told)) == 48
    assert sum("computes 25.0%" in title for title in told) == 24
    assert sum("not mapped" in title for title in told) == 24
    assert heat_colour(0) != heat_colour(0.25) != heat_colour(1)


def test_long_names_are_cut() -> None:
    name = "model/batch_norm/FusedBatchNormV3;model/conv2d_1/Conv2D<1>"
    page = to_html(record(layer(name, 100), layer("pool", 100)))
    whole = "model/batch_norm/FusedBatchNormV3;model/conv2d_1/Conv2D&lt;1&gt;"
    assert f'<td class="text"><span title="{whole}">model/batc\N{HORIZONTAL ELLIPSIS}' in page
    assert "2d_1/Conv2D&lt;1&gt;</span></td>" in page
    assert f">{whole}<" not in re.sub("<title>[^<]*</title>", "", page)
    assert '<td class="text">pool</td>' in page


def test_run_without_layers() -> None:
    page = to_html(record())
    parsed(page)
    assert "<svg" not in page


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["rowmesh", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err


def test_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_record(SMALL, tmp_path / "y.run.json")
    page = tmp_path / "report.html"
    assert call(capsys, monkeypatch, tmp_path / "y.run.json", "-o", page) == (0, "")
    assert page.read_text(encoding="utf-8") == to_html(SMALL)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="else"), "not a run record, which `rowmesh run"),
        (lambda c: c.update(version=2), "a run record of version 2; this is for 1"),
        (lambda c: c.pop("version"), "a run record of version None"),
        (lambda c: c.pop("model"), "damaged run record: 'model' is missing or no str"),
        (lambda c: c["config"].update(pe_rows=99), "pe_rows = 99: must be within 1..8"),
        (lambda c: c["config"].update(pe_cols=3), "layer conv.*counts of shape \\(2, 2, 9, 7"),
        (lambda c: c["layers"].append(3), "'layers' must hold objects"),
        (lambda c: c["layers"][0].update(cycles=-1), "'cycles' must be a number that is not neg"),
        (lambda c: c["layers"][0].update(cycles=1601), "activities of a PE do not sum to its"),
        (lambda c: c["layers"][1].update(counters=[[1], []]), "layer fc: 'counters' must be"),
        (lambda c: c["layers"][1].update(counters=None), "layer fc: 'counters' must be"),
        (lambda c: c.update(host=[["a"]]), "'host' must hold name, kind and reason"),
        (lambda c: c.update(image_cycles=[1.5]), "'image_cycles' must be a number"),
    ],
)
def test_refuses_records(
    change: Change,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, page = tmp_path / "y.run.json", tmp_path / "report.html"
    save_record(SMALL, run)
    content = json.loads(run.read_text())
    change(content)
    run.write_text(json.dumps(content))
    status, error = call(capsys, monkeypatch, run, "-o", page)
    assert status == 1
    assert error.startswith("rowmesh: error: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert not page.exists()


@pytest.mark.parametrize(
    ("content", "out", "message"),
    [
        (None, "report.html", "y.run.json: No such file"),
        (b"PK\x03\x04\xff", "report.html", "not a run record: no JSON, or truncated"),
        (b'{"format": "rowmesh run"', "report.html", "no JSON, or truncated"),
        (b"[1]", "report.html", "not a run record, which"),
        (b"[" * 100_000, "report.html", "no JSON"),
        (b"{}", "none/report.html", "the folder .*none does not exist"),
        (b"{}", ".", "it is a folder"),
    ],
)
def test_refuses_files(
    content: bytes | None,
    out: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "y.run.json"
    if content is not None:
        run.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    status, error = call(capsys, monkeypatch, run, "-o", tmp_path / out)
    assert status == 1
    assert error.startswith("rowmesh: error: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert sorted(tmp_path.iterdir()) == before
