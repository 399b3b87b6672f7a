"""What `make bench` measured, as Markdown and as a plot."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["markdown", "plot"]

Results = Sequence[Mapping[str, Any]]


def markdown(results: Results) -> str:
    """A table of the networks, then one of the layers of each."""
    lines = _table(
        ("network", "data", "config", "B/cycle", "cycles", "published", "predicted",
         "effectual MACs", "utilization", "mismatches", "cycles/s"),
        [
            (
                r["network"], r["sparsity"], r["config"], f"{r['bytes_per_cycle']:g}",
                f"{r['cycles']:,}",
                f"{r['published_cycles']:,}" if r["published_cycles"] else "",
                f"{r['model_cycles']:,}", f"{r['macs_effectual']:,}",
                f"{r['pe_utilization']:.1%}", str(r["mismatches"]), f"{r['sim_hz']:,.0f}",
            )
            for r in results
        ],
    )  # fmt: skip
    for r in results:
        title = f"{r['network']}, {r['sparsity']}, {r['config']}, {r['bytes_per_cycle']:g} B/cycle"
        lines += ["", f"### {title} ({r['masks']})", ""]
        lines += _table(
            ("layer", "cycles", "predicted", "effectual MACs", "bytes read", "written", "mapping"),
            [
                (
                    row["name"], f"{row['cycles']:,}",
                    f"{row['model_cycles']:,} ({row['model_cycles'] / row['cycles'] - 1:+.0%})",
                    f"{row['macs_effectual']:,}", f"{row['bytes_read']:,}",
                    f"{row['bytes_written']:,}", row["mapping"],
                )
                for row in r["layers"]
            ],
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def plot(results: Results) -> str:
    """Predicted against measured cycles of every layer, both logarithmic, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6))
    axes = figure.add_subplot()
    ends = [1e9, 1.0]
    for r in results:
        measured = [row["cycles"] for row in r["layers"]]
        predicted = [row["model_cycles"] for row in r["layers"]]
        label = f"{r['network']} {r['sparsity']}, {r['config']}, {r['bytes_per_cycle']:g} B/cycle"
        axes.loglog(measured, predicted, ".", label=label)
        ends = [min(ends[0], *measured, *predicted), max(ends[1], *measured, *predicted)]
    axes.loglog(ends, ends, color="0.6", linewidth=1)
    axes.set_xlabel("cycles measured (RTL)")
    axes.set_ylabel("cycles predicted")
    axes.legend(fontsize=7)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
