"""``rowmesh report``: the record of a run as one HTML page that needs nothing but a browser."""

import dataclasses
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from rowmesh.gen.files import check_folder, write_in_one_step
from rowmesh.gen.report_svg import (
    COLOURS,
    array_picture,
    heat_scale,
    layers_picture,
    short_name,
)
from rowmesh.gen.run_record import SHARES, LayerRun, RunRecord, load_record
from rowmesh.rtl.config import PRESETS

__all__ = ["make_report", "to_html"]

_MEANING = dict(
    zip(
        SHARES,
        (
            "at least one multiplier works on a word of weights",
            "waits for activations",
            "waits for weights",
            "all psum banks wait to be drained",
            "all windows computed; the last psums leave, or slower PEs go on",
            "has no descriptor yet or no more, in a layer in which it works",
            "this layer has no work for the PE",
        ),
        strict=True,
    )
)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff;
  max-width: 1120px; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p, li { color: #52606d; margin: .3rem 0; }
dl.figures { display: flex; flex-wrap: wrap; gap: .6rem 2.4rem; margin: 1.4rem 0; }
dl.figures dt { font-size: .8rem; color: #52606d; } dl.figures dd { margin: 0; font-size: 1.3rem; }
ul.legend { list-style: none; padding: 0; columns: 2; font-size: .85rem; }
ul.legend b { color: #1f2933; font-weight: 600; }
ul.legend i { display: inline-block; width: 12px; height: 12px; margin-right: .5em;
  border: 1px solid #9aa5b1; vertical-align: -1px; }
.arrays { display: flex; flex-wrap: wrap; gap: 1.4rem 1.8rem; align-items: flex-end; }
figure { margin: 0; } figcaption { font-size: .8rem; max-width: 13rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } svg { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #e3e5e8;
  white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; } th.text, td.text { text-align: left; }
tfoot td { font-weight: 600; } summary { cursor: pointer; color: #52606d; }
"""


_TEXT = ' class="text"'


def make_report(run: Path, out: Path) -> None:
    """Read the record of a run and write its page.

    Raises
    ------
    RowmeshError
        Not a record, or the page cannot be written.
    """
    check_folder(out)
    text = to_html(load_record(run))
    write_in_one_step(out, lambda part: part.write_text(text, encoding="utf-8"))


def to_html(record: RunRecord) -> str:
    """The page: self-contained, without scripts."""
    title = f"{record.model} on {_config_name(record)}"
    body = [f"<h1>{escape(title)}</h1>", _machine(record), _figures(record)]
    arrays = "".join(_array(layer, record) for layer in record.layers)
    if record.layers:
        body += [
            "<h2>Where the cycles went</h2>",
            f'<div class="wide">{layers_picture(record)}</div>',
            _legend(),
            "<h2>The PE array, layer by layer</h2>",
            "<p>As dark as a PE computes; boxes are clusters, north is up.</p>",
            heat_scale(),
            f'<div class="arrays">{arrays}</div>',
            "<h2>All figures</h2>",
            _table(record),
        ]
    body += [_host(record), _configuration(record)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - rowmesh</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _config_name(record: RunRecord) -> str:
    found = [name for name, make in PRESETS.items() if make() == record.config]
    return found[0] if found else "a machine of its own"


def _machine(record: RunRecord) -> str:
    c = record.config
    return (
        f"<p>{c.cluster_rows} x {c.cluster_cols} clusters of {c.pe_rows} x {c.pe_cols} PEs: "
        f"{c.pes} PEs, {c.macs} MACs, {c.axi_masters} AXI masters of {c.axi_data_bits} bits. "
        f"Measured on the RTL in {escape(record.simulator.capitalize())}.</p>"
    )


def _figures(record: RunRecord) -> str:
    layers, images = record.layers, record.image_cycles
    effectual, nominal = (
        sum(getattr(layer, f"macs_{kind}") for layer in layers) for kind in ("effectual", "nominal")
    )
    mean = sum(images) / len(images) if images else 0.0
    figures = {
        "cycles, first image by layer": f"{record.cycles:,}",
        f"cycles an image, mean of {len(images)}": f"{mean:,.0f}",
        "utilization (effectual MACs)": f"{record.utilization(layers):.1%}",
        "effectual of all MACs": f"{effectual:,} of {nominal:,}",
        "bytes read": f"{sum(layer.bytes_read for layer in layers):,}",
        "bytes written": f"{sum(layer.bytes_written for layer in layers):,}",
    }
    items = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in figures.items())
    return f'<dl class="figures">{"".join(items)}</dl>'


def _legend() -> str:
    items = (
        f'<li><i style="background:{COLOURS[name]}"></i><b>{name}</b>: {_MEANING[name]}</li>'
        for name in SHARES
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _array(layer: LayerRun, record: RunRecord) -> str:
    told = f"{_named(layer.name)}<br>computes {layer.shares()['compute']:.1%}"
    picture = array_picture(layer, record.config)
    return f"<figure>{picture}<figcaption>{told}</figcaption></figure>"


def _named(name: str) -> str:
    """A name, cut if it is long; all of it shows under the pointer."""
    short = escape(short_name(name))
    return short if short_name(name) == name else f'<span title="{escape(name)}">{short}</span>'


def _rows(tag: str, rows: Iterable[Sequence[str]], texts: Sequence[int]) -> str:
    """Rows of a table: a name, and cells of which the columns `texts` are no numbers."""
    made = []
    for row in rows:
        cells = (
            f"<{tag}{_TEXT if i in texts else ''}>{escape(cell) if i else _named(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )
        made.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(made)


def _table(record: RunRecord) -> str:
    heads = ["layer", "operator", "cycles", "predicted", *SHARES, "utilization"]
    heads += ["MACs", "effectual", "multiplications", "bytes read", "written", "limit", "mapping"]
    texts = (0, 1, len(heads) - 2, len(heads) - 1)
    layers = record.layers
    rows = [
        (layer.name, layer.operator, *_numbers(record, [layer]), layer.limit, layer.mapping)
        for layer in layers
    ]
    total = ("together", "", *_numbers(record, layers), "", "")
    return (
        f'<div class="wide"><table>\n<thead>{_rows("th", [heads], texts)}</thead>\n'
        f"<tbody>{_rows('td', rows, texts)}</tbody>\n"
        f"<tfoot>{_rows('td', [total], texts)}</tfoot>\n</table></div>\n"
        "<p>Multiplications are those the PEs counted: of stored bytes that are not zero, in "
        "poolings and additions too. A layer is charged with what is loaded ahead for the next "
        "one; the first of a program with its fetch and check.</p>"
    )


def _numbers(record: RunRecord, layers: Sequence[LayerRun]) -> list[str]:
    """The figures of a layer, or of all together."""

    def total(name: str) -> int:
        return sum(getattr(layer, name) for layer in layers)

    spent = {name: sum(layer.pe_cycles()[name] for layer in layers) for name in SHARES}
    slots = total("cycles") * record.config.pes
    return [
        f"{total('cycles'):,}",
        f"{total('predicted_cycles'):,}",
        *(f"{count / slots:.1%}" for count in spent.values()),
        f"{record.utilization(layers):.1%}",
        *(
            f"{total(name):,}"
            for name in (
                "macs_nominal",
                "macs_effectual",
                "multiplications",
                "bytes_read",
                "bytes_written",
            )
        ),
    ]


def _host(record: RunRecord) -> str:
    if not record.host:
        return ""
    rows = _rows("td", record.host, (0, 1, 2))
    head = _rows("th", [("operator", "kind", "reason")], (0, 1, 2))
    return f"<h2>On the host</h2>\n<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _configuration(record: RunRecord) -> str:
    rows = [(key, str(value)) for key, value in dataclasses.asdict(record.config).items()]
    rows.append(("hash", f"0x{record.config.hash:08x}"))
    return (
        "<h2>Configuration</h2>\n<details><summary>All parameters</summary>\n"
        f"<table><tbody>{_rows('td', rows, (0,))}</tbody></table></details>"
    )
