"""The command ``rowmesh prune``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rowmesh.gen.errors import RowmeshError

if TYPE_CHECKING:
    from rowmesh.gen.prune import LayerDensity

__all__ = ["add_prune"]


def add_prune(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def prune(
        model: Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX file, float or int8.")],
        out: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Pruned file.")],
        target: Annotated[
            float | None,
            typer.Option(help="Fraction of zeros, 0..1, of all layers without a --layer."),
        ] = None,
        layer: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME=FRACTION", help="Fraction of one layer; as often as needed."
            ),
        ] = None,
    ) -> None:
        """Set the smallest weights of a network to zero; the rest of the file stays as it is."""
        layers = dict(_layer_target(text) for text in layer or [])
        if target is None and not layers:
            raise RowmeshError("nothing to prune: give --target or --layer")
        from rowmesh.gen.prune_onnx import prune_onnx_file

        for line in _table(*prune_onnx_file(model, out, target, layers)):
            typer.echo(line)


def _layer_target(text: str) -> tuple[str, float]:
    name, equals, fraction = text.rpartition("=")
    try:
        if name and equals:
            return name, float(fraction)
    except ValueError:
        pass
    raise RowmeshError(f"--layer {text}: must be NAME=FRACTION, as conv1=0.8")


def _table(before: list["LayerDensity"], after: list["LayerDensity"]) -> list[str]:
    """One line a layer, and the sum."""
    pairs = list(zip(before, after, strict=True))
    rows = [(new.name, new.weights, old.zeros, new.zeros) for old, new in pairs]
    _, *columns = zip(*rows, strict=True)
    weights, zeros_before, zeros_now = map(sum, columns)
    rows.append(("all", weights, zeros_before, zeros_now))
    width = max(len("layer"), *(len(row[0]) for row in rows))
    lines = [f"{'layer':{width}}  {'weights':>9}  {'zero before':>11}  {'zero now':>8}"]
    for name, weights, old, new in rows:
        total = max(weights, 1)
        lines.append(f"{name:{width}}  {weights:9}  {old / total:11.1%}  {new / total:8.1%}")
    return lines
