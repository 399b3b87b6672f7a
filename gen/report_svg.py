"""Pictures of a run as SVG: what the layers' cycles were spent on, and the PE array."""

from collections.abc import Iterator
from html import escape

from rowmesh.gen.run_record import SHARES, LayerRun, RunRecord
from rowmesh.rtl.config import Config

__all__ = [
    "COLOURS",
    "array_picture",
    "heat_colour",
    "heat_scale",
    "layers_picture",
    "short_name",
]

#: By `SHARES`: Okabe and Ito's palette, which is told apart by every kind of sight; idle is grey.
COLOURS = dict(
    zip(
        SHARES,
        ("#0072b2", "#e69f00", "#d55e00", "#cc79a7", "#56b4e9", "#8a8f98", "#e3e5e8"),
        strict=True,
    )
)
_DARK = ("compute", "weight stall")  # text on them is white
#: No and full computing; between them colours are mixed.
_COLD, _HOT = (239, 246, 252), (8, 60, 110)
_ROW, _BAR = 26, 18
_NAME_WIDTH, _SHARE_WIDTH, _CYCLE_WIDTH, _GAP = 200, 480, 270, 24
_LONGEST_NAME = 25
_CELL, _MARGIN = 13, 5


def _rect(x: float, y: float, width: float, height: float, fill: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(label)}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#1f2933">'
        + "\n".join(parts)
        + "</svg>"
    )


# -- bars ---------------------------------------------------------------------------------------


def short_name(name: str) -> str:
    """The beginning and the end of a tensor's name: converters join all that it was made of."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:10]}\N{HORIZONTAL ELLIPSIS}{name[11 - _LONGEST_NAME :]}"


def layers_picture(record: RunRecord) -> str:
    """A row a layer: its shares as a bar of full width, and again in proportion to its cycles."""
    left, right = _NAME_WIDTH, _NAME_WIDTH + _SHARE_WIDTH + _GAP
    longest = max((layer.cycles for layer in record.layers), default=1)
    bold = ' font-weight="600"'
    parts = [
        _text(left, 14, "shares of all PE cycles", bold),
        _text(right, 14, "cycles", bold),
    ]
    for number, layer in enumerate(record.layers):
        y = 24 + number * _ROW
        label = f"<title>{escape(layer.name)}</title>{escape(short_name(layer.name))}"
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{label}</text>')
        parts += _bar(layer, left, y, _SHARE_WIDTH, True)
        width = _CYCLE_WIDTH * layer.cycles / longest
        parts += _bar(layer, right, y, width, False)
        parts.append(_text(right + width + 6, y + 13, f"{layer.cycles:,}"))
    height = 24 + _ROW * len(record.layers)
    return _svg(right + _CYCLE_WIDTH + 90, height, "Activity of the PEs by layer", parts)


def _bar(layer: LayerRun, x: float, y: float, width: float, numbers: bool) -> Iterator[str]:
    """The shares of a layer side by side."""
    for name, share in layer.shares().items():
        part = width * share
        if part:
            yield _rect(x, y, part, _BAR, COLOURS[name], f"{layer.name}: {name} {share:.1%}")
        if numbers and part > 34:
            colour = "#ffffff" if name in _DARK else "#1f2933"
            style = f' text-anchor="middle" font-size="11" fill="{colour}"'
            yield _text(x + part / 2, y + 13, f"{share:.0%}", style)
        x += part


# -- the array ----------------------------------------------------------------------------------


def heat_colour(share: float) -> str:
    """Colour of a PE that computes in this part of the cycles."""
    mixed = (round(a + (b - a) * share) for a, b in zip(_COLD, _HOT, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def array_picture(layer: LayerRun, config: Config) -> str:
    """The mesh of clusters with their PEs, as dark as they compute; a cross: not mapped."""
    across = config.pe_cols * _CELL + _MARGIN
    down = config.pe_rows * _CELL + _MARGIN
    parts = []
    for row in range(config.cluster_rows):
        for col in range(config.cluster_cols):
            x, y = 1 + col * across, 1 + row * down
            for pe in range(config.pes_per_cluster):
                line, column = divmod(pe, config.pe_cols)
                share = float(layer.compute[row, col, pe])
                unmapped = bool(layer.unmapped[row, col, pe])
                told = "not mapped" if unmapped else f"computes {share:.1%}"
                at = x + column * _CELL, y + line * _CELL
                title = f"cluster {row},{col} PE {line},{column}: {told}"
                fill = "#ffffff" if unmapped else heat_colour(share)
                parts.append(_rect(*at, _CELL - 1, _CELL - 1, fill, title))
                if unmapped:
                    parts.append(_cross(*at))
            size = f'width="{across - _MARGIN + 1}" height="{down - _MARGIN + 1}"'
            parts.append(
                f'<rect x="{x - 1}" y="{y - 1}" {size} fill="none" stroke="#9aa5b1" rx="2"/>'
            )
    width, height = config.cluster_cols * across, config.cluster_rows * down
    return _svg(width, height, f"PE array in layer {layer.name}", parts)


def _cross(x: float, y: float) -> str:
    low, high = 3.5, _CELL - 4.5
    path = f"M{x + low} {y + low}L{x + high} {y + high}M{x + high} {y + low}L{x + low} {y + high}"
    return f'<path d="{path}" stroke="#9aa5b1"/>'


def heat_scale() -> str:
    """The legend of `array_picture`."""
    parts = [
        _rect(10 + 26 * i, 2, 26, 14, heat_colour(i / 10), f"computes {i / 10:.0%}")
        for i in range(11)
    ]
    middle = ' text-anchor="middle" font-size="11"'
    parts += [_text(23 + 26 * i, 30, f"{i / 10:.0%}", middle) for i in range(0, 11, 5)]
    parts += [
        '<rect x="320" y="2" width="13" height="13" fill="#ffffff" stroke="#9aa5b1"/>',
        _cross(320, 2.5),
        _text(340, 13, "not mapped"),
    ]
    return _svg(420, 34, "Colours: part of the cycles in which a PE computes", parts)
